"""Tests rewards on answers whose verdict is known, before a run. Called by `burnish check`.

It uses the same processes and timeouts as a run. Four answers to each row are graded: the reference, which must be
right; an empty answer, the repeated prompt, and another row's reference, which must be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from burnish.grading.reward_runner import RewardRunner
from burnish.rewards.response_view import ResponseView
from burnish.rewards.reward import Reward
from burnish.rewards.verdict import Failure, Outcome, UnusableRow

Kind = Literal["the reference", "an empty answer", "the prompt repeated", "another row's reference"]


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Known answer to one row, graded by one reward."""

    row: int
    """Index among the rows of the test."""
    metric: str
    """Name of the reward."""
    kind: Kind
    text: str
    """The answer."""
    outcome: Outcome
    passed: bool
    """Whether the outcome is the expected one."""


@dataclass(frozen=True, slots=True)
class SelfTestResult:
    """Results of a self-test."""

    trials: tuple[SelfTest, ...]
    """Of all rows and rewards, without rows that a reward does not grade."""
    untried: tuple[str, ...]
    """Rewards without known right or wrong answers, such as length."""

    @property
    def passed(self) -> bool:
        return all(trial.passed for trial in self.trials)

    @property
    def failed(self) -> tuple[SelfTest, ...]:
        return tuple(trial for trial in self.trials if not trial.passed)

    def lines(self, max_failures: int = 5) -> Iterator[str]:
        """Readable lines: one for each reward and kind of answer, then the first failures."""
        for metric, kind in dict.fromkeys((trial.metric, trial.kind) for trial in self.trials):
            same = [trial for trial in self.trials if (trial.metric, trial.kind) == (metric, kind)]
            expected = "right" if kind == "the reference" else "wrong"
            yield f"{metric}: {kind} is graded {expected} in {sum(trial.passed for trial in same)} of {len(same)} rows"
        for trial in self.failed[:max_failures]:
            result = trial.outcome if isinstance(trial.outcome, Failure) else f"graded {trial.outcome}"
            yield f"  {trial.metric}, row {trial.row}: {trial.kind}, {trial.text!r:.80}: {result}"
        if len(self.failed) > max_failures:
            yield f"  and {len(self.failed) - max_failures} more"
        for metric in self.untried:
            yield f"{metric}: not tested; no answer is known to be right or wrong"


def self_test(runner: RewardRunner, rows: Sequence[ResponseView]) -> SelfTestResult:
    """Grades known answers.

    Args:
        runner: the rewards; conditions are ignored, every reward is tested separately.
        rows: rows of the data, as views; their response text is ignored.

    Raises:
        RecipeError: a reward cannot be loaded, or breaks its contract.
    """
    rewards = tuple(reward.model_copy(update={"when": None, "cache": False}) for reward in runner.rewards)
    testable = [reward for reward in rewards if reward.grades_correctness]
    known = [answer for reward in testable for answer in _known_answers(reward, rows)]
    alone = RewardRunner(tuple(testable), runner.workers, device=runner.device, resolve_model=runner.resolve_model)
    # A known answer is a whole response, without a generation prefix.
    answers = [[replace(rows[row], text=text, generation_prefix="")] for row, _, _, text in known]
    with alone as grade:
        verdicts = grade(answers) if testable else []
    trials = []
    for (row, metric, kind, text), [verdict] in zip(known, verdicts, strict=True):
        outcome = verdict.parts[metric]
        if outcome is not None:
            trials.append(SelfTest(row, metric, kind, text, outcome, _is_expected(kind, outcome)))
    untried = tuple(reward.key for reward in rewards if not any(trial.metric == reward.key for trial in trials))
    return SelfTestResult(tuple(trials), untried)


def _is_expected(kind: Kind, outcome: Outcome) -> bool:
    """Whether the outcome is right (positive) or wrong (0 or less) as it must be; a failure is neither."""
    if not isinstance(outcome, float):
        return False
    return outcome > 0 if kind == "the reference" else outcome <= 0


def _known_answers(reward: Reward, rows: Sequence[ResponseView]) -> Iterator[tuple[int, str, Kind, str]]:
    """(Row, metric, kind, text) of each known answer."""
    references = [_known_good(reward, row) for row in rows]
    for index, row in enumerate(rows):
        if not reward.applies(row):
            continue
        yield index, reward.key, "an empty answer", ""
        if row.asked.strip():
            yield index, reward.key, "the prompt repeated", row.asked
        own = references[index]
        if own is not None:
            yield index, reward.key, "the reference", own
            following = [*range(index + 1, len(rows)), *range(index)]
            others = (references[i] for i in following if references[i] and not reward.same_reference(row, rows[i]))
            if (other := next(others, None)) is not None:
                yield index, reward.key, "another row's reference", other


def _known_good(reward: Reward, row: ResponseView) -> str | None:
    try:
        return reward.known_good(row) if reward.applies(row) else None
    except UnusableRow:
        return None  # grading the other answers reports it
