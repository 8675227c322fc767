"""Assembles a stage from its recipe and its data: policy, source, loss, optimizer, evaluators, cadence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypedDict

import torch

from burnish.cadence import Cadence
from burnish.dry_run import costliest
from burnish.early_stopping import EarlyStopping
from burnish.errors import RecipeError
from burnish.evaluate.evaluator import Evaluator
from burnish.evaluate.preference_eval import PreferenceEval
from burnish.evaluate.reward_model_eval import RewardModelEval
from burnish.evaluate.scores_and_steps import ScoresEval, StepsEval, right_above
from burnish.loop import Stage
from burnish.losses.base import Loss
from burnish.losses.cross_entropy import CrossEntropy
from burnish.losses.preference.build import built
from burnish.losses.preference.implicit import ImplicitReward, LogProb, LogRatio
from burnish.losses.preference.listwise import Listwise
from burnish.losses.preference.pairs import Pairs
from burnish.losses.preference.weighted_sum import WeightedSum
from burnish.losses.reward.registry import REWARD_LOSSES
from burnish.methods import prefer, reward, sft
from burnish.model.fingerprint import frozen_fingerprint
from burnish.model.noise import Neftune
from burnish.model.policy import Model
from burnish.recipe.recipe import Recipe
from burnish.settings.loss_options import user_options
from burnish.settings.stage import StageSettings
from burnish.sources.value_targets import JudgedAt, value_target_at_end, value_targets_at_steps
from burnish.stages.open_policy import open_policy
from burnish.stages.prefer.settings import PreferSettings
from burnish.stages.reference import with_reference
from burnish.stages.reward.settings import RewardModelSettings
from burnish.stages.rl.build import StageParts, build_rl, learning_of, longest_prompts
from burnish.stages.rl.data import RLData
from burnish.stages.rl.settings import RlSettings
from burnish.stages.sft.settings import SftSettings
from burnish.stages.supervised_data import SupervisedData
from burnish.stages.updating import optimizer_of
from burnish.stages.user_loss import loss_identity, user_loss
from burnish.step import Trainer
from burnish.types import VALUE_SCORES, Group, Response


def assemble(recipe: Recipe, inputs: SupervisedData | RLData, name: str) -> Stage:
    """Builds the stage called ``name``, ready to train.

    Raises:
        UserError: the model, the adapter or the device cannot be used.
    """
    settings = inputs.opener.stage
    policy = open_policy(inputs.opener)
    parts = build_rl(inputs, policy) if isinstance(inputs, RLData) else _supervised(recipe, settings, inputs, policy)
    method = parts.method
    steps = method.source.num_steps
    cadence = Cadence(
        checkpoint_every=settings.checkpoint_every or math.ceil(steps / 10),
        keep_last=settings.checkpoints.keep_last,
        log_every=settings.log_every,
        eval_every=settings.eval_every,
    )
    return Stage(
        name=name,
        trainer=Trainer(
            policy, optimizer_of(recipe, settings, policy), settings.optimizer.max_grad_norm, noise_of(recipe, settings)
        ),
        source=method.source,
        loss=method.loss,
        schedule=settings.schedule_of(steps),
        cadence=cadence,
        tokens_per_microbatch=inputs.tokens_per_microbatch,
        evaluators=parts.evaluators,
        dry_run_groups=_dry_run_groups(inputs) if settings.has_dry_run(policy.device.type) else (),
        stopping=EarlyStopping(settings.stop_rule),
        fingerprints={
            **inputs.fingerprints,
            **parts.fingerprints,
            "the model": frozen_fingerprint(policy),
            "the loss": loss_identity(method.loss),
        },
        notes=parts.notes,
    )


class _Draws(TypedDict):
    """Arguments of a source that determine how rows are drawn."""

    sequences_per_step: int
    seed: int
    epochs: float
    max_steps: int | None
    epoch_rows: int | None


def _draws(inputs: SupervisedData) -> _Draws:
    settings = inputs.opener.stage
    return {
        "sequences_per_step": settings.draws_per_step,
        "seed": inputs.opener.recipe.seed,
        "epochs": settings.epochs or 1.0,
        "max_steps": settings.max_steps,
        "epoch_rows": inputs.epoch_rows,
    }


def _supervised(recipe: Recipe, settings: StageSettings, inputs: SupervisedData, policy: Model) -> StageParts:
    if isinstance(settings, PreferSettings):
        return _prefer(recipe, settings, inputs, policy)
    return _reward(settings, inputs, policy) if isinstance(settings, RewardModelSettings) else _sft(inputs, policy)


def _sft(inputs: SupervisedData, policy: Model) -> StageParts:
    method = sft(inputs.feed, loss=loss_of(inputs.opener.stage), **_draws(inputs))
    held_out, budget = inputs.held_out, inputs.tokens_per_microbatch
    return StageParts(method, held_out.evaluators(policy, method.loss, budget) if held_out else ())


def _prefer(recipe: Recipe, settings: PreferSettings, inputs: SupervisedData, policy: Model) -> StageParts:
    referenced, budget = with_reference(recipe, settings, inputs, policy), inputs.tokens_per_microbatch
    method = prefer(
        referenced.rows,
        loss_of(settings),
        annotating=referenced.annotating,
        mismatches=settings.measures_mismatches,
        max_length=inputs.opener.reader.max_length,
        **_draws(inputs),
    )
    evaluators: list[Evaluator] = []
    if inputs.held_out is not None:
        evaluators += inputs.held_out.evaluators(policy, method.loss, budget, referenced.held_out)
        tags = inputs.held_out.tags
        # Mismatched pairs, which are scored in addition to the rows, have no tags.
        tags += [[] for _ in range(len(referenced.held_out) - len(tags))] if tags else []
        evaluators.append(PreferenceEval(referenced.held_out, reward_of(settings, method.loss), budget, tags))
    return StageParts(method, evaluators, {"the reference": referenced.fingerprint}, referenced.notes)


def _reward(settings: RewardModelSettings, inputs: SupervisedData, policy: Model) -> StageParts:
    judged_at = _set_value_targets(settings)
    method = reward(inputs.feed, loss_of(settings), judged_at=judged_at, **_draws(inputs))
    if inputs.held_out is None:
        return StageParts(method, ())
    rows, budget = [judged_at(group) for group in inputs.held_out.groups], inputs.tokens_per_microbatch
    evaluators = inputs.held_out.evaluators(policy, method.loss, budget, rows)
    further: Evaluator = RewardModelEval(rows, budget, inputs.held_out.tags)
    if settings.scores is not None:
        further = ScoresEval(rows, settings.scores, budget)
    elif settings.comparison == "steps":
        further = StepsEval(rows, budget, right_above(settings.head_config(inputs.opener.recipe.seed)))
    return StageParts(method, [*evaluators, further])


def _set_value_targets(settings: RewardModelSettings) -> JudgedAt:
    return value_targets_at_steps if settings.comparison == "steps" else value_target_at_end


def reward_of(settings: PreferSettings, loss: Loss) -> ImplicitReward:
    """Implicit reward of a response: that of the loss; if the loss has none, the log-ratio to the reference, or without
    a reference the mean log-probability per token."""
    if isinstance(loss, WeightedSum):
        loss = next((part.loss for part in loss.parts if isinstance(part.loss, Pairs | Listwise)), loss)
    if isinstance(loss, Pairs | Listwise):
        return loss.reward
    return LogRatio() if settings.has_reference else LogProb(1.0, per_token=True)


def loss_of(settings: StageSettings) -> Loss:
    """The loss that the stage minimizes.

    Raises:
        RecipeError: a user's loss cannot be used.
    """
    if isinstance(settings, RlSettings):
        return learning_of(settings).loss
    if isinstance(settings, PreferSettings):
        own = settings.is_own
        options = user_options(settings.loss_options)
        return _own(str(settings.loss), options, is_reward_model=False) if own else built(settings.preference)
    if isinstance(settings, RewardModelSettings):
        if settings.is_own:
            return _own(settings.loss, user_options(settings.loss_options), is_reward_model=True)
        return REWARD_LOSSES[settings.loss](**settings.used_options)
    assert isinstance(settings, SftSettings), "there are four methods"
    if settings.loss != "cross_entropy":
        return _own(settings.loss, user_options(settings.loss_options), is_reward_model=False)
    return CrossEntropy(**dict(settings.loss_options))


def _own(name: str, options: Mapping[str, Any], *, is_reward_model: bool) -> Loss:
    """A user's loss; checks that the model can compute the scores that it needs."""
    loss = user_loss(name, options)
    if is_reward_model and not VALUE_SCORES.issuperset(loss.needs):
        raise RecipeError(
            given=f"loss: {name}, which needs {', '.join(loss.needs)}",
            rule="a reward model gives values, and no log-probabilities",
            remedy="give it the attribute needs = [Score.VALUE] (burnish.types)",
        )
    if not is_reward_model and not VALUE_SCORES.isdisjoint(loss.needs):
        raise RecipeError(
            given=f"loss: {name}, which needs {', '.join(loss.needs)}",
            rule="values come from the head of a reward model; a language model has none",
            remedy="leave them out of needs, or use the loss in a stage reward",
        )
    return loss


def noise_of(recipe: Recipe, settings: StageSettings) -> Neftune | None:
    """NEFTune noise on embeddings; only supervised fine-tuning has it."""
    if not isinstance(settings, SftSettings) or settings.neftune_alpha is None:
        return None
    return Neftune(settings.neftune_alpha, recipe.seed)


def _dry_run_groups(inputs: SupervisedData | RLData) -> list[Group]:
    """Groups of the largest microbatch, for the dry run, with streams as a reference would fill them."""
    if isinstance(inputs, RLData):
        return longest_prompts(inputs)
    max_groups = inputs.opener.stage.draws_per_step
    groups = costliest(inputs.feed.longest(max_groups), inputs.tokens_per_microbatch, max_groups)
    if isinstance(inputs.opener.stage, RewardModelSettings):
        return [_set_value_targets(inputs.opener.stage)(group) for group in groups]
    return [replace(group, responses=tuple(map(_with_reference_stream, group.responses))) for group in groups]


def _with_reference_stream(response: Response) -> Response:
    return replace(response, reference_logprobs=torch.zeros(len(response.tokens)))
