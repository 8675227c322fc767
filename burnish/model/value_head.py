"""The value head: a linear layer that makes one number (or K) of a token's hidden state. What makes a model a judge.

Stands beside `head`, in the place of the vocabulary: a reward model is a decoder with this head, in the form of
transformers' `AutoModelForSequenceClassification`, which reads the last token that is not padding, or, if it judges
steps, of `AutoModelForTokenClassification`, which reads every token. It begins as a language model whose decoder it
takes over, and draws the head: N(0, 1/(H + 1)), as in arXiv 2009.01325, appendix B.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
from burnish.model.head import accumulation_dtype, apart
from burnish.model.settings import ProblemType, RewardTarget, ValueHeadConfig
from burnish.types import Microbatch

_CLASSES: Mapping[RewardTarget, type] = {
    "answer": AutoModelForSequenceClassification,
    "step": AutoModelForTokenClassification,
}
_ENDINGS: Mapping[RewardTarget, str] = {"answer": "ForSequenceClassification", "step": "ForTokenClassification"}
"""How transformers ends the names of its classes with such a head."""
_TASKS: Mapping[RewardTarget, str] = {"answer": "SEQ_CLS", "step": "TOKEN_CLS"}
"""What peft calls the tasks of adapters that have one."""
JUDGES = frozenset(_TASKS.values())
NAME = "score"
"""What transformers calls the head."""
BESIDE = "judging.json"
"""Beside an adapter, whose files have no place for it: what the numbers are."""


@dataclass(frozen=True, eq=False, slots=True)
class ValueHead:
    """value = W h + b."""

    weight: Tensor
    """[K, H], in the model's type."""
    bias: Tensor | None = None
    """[K]; None: no bias."""


def is_reward_model(model: PreTrainedModel) -> bool:
    """Whether it gives values instead of log-probabilities."""
    return type(model).__name__.endswith(tuple(_ENDINGS.values()))


def holds_reward_model(config: PretrainedConfig) -> bool:
    """Whether a model with this configuration was saved as a judge."""
    return _judged_by(config.architectures or ()) is not None


def reward_model_class(config: PretrainedConfig) -> Any:
    """The class of transformers that loads a judge with this configuration."""
    judged = _judged_by(config.architectures or ())
    assert judged is not None, "asked of judges alone"
    return _CLASSES[judged]


def task_of(model: PreTrainedModel) -> str:
    """What peft calls the task of an adapter of this judge."""
    judged = _judged_by([type(model).__name__])
    assert judged is not None, "asked of judges alone"
    return _TASKS[judged]


def value_head_config(model: PreTrainedModel) -> ValueHeadConfig:
    """The value head of a judge."""
    judged = _judged_by([type(model).__name__])
    assert judged is not None, "asked of judges alone"
    return _judging(model.config, judged)


def read_value_head_config(config: PretrainedConfig) -> ValueHeadConfig | None:
    """The value head that a configuration tells of; None: it is no judge's."""
    judged = _judged_by(config.architectures or ())
    return None if judged is None else _judging(config, judged)


def _judging(config: PretrainedConfig, judged: RewardTarget) -> ValueHeadConfig:
    names = tuple(str(config.id2label[index]) for index in range(config.num_labels))
    unnamed = any(name.startswith("LABEL_") for name in names)  # what transformers calls those without a name
    return ValueHeadConfig(config.num_labels, judged=judged, names=() if unnamed else names, problem=_problem(config))


def _problem(config: PretrainedConfig) -> ProblemType:
    return "multi_label_classification" if config.problem_type == "multi_label_classification" else "regression"


def _judged_by(classes: Collection[str]) -> RewardTarget | None:
    """What models of these classes judge; None: they do not."""
    kinds = (kind for kind, ending in _ENDINGS.items() if any(name.endswith(ending) for name in classes))
    return next(kinds, None)


def write_beside(folder: Path, judging: ValueHeadConfig) -> None:
    """Writes what an adapter's numbers are."""
    (folder / BESIDE).write_text(json.dumps(asdict(judging)) + "\n", encoding="utf-8")


def read_beside(folder: Path, task: str | None, outputs: int) -> ValueHeadConfig | None:
    """The value head of an adapter with so many outputs; None: its task is not to judge."""
    judged = next((kind for kind, name in _TASKS.items() if name == task), None)
    if judged is None:
        return None
    if not (folder / BESIDE).is_file():  # peft alone wrote it
        return ValueHeadConfig(outputs, judged=judged)
    told = json.loads((folder / BESIDE).read_text(encoding="utf-8"))
    return ValueHeadConfig(**{**told, "names": tuple(told["names"])})


def output_layer(model: PreTrainedModel) -> nn.Module:
    """What comes after the decoder: the value head of a judge, otherwise the head over the vocabulary."""
    layer: nn.Module = model.get_submodule(NAME) if is_reward_model(model) else model.get_output_embeddings()
    return layer


def read_value_head(model: PreTrainedModel) -> ValueHead:
    """Reads the head of a judge; what an adapter trains in its place, if one does."""
    assert is_reward_model(model), "values are asked of reward models alone"
    layer, _ = apart(output_layer(model))
    assert isinstance(layer, nn.Linear), "a judge's head is a linear layer: whoever makes or opens one has looked"
    return ValueHead(layer.weight, layer.bias)


def values(hidden: Tensor, head: ValueHead, microbatch: Microbatch) -> Tensor:
    """[S], or [S, K] for K > 1, of [N, H] last hidden states; float32 (float64 of float64 models).

    A packed row is scored at most once, so the backward adds no two numbers in an order that could change.
    """
    source = hidden.index_select(0, microbatch.token_positions)
    dtype = accumulation_dtype(source.dtype)
    bias = None if head.bias is None else head.bias.to(dtype)
    found = nn.functional.linear(source.to(dtype), head.weight.to(dtype), bias)
    return found[:, 0] if found.shape[1] == 1 else found


def with_value_head(model: PreTrainedModel, judging: ValueHeadConfig) -> PreTrainedModel:
    """A judge around the decoder of a causal language model, which is used up.

    Raises:
        ModelError: transformers has no such class for the architecture, or it is put together in another way.
    """
    config = model.config
    config.num_labels = judging.outputs
    config.problem_type = judging.problem  # values, not classes; says so to whoever loads it
    if judging.names:
        config.id2label = dict(enumerate(judging.names))
        config.label2id = {name: index for index, name in enumerate(judging.names)}
    try:
        with torch.device("meta"), plain_attention(model):  # some classes look their attention up when they are made
            judge: PreTrainedModel = _CLASSES[judging.judged].from_config(config)  # type: ignore[attr-defined]
    except ValueError as error:
        raise _no_judge(model, "transformers has none") from error
    prefix = judge.base_model_prefix
    parts = dict(judge.named_children())
    head = parts.get(NAME)
    if type(parts.get(prefix)) is not type(dict(model.named_children()).get(prefix)) or not isinstance(head, nn.Linear):
        raise _no_judge(model, "its parts are not one decoder and one linear layer")
    judge.set_submodule(prefix, model.get_submodule(prefix))
    judge.set_submodule(NAME, _begun(head, judging.seed, model))
    judge.config = config  # one object for the decoder and what is around it, as in any model
    return judge.train(model.training)


def _begun(head: nn.Linear, seed: int, model: PreTrainedModel) -> nn.Linear:
    """The head with its first weights; a bias begins at 0."""
    made = nn.Linear(head.in_features, head.out_features, bias=head.bias is not None, device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        made.weight.normal_(0.0, 1 / math.sqrt(head.in_features + 1), generator=generator)
        if made.bias is not None:
            made.bias.zero_()
    return made.to(device=model.device, dtype=model.dtype)


def _no_judge(model: PreTrainedModel, why: str) -> ModelError:
    return ModelError(
        given=f"a reward model of {type(model).__name__}: {why}",
        rule="a reward model is saved so that AutoModelForSequenceClassification (of steps, AutoModelForToken"
        "Classification) loads it",
        remedy="use an architecture that has it, such as Llama, Qwen 2 or 3, Mistral, Gemma or GPT-2",
    )


def finalize_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ends: Collection[int]) -> list[str]:
    """Gives tokenizer and configuration one padding token that ends no response.

    In a padded batch, transformers reads a judge at the last token that is not padding: were padding an end token too,
    it would read the token before.

    Args:
        model: a judge.
        tokenizer: its tokenizer.
        ends: what responses end with.

    Returns:
        Lines for people: what was changed.

    Raises:
        ModelError: no token can be it.
    """
    vocabulary = model.get_input_embeddings().weight.shape[0]
    found = next((t for t in _paddings(tokenizer) if t not in ends and 0 <= t < vocabulary), None)
    if found is None:
        raise ModelError(
            given=f"a reward model with the tokenizer of {type(model).__name__}, which has no token to pad with",
            rule="a padded batch is read at the last token that is not padding, so padding is no end token",
            remedy="give it one: add_tokens=['<|pad|>']",
        )
    before = tokenizer.pad_token
    text = str(tokenizer.convert_ids_to_tokens(found))
    tokenizer.pad_token = text
    pad_with(model, found)
    return [] if before == text else [f"padding is {text} here, and in what is saved (it was {before or 'none'})"]


def pad_with(model: PreTrainedModel, padding: int | None) -> None:
    """Makes a token the padding of a judge's batches."""
    for config in (model.config, model.config.get_text_config(decoder=True)):
        config.pad_token_id = padding


def _paddings(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that may be padding, the likeliest first: its own, those that are called so, those that mean nothing."""
    added = {str(token): number for number, token in sorted(tokenizer.added_tokens_decoder.items())}
    named = [number for word in ("pad", "reserved") for text, number in added.items() if word in text.lower()]
    found = [tokenizer.pad_token_id, *named, tokenizer.unk_token_id, tokenizer.bos_token_id]
    return [number for number in found if number is not None]
