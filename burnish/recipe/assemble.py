"""A stage of a recipe, put together: the policy, the method with its source and loss, the optimiser, the rhythm.

Between `inputs` (the data, opened) and `run` (which runs the stages in their order).
"""

from __future__ import annotations

import math

from burnish.loop import Rhythm, Stage
from burnish.losses import CrossEntropy, Loss
from burnish.methods import sft
from burnish.model.noise import Neftune
from burnish.recipe.inputs import Inputs
from burnish.recipe.own_loss import loss_identity, own_loss
from burnish.recipe.policy import open_policy
from burnish.recipe.schema import Recipe
from burnish.recipe.sft import Sft
from burnish.recipe.training import Training
from burnish.recipe.updating import optimizer_of
from burnish.rehearsal import costliest
from burnish.runs import frozen_fingerprint
from burnish.step import Trainer
from burnish.stopping import Stopping
from burnish.types import Group


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
    rhythm = Rhythm(
        checkpoint_every=settings.checkpoint_every or math.ceil(steps / 10),
        keep_checkpoints=settings.keep_checkpoints,
        log_every=settings.log_every,
        eval_every=settings.eval_every,
    )
    return Stage(
        name=name,
        trainer=Trainer(policy, optimizer_of(recipe, settings, policy), settings.clip, noise_of(recipe, settings)),
        source=method.source,
        loss=method.loss,
        schedule=settings.schedule_of(steps),
        rhythm=rhythm,
        tokens_per_microbatch=inputs.tokens_per_microbatch,
        held_out=inputs.measured_on or (),
        rehearsal=_rehearsal(inputs) if settings.rehearses(policy.device) else (),
        stopping=Stopping(settings.stop_rule),
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


def noise_of(recipe: Recipe, settings: Training) -> Neftune | None:
    """The noise on embeddings that the stage trains with; a method of groups of several responses has none."""
    if not isinstance(settings, Sft) or settings.neftune is None:
        return None
    return Neftune(settings.neftune, recipe.seed)


def _rehearsal(inputs: Inputs) -> list[Group]:
    """The groups of the costliest microbatch."""
    most = inputs.opener.stage.sequences_per_step
    return costliest(inputs.feed.longest(most), inputs.tokens_per_microbatch, most)
