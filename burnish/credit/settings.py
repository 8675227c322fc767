"""Settings of credit rules. Imports no torch; `credit.Credit` and `pairing.Pairing` have these fields and compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Baseline = Literal["group", "leave_one_out", "none"]
Scale = Literal["group", "batch", "whiten", "none"]
Combination = Literal["sum", "normalized_sum"]
Form = Literal["best_worst", "all", "ranking", "verdicts"]


@dataclass(frozen=True, slots=True)
class CreditSettings:
    """Settings of a credit rule. GRPO's are the default; `baseline="leave_one_out", advantage_scale="none"` is RLOO."""

    baseline: Baseline = "group"
    advantage_scale: Scale = "group"
    reward_combination: Combination = "sum"
    """Combination of several rewards, before the baseline."""
    reward_kl_coef: float = 0.0
    """β of the KL penalty that is subtracted from a response's reward before the baseline (RLOO, REINFORCE)."""
    advantage_kl_coef: float = 0.0
    """β of the KL penalty that is subtracted from every token's advantage; see `credit.kl_shaped`."""

    @property
    def needs_reference(self) -> bool:
        """Whether responses must have `reference_logprobs`."""
        return bool(self.reward_kl_coef or self.advantage_kl_coef)

    @property
    def group_relative(self) -> bool:
        """Whether responses to one prompt are compared."""
        return self.baseline != "none" or self.reward_combination != "sum"


@dataclass(frozen=True, slots=True)
class PairingSettings:
    """Settings of pairing: graded responses → groups of a preference loss."""

    form: Form = "best_worst"
    """best_worst: one pair per prompt, the first of the best and the last of the worst responses. all: every pair of
    different rewards. ranking: all graded responses, best first, if not all rewards are equal (equal ones stay in their
    order of sampling). verdicts: all graded responses, each with the reward 1 or 0."""
    success_threshold: float = 0.5
    """Smallest reward whose verdict is 1."""
    needs_reference: bool = True
    reward_combination: Combination = "sum"

    @property
    def group_relative(self) -> bool:
        """Whether responses to one prompt are compared."""
        return self.form != "verdicts"
