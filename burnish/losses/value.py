r"""Value loss of a critic: squared error of the state values, plain or clipped.

    plain:    L = 1/N Σ_t ½ (V(s_t) − R_t)²
    clipped:  L = 1/N Σ_t ½ max((V(s_t) − R_t)², (clip(V(s_t), V_old(s_t) ± ε) − R_t)²)

over the N trained tokens of the step, with R_t the return (`Streams.returns`) and V_old the values before the first
update of the batch (`Streams.values`). The clipped form is that of the PPO implementation of OpenAI Baselines
(Engstrom et al. 2020, arXiv 2005.12729, section 3): a value that has moved by more than ε in the direction of its
return has no gradient. Limits: ε → ∞ is the plain loss; at V = V_old both are equal, and so are their gradients.
Detached: R, V_old. Denominator: tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import maximum

from burnish.losses.base import LossDefaults
from burnish.losses.per_response import constant
from burnish.types import Denominator, Group, LossOutput, LossTerm, Microbatch, Scope, Score, TokenScores


@dataclass(frozen=True, slots=True)
class ValueLoss(LossDefaults):
    """Squared error of state values: ½ (V − R)², or clipped at V_old ± `value_clip`; see the module."""

    value_clip: float | None = None
    """ε, unit of the reward; None: the plain loss."""

    @property
    def needs(self) -> Collection[Score]:
        return [Score.STATE_VALUE]

    @property
    def scope(self) -> Scope:
        return Scope.SEQUENCE

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        values = scores.of(Score.STATE_VALUE)
        returns = constant(microbatch.returns, values)
        error = (values - returns).square()
        if self.value_clip is None:
            return LossOutput({"value": LossTerm(0.5 * error.sum(), Denominator.TOKENS)})
        old = constant(microbatch.values, values)
        clipped = (old + (values - old).clamp(-self.value_clip, self.value_clip) - returns).square()
        share = LossTerm((clipped > error).to(values.dtype).sum().detach(), Denominator.TOKENS)
        total = 0.5 * maximum(error, clipped).sum()
        return LossOutput({"value": LossTerm(total, Denominator.TOKENS)}, {"value_clip_fraction": share})

    def has_signal(self, groups: Sequence[Group]) -> bool:
        """True: the loss does not weight tokens, and no value is known to equal its return beforehand."""
        return True
