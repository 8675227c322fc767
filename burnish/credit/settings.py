"""Settings of credit rules. Imports no torch; `credit.Credit` and `pairing.Pairing` have these fields and compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Baseline = Literal["group", "leave_one_out", "none"]
Scale = Literal["group", "batch", "whiten", "none"]
Combination = Literal["sum", "normalized_sum"]
Form = Literal["best_worst", "all", "ranking", "verdicts"]
KlEstimator = Literal["k1", "k2", "k3"]


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


@dataclass(frozen=True, slots=True)
class GaeSettings:
    """Settings of generalized advantage estimation, see `gae.Gae`."""

    gamma: float = 1.0
    """Discount γ of the rewards of later tokens."""
    gae_lambda: float = 0.95
    """λ of the policy's advantages."""
    critic_lambda: float = 1.0
    """λ of the critic's returns."""
    length_adaptive_alpha: float | None = None
    """α of the policy's λ = 1 − 1 / (α · length); None: `gae_lambda` for every length."""
    whiten_advantages: bool = True
    """Whether the advantages of a batch get mean 0 and standard deviation 1."""
    whiten_rewards: bool = False
    """Whether the tokens' rewards of a batch get the standard deviation 1."""
    bootstrap_truncated: bool = False
    """Whether the critic's value follows the last token of a truncated response; False: the end is terminal."""
    kl_coef: float = 0.0
    """β of the KL penalty in the reward of every token; with `kl_target` the first one."""
    kl_estimator: KlEstimator = "k1"
    kl_target: float | None = None
    """KL of a response, nats, that an adaptive β keeps; None: β is constant."""
    kl_coef_gain: float = 0.1
    """K of the adaptive β."""
    kl_warmup_batches: int = 0
    """Batches at the beginning, sampled by a policy that is not trained, after which β is not adapted."""

    @property
    def needs_reference(self) -> bool:
        """Whether responses must have `reference_logprobs`."""
        return self.kl_coef > 0
