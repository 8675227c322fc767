"""Held-out prompts, answered greedily and judged as in training: what the rewards say of the policy.

An examiner, beside `exam`, which compares with the data's own answers. The sampler and the judge are those of training,
so a difference between training and held-out rewards is one of prompts and temperature alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from burnish.evaluate.examiner import Findings, Sample
from burnish.model.policy import Policy
from burnish.sampling import Prompt, Sampler, SamplingParams
from burnish.sources.draws import mean
from burnish.sources.rollouts import Asked, Judging
from burnish.tasks import Answer, Verdict
from burnish.tasks.rows import answer_to


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
    decode: Callable[[Sequence[int]], str]
    """Tokens of a response → its text."""
    success_threshold: float
    """Reward from which on a response is right."""

    def examine(self, policy: Policy) -> Findings:
        """The mean reward, whole and by part, and the share of right responses, over those that could be judged."""
        prompts = [Prompt(asked.tokens, row) for row, asked in self.asked]
        groups = self.sampler.sample(prompts, 1, self.params)
        written = [group.responses[0] for group in groups]
        answers = [
            answer_to(asked.task, self.decode(response.tokens.tolist()), response.tokens.tolist())
            for (_, asked), response in zip(self.asked, written, strict=True)
        ]
        verdicts = [verdict for [verdict] in self.judge([[answer] for answer in answers])]
        lengths = [float(len(response.tokens)) for response in written]
        rows = [row for row, _ in self.asked]
        samples = [self._sample(*each) for each in zip(rows, answers, verdicts, strict=True)]
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


def written_text(tokenizer: PreTrainedTokenizerBase, ends: Collection[int]) -> Callable[[Sequence[int]], str]:
    """Turns the tokens of a response into the text that rewards see: all of it but the token that ends it. Control
    tokens within it are shown, since the policy wrote them."""

    def decode(tokens: Sequence[int]) -> str:
        kept = tokens[:-1] if tokens and tokens[-1] in ends else tokens
        return str(tokenizer.decode(list(kept), skip_special_tokens=False))

    return decode
