"""What a rule of credit is told, and nothing that computes: names, weights, defaults. Needs no torch.

Stands between a recipe and the rules: `credit.Credit` and `pairing.Pairing` have these fields and compute with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Baseline = Literal["group", "leave_one_out", "none"]
Scale = Literal["group", "batch", "whiten", "none"]
Combination = Literal["sum", "normalized_sum"]
Form = Literal["best_worst", "all", "ranking", "verdicts"]


@dataclass(frozen=True, slots=True)
class CreditSettings:
    """A rule of credit. GRPO's is the default; `baseline="leave_one_out", advantage_scale="none"` is RLOO's."""

    baseline: Baseline = "group"
    advantage_scale: Scale = "group"
    reward_combination: Combination = "sum"
    """How several rewards become one, before the baseline."""
    reward_kl_coef: float = 0.0
    """β of the divergence that is subtracted from a response's reward before the baseline (RLOO, REINFORCE)."""
    advantage_kl_coef: float = 0.0
    """β of the divergence that is subtracted from every token's advantage; see `shaping.kl_shaped`."""

    @property
    def needs_reference(self) -> bool:
        """Whether responses must have `reference_logprobs`."""
        return bool(self.reward_kl_coef or self.advantage_kl_coef)

    @property
    def group_relative(self) -> bool:
        """Whether responses to one prompt are compared with each other."""
        return self.baseline != "none" or self.reward_combination != "sum"


@dataclass(frozen=True, slots=True)
class PairingSettings:
    """How graded responses become groups as preference losses have them."""

    form: Form = "best_worst"
    """best_worst: one pair of a prompt, the first of the best and the last of the worst. all: every pair whose worth
    differs. ranking: all judged responses, best first, where not all are equal (those that are stay in the order in
    which they were written). verdicts: all judged responses, each with the reward 1 or 0."""
    success_threshold: float = 0.5
    """Worth from which on a verdict is 1."""
    needs_reference: bool = True
    reward_combination: Combination = "sum"

    @property
    def group_relative(self) -> bool:
        """Whether responses to one prompt are compared with each other."""
        return self.form != "verdicts"
