"""Reinforcement learning: groups of responses are sampled from the policy, graded, then credited or paired.

The credit rule and the loss determine the method: see `burnish.stages.rl.algorithms`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from burnish.credit.credit import Credit
from burnish.credit.pairing import Pairing
from burnish.credit.rule import CreditRule
from burnish.credit.settings import PairingSettings
from burnish.errors import RecipeError
from burnish.evaluate.detokenize import response_decoder
from burnish.evaluate.reward_eval import RewardEval
from burnish.losses.base import Loss
from burnish.losses.policy.entropy import EntropyControl
from burnish.losses.policy.gradient import PolicyGradient
from burnish.losses.preference.build import built
from burnish.model.fingerprint import whole_fingerprint
from burnish.model.policy import Model
from burnish.model.snapshot import Snapshot
from burnish.model.stop_tokens import stop_tokens_of
from burnish.recipe.recipe import Recipe
from burnish.roles.filler import StreamFiller
from burnish.roles.scorer import LiveScorer, SnapshotScorer
from burnish.rollouts.batcher import Batcher
from burnish.rollouts.replay_buffer import ReplayBuffer
from burnish.rollouts.source import RolloutSource
from burnish.rollouts.worker import SingleTurn
from burnish.sampling.base import Sampler
from burnish.sampling.open import sampler_of
from burnish.sampling.params import SamplingParams
from burnish.stages.assemble import StageParts, assemble
from burnish.stages.context import StageContext
from burnish.stages.kind import TrainingKind
from burnish.stages.rl.data import RLData
from burnish.stages.rl.settings import RlSettings
from burnish.stages.role import POLICY, REFERENCE, Role
from burnish.train.dry_run import costliest
from burnish.train.learner import Learner
from burnish.train.loop import Stage
from burnish.types import Group, Response

NOT_DETERMINISTIC = (
    "the sampler is not deterministic: a resumed run loses nothing and trains on nothing twice, but differs from an "
    "undisturbed one"
)


@dataclass(frozen=True, slots=True)
class Learning:
    """The credit rule of graded groups, and the loss that is minimized on its result."""

    rule: CreditRule
    loss: Loss


class Rl(TrainingKind[RlSettings, RLData]):
    """Kind of the stage rl."""

    settings = RlSettings
    no_model_checks = "its checks need responses in rows, and the first stage has none"

    def open(self, context: StageContext[RlSettings]) -> RLData:
        return RLData.of(context)

    def roles(self, recipe: Recipe, settings: RlSettings) -> Sequence[Role]:
        policy = Role(POLICY, temperature=settings.sampling.temperature)
        return (policy, Role(REFERENCE, trained=False, is_copy=True)) if settings.needs_reference else (policy,)

    def loss(self, settings: RlSettings) -> Loss:
        return self.learning(settings).loss

    def learning(self, settings: RlSettings) -> Learning:
        """Credit rule and loss of the policy, new on each call."""
        return learning_of(settings)

    def fillers(self, data: RLData, models: Mapping[str, Model]) -> Sequence[StreamFiller]:
        """Fillers of the streams that credit and losses need: log-probabilities of the reference, which is the policy
        with its present weights, and of the policy before a batch's first update."""
        budget, policy, fillers = data.tokens_per_microbatch, models[POLICY], []
        if data.settings.needs_reference:
            fillers.append(StreamFiller(SnapshotScorer(Snapshot(policy)), "reference_logprobs", budget))
        if data.settings.recomputes:
            fillers.append(StreamFiller(LiveScorer(policy), "old_logprobs", budget))
        return fillers

    def further_learners(self, data: RLData, models: Mapping[str, Model], steps: int) -> Sequence[Learner]:
        """Learners of other roles than the policy; (): none. `steps` is the number of steps of the stage."""
        return ()

    def sampler(self, data: RLData, policy: Model, end_tokens: Collection[int]) -> Sampler:
        """The sampler of rollouts and evaluations, in this process. A kind with another engine overrides it."""
        return sampler_of(policy, end_tokens, data.context.reader.max_length)

    def build(self, data: RLData, models: Mapping[str, Model], name: str) -> Stage:
        settings, policy, seed = data.settings, models[POLICY], data.context.recipe.seed
        learning = self.learning(settings)
        ends = stop_tokens_of(policy.causal_lm.generation_config, policy.tokenizer, data.context.reader.template)
        sampler, decode = self.sampler(data, policy, ends), response_decoder(policy.tokenizer, ends)
        _require_correction(settings, sampler)
        batcher = Batcher(
            learning.rule,
            rollouts := settings.rollouts,
            self.fillers(data, models),
            {reward.key: reward.weight for reward in data.judge.rewards if reward.weight},
            None if rollouts.replay is None else ReplayBuffer(rollouts.replay, seed),
        )
        source = RolloutSource(
            data.train.tokenized,
            SingleTurn(policy, sampler, data.judge, decode, settings.params(seed)),
            batcher,
            seed,
            settings.epochs or 1.0,
            settings.max_steps,
            settings.curriculum,
        )
        greedy = SamplingParams(max_new_tokens=settings.max_new_tokens, temperature=0.0, stop=settings.sampling.stop)
        held_out, asks = data.held_out_prompts(), SingleTurn(policy, sampler, data.judge, decode, greedy)
        reward_eval = RewardEval(held_out, asks, settings.success_threshold, data.context.world)
        reference = whole_fingerprint(policy) if settings.needs_reference else ""
        parts = StageParts(
            source,
            learning.loss,
            [reward_eval] if held_out else [],
            {"the reference": reference, "the rewards": data.rewards_identity},
            notes=() if sampler.deterministic else (NOT_DETERMINISTIC,),
            dry_run_groups=lambda: longest_prompts(data, learning.rule),
            further_learners=self.further_learners(data, models, source.num_steps),
            penalties=[reward.key for reward in data.judge.rewards if reward.weight < 0],
        )
        return assemble(data, policy, name, parts)


def learning_of(settings: RlSettings) -> Learning:
    """The credit rule of graded groups and the loss, built anew on each call, since a loss may have a state."""
    if not settings.is_gradient:
        rule, compared = settings.rule, settings.compared.preference
        assert isinstance(rule, PairingSettings), "online_dpo trains on pairs, rankings or verdicts"
        return Learning(Pairing.of(rule), built(compared))
    chosen = settings.chosen
    credit, loss = Credit.of(chosen.credit), PolicyGradient.of(chosen.loss)
    if settings.entropy_control is None:
        return Learning(credit, loss)
    return Learning(credit, EntropyControl(loss, *settings.entropy_control))


def _require_correction(settings: RlSettings, sampler: Sampler) -> None:
    """Refuses a ratio of exactly 1 for responses of older weights.

    Raises:
        RecipeError: neither the ratio nor a correction uses the sampler's log-probabilities.
    """
    parts = settings.policy_gradient
    if not sampler.max_staleness or not settings.is_gradient:
        return
    if settings.resolved_old != "sampler" and parts.importance_correction is None:
        raise RecipeError(
            given=f"a sampler whose weights are up to {sampler.max_staleness} steps behind, and "
            f"policy_gradient.old_logprobs: {settings.resolved_old}",
            rule="responses of older weights are learned from by ratios to the log-probabilities of the sampler",
            remedy="set policy_gradient.old_logprobs: sampler, or policy_gradient.importance_correction",
        )


def longest_prompts(inputs: RLData, rule: CreditRule) -> list[Group]:
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
    longest = sorted(inputs.train.tokenized, key=lambda prompt: -len(prompt.tokens))[: settings.groups_per_step]
    groups = [Group(prompt=prompt.tokens, responses=(response,) * size) for prompt in longest]
    items = rule.assign(groups, [torch.arange(float(size))] * len(groups))
    return costliest([group for item in items for group in item], budget, settings.groups_per_step)
