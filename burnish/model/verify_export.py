"""Prompts replayed: is what was written to disk the model that was meant? Used by `merge` and `export`, after writing.

The prompts go through the model before anything is changed, and through what a plain transformers (or peft) loads from
the new folder. Both compute in float32 at least, so a difference is one of the weights and not of the arithmetic.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from burnish.data.records import Conversation, Message
from burnish.data.template import Template
from burnish.data.writer import Writer
from burnish.errors import DataError, ModelError
from burnish.model.quantization import finalize
from burnish.model.value_head import holds_reward_model, is_reward_model, reward_model_class
from burnish.watch.quiet import quiet_transformers

TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.3}
"""Largest difference of a log-probability, nats, by the type of the written weights. Rounding the weights of a model
once moves it by less; a wrong tensor moves it by several nats."""
EXACT = 1e-3
"""The same where nothing was rounded: what another order of additions in float32 does to a log-probability."""

TEXTS = (
    "What is 7 plus 5?",
    "Write one sentence about the sea.",
    "def reverse(word):\n    return",
    "Les enfants jouent dans le jardin; 今日は天気がいい。",
)
"""What is replayed: a question, a wish, code, other scripts."""
_RANDOM_TOKENS = 32

Logprobs = Sequence[Tensor]
"""For each prompt [tokens, vocabulary], of a reward model [outputs], of one of steps [tokens, outputs]; float64 on the
CPU."""


@dataclass(frozen=True, slots=True)
class ExportCheck:
    """What came of it."""

    prompts: int
    positions: int
    """Tokens of all prompts together."""
    largest: float
    """Largest difference of a log-probability over all positions and the whole vocabulary, nats."""
    tolerance: float
    """What it may be at most, for the type of the weights."""

    def line(self, *, is_reward_model: bool = False) -> str:
        """For people; of a reward model, which says one number to a prompt, if it `judges`."""
        what, unit = ("value", "") if is_reward_model else ("log-probability", " nats")
        return (
            f"{self.prompts} prompts replayed ({self.positions} tokens): the largest difference of a {what} "
            f"is {self.largest:.2g}{unit} (at most {self.tolerance:g})"
        )


def prompts_of(tokenizer: PreTrainedTokenizerBase, template: Template | None, vocabulary: int) -> list[Tensor]:
    """The prompts as tokens: texts, as the template asks them if there is one, and every added token among others."""
    prompts = [_ids(text, tokenizer, template) for text in TEXTS]
    added = sorted(token for token in tokenizer.added_tokens_decoder if token < vocabulary)[-_RANDOM_TOKENS:]
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(min(vocabulary, len(tokenizer)), (_RANDOM_TOKENS,), generator=generator)
    prompts.append(torch.cat([drawn, torch.tensor(added, dtype=torch.long)]))
    return [prompt for prompt in prompts if len(prompt)]


def _ids(text: str, tokenizer: PreTrainedTokenizerBase, template: Template | None) -> Tensor:
    if template is not None:
        with suppress(DataError):  # the template may refuse so short a conversation; the text alone will do
            text = Writer(tokenizer, template).write(Conversation((Message("user", text),)), 1, to_be_answered=True)
    return torch.tensor(tokenizer.encode(text, add_special_tokens=template is None), dtype=torch.long)


@torch.no_grad()
def logprobs(model: PreTrainedModel | PeftModel, prompts: Sequence[Tensor]) -> Logprobs:
    """The log-probabilities of every next token after every prefix of the prompts; of a reward model, its values."""
    device = next(iter(model.parameters())).device
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    found = [model(input_ids=prompt[None].to(device), use_cache=False).logits[0].double() for prompt in prompts]
    return [(each if is_reward_model(inner) else each.log_softmax(-1)).cpu() for each in found]


def largest_difference(one: Logprobs, other: Logprobs) -> float:
    """In nats; NaN where one of them has it, and infinite where the vocabularies differ."""
    if [each.shape for each in one] != [each.shape for each in other]:
        return float("inf")
    return float(torch.stack([(a - b).abs().max() for a, b in zip(one, other, strict=True)]).max())


def widened(model: PreTrainedModel | PeftModel) -> PreTrainedModel | PeftModel:
    """The model with narrow weights as float32, in place: the same numbers."""
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
    """Loads what was written, with nothing of ours, and compares.

    Args:
        folder: what was written.
        tokenizer: the one that was meant, with its template.
        prompts: as `prompts_of` gave them.
        expected: their log-probabilities by the model that was meant.
        rounded: the same by the weights as they were rounded, of which those on the disk must be an exact copy; None:
            nothing was rounded.
        dtype: of the written weights.

    Raises:
        ModelError: it cannot be loaded, it reads or writes text in another way, or it is another model.
    """
    try:
        model, read = _loaded(folder)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(
            given=f"what was written to {folder} cannot be loaded: {' '.join(str(error).split())[:300]}",
            rule="what is written loads in plain transformers",
            remedy="look at the disk's space, and report it with the model's name if there is enough",
        ) from error
    if read.chat_template != tokenizer.chat_template or any(read(each) != tokenizer(each) for each in TEXTS):
        raise ModelError(
            given=f"the tokenizer that was written to {folder} reads or writes text in another way",
            rule="what is written has the tokenizer and the template that the model was trained with",
            remedy="save the tokenizer of the model again with save_pretrained, and try once more",
        )
    found = logprobs(model, prompts)
    refuse_mismatch(folder, largest_difference(found, expected if rounded is None else rounded), EXACT)
    largest = largest_difference(found, expected)
    tolerance = EXACT if rounded is None else TOLERANCE[dtype]
    refuse_mismatch(folder, largest, tolerance)
    return ExportCheck(len(prompts), sum(len(prompt) for prompt in prompts), largest, tolerance)


def _loaded(folder: Path) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase]:
    with quiet_transformers(), warnings.catch_warnings():
        # peft 0.21 reads a property that transformers 5.23 deprecates; to be removed when peft stops doing so.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        warnings.filterwarnings("ignore", message="Model (has|with) `tie_word_embeddings=True`")
        adapter = (folder / "adapter_config.json").exists()
        if adapter:
            kind = AutoPeftModelForCausalLM
        else:
            config = AutoConfig.from_pretrained(folder)
            kind = reward_model_class(config) if holds_reward_model(config) else AutoModelForCausalLM
        model = kind.from_pretrained(folder).eval()
        finalize(model)
        return widened(model), AutoTokenizer.from_pretrained(folder)


def refuse_mismatch(what: object, largest: float, tolerance: float) -> None:
    """Raises a ModelError for a difference that rounding cannot make."""
    if not largest <= tolerance:  # also NaN
        raise ModelError(
            given=f"{what}: a log-probability differs by {largest:.3g} nats from the model that it was made of",
            rule=f"rounding its weights moves it by at most {tolerance:g} nats",
            remedy="do not use it; give the base in a wider type (float32), or keep the adapter beside its base",
        )
