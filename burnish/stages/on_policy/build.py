"""The way from opened data and models to a stage whose responses the policy generates.

Samplers, graders, the batcher and evaluators are those of every such stage. A kind says which credit rule and loss it
has, which streams are filled before credit, and which further roles it trains.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from burnish.credit.rule import CreditRule
from burnish.errors import RecipeError
from burnish.evaluate.detokenize import response_decoder
from burnish.evaluate.evaluator import Evaluator
from burnish.evaluate.reward_eval import RewardEval
from burnish.evaluate.start_kl import StartKL, drawn_prompts
from burnish.losses.base import Loss
from burnish.model.divergence import Comparison
from burnish.model.fingerprint import whole_fingerprint
from burnish.model.policy import Model
from burnish.model.snapshot import Snapshot
from burnish.model.stop_tokens import stop_tokens_of
from burnish.recipe.recipe import Recipe
from burnish.rewards.response_views import Decode
from burnish.roles.filler import Filler, StreamFiller, dealt_filler
from burnish.roles.scorer import LiveScorer, SnapshotScorer
from burnish.rollouts.batcher import Batcher
from burnish.rollouts.dealt import dealt
from burnish.rollouts.replay_buffer import ReplayBuffer
from burnish.rollouts.source import RolloutSource
from burnish.rollouts.worker import SingleTurn
from burnish.runs.training_state import StatefulObject
from burnish.sampling.base import Sampler
from burnish.sampling.open import sampler_of
from burnish.sampling.params import SamplingParams
from burnish.sources.base import Source
from burnish.sources.filled import FilledSource, SnapshotSync
from burnish.stages.assemble import StageParts, assemble, follow_optimizer
from burnish.stages.kind import TrainingKind
from burnish.stages.on_policy.data import OnPolicyData
from burnish.stages.on_policy.settings import OnPolicySettings
from burnish.stages.role import POLICY, REFERENCE, Role
from burnish.train.auxiliary import Auxiliary
from burnish.train.dry_run import costliest
from burnish.train.learner import Learner
from burnish.train.loop import Stage
from burnish.train.pause import Pause
from burnish.types import Group, Response

NOT_DETERMINISTIC = (
    "the sampler is not deterministic: a resumed run loses nothing and trains on nothing twice, but differs from an "
    "undisturbed one"
)


def no_streams(length: int) -> Mapping[str, Tensor]:
    """No further streams in the dry run."""
    return {}


P = TypeVar("P", bound=OnPolicySettings)
D = TypeVar("D", bound=OnPolicyData[Any])


@dataclass(frozen=True, eq=False, slots=True)
class PolicyExtras:
    """What a kind adds to the policy's learner and to its rollouts."""

    fillers: Sequence[Filler] = ()
    """Fill streams of a batch before credit."""
    pause: Pause | None = None
    """Steps in which the policy is not trained; None: it is trained in all."""
    auxiliary: Sequence[Auxiliary] = ()
    """Losses of other rows, added to the policy's."""
    evaluators: Sequence[Evaluator] = ()
    """Further evaluators of the stage."""
    sync: SnapshotSync | None = None
    """Updates of earlier weights of the policy that fill streams; None: there are none."""
    snapshots: Mapping[str, StatefulObject] = field(default_factory=dict)
    """Name of a role without a learner → its state, which checkpoints have: earlier weights of the policy, say."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints of models and tables that must be equal when the run is resumed, by name."""
    notes: Sequence[str] = ()
    """Lines for the log before it begins."""
    comparison: Comparison | None = None
    """With a teacher, for losses that compare distributions; None: there is none."""
    dry_streams: Callable[[int], Mapping[str, Tensor]] = no_streams
    """Length of a response → the streams that fillers give it, for the dry run."""


@dataclass(frozen=True, eq=False, slots=True)
class Rolling:
    """A policy with its sampler and its graders."""

    data: OnPolicyData[Any]
    policy: Model
    sampler: Sampler
    decode: Decode

    def worker(self, params: SamplingParams) -> SingleTurn:
        """Answers prompts with these sampling parameters, and has the responses graded."""
        return SingleTurn(self.policy, self.sampler, self.data.judge, self.decode, params, self.data.context.world)


@dataclass(frozen=True, slots=True)
class Learning:
    """The credit rule of graded groups, and the loss that is minimized on its result."""

    rule: CreditRule
    loss: Loss


class OnPolicy(TrainingKind[P, D]):
    """Kind of a stage whose responses the policy generates. ``OnPolicy[MySettings, MyData]`` names its settings and its
    opened data."""

    no_model_checks = "its checks need responses in rows, and the first stage has none"

    def roles(self, recipe: Recipe, settings: P) -> Sequence[Role]:
        policy = Role(POLICY, temperature=settings.sampling.temperature)
        return (policy, Role(REFERENCE, trained=False, is_copy=True)) if settings.needs_reference else (policy,)

    def loss(self, settings: P) -> Loss:
        return self.learning(settings).loss

    @abstractmethod
    def learning(self, settings: P) -> Learning:
        """Credit rule and loss of the policy, new on each call, since both may have a state."""

    def extras(self, data: D, models: Mapping[str, Model]) -> PolicyExtras:
        """What the policy has beside its loss: fillers of the streams that credit and losses need, which are
        log-probabilities of the reference (the policy with its present weights) and of the policy before a batch's
        first update."""
        budget, policy, fillers = data.tokens_per_microbatch, models[POLICY], []
        if data.settings.needs_reference:
            fillers.append(StreamFiller(SnapshotScorer(Snapshot(policy)), "reference_logprobs", budget))
        if data.settings.recomputes:
            fillers.append(StreamFiller(LiveScorer(policy), "old_logprobs", budget))
        return PolicyExtras(fillers)

    def further_learners(self, data: D, models: Mapping[str, Model], steps: int) -> Sequence[Learner]:
        """Learners of other roles than the policy; (): none. `steps` is the number of steps of the stage."""
        return ()

    def sampler(self, data: D, policy: Model, end_tokens: Collection[int]) -> Sampler:
        """The sampler of rollouts and evaluations, in this process. A kind with another engine overrides it."""
        return sampler_of(policy, end_tokens, data.context.reader.max_length)

    def rolling(self, data: D, policy: Model) -> Rolling:
        """The policy with its sampler and its graders."""
        ends = stop_tokens_of(policy.causal_lm.generation_config, policy.tokenizer, data.context.reader.template)
        return Rolling(data, policy, self.sampler(data, policy, ends), response_decoder(policy.tokenizer, ends))

    def build(self, data: D, models: Mapping[str, Model], name: str) -> Stage:
        settings, seed = data.settings, data.context.recipe.seed
        learning, extras = self.learning(settings), self.extras(data, models)
        policy = replace(models[POLICY], comparison=extras.comparison)
        rolling = self.rolling(data, policy)
        _require_correction(settings, rolling.sampler)
        source: Source = RolloutSource(
            data.train.tokenized,
            dealt(rolling.worker(settings.params(seed)), data.context.world),
            _batcher(data, learning.rule, [dealt_filler(filler, data.context.world) for filler in extras.fillers]),
            seed,
            settings.epochs or 1.0,
            settings.max_steps,
            settings.curriculum,
        )
        if extras.sync is not None:
            source = FilledSource(source, (), extras.sync)
        _require_trained_steps(extras, source.num_steps)
        reference = whole_fingerprint(policy) if settings.needs_reference else ""
        parts = StageParts(
            source,
            learning.loss,
            [*policy_evaluators(rolling), *extras.evaluators],
            {"the reference": reference, "the rewards": data.rewards_identity, **extras.fingerprints},
            notes=(*(() if rolling.sampler.deterministic else (NOT_DETERMINISTIC,)), *extras.notes),
            # A rule may adapt, so that the dry run has one of its own.
            dry_run_groups=lambda: longest_prompts(data, self.learning(settings).rule, extras.dry_streams),
            snapshots=extras.snapshots,
            further_learners=self.further_learners(data, models, source.num_steps),
            penalties=[reward.key for reward in data.judge.rewards if reward.weight < 0],
            pause=extras.pause,
            auxiliary=extras.auxiliary,
        )
        stage = assemble(data, policy, name, parts)
        follow_optimizer(stage, extras.sync)
        return stage


def _require_trained_steps(extras: PolicyExtras, steps: int) -> None:
    """Refuses a stage that ends before its policy is trained.

    Raises:
        RecipeError: the value warm-up has all its steps.
    """
    if extras.pause is not None and extras.pause.first_steps >= steps:
        raise RecipeError(
            given=f"critic.value_warmup_steps: {extras.pause.first_steps}, and a stage of {steps} steps",
            rule="the policy is trained after the value warm-up",
            remedy="lower critic.value_warmup_steps, or raise epochs or max_steps",
        )


def _batcher(data: OnPolicyData[Any], rule: CreditRule, fillers: Sequence[Filler]) -> Batcher:
    rollouts, seed = data.settings.rollouts, data.context.recipe.seed
    weights = {reward.key: reward.weight for reward in data.judge.rewards if reward.weight}
    buffer = None if rollouts.replay is None else ReplayBuffer(rollouts.replay, seed)
    return Batcher(rule, rollouts, fillers, weights, buffer, seed)


def policy_evaluators(rolling: Rolling) -> Sequence[Evaluator]:
    """Evaluators of the stage, if it has held-out prompts: the reward of greedy responses to them, and the KL
    divergence from the policy as it is now, before training."""
    data, policy, sampler = rolling.data, rolling.policy, rolling.sampler
    settings, held_out, seed = data.settings, data.held_out_prompts(), data.context.recipe.seed
    if not held_out:
        return ()
    world, budget = data.context.world, data.tokens_per_microbatch
    greedy = SamplingParams(max_new_tokens=settings.max_new_tokens, temperature=0.0, stop=settings.sampling.stop)
    reward_eval = RewardEval(held_out, rolling.worker(greedy), settings.success_threshold, world)
    prompts = drawn_prompts(data.train.tokenized, settings.evaluation.kl_prompts, seed)
    if not prompts:
        return (reward_eval,)
    return reward_eval, StartKL.of(policy, prompts, sampler, settings.params(seed), budget, world)


def _require_correction(settings: OnPolicySettings, sampler: Sampler) -> None:
    """Refuses a ratio of exactly 1 for responses of older weights.

    Raises:
        RecipeError: neither the ratio nor a correction uses the sampler's log-probabilities.
    """
    if not sampler.max_staleness or settings.learns_by_ratios:
        return
    if settings.loss_parts.importance_correction is None:
        raise RecipeError(
            given=f"a sampler whose weights are up to {sampler.max_staleness} steps behind, and "
            f"policy_gradient.old_logprobs: {'recomputed' if settings.recomputes else 'policy'}",
            rule="responses of older weights are learned from by ratios to the log-probabilities of the sampler",
            remedy="set policy_gradient.old_logprobs: sampler, or policy_gradient.importance_correction",
        )


def longest_prompts(
    inputs: OnPolicyData[Any], rule: CreditRule, streams: Callable[[int], Mapping[str, Tensor]] = no_streams
) -> list[Group]:
    """Groups of the largest microbatch, for the dry run: the longest prompts with responses of max_new_tokens, and all
    streams filled."""
    settings, budget = inputs.settings, inputs.tokens_per_microbatch
    size, room = settings.responses_per_prompt, settings.max_new_tokens
    zeros, further = torch.zeros(room), dict[str, Any](streams(room))
    response = Response(
        tokens=torch.zeros(room, dtype=torch.int64),
        trainable=torch.ones(room, dtype=torch.bool),
        sampler_logprobs=zeros,
        old_logprobs=zeros,
        reference_logprobs=zeros,
        values=zeros,
        bootstrap_value=0.0,
        reward=0.0,
        **further,
    )
    longest = sorted(inputs.train.tokenized, key=lambda prompt: -len(prompt.tokens))[: settings.groups_per_step]
    groups = [Group(prompt=prompt.tokens, responses=(response,) * size, media=prompt.media) for prompt in longest]
    items = rule.assign(groups, [torch.arange(float(size))] * len(groups))
    return costliest([group for item in items for group in item], budget, settings.groups_per_step)
