"""Evaluator of generation accuracy: the same prompts at every evaluation of a run, answered greedily."""

from __future__ import annotations

from dataclasses import dataclass

from burnish.evaluate.accuracy import Question, accuracy
from burnish.evaluate.evaluator import EvalResult
from burnish.model.policy import Model
from burnish.rewards.match import MatchRule
from burnish.sampling.open import sampler_of
from burnish.sampling.params import SamplingParams
from burnish.watch.journal_lines import EvalSample


@dataclass(frozen=True, slots=True)
class GenerationEval:
    """Evaluator of generation accuracy, with greedy decoding.

    Example: ``GenerationEval(questions(maker, [0, 7]), "exact", 64,
    end_tokens=(2,)).evaluate(policy).figures["accuracy"]``.
    """

    questions: tuple[Question, ...]
    """At least one."""
    match: MatchRule
    """Rule by which an answer is right."""
    max_new_tokens: int
    """Limit of an answer, tokens."""
    end_tokens: tuple[int, ...]
    """Token ids that end an answer."""

    def evaluate(self, policy: Model) -> EvalResult:
        """Accuracy, and every answer as a sample."""
        result = accuracy(
            sampler_of(policy, self.end_tokens),
            policy.tokenizer,
            self.questions,
            match=self.match,
            params=SamplingParams(self.max_new_tokens, temperature=0.0),
        )
        samples = [
            EvalSample(question.row, question.message_text, sampled.response, sampled.reference, sampled.correct)
            for question, sampled in zip(self.questions, result.samples, strict=True)
        ]
        return EvalResult({"accuracy": result.share}, samples)
