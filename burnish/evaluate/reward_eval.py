"""Held-out prompts, answered greedily and judged as in training: what the rewards say of the policy.

An evaluator, beside `exam`, which compares with the data's own answers. The sampler and the judge are those of
training, so a difference between training and held-out rewards is one of prompts and temperature alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from burnish.evaluate.evaluator import EvalResult, EvalSample
from burnish.model.policy import Model
from burnish.sampling.base import Prompt, Sampler
from burnish.sampling.params import SamplingParams
from burnish.sources.prompt_order import mean
from burnish.sources.rollouts import GradeResponses, RolloutPrompt
from burnish.tasks.response_view import ResponseView
from burnish.tasks.response_views import Decode, response_views
from burnish.tasks.verdict import Verdict


@dataclass(frozen=True, eq=False, slots=True)
class RewardEval:
    """Prompts, and who judges the responses to them."""

    asked: Sequence[tuple[int, RolloutPrompt]]
    """Row and prompt, at least one."""
    sampler: Sampler
    """Writes with the weights of the moment."""
    params: SamplingParams
    """With temperature 0: the likeliest token."""
    judge: GradeResponses
    decode: Decode
    """Tokens of a response → its text."""
    success_threshold: float
    """Reward from which on a response is right."""

    def evaluate(self, policy: Model) -> EvalResult:
        """The mean reward, whole and by part, and the share of right responses, over those that could be judged."""
        prompts = [Prompt(asked.tokens, row) for row, asked in self.asked]
        groups = self.sampler.sample(prompts, 1, self.params)
        answers = [
            response_views(each.task, group, self.decode) for (_, each), group in zip(self.asked, groups, strict=True)
        ]
        verdicts = [verdict for [verdict] in self.judge(answers)]
        lengths = [float(len(group.responses[0].tokens)) for group in groups]
        rows = [row for row, _ in self.asked]
        samples = [self._sample(row, said, v) for row, [said], v in zip(rows, answers, verdicts, strict=True)]
        return EvalResult({**self._figures(verdicts), "response_length": mean(lengths)}, samples)

    def _figures(self, verdicts: Sequence[Verdict]) -> dict[str, float]:
        judged = [verdict.reward for verdict in verdicts if isinstance(verdict.reward, float)]
        figures = {"ungraded_share": 1 - len(judged) / len(verdicts)}
        if judged:
            figures |= {
                "reward": mean(judged),
                "accuracy": mean([float(each >= self.success_threshold) for each in judged]),
            }
        parts: dict[str, list[float]] = {}
        for name, outcome in (part for verdict in verdicts for part in verdict.parts.items()):
            if isinstance(outcome, float):
                parts.setdefault(name, []).append(outcome)
        return figures | {f"reward/{name}": mean(values) for name, values in parts.items()}

    def _sample(self, row: int, answer: ResponseView, verdict: Verdict) -> EvalSample:
        correct = verdict.reward >= self.success_threshold if isinstance(verdict.reward, float) else None
        reference = None if answer.reference is None else str(answer.reference)
        return EvalSample(row, answer.asked, answer.text, reference, correct)
