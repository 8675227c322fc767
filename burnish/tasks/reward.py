"""What a reward is: settings of a recipe that can judge.

Every built-in verifier is a frozen record of settings with a method `score`, so one record says what may be written in
a recipe, travels to the worker processes, and does the work there. A user's own function is one too (`own`).
`combine` makes one verdict of several parts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from burnish.config.settings import Settings
from burnish.rounding import summed
from burnish.tasks.response_view import ResponseView
from burnish.tasks.verdict import Failure, Outcome, UnusableRow, Verdict

Seconds = Annotated[float, Field(gt=0)]


class Condition(Settings):
    """Counts a reward only where an earlier one is high enough."""

    metric: str
    """The earlier reward, by the name under which its verdicts are kept."""
    min: float
    """The lowest outcome of it that is enough."""


class Reward(Settings):
    """Base of all rewards: what can be said of any of them."""

    name: str
    """Which reward: a built-in one, or ``file.py:function``."""
    metric: str | None = None
    """The name under which its verdicts are kept; null: its name."""
    weight: float = 1.0
    """Factor in the sum; 0: it is only watched."""
    timeout: Seconds = 10.0
    """Seconds for one answer, after which its process is killed."""
    when: Condition | None = None
    """Where this is not met, the reward is 0 and nothing is asked; null: always."""
    where: dict[str, str | int | bool] = Field(default_factory=dict)
    """Values of columns: rows with others are not judged by it. Empty: all rows are."""
    cache: bool = False
    """Whether verdicts are written down and read instead of asking again; for slow or dear graders."""

    @property
    def key(self) -> str:
        """The name under which its verdicts are kept."""
        return self.metric or self.name

    @property
    def truth(self) -> bool:
        """Whether it says right (above 0) or wrong (0 or less), so that it can be tried on known answers."""
        return True

    @property
    def bounded(self) -> bool:
        """Whether it needs little memory, so that its process may be given a limit."""
        return True

    @property
    def by_group(self) -> bool:
        """Whether it is called with all answers to one prompt at once."""
        return False

    @property
    def identity(self) -> str:
        """sha256 of all that decides a verdict."""
        aside = {"metric", "weight", "timeout", "when", "cache"}
        return hashlib.sha256(json.dumps(self.model_dump(exclude=aside), sort_keys=True).encode()).hexdigest()

    def prepare(self) -> None:
        """Imports and compiles what it needs; called once in each worker, before the first answer.

        Raises:
            UserError: something is missing.
        """

    def score(self, answer: ResponseView) -> float | bool | None:
        """The number for one answer. Raises UnusableRow where the row lacks what it needs."""
        raise NotImplementedError

    def judge(self, answers: Sequence[ResponseView]) -> Sequence[object]:
        """What it says of each answer, not yet looked at: see `calling`."""
        return [self.score(answer) for answer in answers]

    def known_good(self, answer: ResponseView) -> str | None:
        """An answer that must be judged right, made from the row's reference; None: nobody knows one."""
        return None

    def same_reference(self, one: ResponseView, other: ResponseView) -> bool:
        """Whether the right answer to the one row is right for the other, as far as can be told from the references."""
        return one.reference == other.reference

    def applies(self, answer: ResponseView) -> bool:
        """Whether the row is one that it judges."""
        return all(answer.extra.get(column) == value for column, value in self.where.items())


def text_reference(answer: ResponseView) -> str:
    """The reference as text; a number is written out."""
    given = answer.reference
    if isinstance(given, str) and given.strip():
        return given
    if isinstance(given, int | float) and not isinstance(given, bool):
        return str(given)
    raise UnusableRow(f"the reference is {given!r:.60}, and text is needed")


def met(reward: Reward, parts: Mapping[str, Outcome]) -> bool:
    """Whether the reward has to be asked, once the earlier parts are known."""
    if reward.when is None:
        return True
    earlier = parts[reward.when.metric]
    return isinstance(earlier, float) and earlier >= reward.when.min


def unasked(reward: Reward, parts: Mapping[str, Outcome]) -> Outcome:
    """The outcome of a reward whose condition is not met: 0, or what its condition is where that is no number."""
    assert reward.when is not None, "only a condition keeps a reward from being asked"
    earlier = parts[reward.when.metric]
    return 0.0 if isinstance(earlier, float) else earlier


def combine(rewards: Sequence[Reward], parts: Mapping[str, Outcome]) -> Verdict:
    """The weighted sum of the parts that have a weight and judged; see `Verdict.reward` for what has no sum.

    Example: weights 1 and 0.2, outcomes 1 and 0.5: reward 1.1.
    """
    counted = [(reward, parts[reward.key]) for reward in rewards if reward.weight != 0]
    for reward, part in counted:
        if isinstance(part, Failure):
            return Verdict(parts, Failure(part.kind, f"{reward.key}: {part.detail}"))
    judged = [reward.weight * part for reward, part in counted if isinstance(part, float)]
    return Verdict(parts, summed(judged) if judged else None)
