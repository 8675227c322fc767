"""Base class of rewards, and the weighted sum of several.

A reward is a frozen record of settings with a method `score`: the same record defines the keys of a recipe, is sent to
the worker processes, and grades there. A user's function is one too (`user_code`). A reward that needs the device of
the run grades in its process instead (`in_process`). `combine` makes one verdict of several outcomes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Protocol, Self

from pydantic import Field

from burnish.config.settings import Settings
from burnish.model.settings import NamedModel
from burnish.rewards.response_view import ResponseView
from burnish.rewards.verdict import (
    Failure,
    Label,
    LabelledOutcome,
    Outcome,
    SteppedOutcome,
    StepReward,
    UnusableRow,
    Verdict,
)
from burnish.rounding import summed

Seconds = Annotated[float, Field(gt=0)]


class LoadedReward(Protocol):
    """Reward that is loaded in the process of the run."""

    def __call__(self, groups: Sequence[Sequence[ResponseView]]) -> list[list[Outcome]]:
        """Outcomes of the answers to each prompt, in the same order."""


class Condition(Settings):
    """Condition of a reward: an earlier reward must be high enough."""

    metric: str
    """The earlier reward, by the name under which its outcomes are logged."""
    min: float
    """Smallest outcome of the earlier reward that is enough."""


class Reward(Settings):
    """Base class of all rewards, with their common settings."""

    name: str
    """A built-in reward, or ``file.py:function``."""
    metric: str | None = None
    """Name under which its outcomes are logged; null: its name."""
    weight: float = 1.0
    """Factor in the sum; 0: measured only, not trained on."""
    timeout: Seconds = 10.0
    """Seconds for one response, after which the worker process is killed."""
    when: Condition | None = None
    """Where this condition is not met, the reward is 0 and is not called; null: always called."""
    where: dict[str, str | int | bool] = Field(default_factory=dict)
    """Values of columns; rows with other values are not graded by this reward. Empty: all rows are graded."""
    cache: bool = False
    """Whether outcomes are stored on disk and reused; for slow or expensive rewards."""

    @property
    def key(self) -> str:
        """Name under which its outcomes are logged."""
        return self.metric or self.name

    @property
    def grades_correctness(self) -> bool:
        """Whether it grades right (above 0) or wrong (0 or less), so that it can be tested on known answers."""
        return True

    @property
    def bounded(self) -> bool:
        """Whether it needs little memory, so that its process may have a memory limit."""
        return True

    @property
    def in_process(self) -> bool:
        """Whether it grades in the process of the run, all answers at once (`load`), and not in the worker processes
        (`prepare`, `score`)."""
        return False

    @property
    def credits_steps(self) -> bool:
        """Whether its outcomes are `SteppedOutcome`s, whose steps are credited one by one."""
        return False

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels of its outcomes, which are then `LabelledOutcome`s; (): they have none."""
        return ()

    @property
    def named_models(self) -> Sequence[NamedModel]:
        """Models that it grades with."""
        return ()

    def with_models(self, resolve_model: Callable[[str], str]) -> Self:
        """The reward with the files of its models, whose content is part of its identity.

        Args:
            resolve_model: gives the model that a name in a recipe means.
        """
        return self

    @property
    def by_group(self) -> bool:
        """Whether it is called with all answers to one prompt at once."""
        return False

    @property
    def identity(self) -> str:
        """sha256 of everything that determines an outcome."""
        excluded = {"metric", "weight", "timeout", "when", "cache"}
        return hashlib.sha256(json.dumps(self.model_dump(exclude=excluded), sort_keys=True).encode()).hexdigest()

    def prepare(self) -> None:
        """Imports and compiles its dependencies; called once in each worker, before the first answer.

        Raises:
            UserError: a dependency is missing.
        """

    def load(self, device: str | None, resolve_model: Callable[[str], str]) -> LoadedReward:
        """Loads a reward that is `in_process`.

        Args:
            device: torch's name of it; None: CUDA if there is one, else the CPU.
            resolve_model: gives the model that a name in a recipe means.
        """
        raise NotImplementedError

    def score(self, answer: ResponseView) -> float | bool | None:
        """Number for one answer; None: not graded. Raises UnusableRow where the row lacks what the reward needs."""
        raise NotImplementedError

    def grade(self, answers: Sequence[ResponseView]) -> Sequence[object]:
        """Results for answers, one each, not validated yet: see `call`."""
        return [self.score(answer) for answer in answers]

    def raised_at(self, error: BaseException) -> str:
        """The line of a user's file that raised, as " (my_file.py line 3: its text)"; "": of no such file."""
        return ""

    def known_good(self, answer: ResponseView) -> str | None:
        """Answer that must be graded right, made from the row's reference; None: not known."""
        return None

    def same_reference(self, one: ResponseView, other: ResponseView) -> bool:
        """Whether a right answer to the one row is right for the other too, judging by the references."""
        return one.reference == other.reference

    def applies(self, answer: ResponseView) -> bool:
        """Whether the reward grades this row (`where`)."""
        return all(answer.extra.get(column) == value for column, value in self.where.items())


def text_reference(answer: ResponseView) -> str:
    """Reference as text; a number is converted."""
    given = answer.reference
    if isinstance(given, str) and given.strip():
        return given
    if isinstance(given, int | float) and not isinstance(given, bool):
        return str(given)
    raise UnusableRow(f"the reference is {given!r:.60}, and text is needed")


def condition_met(reward: Reward, parts: Mapping[str, Outcome]) -> bool:
    """Whether the reward has to be called, given the outcomes of the earlier rewards."""
    if reward.when is None:
        return True
    earlier = parts[reward.when.metric]
    return isinstance(earlier, float) and earlier >= reward.when.min


def skipped_outcome(reward: Reward, parts: Mapping[str, Outcome]) -> Outcome:
    """Outcome of a reward whose condition is not met: 0, or the outcome of the earlier reward if that is no number."""
    assert reward.when is not None, "only a reward with a condition is skipped"
    earlier = parts[reward.when.metric]
    return 0.0 if isinstance(earlier, float) else earlier


def combine(rewards: Sequence[Reward], parts: Mapping[str, Outcome]) -> Verdict:
    """Verdict with the weighted sum of the outcomes that are numbers; `Verdict.reward` says when there is no sum.

    Example: weights 1 and 0.2, outcomes 1 and 0.5: reward 1.1. The steps of outcomes that have any get their weights.
    """
    numbers = {name: float(part) if isinstance(part, float) else part for name, part in parts.items()}
    labels = _labels(rewards, parts)
    counted = [(reward, parts[reward.key]) for reward in rewards if reward.weight != 0]
    for reward, part in counted:
        if isinstance(part, Failure):
            failure = Failure(part.kind, f"{reward.key}: {part.detail}")
            return Verdict(numbers, failure, labels=labels)
    terms = [reward.weight * part for reward, part in counted if isinstance(part, float)]
    steps = (
        StepReward(step.end, reward.weight * step.reward)
        for reward, part in counted
        if isinstance(part, SteppedOutcome)
        for step in part.steps
    )
    return Verdict(numbers, summed(terms) if terms else None, tuple(steps), labels)


def _labels(rewards: Sequence[Reward], parts: Mapping[str, Outcome]) -> dict[str, Label]:
    labelled = ((reward, parts.get(reward.key)) for reward in rewards)
    return {
        reward.key: Label(part.label, reward.labels or (part.label,))
        for reward, part in labelled
        if isinstance(part, LabelledOutcome)
    }
