"""Alerts of learning by trying: signs that a policy pleases its rewards, or stops, instead of learning. Pure.

Beside `alerts`, whose rules these are. They read the figures ``rollout/…``, which the lines of steps have for which
responses were written, and compare windows of such lines, since single batches are noise.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping

WINDOW = 10
"""Batches of responses that are looked at together."""
COLLAPSED = 0.1
"""Share of the first entropy that is left where a policy hardly tries anything any more."""
IDENTICAL = 0.9
"""Share of responses that repeat another one to the same prompt."""
DRIFT = 2.0
"""Factor by which responses become longer or shorter: rewards seldom mean to say that."""
UNJUDGED = 0.1
"""Share of responses without a verdict: one in ten is no accident, and what is left may be a choice."""
REPEATED = 0.3
"""Share of n-grams that a response has had before: plain prose has a few per cent."""
FAR = 0.5
"""Nats of a token's divergence from the reference: a token's probability is then 1.6 times what it was, on average."""
SPREADS = 3.0
"""Standard errors of a difference between two windows which chance hardly reaches."""


class EntropyCollapse:
    """Entropy falls to a tenth of what it was, or nearly all responses to a prompt are the same; once until it is back.
    What is no longer tried can no longer be learned."""

    name = "entropy_collapse"

    def __init__(self) -> None:
        self._entropy, self._identical = _Drift("rollout/entropy"), _Recent("rollout/duplicates")
        self._collapsed = _Onset()

    def observe(self, step: int, figures: Mapping[str, float]) -> str | None:
        share, identical = self._entropy.observe(figures), self._identical.observe(figures)
        if share is None and identical is None:
            return None
        same = identical is not None and identical > IDENTICAL
        if not self._collapsed.begins(same or (share is not None and share < COLLAPSED)):
            return None
        seen = (
            f"{identical:.0%} of the responses repeat another one" if same else f"entropy is {share:.0%} of its first"
        )
        return (
            f"{seen}: nothing new is tried; raise policy_gradient.entropy_coef, kl_coef or sampling.temperature, or "
            "lower learning_rate"
        )


class ZeroReward:
    """Every response has a reward of 0, batch after batch; once until one has another."""

    name = "zero_reward"

    def __init__(self) -> None:
        self._batches = 0

    def observe(self, step: int, figures: Mapping[str, float]) -> str | None:
        if "rollout/reward" not in figures:
            return None
        nothing = figures["rollout/reward"] == 0 and figures.get("rollout/reward_std", 0.0) == 0
        self._batches = self._batches + 1 if nothing else 0
        if self._batches != WINDOW:
            return None
        return (
            f"every reward of {WINDOW} batches is 0: the task is too hard for this model, or the reward does not "
            "understand its answers (samples.jsonl shows them; burnish check tries the reward)"
        )


class LengthDrift:
    """Responses become twice as long as they were, or half; once until they are back."""

    name = "length_drift"

    def __init__(self) -> None:
        self._length, self._far = _Drift("rollout/response_length"), _Onset()

    def observe(self, step: int, figures: Mapping[str, float]) -> str | None:
        factor = self._length.observe(figures)
        if factor is None or not self._far.begins(not 1 / DRIFT <= factor <= DRIFT):
            return None
        return (
            f"responses are {factor:.2g} times as long as at the beginning: read some (samples.jsonl), "
            "and look whether a reward pays for length"
        )


class Ungraded:
    """More than a tenth of the responses have no verdict; once until it is less."""

    name = "ungraded"

    def __init__(self) -> None:
        self._share, self._many = _Recent("rollout/ungraded_share"), _Onset()

    def observe(self, step: int, figures: Mapping[str, float]) -> str | None:
        share = self._share.observe(figures)
        if share is None or not self._many.begins(share > UNJUDGED):
            return None
        return f"{share:.0%} of the responses could not be judged and are left out: what remains may be a biased choice"


class Repetition:
    """Responses repeat themselves, more than twice as much as at the beginning; once until they are back."""

    name = "repetition"

    def __init__(self) -> None:
        self._share, self._many = _Recent("rollout/repetition"), _Onset()
        self._first: float | None = None

    def observe(self, step: int, figures: Mapping[str, float]) -> str | None:
        share = self._share.observe(figures)
        if share is None:
            return None
        self._first = share if self._first is None else self._first
        if not self._many.begins(share > max(REPEATED, DRIFT * self._first)):
            return None
        return (
            f"{share:.0%} of what responses say they have said before: read some (samples.jsonl); the reward "
            "repetition pays for less of it"
        )


class KlDrift:
    """The policy is far from its reference; once until it is back. What a reward did not mean is found there."""

    name = "kl_drift"

    def __init__(self) -> None:
        self._divergence, self._far = _Recent("rollout/reference_kl"), _Onset()

    def observe(self, step: int, figures: Mapping[str, float]) -> str | None:
        divergence = self._divergence.observe(figures)
        if divergence is None or not self._far.begins(divergence > FAR):
            return None
        return f"the policy is {divergence:.2g} nats a token from its reference: raise kl_coef, or lower learning_rate"


class RewardHacking:
    """The reward rises while one of its parts falls, or a verifier that is only watched; once until it is back. Then
    another part is what is learned: a format, a length, a hole in a verifier."""

    name = "reward_hacking"

    def __init__(self) -> None:
        self._windows: dict[str, _Windows] = {}
        self._falling: frozenset[str] = frozenset()

    def observe(self, step: int, figures: Mapping[str, float]) -> str | None:
        told = {name: value for name, value in figures.items() if _is_reward(name)}
        if len(told) < 2:
            return None
        moves = {name: self._windows.setdefault(name, _Windows()).observe(value) for name, value in told.items()}
        falling = frozenset(name for name, move in moves.items() if name != "rollout/reward" and move < 0)
        falling = falling if moves["rollout/reward"] > 0 else frozenset()
        was, self._falling = self._falling, falling
        if not falling - was:
            return None
        names = ", ".join(sorted(name.removeprefix("rollout/reward/") for name in falling))
        return (
            f"the reward rises while {names} falls: something else is learned than what it is to say; read some "
            "responses (samples.jsonl), and make the other rewards depend on it (when)"
        )


def _is_reward(name: str) -> bool:
    return name == "rollout/reward" or name.startswith("rollout/reward/")


class _Onset:
    """When a state begins; what lasts is told once."""

    def __init__(self) -> None:
        self._lasts = False

    def begins(self, now: bool) -> bool:
        before, self._lasts = self._lasts, now
        return now and not before


class _Windows:
    """Whether a figure moved, from its first batches to the last ones, further than chance."""

    def __init__(self) -> None:
        self._first: list[float] = []
        self._last: deque[float] = deque(maxlen=WINDOW)

    def observe(self, value: float) -> int:
        """1: it rose, -1: it fell, 0: neither, or it is too early to say."""
        if len(self._first) < WINDOW:
            self._first.append(value)
            return 0
        self._last.append(value)
        if len(self._last) < WINDOW:
            return 0
        moved = statistics.fmean(self._last) - statistics.fmean(self._first)
        noise = math.sqrt((statistics.variance(self._last) + statistics.variance(self._first)) / WINDOW)
        return 0 if abs(moved) <= SPREADS * noise or moved == 0 else (1 if moved > 0 else -1)


class _Recent:
    """A figure's mean over the last batches."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._last: deque[float] = deque(maxlen=WINDOW)

    def observe(self, figures: Mapping[str, float]) -> float | None:
        """None: this line has no such figure, or there were too few."""
        if self._name not in figures:
            return None
        self._last.append(figures[self._name])
        return statistics.fmean(self._last) if len(self._last) == WINDOW else None


class _Drift:
    """A figure's mean over the last batches, as a share of its mean over the first ones."""

    def __init__(self, name: str) -> None:
        self._recent, self._first = _Recent(name), 0.0

    def observe(self, figures: Mapping[str, float]) -> float | None:
        """None: this line has no such figure, there were too few, or it was 0 at the beginning."""
        now = self._recent.observe(figures)
        if now is None:
            return None
        self._first = self._first or now
        return now / self._first if self._first > 0 else None


RL_ALERTS = (EntropyCollapse, ZeroReward, LengthDrift, Ungraded, Repetition, KlDrift, RewardHacking)
"""All of them."""
