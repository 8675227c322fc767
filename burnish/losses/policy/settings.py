"""Settings of the policy gradient: names, bounds, defaults. Imports no torch.

`gradient.PolicyGradient` has these fields and computes with them, `surrogate` computes a clip, `importance` a
correction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Old = Literal["policy", "sampler", "recomputed"]
Ratio = Literal["token", "sequence"]
Aggregation = Literal["token", "sequence", "fixed"]
Level = Literal["token", "sequence", "mean"]
Limiting = Literal["tis", "mis"]


@dataclass(frozen=True, slots=True)
class NoClip:
    """w · A: the importance-weighted policy gradient, unbiased, of unbounded variance."""

    token_log_ratio_limit: float | None = None
    """Bound of each token's log-ratio before a sequence's mean is taken; None: none."""


@dataclass(frozen=True, slots=True)
class PpoClip:
    """min(w A, clip(w, 1 − clip_low, 1 + clip_high) A): PPO (Schulman et al. 2017, arXiv 1707.06347, equation 7). With
    clip_high > clip_low: DAPO's clip-higher (arXiv 2503.14476). With `dual_clip`, at least dual_clip · A where A < 0,
    which bounds the loss of a ratio that exploded (Ye et al. 2020, arXiv 1912.09729, section 4, dual clip)."""

    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float | None = None
    """Above 1; None: no such bound."""
    token_log_ratio_limit: float | None = None
    """GMPO (arXiv 2507.20673) clips each token's log-ratio in [−limit, limit] on the side that the advantage pushes
    to, before the mean over the sequence."""


@dataclass(frozen=True, slots=True)
class Cispo:
    """sg(min(w, clip_max_weight)) · A · log π: CISPO (MiniMax 2025, arXiv 2506.13585). No token loses its gradient; its
    weight is bounded."""

    clip_max_weight: float = 5.0
    """Largest weight, at least 1: a ratio of 1 is within it."""
    token_log_ratio_limit: float | None = None
    """As in NoClip."""

    def __post_init__(self) -> None:
        assert self.clip_max_weight >= 1, "the ratio of a first update is within the cap"


@dataclass(frozen=True, slots=True)
class Sapo:
    """(4 / τ) σ(τ (w − 1)) A: SAPO (arXiv 2511.20347). A sigmoid instead of a clip; τ by the sign of A."""

    tau_positive: float = 1.0
    """τ where A > 0."""
    tau_negative: float = 1.05
    """τ where A <= 0."""
    token_log_ratio_limit: float | None = None
    """As in NoClip."""


Clip = NoClip | PpoClip | Cispo | Sapo
PPO = PpoClip()


@dataclass(frozen=True, slots=True)
class ImportanceCorrection:
    """Importance correction by ρ (`importance`). Example: ``ImportanceCorrection("token", "tis", max_weight=2.0)``
    (Yao et al. 2025, truncated importance sampling)."""

    level: Level = "token"
    """token: of each token alone; biased, of small variance. sequence: the product over the response, which makes the
    estimate unbiased. mean: the product's root by length, one weight for all tokens of a response."""
    rule: Limiting = "tis"
    """tis: at most `max_weight`. mis: 0 outside `min_weight` and `max_weight`."""
    max_weight: float = 2.0
    min_weight: float = 0.0


@dataclass(frozen=True, slots=True)
class PolicyGradientOptions:
    """The settings of `gradient.PolicyGradient`."""

    ratio_level: Ratio = "token"
    """sequence: w_i = exp(mean_t log w_it) for all tokens of a response (GSPO, arXiv 2507.18071, section 4.1)."""
    clip: Clip = PPO
    old_logprobs: Old = "policy"
    loss_aggregation: Aggregation = "token"
    fixed_length: int | None = None
    """L of the aggregation fixed, tokens; None: another aggregation."""
    importance_correction: ImportanceCorrection | None = None
    """None: the sampler's probabilities are the trainer's."""
    kl_coef: float = 0.0
    """Weight of the divergence from the reference; 0: no reference is needed."""
    kl_estimator: Literal["k2", "k3"] = "k3"
    entropy_coef: float = 0.0
    """Weight of the entropy, nats."""
    watches_entropy: bool = False
    """Whether the entropy is computed and reported even if its weight is 0."""

    def __post_init__(self) -> None:
        corrects = self.importance_correction is not None
        assert not corrects or self.old_logprobs != "sampler", "with old_logprobs: sampler ρ is 1"
        is_fixed = self.loss_aggregation == "fixed"
        assert is_fixed == (self.fixed_length is not None), "fixed_length is given exactly with aggregation fixed"

    @property
    def needs_reference(self) -> bool:
        """Whether responses must have `reference_logprobs`."""
        return self.kl_coef > 0
