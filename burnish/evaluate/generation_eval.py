"""Evaluator of generation accuracy: the same prompts at every evaluation of a run, answered greedily."""

from __future__ import annotations

from dataclasses import dataclass

from burnish.data.prompts import TokenizedPrompt
from burnish.evaluate.accuracy import accuracy
from burnish.evaluate.evaluator import EvalResult
from burnish.model.policy import Model
from burnish.rewards.match import MatchRule
from burnish.sampling.base import EVALUATED, Sampler
from burnish.sampling.params import SamplingParams
from burnish.watch.journal_lines import EvalSample


@dataclass(frozen=True, slots=True)
class GenerationEval:
    """Evaluator of generation accuracy, with greedy decoding.

    Example: ``GenerationEval(answerable_prompts(builder, [0, 7]), sampler, "exact", max_new_tokens=64)``.
    """

    prompts: tuple[TokenizedPrompt, ...]
    """At least one."""
    sampler: Sampler
    """Answers with the weights that are published to it."""
    match: MatchRule
    """Rule by which an answer is right."""
    max_new_tokens: int
    """Limit of an answer, tokens."""

    def evaluate(self, policy: Model) -> EvalResult:
        """Accuracy, and every answer as a sample."""
        self.sampler.publish(policy, EVALUATED)
        result = accuracy(
            self.sampler,
            policy.tokenizer,
            self.prompts,
            match=self.match,
            params=SamplingParams(self.max_new_tokens, temperature=0.0),
        )
        samples = [
            EvalSample(answered.row, answered.message_text, answered.response, answered.reference, answered.correct)
            for answered in result.samples
        ]
        return EvalResult({"accuracy": result.share}, samples)
