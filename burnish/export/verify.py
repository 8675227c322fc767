"""Verification of written models: log-probabilities of prompts before and after writing. Used by `merge` and `export`.

The prompts go through the original model, and through the model that plain transformers (or peft) loads from the new
folder. Both compute in float32 or wider, so a difference comes from the weights and not from the arithmetic.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from burnish.data.records import Conversation, Message
from burnish.data.template import Template
from burnish.data.writer import Writer
from burnish.errors import DataError, ModelError
from burnish.model.integrity import adapter_rows
from burnish.model.model_class import model_class_of
from burnish.model.quantization import make_trainable
from burnish.model.value_head import is_reward_model
from burnish.watch.quiet import quiet_transformers

TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.3}
"""Largest difference of a log-probability, nats, by the type of the written weights. Rounding the weights of a model
once changes it by less; a wrong tensor changes it by several nats."""
EXACT = 1e-3
"""The same where nothing was rounded: the effect of another order of float32 additions."""

TEXTS = (
    "What is 7 plus 5?",
    "Write one sentence about the sea.",
    "def reverse(word):\n    return",
    "Les enfants jouent dans le jardin; 今日は天気がいい。",
)
"""Texts of the prompts: a question, a request, code, other scripts."""
_RANDOM_TOKENS = 32

Logprobs = Sequence[Tensor]
"""Per prompt [tokens, vocabulary]; of a reward model [outputs], of one for steps [tokens, outputs]; float64 on the
CPU."""


@dataclass(frozen=True, slots=True)
class ExportCheck:
    """Result of the verification."""

    prompts: int
    positions: int
    """Tokens of all prompts."""
    largest: float
    """Largest difference of a log-probability over all positions and the whole vocabulary, nats."""
    tolerance: float
    """Largest allowed difference, by the type of the weights."""

    def line(self, *, is_reward_model: bool = False) -> str:
        """Log line; a reward model has values in place of log-probabilities."""
        name, unit = ("value", "") if is_reward_model else ("log-probability", " nats")
        return (
            f"verified on {self.prompts} prompts ({self.positions} tokens): the largest difference of a {name} "
            f"is {self.largest:.2g}{unit} (at most {self.tolerance:g})"
        )


def prompts_of(tokenizer: PreTrainedTokenizerBase, template: Template | None, vocabulary: int) -> list[Tensor]:
    """Prompts as tokens: the texts, written by the template if there is one, and a prompt with the added tokens."""
    prompts = [_ids(text, tokenizer, template) for text in TEXTS]
    added = sorted(token for token in tokenizer.added_tokens_decoder if token < vocabulary)[-_RANDOM_TOKENS:]
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(min(vocabulary, len(tokenizer)), (_RANDOM_TOKENS,), generator=generator)
    prompts.append(torch.cat([drawn, torch.tensor(added, dtype=torch.long)]))
    return [prompt for prompt in prompts if len(prompt)]


def _ids(text: str, tokenizer: PreTrainedTokenizerBase, template: Template | None) -> Tensor:
    if template is not None:
        with suppress(DataError):  # a template may refuse so short a conversation; then the text alone is the prompt
            text = Writer(tokenizer, template).write(
                Conversation((Message("user", text),)), 1, add_generation_prompt=True
            )
    return torch.tensor(tokenizer.encode(text, add_special_tokens=template is None), dtype=torch.long)


@torch.no_grad()
def logprobs(model: PreTrainedModel | PeftModel, prompts: Sequence[Tensor]) -> Logprobs:
    """Log-probabilities of every next token after every prefix of the prompts; values of a reward model."""
    device = next(iter(model.parameters())).device
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    outputs = [model(input_ids=prompt[None].to(device), use_cache=False).logits[0].double() for prompt in prompts]
    return [(output if is_reward_model(inner) else output.log_softmax(-1)).cpu() for output in outputs]


def largest_difference(one: Logprobs, other: Logprobs) -> float:
    """Largest absolute difference, nats; NaN if either has NaN, infinite if the vocabularies differ."""
    if [logprobs.shape for logprobs in one] != [logprobs.shape for logprobs in other]:
        return float("inf")
    return float(torch.stack([(a - b).abs().max() for a, b in zip(one, other, strict=True)]).max())


def widened(model: PreTrainedModel | PeftModel) -> PreTrainedModel | PeftModel:
    """Converts 16-bit weights to float32 in place."""
    for parameter in model.parameters():
        if parameter.dtype in (torch.float16, torch.bfloat16):
            parameter.data = parameter.data.float()
    return model


def verify_export(
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Tensor],
    expected: Logprobs,
    rounded: Logprobs | None,
    dtype: torch.dtype,
) -> ExportCheck:
    """Loads written files with plain transformers or peft, and compares log-probabilities.

    Args:
        folder: the written files.
        tokenizer: the original tokenizer, with its template.
        prompts: from `prompts_of`.
        expected: their log-probabilities by the original model.
        rounded: their log-probabilities by the rounded weights, of which the files must be an exact copy; None:
            nothing was rounded.
        dtype: type of the written weights.

    Raises:
        ModelError: the files cannot be loaded, their tokenizer differs, or they are another model.
    """
    try:
        model, stored_tokenizer = _loaded(folder)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(
            given=f"the model written to {folder} cannot be loaded: {' '.join(str(error).split())[:300]}",
            rule="a written model loads in plain transformers",
            remedy="check the free disk space; if there is enough, report the error with the model's name",
        ) from error
    if stored_tokenizer.chat_template != tokenizer.chat_template or any(
        stored_tokenizer(text) != tokenizer(text) for text in TEXTS
    ):
        raise ModelError(
            given=f"the tokenizer written to {folder} tokenizes differently, or has another chat template",
            rule="a written model has the tokenizer and the template of the original",
            remedy="save the tokenizer of the model again with save_pretrained, and repeat the command",
        )
    written = logprobs(model, prompts)
    refuse_mismatch(folder, largest_difference(written, expected if rounded is None else rounded), EXACT)
    largest = largest_difference(written, expected)
    tolerance = EXACT if rounded is None else TOLERANCE[dtype]
    refuse_mismatch(folder, largest, tolerance)
    return ExportCheck(len(prompts), sum(len(prompt) for prompt in prompts), largest, tolerance)


def _loaded(folder: Path) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase]:
    with quiet_transformers(), warnings.catch_warnings():
        # peft 0.21 reads a property that transformers 5.23 deprecates; to be removed when peft stops doing so.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        warnings.filterwarnings("ignore", message="Model (has|with) `tie_word_embeddings=True`")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        if (folder / "adapter_config.json").exists():
            model = load_adapter(folder).eval()
        else:
            config = AutoConfig.from_pretrained(folder)
            model_class = model_class_of(config)
            model = model_class.from_pretrained(folder).eval()
        make_trainable(model)
        return widened(model), tokenizer


def load_adapter(folder: Path, **options: Any) -> PeftModel:
    """Loads an adapter and its base by peft and transformers alone.

    AutoPeftModel grows the base to the length of the tokenizer, also by tokens without a row (image_token of Gemma 3
    1B); here it grows by the tokens of text and those that the adapter trained.

    Args:
        folder: the adapter, with its tokenizer.
        options: of the base's `from_pretrained`.
    """
    settings, tokenizer = PeftConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    place = settings.base_model_name_or_path
    base = model_class_of(AutoConfig.from_pretrained(place)).from_pretrained(place, **options)
    if (needed := adapter_rows(folder, settings, tokenizer)) > base.get_input_embeddings().weight.shape[0]:
        base.resize_token_embeddings(needed)
    return PeftModel.from_pretrained(base, folder, config=settings)


def refuse_mismatch(subject: object, largest: float, tolerance: float) -> None:
    """Raises ModelError if the largest difference exceeds the tolerance of rounding."""
    if not largest <= tolerance:  # also NaN
        raise ModelError(
            given=f"{subject}: a log-probability differs by {largest:.3g} nats from the original model",
            rule=f"rounding the weights changes it by at most {tolerance:g} nats",
            remedy="do not use it; give the base in a wider type (float32), or use the adapter unmerged with its base",
        )
