"""Builds a stage of reinforcement learning: sampler, grader, source, loss, evaluator."""

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
from burnish.roles.scorer import LiveScorer, SnapshotScorer
from burnish.sampling.open import sampler_of
from burnish.sampling.params import SamplingParams
from burnish.sources.annotate import annotated
from burnish.sources.rollouts import FillStreams
from burnish.stages.rl.data import RLData
from burnish.stages.rl.settings import RlSettings
from burnish.types import Group, Response, Score


@dataclass(frozen=True, eq=False, slots=True)
class StageParts:
    """Parts of a stage that depend on its method."""

    method: Method
    evaluators: Sequence[Evaluator]
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


def build_rl(inputs: RLData, policy: Model) -> StageParts:
    """Builds the stage's parts; the policy with its present weights is the reference."""
    settings, reader = inputs.settings, inputs.opener.reader
    learning, seed = learning_of(settings), inputs.opener.recipe.seed
    ends = stop_tokens_of(policy.causal_lm.generation_config, policy.tokenizer, reader.template)
    sampler, decode = sampler_of(policy, ends, reader.max_length), response_decoder(policy.tokenizer, ends)
    method = rl(
        inputs.training_prompts(),
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
    held_out = inputs.held_out_prompts()
    reward_eval = RewardEval(held_out, sampler, greedy, inputs.judge, decode, settings.success_threshold)
    reference = whole_fingerprint(policy) if learning.needs_reference else ""
    fingerprints = {"the reference": reference, "the rewards": inputs.rewards_identity}
    return StageParts(method, [reward_eval] if held_out else [], fingerprints)


def learning_of(settings: RlSettings) -> Learning:
    """The credit rule of graded groups and the loss, built anew on each call, since a loss may have a state."""
    if not settings.is_gradient:
        rule, compared = settings.rule, settings.compared.preference
        assert isinstance(rule, PairingSettings), "online_dpo trains on pairs, rankings or verdicts"
        return Learning(Pairing.of(rule), built(compared), compared.reference)
    chosen = settings.chosen
    credit, loss = Credit.of(chosen.credit), PolicyGradient.of(chosen.loss)
    if settings.entropy_control is None:
        return Learning(credit, loss, settings.needs_reference)
    return Learning(credit, EntropyControl(loss, *settings.entropy_control), settings.needs_reference)


def longest_prompts(inputs: RLData) -> list[Group]:
    """Groups of the largest microbatch, for the dry run: the longest prompts with responses of max_new_tokens, and all
    streams filled."""
    settings, budget = inputs.settings, inputs.tokens_per_microbatch
    size, room = settings.responses_per_prompt, settings.max_new_tokens
    zeros = torch.zeros(room)
    response = Response(
        tokens=torch.zeros(room, dtype=torch.int64),
        trainable=torch.ones(room, dtype=torch.bool),
        sampler_logprobs=zeros,
        old_logprobs=zeros,
        reference_logprobs=zeros,
        reward=0.0,
    )
    longest = sorted(inputs.training_prompts(), key=lambda prompt: -len(prompt.tokens))[: settings.groups_per_step]
    groups = [Group(prompt=prompt.tokens, responses=(response,) * size) for prompt in longest]
    items = learning_of(settings).rule.assign(groups, [torch.arange(float(size))] * len(groups))
    return costliest([group for item in items for group in item], budget, settings.groups_per_step)


def _annotate(inputs: RLData, policy: Model, *, reference: bool) -> FillStreams | None:
    """Function that fills in the reference's and the recomputed log-probabilities; None: neither is needed."""
    budget, live = inputs.tokens_per_microbatch, LiveScorer(policy)
    frozen = SnapshotScorer(Snapshot(policy)) if reference else None
    recomputes = inputs.settings.recomputes
    if frozen is None and not recomputes:
        return None

    def annotate(groups: Sequence[Group]) -> Sequence[Group]:
        if frozen is not None:
            groups = annotated(groups, frozen.score(groups, Score.LOGPROB, budget))
        if recomputes:
            groups = annotated(groups, live.score(groups, Score.LOGPROB, budget), "old_logprobs")
        return groups

    return annotate
