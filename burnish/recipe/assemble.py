"""A stage of a recipe, put together: the policy, the method with its source and loss, the optimiser, the rhythm.

Between `inputs` (the data, opened) and `run` (which runs the stages in their order).
"""

from __future__ import annotations

import math

import torch

from burnish.errors import RecipeError
from burnish.loop import Rhythm, Stage
from burnish.losses import CrossEntropy, Loss
from burnish.methods import sft
from burnish.model.adapters import AdapterSettings
from burnish.model.load import default_device, load_policy
from burnish.model.policy import Policy
from burnish.optim import Optimizer, OptimizerSettings
from burnish.recipe.inputs import Inputs
from burnish.recipe.own_loss import loss_identity, own_loss
from burnish.recipe.schema import DECAY, Adapter, Recipe, Sft
from burnish.runs import frozen_fingerprint
from burnish.schedule import Schedule
from burnish.step import Trainer


def assemble(recipe: Recipe, inputs: Inputs, name: str) -> Stage:
    """The stage called ``name``, ready to run.

    Raises:
        UserError: the model, the adapter or the device cannot be used.
    """
    settings = inputs.opener.stage
    policy = load_policy(
        inputs.opener.model,
        adapter=_adapter(recipe.adapter),
        dtype=recipe.dtype,
        device=device_of(recipe),
        gradient_checkpointing=settings.gradient_checkpointing,
        add_tokens=settings.tokens_to_add,
    )
    method = sft(
        inputs.feed,
        sequences_per_step=settings.sequences_per_step,
        seed=recipe.seed,
        epochs=settings.epochs or 1.0,
        max_steps=settings.max_steps,
        shuffle=inputs.shuffle,
        loss=_loss(settings),
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


def _loss(settings: Sft) -> Loss:
    if settings.loss != "cross_entropy":
        return own_loss(settings.loss, settings.loss_options)
    return CrossEntropy(settings.label_smoothing, settings.z_loss)


def device_of(recipe: Recipe) -> torch.device:
    """Raises RecipeError for a device that is not there."""
    if recipe.device == "cuda" and not torch.cuda.is_available():
        raise RecipeError(
            given="device: cuda",
            rule="torch sees no CUDA device on this machine",
            remedy="remove device, or check the driver and that torch was built for CUDA",
        )
    return default_device() if recipe.device == "auto" else torch.device(recipe.device)


def _optimizer(recipe: Recipe, settings: Sft, policy: Policy) -> Optimizer:
    chosen = OptimizerSettings(
        name=settings.optimizer,
        learning_rate=learning_rate(recipe, settings),
        weight_decay=settings.weight_decay,
        betas=settings.betas,
    )
    ends = policy.causal_lm.get_input_embeddings(), policy.causal_lm.get_output_embeddings()
    embedding_like = [parameter for end in ends for parameter in end.parameters()]
    return Optimizer(policy.trained_parameters(), chosen, embedding_like)


def learning_rate(recipe: Recipe, settings: Sft) -> float:
    """LoRA's matrices want about ten times the rate of full weights (Schulman et al. 2025, LoRA without regret)."""
    return settings.learning_rate or (2e-5 if recipe.adapter.kind == "full" else 2e-4)


def _adapter(adapter: Adapter) -> AdapterSettings | None:
    if adapter.kind == "full":
        return None
    return AdapterSettings(adapter.rank, adapter.alpha, adapter.dropout, adapter.targets)
