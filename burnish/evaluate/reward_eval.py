"""Evaluator of the reward on held-out prompts, which are answered greedily and graded as in training.

Sampler and rewards are those of training, so training and held-out rewards differ by prompts and temperature alone.
(`generation_eval` compares with the answers of the data instead.)
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from burnish.data.prompts import TokenizedPrompt
from burnish.evaluate.evaluator import EvalResult
from burnish.model.policy import Model
from burnish.parallel.world import ONE_PROCESS, World
from burnish.rewards.verdict import Verdict, label_shares
from burnish.rollouts.failures import require_working_rewards
from burnish.rollouts.metrics import mean
from burnish.rollouts.worker import GradedGroup, RolloutWorker
from burnish.sampling.base import EVALUATED
from burnish.watch.journal_lines import EvalSample
from burnish.watch.parts import OnPart, no_report

_Z = 1.959964
"""Standard normal quantile of a 95 % interval."""


@dataclass(frozen=True, eq=False, slots=True)
class RewardEval:
    """Evaluator of the mean reward on held-out prompts."""

    prompts: Sequence[TokenizedPrompt]
    """At least one."""
    worker: RolloutWorker
    """Answers greedily with the policy's weights, and grades."""
    success_threshold: float
    """Smallest reward of a right response."""
    world: World = ONE_PROCESS
    """Processes that share the prompts."""

    def evaluate(self, policy: Model, on_part: OnPart = no_report) -> EvalResult:
        """Mean reward, in total and by part, and the share of right responses, over the responses with a reward.

        Raises:
            RunError: the code of a reward fails on every response.
        """
        self.worker.publish(EVALUATED)
        mine = self.world.share(self.prompts)
        rollouts = self.worker(mine, 1, rng_keys=[prompt.row for prompt in mine], on_part=on_part)
        graded = [answered for answers in self.world.gather_shares(rollouts.groups) for answered in answers]
        require_working_rewards(graded)
        verdicts = [verdict for answered in graded for verdict in answered.verdicts]
        lengths = [float(len(answered.group.responses[0].tokens)) for answered in graded]
        samples = [self._sample(answered) for answered in graded]
        return EvalResult({**self._metrics(verdicts), "response_length": mean(lengths)}, samples)

    def _metrics(self, verdicts: Sequence[Verdict]) -> dict[str, float]:
        rewards = [verdict.reward for verdict in verdicts if isinstance(verdict.reward, float)]
        if not any(verdict.parts for verdict in verdicts):  # the stage has no rewards
            return {}
        metrics = {"ungraded_share": 1 - len(rewards) / len(verdicts)}
        if rewards:
            metrics |= {
                "reward": mean(rewards),
                **_interval(rewards),
                "accuracy": mean([float(reward >= self.success_threshold) for reward in rewards]),
            }
        parts: dict[str, list[float]] = {}
        for name, outcome in (part for verdict in verdicts for part in verdict.parts.items()):
            if isinstance(outcome, float):
                parts.setdefault(name, []).append(outcome)
        metrics |= {f"reward/{name}": mean(values) for name, values in parts.items()}
        return metrics | {f"reward/{name}": share for name, share in label_shares(verdicts).items()}

    def _sample(self, graded: GradedGroup) -> EvalSample:
        [verdict], view = graded.verdicts, graded.view(0)
        correct = verdict.reward >= self.success_threshold if isinstance(verdict.reward, float) else None
        reference = None if view.reference is None else str(view.reference)
        return EvalSample(graded.prompt.row, view.asked, view.text, reference, correct)


def _interval(rewards: Sequence[float]) -> dict[str, float]:
    """Ends of the 95 % interval of the mean reward, by the normal distribution; of one reward there is none."""
    if len(rewards) < 2:
        return {}
    center, reach = mean(rewards), _Z * statistics.stdev(rewards) / math.sqrt(len(rewards))
    return {"reward_low": center - reach, "reward_high": center + reach}
