"""Pairing of graded responses for a preference loss: online DPO and similar methods.

Guo et al. 2024, arXiv 2402.04792: the policy samples, a grader compares, and DPO trains on the pair at once. The paper
has two responses to a prompt; of n, `best_worst` takes the pair that differs most (as Yuan et al. 2024, arXiv
2401.10020), and `all` every pair of different reward. This is no policy gradient: the groups have no advantages.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import compress

import torch
from torch import Tensor

from burnish.credit.settings import PairingSettings
from burnish.rounding import alike
from burnish.types import Group, Response


@dataclass(frozen=True, slots=True)
class Pairing(PairingSettings):
    """Credit rule that makes groups of a preference loss, best first; its settings have the fields."""

    @classmethod
    def of(cls, settings: PairingSettings) -> Pairing:
        """The rule with these settings."""
        return cls(**asdict(settings))

    def assign(self, groups: Sequence[Group], rewards: Sequence[Tensor]) -> list[tuple[Group, ...]]:
        """See `rule.CreditRule`. A prompt whose rewards are all equal gives no pair; if all prompts are such, the
        first one's responses are compared with weight 0, so that a step has a loss and no gradient."""
        graded = list(zip(groups, rewards, strict=True))
        items = [tuple(self._comparisons(group, values)) for group, values in graded]
        for number, entry in enumerate(graded if not any(items) else ()):
            if (silent := self._silent(*entry)) is not None:
                items[number] = (silent,)
                break
        return items

    def _silent(self, group: Group, rewards: Tensor) -> Group | None:
        """A comparison with weight 0; None: fewer than two responses are graded."""
        is_graded = (not math.isnan(value) for value in rewards.tolist())
        responses = [replace(r, weights=torch.zeros(len(r.tokens))) for r in compress(group.responses, is_graded)]
        if len(responses) < 2:
            return None
        return replace(group, responses=tuple(responses if self.form == "ranking" else responses[:2]))

    def _comparisons(self, group: Group, rewards: Tensor) -> Iterator[Group]:
        """Groups of the preference loss from one graded group."""
        pairs = zip(group.responses, rewards.tolist(), strict=True)
        graded = [(response, float(value)) for response, value in pairs if not math.isnan(value)]
        ranked = sorted(graded, key=lambda entry: -entry[1])
        if self.form == "verdicts":
            if graded:
                yield _group(group, [(response, float(value >= self.success_threshold)) for response, value in graded])
        elif alike([value for _, value in ranked]):
            return
        elif self.form == "ranking":
            yield _group(group, ranked)
        elif self.form == "best_worst":
            yield _group(group, [ranked[0], ranked[-1]])
        else:
            for place, better in enumerate(ranked):
                others = (worse for worse in ranked[place + 1 :] if not alike([better[1], worse[1]]))
                yield from (_group(group, [better, worse]) for worse in others)


def _group(group: Group, graded: Sequence[tuple[Response, float]]) -> Group:
    return replace(group, responses=tuple(replace(response, reward=reward) for response, reward in graded))
