"""Reinforcement learning: groups of responses are sampled from the policy, graded, then credited or paired.

The credit rule and the loss determine the method: see `burnish.stages.rl.algorithms`.
"""

from __future__ import annotations

from burnish.credit.credit import Credit
from burnish.credit.pairing import Pairing
from burnish.credit.settings import PairingSettings
from burnish.losses.policy.entropy import EntropyControl
from burnish.losses.policy.gradient import PolicyGradient
from burnish.losses.preference.build import built
from burnish.stages.context import StageContext
from burnish.stages.on_policy.build import Learning, OnPolicy
from burnish.stages.on_policy.data import OnPolicyData
from burnish.stages.rl.settings import RlSettings


class Rl(OnPolicy[RlSettings, OnPolicyData[RlSettings]]):
    """Kind of the stage rl."""

    settings = RlSettings

    def open(self, context: StageContext[RlSettings]) -> OnPolicyData[RlSettings]:
        return OnPolicyData.of(context)

    def learning(self, settings: RlSettings) -> Learning:
        return learning_of(settings)


def learning_of(settings: RlSettings) -> Learning:
    """The credit rule of graded groups and the loss, built anew on each call, since a loss may have a state."""
    if not settings.is_gradient:
        rule, compared = settings.rule, settings.compared.preference
        assert isinstance(rule, PairingSettings), "online_dpo trains on pairs, rankings or verdicts"
        return Learning(Pairing.of(rule), built(compared))
    chosen = settings.chosen
    credit, loss = Credit.of(chosen.credit), PolicyGradient.of(chosen.loss)
    if settings.entropy_control is None:
        return Learning(credit, loss)
    return Learning(credit, EntropyControl(loss, *settings.entropy_control))
