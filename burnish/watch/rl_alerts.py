"""Alerts for reinforcement learning: entropy collapse, reward hacking and others. Pure.

These are rules of `alerts`. They read the metrics ``rollout/…``, which are in the lines of steps with new rollouts, and
compare windows of such lines, since single batches are noisy.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Collection, Mapping
from typing import Protocol

WINDOW = 10
"""Number of batches of rollouts in a window."""
COLLAPSED = 0.1
"""Share of the first entropy below which exploration has ended."""
DUPLICATES = 0.9
"""Share of responses that repeat another one to the same prompt, above which exploration has ended."""
DRIFT = 2.0
"""Factor by which responses become longer or shorter, which rewards rarely intend."""
UNGRADED = 0.1
"""Share of responses without a reward: above one in ten, the rest may be a biased selection."""
REPEATED = 0.3
"""Share of n-grams that occurred before in the response; prose has a few per cent."""
FAR = 0.5
"""Divergence from the reference, nats per token: probabilities of tokens are then 1.6 times larger on average."""
SPREADS = 3.0
"""Standard errors of a difference between two windows that count as significant."""
_REWARD = "rollout/reward"
EQUAL = 3
"""Consecutive batches in which no response is better than another. A single one can occur by chance."""


class RlRule(Protocol):
    """Rule of this module; see `alerts.Rule`."""

    name: str

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None: ...


class EqualRewards:
    """All responses to a prompt get the same reward, for all prompts of several batches. Raised once per episode."""

    name = "equal_rewards"

    def __init__(self) -> None:
        self._batches = 0

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        if "rollout/equal_rewards" not in metrics:
            return None
        self._batches = self._batches + 1 if metrics["rollout/equal_rewards"] == 1 else 0
        if self._batches != EQUAL:
            return None
        return (
            f"all responses to a prompt get the same reward, in {EQUAL} batches in a row, so none is better than "
            "another: the task is too easy or too hard for this model, or the reward does not distinguish responses "
            "(samples.jsonl)"
        )


class EntropyCollapse:
    """Entropy falls to a tenth of its first value, or nearly all responses to a prompt are the same. Raised once per
    episode. Responses that are no longer sampled can no longer be reinforced."""

    name = "entropy_collapse"

    def __init__(self) -> None:
        self._entropy, self._duplicates = _Drift("rollout/entropy"), _Recent("rollout/duplicates")
        self._collapsed = _Onset()

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        share, duplicates = self._entropy.observe(metrics), self._duplicates.observe(metrics)
        if share is None and duplicates is None:
            return None
        repeated = duplicates is not None and duplicates > DUPLICATES
        if not self._collapsed.begins(repeated or (share is not None and share < COLLAPSED)):
            return None
        symptom = (
            f"{duplicates:.0%} of the responses repeat another one"
            if repeated
            else f"entropy is {share:.0%} of its first value"
        )
        return (
            f"{symptom}: exploration has ended; lower learning_rate, or raise sampling.temperature, kl_coef or "
            "policy_gradient.entropy_coef (online_dpo: preference.beta)"
        )


class ZeroReward:
    """Every response of a window of batches has a reward of 0. Raised once per episode."""

    name = "zero_reward"

    def __init__(self) -> None:
        self._batches = 0

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        if "rollout/reward" not in metrics:
            return None
        is_graded = metrics.get("rollout/ungraded_share", 0.0) < 1
        is_zero = is_graded and metrics["rollout/reward"] == 0 and metrics.get("rollout/reward_std", 0.0) == 0
        self._batches = self._batches + 1 if is_zero else 0
        if self._batches != WINDOW:
            return None
        return (
            f"every reward of {WINDOW} batches is 0: the task is too hard for this model, the reward does not parse "
            "its answers, or a penalty has nothing to penalize (see samples.jsonl; burnish check tests the reward)"
        )


class LengthDrift:
    """Responses become twice as long as at the beginning, or half as long. Raised once per episode."""

    name = "length_drift"

    def __init__(self) -> None:
        self._length, self._far = _Drift("rollout/response_length"), _Onset()

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        factor = self._length.observe(metrics)
        if factor is None or not self._far.begins(not 1 / DRIFT <= factor <= DRIFT):
            return None
        return (
            f"responses are {factor:.2g} times as long as at the beginning: read some in samples.jsonl, "
            "and check whether a reward depends on length"
        )


class Ungraded:
    """More than a tenth of the responses have no reward. Raised once per episode."""

    name = "ungraded"

    def __init__(self) -> None:
        self._share, self._many = _Recent("rollout/ungraded_share"), _Onset()

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        share = self._share.observe(metrics)
        if share is None or not self._many.begins(share > UNGRADED):
            return None
        return (
            f"{share:.0%} of the responses have no reward and are left out: the others may be a biased selection; the "
            "log has the first failure of each reward"
        )


class Repetition:
    """Responses repeat n-grams, more than twice as often as at the beginning. Raised once per episode."""

    name = "repetition"

    def __init__(self) -> None:
        self._share, self._many = _Recent("rollout/repetition"), _Onset()
        self._first: float | None = None

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        share = self._share.observe(metrics)
        if share is None:
            return None
        self._first = share if self._first is None else self._first
        if not self._many.begins(share > max(REPEATED, DRIFT * self._first)):
            return None
        return (
            f"{share:.0%} of the n-grams of responses are repetitions: read some in samples.jsonl; the reward "
            "repetition penalizes them"
        )


class KlDrift:
    """The policy is far from its reference, where rewards are exploited more easily. Raised once per episode."""

    name = "kl_drift"

    def __init__(self) -> None:
        self._divergence, self._far = _Recent("rollout/reference_kl"), _Onset()

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        divergence = self._divergence.observe(metrics)
        if divergence is None or not self._far.begins(divergence > FAR):
            return None
        return (
            f"the policy is {divergence:.2g} nats per token from its reference: lower learning_rate, or raise kl_coef "
            "(online_dpo: preference.beta)"
        )


class RewardHacking:
    """The reward rises while one of its parts, or a reward of weight 0, falls. Raised once per episode. The policy then
    optimizes another part: a format, a length, or a gap in a verifier. Of a penalty, less is better: it may rise."""

    name = "reward_hacking"

    def __init__(self, penalties: Collection[str] = ()) -> None:
        """`penalties` are the names of rewards of negative weight."""
        self._penalties = frozenset(f"{_REWARD}/{name}" for name in penalties)
        self._windows: dict[str, _Windows] = {}
        self._worse: frozenset[str] = frozenset()

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        rewards = {name: value for name, value in metrics.items() if _is_reward(name, metrics)}
        if len(rewards) < 2:
            return None
        trends = {name: self._windows.setdefault(name, _Windows()).observe(value) for name, value in rewards.items()}
        worse = frozenset(name for name, trend in trends.items() if self._is_worse(name, trend))
        worse = worse if trends[_REWARD] > 0 else frozenset()
        previous, self._worse = self._worse, worse
        if not worse - previous:
            return None
        moves = (f"{name.removeprefix(f'{_REWARD}/')} {self._direction(name)}" for name in sorted(worse))
        return (
            f"the reward rises while {', '.join(moves)}: the policy may exploit the reward; read some "
            "responses in samples.jsonl, and make the other rewards depend on it (when)"
        )

    def _is_worse(self, name: str, trend: int) -> bool:
        return name != _REWARD and (trend > 0 if name in self._penalties else trend < 0)

    def _direction(self, name: str) -> str:
        return "rises" if name in self._penalties else "falls"


class CriticError:
    """A critic predicts returns worse than their mean does, over a window of batches. Raised once per episode. Its
    advantages then have more noise than rewards alone."""

    name = "critic_error"

    def __init__(self) -> None:
        self._explained, self._bad = _Recent("rollout/explained_variance"), _Onset()

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        explained = self._explained.observe(metrics)
        if explained is None or not self._bad.begins(explained < 0):
            return None
        return (
            f"the critic predicts returns worse than their mean does (explained variance {explained:.2g}): raise "
            "critic.learning_rate or critic.value_warmup_steps, or begin it as the reward model (critic.model)"
        )


def _is_reward(name: str, metrics: Collection[str]) -> bool:
    """Whether a metric is the reward or a part of it, and no share of a label, whose name is below that of a part."""
    owner = name.rpartition("/")[0]
    return name == _REWARD or (name.startswith(f"{_REWARD}/") and (owner == _REWARD or owner not in metrics))


class _Onset:
    """Detects when a condition becomes true, once per episode."""

    def __init__(self) -> None:
        self._active = False

    def begins(self, active: bool) -> bool:
        before, self._active = self._active, active
        return active and not before


class _Windows:
    """Compares the first and the last batches of a metric for a significant change."""

    def __init__(self) -> None:
        self._first: list[float] = []
        self._last: deque[float] = deque(maxlen=WINDOW)

    def observe(self, value: float) -> int:
        """1: the metric rose, -1: it fell, 0: neither, or there are too few batches."""
        if len(self._first) < WINDOW:
            self._first.append(value)
            return 0
        self._last.append(value)
        if len(self._last) < WINDOW:
            return 0
        change = statistics.fmean(self._last) - statistics.fmean(self._first)
        noise = math.sqrt((statistics.variance(self._last) + statistics.variance(self._first)) / WINDOW)
        return 0 if abs(change) <= SPREADS * noise or change == 0 else (1 if change > 0 else -1)


class _Recent:
    """Mean of a metric over the last batches."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._last: deque[float] = deque(maxlen=WINDOW)

    def observe(self, metrics: Mapping[str, float]) -> float | None:
        """None: the line has no such metric, or there were too few batches."""
        if self._name not in metrics:
            return None
        self._last.append(metrics[self._name])
        return statistics.fmean(self._last) if len(self._last) == WINDOW else None


class _Drift:
    """Mean of a metric over the last batches divided by its mean over the first batches."""

    def __init__(self, name: str) -> None:
        self._recent, self._first = _Recent(name), 0.0

    def observe(self, metrics: Mapping[str, float]) -> float | None:
        """None: the line has no such metric, there were too few batches, or the first mean was 0."""
        mean = self._recent.observe(metrics)
        if mean is None:
            return None
        self._first = self._first or mean
        return mean / self._first if self._first > 0 else None


def rl_alerts(penalties: Collection[str] = ()) -> tuple[RlRule, ...]:
    """All rules of this module; `penalties` are the names of rewards of negative weight."""
    return (
        EqualRewards(),
        EntropyCollapse(),
        ZeroReward(),
        LengthDrift(),
        Ungraded(),
        Repetition(),
        KlDrift(),
        RewardHacking(penalties),
        CriticError(),
    )
