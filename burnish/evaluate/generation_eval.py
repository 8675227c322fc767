"""The same questions at every evaluation of a run: how many are answered rightly, and what was answered.

Stands between `accuracy`, which asks and counts, and the loop, for which it is an evaluator.
"""

from __future__ import annotations

from dataclasses import dataclass

from burnish.evaluate.accuracy import Question, accuracy
from burnish.evaluate.evaluator import EvalResult, EvalSample
from burnish.model.policy import Model
from burnish.sampling.open import sampler_of
from burnish.sampling.params import SamplingParams
from burnish.tasks.match import MatchRule


@dataclass(frozen=True, slots=True)
class GenerationEval:
    """Questions, and how they are judged. The likeliest token is always chosen.

    Example: ``GenerationEval(questions(maker, [0, 7]), "exact", 64,
    end_tokens=(2,)).examine(policy).figures["accuracy"]``.
    """

    questions: tuple[Question, ...]
    """At least one."""
    match: MatchRule
    """When an answer is right."""
    max_new_tokens: int
    """Most tokens of an answer."""
    end_tokens: tuple[int, ...]
    """Ids that end an answer."""

    def evaluate(self, policy: Model) -> EvalResult:
        """The share of right answers, and every answer."""
        found = accuracy(
            sampler_of(policy, self.end_tokens),
            policy.tokenizer,
            self.questions,
            match=self.match,
            params=SamplingParams(self.max_new_tokens, temperature=0.0),
        )
        samples = [
            EvalSample(question.row, question.said, sampled.response, sampled.reference, sampled.correct)
            for question, sampled in zip(self.questions, found.samples, strict=True)
        ]
        return EvalResult({"accuracy": found.share}, samples)
