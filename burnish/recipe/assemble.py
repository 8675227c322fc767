"""A stage of a recipe, put together: the policy, the method with its source and loss, the optimiser, the rhythm.

Between `inputs` (the data, opened) and `run` (which runs the stages in their order).
"""

from __future__ import annotations

import math

from burnish.loop import Rhythm, Stage
from burnish.losses import CrossEntropy, Loss
from burnish.methods import sft
from burnish.model.policy import Policy
from burnish.optim import Optimizer, OptimizerSettings
from burnish.recipe.inputs import Inputs
from burnish.recipe.optimisation import DECAY, Optimisation
from burnish.recipe.own_loss import loss_identity, own_loss
from burnish.recipe.policy import open_policy
from burnish.recipe.schema import Recipe
from burnish.recipe.sft import Sft
from burnish.recipe.training import Training
from burnish.runs import frozen_fingerprint
from burnish.schedule import Schedule
from burnish.step import Trainer


def assemble(recipe: Recipe, inputs: Inputs, name: str) -> Stage:
    """The stage called ``name``, ready to run.

    Raises:
        UserError: the model, the adapter or the device cannot be used.
    """
    settings = inputs.opener.stage
    policy = open_policy(inputs.opener)
    method = sft(
        inputs.feed,
        sequences_per_step=settings.sequences_per_step,
        seed=recipe.seed,
        epochs=settings.epochs or 1.0,
        max_steps=settings.max_steps,
        shuffle=inputs.shuffle,
        loss=loss_of(settings),
    )
    steps = method.source.num_steps
    decay = DECAY if settings.decay is None else settings.decay
    schedule = Schedule(settings.schedule, steps, warmup=round(settings.warmup * steps), decay=round(decay * steps))
    rhythm = Rhythm(
        checkpoint_every=settings.checkpoint_every or math.ceil(steps / 10),
        keep_checkpoints=settings.keep_checkpoints,
        log_every=settings.log_every,
        eval_every=settings.eval_every,
    )
    return Stage(
        name=name,
        trainer=Trainer(policy, _optimizer(recipe, settings, policy), settings.clip),
        source=method.source,
        loss=method.loss,
        schedule=schedule,
        rhythm=rhythm,
        tokens_per_microbatch=inputs.tokens_per_microbatch,
        held_out=inputs.measured_on or (),
        facts={**inputs.facts, "the model": frozen_fingerprint(policy), "the loss": loss_identity(method.loss)},
    )


def loss_of(settings: Training) -> Loss:
    """What the stage minimises.

    Raises:
        RecipeError: a loss of the user's own cannot be used.
    """
    assert isinstance(settings, Sft), "the only method there is"
    if settings.loss != "cross_entropy":
        return own_loss(settings.loss, settings.loss_options)
    return CrossEntropy(settings.label_smoothing, settings.z_loss)


def _optimizer(recipe: Recipe, settings: Optimisation, policy: Policy) -> Optimizer:
    chosen = OptimizerSettings(
        name=settings.optimizer,
        learning_rate=learning_rate(recipe, settings),
        weight_decay=settings.weight_decay,
        betas=settings.betas,
    )
    ends = policy.causal_lm.get_input_embeddings(), policy.causal_lm.get_output_embeddings()
    embedding_like = [parameter for end in ends for parameter in end.parameters()]
    return Optimizer(policy.trained_parameters(), chosen, embedding_like)


def learning_rate(recipe: Recipe, settings: Optimisation) -> float:
    """LoRA's matrices want about ten times the rate of full weights (Schulman et al. 2025, LoRA without regret)."""
    return settings.learning_rate or (2e-5 if recipe.adapter.kind == "full" else 2e-4)
