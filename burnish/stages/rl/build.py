"""A stage of learning by trying, put together: sampler, judge, source, loss, evaluator. Under `assemble`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from burnish.credit.credit import Credit
from burnish.credit.pairing import Pairing
from burnish.credit.settings import PairingSettings
from burnish.dry_run import costliest
from burnish.evaluate.detokenize import response_decoder
from burnish.evaluate.evaluator import Evaluator
from burnish.evaluate.reward_eval import RewardEval
from burnish.losses.policy.entropy import EntropyControl
from burnish.losses.policy.gradient import PolicyGradient
from burnish.losses.preference.build import built
from burnish.methods import Learning, Method, rl
from burnish.model.fingerprint import whole_fingerprint
from burnish.model.policy import Model
from burnish.model.snapshot import Snapshot
from burnish.model.stop_tokens import stop_tokens_of
from burnish.sampling.open import sampler_of
from burnish.sampling.params import SamplingParams
from burnish.sources.annotate import FrozenScorer, LiveScorer, annotated
from burnish.sources.rollouts import FillStreams
from burnish.stages.rl.data import RLData
from burnish.stages.rl.settings import RlSettings
from burnish.types import Group, Response


@dataclass(frozen=True, eq=False, slots=True)
class StageParts:
    """What one method brings to a stage."""

    method: Method
    evaluators: Sequence[Evaluator]
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


def build_rl(inputs: RLData, policy: Model) -> StageParts:
    """What the stage is made of; the policy is the reference as it is now."""
    settings, reader = inputs.settings, inputs.opener.reader
    learning, seed = learning_of(settings), inputs.opener.recipe.seed
    ends = stop_tokens_of(policy.causal_lm.generation_config, policy.tokenizer, reader.template)
    sampler, decode = sampler_of(policy, ends, reader.max_length), response_decoder(policy.tokenizer, ends)
    method = rl(
        inputs.asked(),
        sampler,
        inputs.judge,
        decode,
        learning,
        params=settings.params(seed),
        settings=settings.rollouts,
        annotate=_annotate(inputs, policy, reference=learning.needs_reference),
        seed=seed,
        epochs=settings.epochs or 1.0,
        max_steps=settings.max_steps,
        curriculum=settings.curriculum,
        weights={reward.key: reward.weight for reward in inputs.judge.rewards if reward.weight},
    )
    greedy = SamplingParams(max_new_tokens=settings.max_new_tokens, temperature=0.0, stop=settings.sampling.stop)
    asked = inputs.examined()
    exam = RewardEval(asked, sampler, greedy, inputs.judge, decode, settings.success_threshold)
    fact = whole_fingerprint(policy) if learning.needs_reference else ""
    return StageParts(method, [exam] if asked else [], {"the reference": fact, "the rewards": inputs.rewards_identity})


def learning_of(settings: RlSettings) -> Learning:
    """What becomes of graded groups, and the loss; a new one each time, since it may have a state."""
    if not settings.is_gradient:
        rule, compared = settings.rule, settings.compared.preference
        assert isinstance(rule, PairingSettings), "a loss of comparisons learns from pairs, rankings or verdicts"
        return Learning(Pairing.of(rule), built(compared), compared.reference)
    chosen = settings.chosen
    credit, loss = Credit.of(chosen.credit), PolicyGradient.of(chosen.loss)
    if settings.entropy_control is None:
        return Learning(credit, loss, settings.needs_reference)
    return Learning(credit, EntropyControl(loss, *settings.entropy_control), settings.needs_reference)


def longest_prompts(inputs: RLData) -> list[Group]:
    """The groups of the costliest microbatch: the longest prompts, with responses that fill their room, and streams as
    if they had been written, scored and judged."""
    settings, budget = inputs.settings, inputs.tokens_per_microbatch
    size, room = settings.responses_per_prompt, settings.max_new_tokens
    nothing = torch.zeros(room)
    written = Response(
        tokens=torch.zeros(room, dtype=torch.int64),
        trainable=torch.ones(room, dtype=torch.bool),
        sampler_logprobs=nothing,
        old_logprobs=nothing,
        reference_logprobs=nothing,
        reward=0.0,
    )
    longest = sorted(inputs.asked(), key=lambda asked: -len(asked.tokens))[: settings.groups_per_step]
    groups = [Group(prompt=asked.tokens, responses=(written,) * size) for asked in longest]
    lessons = learning_of(settings).rule.assign(groups, [torch.arange(float(size))] * len(groups))
    return costliest([group for lesson in lessons for group in lesson], budget, settings.groups_per_step)


def _annotate(inputs: RLData, policy: Model, *, reference: bool) -> FillStreams | None:
    """Fills in the log-probabilities that are needed beside the sampler's; None: no others are."""
    budget, present = inputs.tokens_per_microbatch, LiveScorer(policy)
    frozen = FrozenScorer(Snapshot(policy)) if reference else None
    recomputes = inputs.settings.recomputes
    if frozen is None and not recomputes:
        return None

    def annotate(groups: Sequence[Group]) -> Sequence[Group]:
        if frozen is not None:
            groups = annotated(groups, frozen.logprobs(groups, budget))
        if recomputes:
            groups = annotated(groups, present.logprobs(groups, budget), "old_logprobs")
        return groups

    return annotate
