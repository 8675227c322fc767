"""Value head: a linear layer from a token's hidden state to one number (or K), which makes a model a reward model.

Replaces the output head (`head`): a reward model is a decoder with this head, in the form of transformers'
`AutoModelForSequenceClassification`, which reads the last token that is not padding, or, for values of steps, of
`AutoModelForTokenClassification`, which reads every token. A new one takes the decoder of a language model and draws
the head from N(0, 1/(H + 1)), as in arXiv 2009.01325, appendix B.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from burnish.errors import ModelError
from burnish.model.attention import plain_attention
from burnish.model.gather import Gather
from burnish.model.head import accumulation_dtype, unwrap_peft
from burnish.model.settings import ProblemType, RewardTarget, ValueHeadConfig
from burnish.model.vision_reward import register_vision_reward_models
from burnish.types import Microbatch

_CLASSES: Mapping[RewardTarget, type] = {
    "answer": AutoModelForSequenceClassification,
    "step": AutoModelForTokenClassification,
}
register_vision_reward_models()
_ENDINGS: Mapping[RewardTarget, str] = {"answer": "ForSequenceClassification", "step": "ForTokenClassification"}
"""Endings of transformers' class names with such a head."""
_TASKS: Mapping[RewardTarget, str] = {"answer": "SEQ_CLS", "step": "TOKEN_CLS"}
"""peft's task types of adapters with a value head."""
REWARD_MODEL_TASKS = frozenset(_TASKS.values())
NAME = "score"
"""transformers' name of the head."""
VALUE_HEAD_FILE = "judging.json"
"""File in an adapter's folder with its `ValueHeadConfig`, since peft's files have no place for it."""


@dataclass(frozen=True, eq=False, slots=True)
class ValueHead:
    """Value head: value = W h + b."""

    weight: Tensor
    """[K, H], in the model's type."""
    bias: Tensor | None = None
    """[K]; None: no bias."""

    @classmethod
    def of(cls, layer: nn.Linear) -> Self:
        """The head with the weights of a layer."""
        return cls(layer.weight, layer.bias)


def is_reward_model(model: PreTrainedModel) -> bool:
    """Whether the model gives values instead of log-probabilities."""
    return type(model).__name__.endswith(tuple(_ENDINGS.values()))


def holds_reward_model(config: PretrainedConfig) -> bool:
    """Whether a model with this configuration was saved as a reward model."""
    return _target_of(config.architectures or ()) is not None


def reward_model_class(config: PretrainedConfig) -> Any:
    """The class of transformers that loads a reward model with this configuration."""
    target = _target_of(config.architectures or ())
    assert target is not None, "only a reward model has one"
    return _CLASSES[target]


def peft_task_of(model: PreTrainedModel) -> str:
    """peft's task type for an adapter of this reward model."""
    target = _target_of([type(model).__name__])
    assert target is not None, "only a reward model has one"
    return _TASKS[target]


def value_head_config(model: PreTrainedModel) -> ValueHeadConfig:
    """The value head's configuration of a reward model."""
    target = _target_of([type(model).__name__])
    assert target is not None, "only a reward model has one"
    return _value_head_config(model.config, target)


def read_value_head_config(config: PretrainedConfig) -> ValueHeadConfig | None:
    """The value head's configuration in a model's configuration; None: no reward model."""
    target = _target_of(config.architectures or ())
    return None if target is None else _value_head_config(config, target)


def _value_head_config(config: PretrainedConfig, target: RewardTarget) -> ValueHeadConfig:
    names = tuple(str(config.id2label[index]) for index in range(config.num_labels))
    unnamed = any(name.startswith("LABEL_") for name in names)  # transformers' names where none was given
    return ValueHeadConfig(config.num_labels, judged=target, names=() if unnamed else names, problem=_problem(config))


def _problem(config: PretrainedConfig) -> ProblemType:
    return "multi_label_classification" if config.problem_type == "multi_label_classification" else "regression"


def _target_of(class_names: Collection[str]) -> RewardTarget | None:
    """What reward models of these classes give values of; None: they are no reward models."""
    targets = (target for target, ending in _ENDINGS.items() if any(name.endswith(ending) for name in class_names))
    return next(targets, None)


def write_value_head_file(folder: Path, config: ValueHeadConfig) -> None:
    """Writes `VALUE_HEAD_FILE` into an adapter's folder."""
    (folder / VALUE_HEAD_FILE).write_text(json.dumps(asdict(config)) + "\n", encoding="utf-8")


def read_value_head_file(folder: Path, task: str | None, outputs: int) -> ValueHeadConfig | None:
    """The value head's configuration of an adapter with this many outputs; None: not a reward model's adapter."""
    target = next((target for target, name in _TASKS.items() if name == task), None)
    if target is None:
        return None
    if not (folder / VALUE_HEAD_FILE).is_file():  # an adapter that peft alone wrote
        return ValueHeadConfig(outputs, judged=target)
    stored = json.loads((folder / VALUE_HEAD_FILE).read_text(encoding="utf-8"))
    return ValueHeadConfig(**{**stored, "names": tuple(stored["names"])})


def output_layer(model: PreTrainedModel) -> nn.Module:
    """The layer after the decoder: the value head of a reward model, otherwise the output head."""
    layer: nn.Module = model.get_submodule(NAME) if is_reward_model(model) else model.get_output_embeddings()
    return layer


def read_value_head(model: PreTrainedModel) -> ValueHead:
    """Reads the value head of a reward model, or its copy that peft trains."""
    assert is_reward_model(model), "only a reward model has values"
    layer, _ = unwrap_peft(output_layer(model))
    assert isinstance(layer, nn.Linear), "a value head is a linear layer, checked when it is made or opened"
    return ValueHead.of(layer)


def values(hidden: Tensor, head: ValueHead, microbatch: Microbatch) -> Tensor:
    """Values [S], or [S, K] for K > 1, from last hidden states [N, H]; float32 (float64 of float64 models).

    Positions that are scored for several responses have the same predictors, so the rounds of these are theirs.
    """
    source = Gather.apply(hidden, microbatch.token_positions, microbatch.gather_rounds)
    outputs = _outputs(source, head)
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs


def state_values(hidden: Tensor, head: ValueHead, microbatch: Microbatch) -> Tensor:
    """Values V(s_t) [S] of the states before the scored tokens, read where each token is predicted.

    The last prompt token is the state before the first token of every response; the gradient there is their sum.

    Raises:
        ModelError: the head has several outputs.
    """
    _require_one_output(head)
    source = Gather.apply(hidden, microbatch.predictor_positions, microbatch.gather_rounds)
    return _outputs(source, head)[:, 0]


@torch.no_grad()
def bootstrap_values(hidden: Tensor, head: ValueHead, microbatch: Microbatch) -> Tensor:
    """Values [num_sequences] of the states after the last token of each response, without gradient.

    Raises:
        ModelError: the head has several outputs.
    """
    _require_one_output(head)
    return _outputs(hidden.index_select(0, microbatch.sequence_end_positions), head)[:, 0]


def _outputs(source: Tensor, head: ValueHead) -> Tensor:
    """[rows, K] from hidden states [rows, H]."""
    dtype = accumulation_dtype(source.dtype)
    bias = None if head.bias is None else head.bias.to(dtype)
    return nn.functional.linear(source.to(dtype), head.weight.to(dtype), bias)


def _require_one_output(head: ValueHead) -> None:
    if len(head.weight) != 1:
        raise ModelError(
            given=f"state values from a value head with {len(head.weight)} outputs",
            rule="the value of a state is the expected return, which is one number",
            remedy="use a value head with one output",
        )


def with_value_head(model: PreTrainedModel, value_head: ValueHeadConfig) -> PreTrainedModel:
    """A reward model with a new value head and the decoder of a causal language model, which is consumed.

    Raises:
        ModelError: transformers has no such class for the architecture, or its parts differ.
    """
    config = model.config
    config.num_labels = value_head.outputs
    config.problem_type = value_head.problem  # tells other loaders that outputs are values, not classes
    if value_head.names:
        config.id2label = dict(enumerate(value_head.names))
        config.label2id = {name: index for index, name in enumerate(value_head.names)}
    try:
        with torch.device("meta"), plain_attention(model):  # some constructors look up their attention function
            reward_model: PreTrainedModel = _CLASSES[value_head.judged].from_config(config)  # type: ignore[attr-defined]
    except ValueError as error:
        raise _unsupported(model, "transformers has none") from error
    prefix = reward_model.base_model_prefix
    parts = dict(reward_model.named_children())
    head = parts.get(NAME)
    if type(parts.get(prefix)) is not type(dict(model.named_children()).get(prefix)) or not isinstance(head, nn.Linear):
        raise _unsupported(model, "its parts are not one decoder and one linear layer")
    reward_model.set_submodule(prefix, model.get_submodule(prefix))
    layer = new_value_head(head.in_features, head.out_features, value_head.seed, bias=head.bias is not None)
    reward_model.set_submodule(NAME, layer.to(device=model.device, dtype=model.dtype))
    reward_model.config = config  # decoder and reward model share one configuration, as in any model
    return reward_model.train(model.training)


def new_value_head(hidden_size: int, outputs: int = 1, seed: int = 0, *, bias: bool = False) -> nn.Linear:
    """Value head [outputs, hidden_size] with drawn weights and a bias of 0; float32, on the CPU."""
    layer = nn.Linear(hidden_size, outputs, bias=bias, device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        layer.weight.normal_(0.0, 1 / math.sqrt(hidden_size + 1), generator=generator)
        if layer.bias is not None:
            layer.bias.zero_()
    return layer


def place_critic_head(head: nn.Linear, model: PreTrainedModel) -> nn.Linear:
    """Moves a head beside the output head to the model's device; its weights are float32 (float64 for float64)."""
    return head.to(device=model.device, dtype=torch.float64 if model.dtype == torch.float64 else torch.float32)


def _unsupported(model: PreTrainedModel, reason: str) -> ModelError:
    return ModelError(
        given=f"a reward model of {type(model).__name__}: {reason}",
        rule="a reward model is saved so that AutoModelForSequenceClassification (of steps, AutoModelForToken"
        "Classification) loads it",
        remedy="use an architecture that has such a class, such as Llama, Qwen 2 or 3, Mistral, Gemma or GPT-2",
    )


def finalize_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ends: Collection[int]) -> list[str]:
    """Gives tokenizer and configuration a padding token that is no end token.

    In a padded batch, transformers reads a reward model at the last token that is not padding: if padding were an end
    token too, it would read the token before.

    Args:
        model: a reward model.
        tokenizer: its tokenizer.
        ends: the end tokens of responses.

    Returns:
        Log lines about what was changed.

    Raises:
        ModelError: no token can be the padding.
    """
    vocabulary = model.get_input_embeddings().weight.shape[0]
    padding = next((t for t in _padding_candidates(tokenizer) if t not in ends and 0 <= t < vocabulary), None)
    if padding is None:
        raise ModelError(
            given=f"a reward model with the tokenizer of {type(model).__name__}, which has no token to pad with",
            rule="a padded batch is read at the last token that is not padding, so padding is no end token",
            remedy="add one: add_tokens=['<|pad|>']",
        )
    before = tokenizer.pad_token
    text = str(tokenizer.convert_ids_to_tokens(padding))
    tokenizer.pad_token = text
    pad_with(model, padding)
    return [] if before == text else [f"padding is {text} here, and in what is saved (it was {before or 'none'})"]


def pad_with(model: PreTrainedModel, padding: int | None) -> None:
    """Sets the padding token of a reward model's batches."""
    for config in (model.config, model.config.get_text_config(decoder=True)):
        config.pad_token_id = padding


def _padding_candidates(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that may be padding, best first: its own, those named so, reserved ones, unknown, beginning."""
    added = {str(token): number for number, token in sorted(tokenizer.added_tokens_decoder.items())}
    named = [number for word in ("pad", "reserved") for text, number in added.items() if word in text.lower()]
    candidates = [tokenizer.pad_token_id, *named, tokenizer.unk_token_id, tokenizer.bos_token_id]
    return [number for number in candidates if number is not None]
