"""Trying rewards on answers whose verdict is known, before a run. What `burnish check` is to call.

Over `judge`: the same processes and deadlines as in a run. Of each row four answers are judged: the reference, which
must be right; nothing, the prompt once more, and another row's reference, which must be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from burnish.tasks.response_view import ResponseView
from burnish.tasks.reward import Reward
from burnish.tasks.reward_runner import RewardRunner
from burnish.tasks.verdict import Failure, Outcome, UnusableRow

Kind = Literal["the reference", "an empty answer", "the prompt repeated", "another row's reference"]


@dataclass(frozen=True, slots=True)
class SelfTest:
    """One known answer to one row, judged by one reward."""

    row: int
    """Place among the rows that were tried."""
    metric: str
    """The reward, by the name under which its verdicts are kept."""
    kind: Kind
    text: str
    """The answer."""
    outcome: Outcome
    passed: bool
    """Whether the outcome is as it must be."""


@dataclass(frozen=True, slots=True)
class SelfTestResult:
    """What came of it."""

    trials: tuple[SelfTest, ...]
    """Of all rows and rewards; without those that a reward does not judge."""
    untried: tuple[str, ...]
    """Rewards for which no answer is known to be right or wrong, such as lengths."""

    @property
    def passed(self) -> bool:
        return all(trial.passed for trial in self.trials)

    @property
    def failed(self) -> tuple[SelfTest, ...]:
        return tuple(trial for trial in self.trials if not trial.passed)

    def lines(self, most: int = 5) -> Iterator[str]:
        """For people: a line for each reward and kind of answer, and the first failures."""
        for metric, kind in dict.fromkeys((trial.metric, trial.kind) for trial in self.trials):
            same = [trial for trial in self.trials if (trial.metric, trial.kind) == (metric, kind)]
            wanted = "right" if kind == "the reference" else "wrong"
            yield f"{metric}: {kind} is judged {wanted} in {sum(trial.passed for trial in same)} of {len(same)} rows"
        for trial in self.failed[:most]:
            said = trial.outcome if isinstance(trial.outcome, Failure) else f"judged {trial.outcome}"
            yield f"  {trial.metric}, row {trial.row}: {trial.kind}, {trial.text!r:.80}: {said}"
        if len(self.failed) > most:
            yield f"  and {len(self.failed) - most} more"
        for metric in self.untried:
            yield f"{metric}: nothing to try; no answer is known to be right or wrong"


def self_test(judge: RewardRunner, rows: Sequence[ResponseView]) -> SelfTestResult:
    """Has known answers judged.

    Args:
        judge: the rewards; conditions are not looked at, every reward is tried by itself.
        rows: rows of the data, as answers; their text is not looked at.

    Raises:
        RecipeError: a reward cannot be loaded, or breaks its contract.
    """
    rewards = tuple(reward.model_copy(update={"when": None, "cache": False}) for reward in judge.rewards)
    tried = [reward for reward in rewards if reward.truth]
    asked = [trial for reward in tried for trial in _known(reward, rows)]
    with RewardRunner(tuple(tried), judge.workers) as alone:
        verdicts = alone([[_whole(rows[row], text)] for row, _, _, text in asked]) if tried else []
    trials = []
    for (row, metric, kind, text), [verdict] in zip(asked, verdicts, strict=True):
        outcome = verdict.parts[metric]
        if outcome is not None:
            trials.append(SelfTest(row, metric, kind, text, outcome, _as_it_must_be(kind, outcome)))
    untried = tuple(reward.key for reward in rewards if not any(trial.metric == reward.key for trial in trials))
    return SelfTestResult(tuple(trials), untried)


def _whole(row: ResponseView, text: str) -> ResponseView:
    """A known answer, which is a whole response: nothing of it stands in the prompt."""
    return replace(row, text=text, generation_prefix="")


def _as_it_must_be(kind: Kind, outcome: Outcome) -> bool:
    """Right is a positive number, wrong is 0 or less; a failure is neither."""
    if not isinstance(outcome, float):
        return False
    return outcome > 0 if kind == "the reference" else outcome <= 0


def _known(reward: Reward, rows: Sequence[ResponseView]) -> Iterator[tuple[int, str, Kind, str]]:
    """(Row, metric, kind, text) of the answers whose verdict is known."""
    good = [_good(reward, row) for row in rows]
    for place, row in enumerate(rows):
        if not reward.applies(row):
            continue
        yield place, reward.key, "an empty answer", ""
        if row.asked.strip():
            yield place, reward.key, "the prompt repeated", row.asked
        own = good[place]
        if own is not None:
            yield place, reward.key, "the reference", own
            turned = [*range(place + 1, len(rows)), *range(place)]
            others = (good[each] for each in turned if good[each] and not reward.same_reference(row, rows[each]))
            if (other := next(others, None)) is not None:
                yield place, reward.key, "another row's reference", other


def _good(reward: Reward, row: ResponseView) -> str | None:
    try:
        return reward.known_good(row) if reward.applies(row) else None
    except UnusableRow:
        return None  # judging the other answers says so
