"""Evaluator of the reward on held-out prompts, which are answered greedily and graded as in training.

Sampler and rewards are those of training, so training and held-out rewards differ by prompts and temperature alone.
(`generation_eval` compares with the answers of the data instead.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from burnish.evaluate.evaluator import EvalResult
from burnish.model.policy import Model
from burnish.rewards.response_view import ResponseView
from burnish.rewards.response_views import Decode, response_views
from burnish.rewards.verdict import Verdict
from burnish.sampling.base import Prompt, Sampler
from burnish.sampling.params import SamplingParams
from burnish.sources.prompt_order import mean
from burnish.sources.rollouts import GradeResponses, RolloutPrompt
from burnish.watch.journal_lines import EvalSample


@dataclass(frozen=True, eq=False, slots=True)
class RewardEval:
    """Evaluator of the mean reward on held-out prompts."""

    asked: Sequence[tuple[int, RolloutPrompt]]
    """Row and prompt, at least one."""
    sampler: Sampler
    """Samples with the current weights."""
    params: SamplingParams
    """Sampling settings, with temperature 0."""
    judge: GradeResponses
    decode: Decode
    """Token ids of a response → its text."""
    success_threshold: float
    """Smallest reward of a right response."""

    def evaluate(self, policy: Model) -> EvalResult:
        """Mean reward, in total and by part, and the share of right responses, over the responses with a reward."""
        prompts = [Prompt(prompt.tokens, row) for row, prompt in self.asked]
        groups = self.sampler.sample(prompts, 1, self.params)
        answers = [
            response_views(prompt.task, group, self.decode)
            for (_, prompt), group in zip(self.asked, groups, strict=True)
        ]
        verdicts = [verdict for [verdict] in self.judge(answers)]
        lengths = [float(len(group.responses[0].tokens)) for group in groups]
        rows = [row for row, _ in self.asked]
        samples = [self._sample(row, view, v) for row, [view], v in zip(rows, answers, verdicts, strict=True)]
        return EvalResult({**self._metrics(verdicts), "response_length": mean(lengths)}, samples)

    def _metrics(self, verdicts: Sequence[Verdict]) -> dict[str, float]:
        rewards = [verdict.reward for verdict in verdicts if isinstance(verdict.reward, float)]
        metrics = {"ungraded_share": 1 - len(rewards) / len(verdicts)}
        if rewards:
            metrics |= {
                "reward": mean(rewards),
                "accuracy": mean([float(reward >= self.success_threshold) for reward in rewards]),
            }
        parts: dict[str, list[float]] = {}
        for name, outcome in (part for verdict in verdicts for part in verdict.parts.items()):
            if isinstance(outcome, float):
                parts.setdefault(name, []).append(outcome)
        return metrics | {f"reward/{name}": mean(values) for name, values in parts.items()}

    def _sample(self, row: int, answer: ResponseView, verdict: Verdict) -> EvalSample:
        correct = verdict.reward >= self.success_threshold if isinstance(verdict.reward, float) else None
        reference = None if answer.reference is None else str(answer.reference)
        return EvalSample(row, answer.asked, answer.text, reference, correct)
