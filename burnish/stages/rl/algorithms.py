"""Reinforcement-learning algorithms: settings of one credit rule and one loss, under the names of their papers.

Imports no torch. With one update per batch of rollouts the ratio is exactly 1 and no clip takes effect: then the
algorithms differ in credit and aggregation alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from burnish.credit.settings import CreditSettings
from burnish.losses.policy.settings import Cispo, PolicyGradientOptions, PpoClip, Sapo


@dataclass(frozen=True, slots=True)
class Algorithm:
    """Settings of an algorithm, with its paper."""

    credit: CreditSettings
    loss: PolicyGradientOptions
    paper: str


ALGORITHMS: Mapping[str, Algorithm] = MappingProxyType(
    {
        "grpo": Algorithm(CreditSettings(), PolicyGradientOptions(loss_aggregation="sequence"), "arXiv 2402.03300"),
        "dr_grpo": Algorithm(
            CreditSettings(advantage_scale="none"),
            PolicyGradientOptions(loss_aggregation="fixed", fixed_length=1),
            "arXiv 2503.20783",
        ),
        "dapo": Algorithm(CreditSettings(), PolicyGradientOptions(clip=PpoClip(0.2, 0.28)), "arXiv 2503.14476"),
        "gspo": Algorithm(
            CreditSettings(),
            PolicyGradientOptions(ratio_level="sequence", clip=PpoClip(3e-4, 4e-4), loss_aggregation="sequence"),
            "arXiv 2507.18071",
        ),
        "cispo": Algorithm(CreditSettings(), PolicyGradientOptions(clip=Cispo(5.0)), "arXiv 2506.13585"),
        "sapo": Algorithm(
            CreditSettings(), PolicyGradientOptions(clip=Sapo(), loss_aggregation="sequence"), "arXiv 2511.20347"
        ),
        "gmpo": Algorithm(
            CreditSettings(),
            PolicyGradientOptions(
                ratio_level="sequence", clip=PpoClip(1.0, 1e9, token_log_ratio_limit=0.4), loss_aggregation="sequence"
            ),
            "arXiv 2507.20673",
        ),
        "rloo": Algorithm(
            CreditSettings(baseline="leave_one_out", advantage_scale="none"),
            PolicyGradientOptions(loss_aggregation="fixed", fixed_length=1),
            "arXiv 2402.14740",
        ),
        "gdpo": Algorithm(
            CreditSettings(baseline="none", advantage_scale="whiten", reward_combination="normalized_sum"),
            PolicyGradientOptions(loss_aggregation="sequence"),
            "arXiv 2601.05242",
        ),
        "reinforce_pp": Algorithm(
            CreditSettings(baseline="none", advantage_scale="whiten"), PolicyGradientOptions(), "arXiv 2501.03262"
        ),
    }
)
"""Name → algorithm. Dr. GRPO's length is a recipe's `max_new_tokens`: see `algorithm`."""


def algorithm(name: str, *, max_new_tokens: int, updates_per_batch: int = 1) -> Algorithm:
    """The settings of an algorithm in a recipe.

    Args:
        name: one of `ALGORITHMS`.
        max_new_tokens: maximum number of tokens of a response, the divisor of Dr. GRPO.
        updates_per_batch: optimizer steps per batch of rollouts. With several, old log-probabilities are those that
            the sampler reported.
    """
    chosen = ALGORITHMS[name]
    loss = replace(chosen.loss, old_logprobs="policy" if updates_per_batch == 1 else "sampler")
    if name == "dr_grpo":
        loss = replace(loss, fixed_length=max_new_tokens)
    return replace(chosen, loss=loss)
