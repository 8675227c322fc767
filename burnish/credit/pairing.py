"""From graded groups to those of a preference loss: online DPO and its kin. Beside `credit`.

Guo et al. 2024, arXiv 2402.04792: the policy writes, a grader compares, and DPO learns from the pair at once. The
paper has two responses to a prompt; of n, `best_worst` takes the pair that differs most (as Yuan et al. 2024, arXiv
2401.10020), and `all` every pair of different worth. Nothing here is a policy gradient: the groups have no advantages.
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
    """Groups of graded responses → groups as preference losses have them, best first; its settings have the fields."""

    @classmethod
    def of(cls, settings: PairingSettings) -> Pairing:
        """The rule with these settings."""
        return cls(**asdict(settings))

    def assign(self, groups: Sequence[Group], worth: Sequence[Tensor]) -> list[tuple[Group, ...]]:
        """See `rule.Rule`. A prompt whose responses are all equal gives no pair, and is not among them; if all are
        such, the first one's responses are compared with a weight of 0, so that a step has a loss and no gradient."""
        pairs = list(zip(groups, worth, strict=True))
        lessons = [lesson for lesson in (tuple(self._of(group, each)) for group, each in pairs) if lesson]
        if lessons:
            return lessons
        silent = next((each for each in (self._silent(*pair) for pair in pairs) if each is not None), None)
        return [] if silent is None else [(silent,)]

    def _silent(self, group: Group, worth: Tensor) -> Group | None:
        """Responses that are compared without effect; None: fewer than two are judged."""
        known = (not math.isnan(value) for value in worth.tolist())
        judged = [replace(each, weights=torch.zeros(len(each.tokens))) for each in compress(group.responses, known)]
        if len(judged) < 2:
            return None
        return replace(group, responses=tuple(judged if self.form == "ranking" else judged[:2]))

    def _of(self, group: Group, worth: Tensor) -> Iterator[Group]:
        graded = zip(group.responses, worth.tolist(), strict=True)
        judged = [(response, float(value)) for response, value in graded if not math.isnan(value)]
        ranked = sorted(judged, key=lambda each: -each[1])
        if self.form == "verdicts":
            if judged:
                yield _group(group, [(response, float(value >= self.success_threshold)) for response, value in judged])
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
    return replace(group, responses=tuple(replace(response, reward=worth) for response, worth in graded))
