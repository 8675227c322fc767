"""What may be chosen of a model: the type of its weights, how its base is stored, what does not train, a value head.

Stands between a recipe and `load`, `quantised`, `freezing` and `value_head`, and needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DtypeName = Literal["auto", "float32", "bfloat16", "float64"]
EXCEPT = "!"
"""Before a pattern: what matches it trains after all."""
RewardTarget = Literal["answer", "step"]
"""What is judged: an answer, at its last token, or each of its steps, at theirs."""
ProblemType = Literal["regression", "multi_label_classification"]
"""What a value is, as transformers calls it: a number, or the logit of a probability."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """How the linear layers of a base are stored."""

    bits: Literal[4, 8] = 4
    """4: blocks of 64 weights with one scale each. 8: LLM.int8 (arXiv 2208.07339), a scale for each output."""
    quant_type: Literal["nf4", "fp4"] = "nf4"
    """The sixteen values: nf4, the quantiles of a normal distribution (arXiv 2305.14314, section 3), or fp4."""
    double_quantization: bool = True
    """Whether the scales of 4-bit blocks are quantised to 8 bits themselves: 4.13 instead of 4.5 bits a weight."""
    int8_threshold: float = 0.0
    """Of 8 bits: columns in which some input of the microbatch is larger stay 16-bit; 0: none."""

    def bytes_of(self, weights: int) -> int:
        """Of so many weights, their scales included."""
        scales = (8 / 64 + 32 / (64 * 256)) if self.double_quantization else 32 / 64
        return round(weights * ((4 + scales) / 8 if self.bits == 4 else 1))


@dataclass(frozen=True, slots=True)
class ValueHeadConfig:
    """The value head of a model to train. Example: ``ValueHeadConfig(seed=0)``."""

    outputs: int = 1
    """K, numbers for each token."""
    seed: int = 0
    """Of the head's first weights."""
    judged: RewardTarget = "answer"
    names: tuple[str, ...] = ()
    """Of the K numbers; (): they have none."""
    problem: ProblemType = "regression"

    def __post_init__(self) -> None:
        assert len(self.names) in (0, self.outputs), "every number has a name, or none has"
