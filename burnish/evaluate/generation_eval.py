"""Evaluator of generation accuracy: the same prompts at every evaluation of a run, answered greedily."""

from __future__ import annotations

from dataclasses import dataclass

from burnish.data.prompts import TokenizedPrompt
from burnish.evaluate.accuracy import Accuracy, sample_answers
from burnish.evaluate.evaluator import EvalResult
from burnish.model.policy import Model
from burnish.parallel.world import ONE_PROCESS, World
from burnish.rewards.match import MatchRule
from burnish.sampling.base import EVALUATED, Sampler
from burnish.sampling.params import SamplingParams
from burnish.watch.journal_lines import EvalSample
from burnish.watch.parts import OnPart, no_report


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
    world: World = ONE_PROCESS
    """Processes that share the prompts."""

    def evaluate(self, policy: Model, on_part: OnPart = no_report) -> EvalResult:
        """Accuracy, and every answer as a sample."""
        self.sampler.publish(policy, EVALUATED)
        params, mine = SamplingParams(self.max_new_tokens, temperature=0.0), self.world.share(self.prompts)
        answered = sample_answers(
            self.sampler, policy.tokenizer, mine, match=self.match, params=params, on_part=on_part
        )
        result = Accuracy.of([answer for answers in self.world.gather_shares(answered) for answer in answers])
        samples = [
            EvalSample(answered.row, answered.message_text, answered.response, answered.reference, answered.correct)
            for answered in result.samples
        ]
        return EvalResult({"accuracy": result.share}, samples)
