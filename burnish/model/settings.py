"""Settings of a model: type of its weights, quantization of its base, value head; models that keys of a recipe name.

Between a recipe and `load`, `quantization`, `freezing` and `value_head`. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

DtypeName = Literal["auto", "float32", "bfloat16", "float64"]
EXCEPT = "!"
"""Prefix of a freeze pattern whose matches train after all."""
RewardTarget = Literal["answer", "step"]
"""What has a value: an answer, at its last token, or each of its steps, at the step's last token."""
ProblemType = Literal["regression", "multi_label_classification"]
"""Meaning of a value, in transformers' words: a number, or the logit of a probability."""
ModelKind = Literal["language_model", "reward_model", "process_reward_model"]
"""What a model gives: probabilities of tokens, a value of a whole response, or a value of each of its steps."""
MODEL_KINDS: Mapping[ModelKind, str] = MappingProxyType(
    {
        "language_model": "a language model",
        "reward_model": "a reward model of whole responses",
        "process_reward_model": "a reward model of steps",
    }
)
"""Kind of a model → its name in messages."""
STAGE_PREFIX = "stage:"
"""Beginning of the name of a model that an earlier stage of the same recipe makes, such as ``stage:reward``."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """Quantization of the linear layers of a base."""

    bits: Literal[4, 8] = 4
    """4: blocks of 64 weights with one scale each. 8: LLM.int8 (arXiv 2208.07339), one scale for each output."""
    quant_type: Literal["nf4", "fp4"] = "nf4"
    """The sixteen values of 4 bits: nf4, the quantiles of a normal distribution (arXiv 2305.14314, section 3), or
    fp4."""
    double_quantization: bool = True
    """Whether the scales of 4-bit blocks are themselves quantized to 8 bits: 4.13 instead of 4.5 bits per weight."""
    int8_threshold: float = 0.0
    """With 8 bits: columns in which some input of the microbatch is larger stay 16-bit; 0: none."""

    def bytes_of(self, weights: int) -> int:
        """Bytes of this many weights, scales included."""
        scales = (8 / 64 + 32 / (64 * 256)) if self.double_quantization else 32 / 64
        return round(weights * ((4 + scales) / 8 if self.bits == 4 else 1))


@dataclass(frozen=True, slots=True)
class ValueHeadConfig:
    """Value head of a reward model. Example: ``ValueHeadConfig(seed=0)``."""

    outputs: int = 1
    """K, the numbers per token."""
    seed: int = 0
    """Seed of the head's initial weights."""
    judged: RewardTarget = "answer"
    names: tuple[str, ...] = ()
    """Names of the K numbers; (): they have none."""
    problem: ProblemType = "regression"

    def __post_init__(self) -> None:
        assert len(self.names) in (0, self.outputs), "either every number has a name, or none has"


def stage_named(name: str) -> str | None:
    """The stage in the name of a model, such as reward in ``stage:reward``; None: the model is no stage's."""
    return name.removeprefix(STAGE_PREFIX) if name.startswith(STAGE_PREFIX) else None


@dataclass(frozen=True, slots=True)
class NamedModel:
    """Model that a key of a recipe names, besides the one that is trained.

    Example: ``NamedModel("reference_model", "stage:sft", ("language_model",))``.
    """

    key: str
    """The key, as messages name it."""
    name: str
    """A run, a folder, a hub name, or ``stage:NAME``."""
    kinds: tuple[ModelKind, ...]
    """Kinds of which it may be."""
    reads: Literal["tokens", "same_text", "any_text"] = "tokens"
    """What it reads of a response: tokens (those of the policy, which it has to have), or its text, rendered in its own
    chat template and tokenizer, which are those of the policy (same_text) or may be others (any_text)."""

    @property
    def stage(self) -> str | None:
        """The earlier stage of the recipe whose model it is; None: it is no stage's."""
        return stage_named(self.name)
