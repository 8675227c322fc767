"""Evaluator of student and teacher on held-out prompts: the divergence that distillation is to close.

At every evaluation the student samples one response to each prompt, with the same random numbers, and the teacher
computes its distributions for the same tokens. KL(student ‖ teacher) of whole next-token distributions, their agreement
and the student's entropy are means over tokens. Where the teacher gives no distributions over the student's tokens
(another tokenizer), the KL is estimated from the sampled tokens, without bias, and there is no agreement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from burnish.credit.teacher import sampled_kl
from burnish.data.prompts import TokenizedPrompt
from burnish.evaluate.evaluator import EvalResult
from burnish.model.divergence import Comparison
from burnish.model.policy import Model
from burnish.parallel.world import ONE_PROCESS, World
from burnish.roles.filler import Filler, with_task
from burnish.roles.scorer import Computed, of_responses
from burnish.sampling.base import EVALUATED, Sampler, SampleRequest
from burnish.sampling.params import SamplingParams
from burnish.types import Group, Microbatch, Score
from burnish.watch.parts import OnPart, no_report

_NEEDS = (Score.DIVERGENCE, Score.AGREEMENT, Score.ENTROPY)
_STEP = -2
"""Step of the responses in the random numbers; those of training have steps from 0 on."""


@dataclass(frozen=True, eq=False, slots=True)
class TeacherKL:
    """Evaluator of `teacher_kl` (nats per token), `teacher_agreement` and `student_entropy` (nats per token)."""

    prompts: Sequence[TokenizedPrompt]
    """At least one."""
    sampler: Sampler
    params: SamplingParams
    """Sampling parameters of training, without truncations."""
    teacher: Filler
    comparison: Comparison | None
    """Reverse KL over what the teacher gives; None: estimated from sampled tokens."""
    budget: int
    """Maximum number of tokens of a microbatch."""
    temperature: float = 1.0
    """Divisor of the logits of both in the comparison: that of the teacher's streams."""
    world: World = ONE_PROCESS
    """Processes that share the prompts."""

    def evaluate(self, policy: Model, on_part: OnPart = no_report) -> EvalResult:
        """Means over the trained tokens of all responses. Across tokenizers, tokens in no run add 0."""
        mine = self.world.share(self.prompts)
        self.sampler.publish(policy, EVALUATED)
        requests = [SampleRequest(prompt.tokens, prompt.row, prompt.media) for prompt in mine]
        groups = self.sampler.sample(requests, 1, self.params, step=_STEP)
        groups = self.teacher([with_task(g, p.task) for g, p in zip(groups, mine, strict=True)])
        gathered = self._gathered(policy, groups)
        tokens = sum(part["tokens"] for part in gathered)
        if not tokens:
            return EvalResult({})
        names = [name for name in gathered[0] if name != "tokens"]
        return EvalResult({name: math.fsum(part.get(name, 0.0) for part in gathered) / tokens for name in names})

    def _gathered(self, policy: Model, groups: Sequence[Group]) -> list[dict[str, float]]:
        """Sums over the tokens of all processes' groups, in parts. If weights are gathered to compute, the processes
        share all groups anew, so that they compute equally often."""
        if self.comparison is None:
            return self.world.gather_shares(_sampled(groups))
        if not policy.placement.gathers:
            return self.world.gather_shares(self._compared(policy, groups, self.comparison))
        every = [group for share in self.world.gather_shares(list(groups)) for group in share]
        return [self._compared(policy, every, self.comparison, self.world)]

    def _compared(
        self, policy: Model, groups: Sequence[Group], comparison: Comparison, world: World = ONE_PROCESS
    ) -> dict[str, float]:
        """Sums over tokens of the scores of whole distributions; see `of_responses` for the world."""
        student = replace(policy, temperature=self.temperature, comparison=comparison)

        def scores(packed: Microbatch) -> Computed:
            computed = student.score(packed, _NEEDS)
            return Computed({kind.value: computed.of(kind) for kind in _NEEDS})

        parts = [part for group in of_responses(student, groups, self.budget, scores, world) for part in group]
        names = {"divergence": "teacher_kl", "agreement": "teacher_agreement", "entropy": "student_entropy"}
        sums = {new: math.fsum(float(part[name].double().sum()) for part in parts) for name, new in names.items()}
        return {**sums, "tokens": float(sum(len(part["divergence"]) for part in parts))}


def _sampled(groups: Sequence[Group]) -> dict[str, float]:
    """Sums over tokens of the log-ratio of sampled tokens, and of minus the log-probability, which estimates the
    entropy."""
    responses = [response for group in groups for response in group.responses]
    kl, tokens = sampled_kl(responses)
    entropy = 0.0
    for response in responses:
        assert response.sampler_logprobs is not None, "sampled responses have log-probabilities"
        entropy -= float(response.sampler_logprobs[response.trainable].double().sum())
    return {"teacher_kl": kl, "student_entropy": entropy, "tokens": float(tokens)}
