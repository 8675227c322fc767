"""Held-out prompts, answered greedily and judged as in training: what the rewards say of the policy.

An examiner, beside `exam`, which compares with the data's own answers. The sampler and the judge are those of training,
so a difference between training and held-out rewards is one of prompts and temperature alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from burnish.evaluate.examiner import Findings, Sample
from burnish.model.policy import Policy
from burnish.sampling.base import Prompt, Sampler
from burnish.sampling.params import SamplingParams
from burnish.sources.draws import mean
from burnish.sources.rollouts import Asked, Judging
from burnish.tasks.answer import Answer
from burnish.tasks.rows import Decode, answers_to
from burnish.tasks.verdict import Verdict


@dataclass(frozen=True, eq=False, slots=True)
class VerifiedExam:
    """Prompts, and who judges the responses to them."""

    asked: Sequence[tuple[int, Asked]]
    """Row and prompt, at least one."""
    sampler: Sampler
    """Writes with the weights of the moment."""
    params: SamplingParams
    """With temperature 0: the likeliest token."""
    judge: Judging
    decode: Decode
    """Tokens of a response → its text."""
    success_threshold: float
    """Reward from which on a response is right."""

    def examine(self, policy: Policy) -> Findings:
        """The mean reward, whole and by part, and the share of right responses, over those that could be judged."""
        prompts = [Prompt(asked.tokens, row) for row, asked in self.asked]
        groups = self.sampler.sample(prompts, 1, self.params)
        answers = [
            answers_to(each.task, group, self.decode) for (_, each), group in zip(self.asked, groups, strict=True)
        ]
        verdicts = [verdict for [verdict] in self.judge(answers)]
        lengths = [float(len(group.responses[0].tokens)) for group in groups]
        rows = [row for row, _ in self.asked]
        samples = [self._sample(row, said, v) for row, [said], v in zip(rows, answers, verdicts, strict=True)]
        return Findings({**self._figures(verdicts), "response_length": mean(lengths)}, samples)

    def _figures(self, verdicts: Sequence[Verdict]) -> dict[str, float]:
        judged = [verdict.reward for verdict in verdicts if isinstance(verdict.reward, float)]
        figures = {"unjudged_share": 1 - len(judged) / len(verdicts)}
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

    def _sample(self, row: int, answer: Answer, verdict: Verdict) -> Sample:
        correct = verdict.reward >= self.success_threshold if isinstance(verdict.reward, float) else None
        reference = None if answer.reference is None else str(answer.reference)
        return Sample(row, answer.asked, answer.text, reference, correct)
