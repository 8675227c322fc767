"""Loads the models of a stage, for training and for `burnish check`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from burnish.errors import ModelError, RecipeError
from burnish.model.adapters.beside import copy_adapter, load_reward_adapter, with_adapter
from burnish.model.divide import divisible_of
from burnish.model.load import default_device, load_policy
from burnish.model.open import find_model, open_ref, policy_of, value_head_of_model
from burnish.model.policy import Model
from burnish.model.route import Route
from burnish.model.settings import ValueHeadConfig
from burnish.model.value_head import new_value_head, place_critic_head
from burnish.parallel.placement import Placement
from burnish.recipe.recipe import Recipe
from burnish.settings.stage import TrainingSettings
from burnish.stages.context import StageContext
from burnish.stages.role import CRITIC, POLICY, Role


def load_models(context: StageContext[Any], roles: Sequence[Role]) -> dict[str, Model]:
    """Loads the models of the roles, onto the recipe's device; a role that is a copy is not loaded.

    Returns:
        Name of the role → model.

    Raises:
        RecipeError: there is no such device.
        ModelError: a model cannot be loaded, or has other tokens than the stage's.
    """
    models: dict[str, Model] = {}
    for role in roles:
        if role.shares_base:
            models[role.name] = _share(context, role, models[POLICY])
        elif not role.is_copy:
            models[role.name] = load_trained(context, role) if role.trained else load_frozen(context, role)
    divided = [models[role.name] for role in roles if role.name in models and not role.has_own_tokens]
    return {**models, **_placed(context, models, divided)}


def _placed(context: StageContext[Any], models: Mapping[str, Model], divided: Sequence[Model]) -> dict[str, Model]:
    """Those of the models whose weights are divided among the processes of the run; a teacher stays whole on each.
    Several models may be over the same weights."""
    placements: dict[int, Placement] = {}
    for model in divided:
        if id(model.model) not in placements:
            placements[id(model.model)] = _divide(context, model)
    return {
        name: replace(model, placement=placements[id(model.model)])
        for name, model in models.items()
        if id(model.model) in placements
    }


def _divide(context: StageContext[Any], model: Model) -> Placement:
    """Divides a model's weights among the processes.

    Raises:
        ModelError: the model cannot be divided.
    """
    takes_columns = model.critic_head is None and not context.settings.compares_distributions
    divisible = replace(divisible_of(model, cut_head=takes_columns), cpu_offload=context.recipe.parallel.cpu_offload)
    placement = context.world.place(divisible)
    if placement.gathers and model.route is Route.UNPACKED:
        raise ModelError(
            given=f"parallel.shard, and {type(model.causal_lm).__name__}, which computes every sequence by itself",
            rule="processes that have the weights together compute equally often",
            remedy="set parallel.shard: 1 (every process has all weights), or use another model",
        )
    return placement


def _share(context: StageContext[Any], role: Role, policy: Model) -> Model:
    """A further adapter on the policy's base, which begins as the policy's, or as the adapter of the role's model.

    Raises:
        RecipeError: the policy has no adapter.
        ModelError: the role's model is no reward model with an adapter on the policy's base.
    """
    settings = context.recipe.adapter.settings
    if settings is None:
        raise RecipeError(
            given=f"adapter.kind: full, and a {role.name} that shares the base of the policy",
            rule="roles share frozen weights, and each has an adapter on them",
            remedy="set adapter.kind: lora",
        )
    head = _critic_head(policy) if role.is_critic else None
    model = replace(with_adapter(policy, role.name, settings, head), temperature=role.temperature)
    if role.model is None:
        copy_adapter(model)
    else:
        load_reward_adapter(model, context.resolve_model(role.model))
    return model


def load_trained(context: StageContext[TrainingSettings], role: Role) -> Model:
    """Loads a trained model with its adapter. A critic that begins as a reward model has the head of that model.

    Raises:
        RecipeError: there is no such device.
        ModelError: see `load_policy`; or it has another tokenizer than the policy.
    """
    recipe, stage = context.recipe, context.settings
    name = context.reader.model if role.model is None else context.resolve_model(role.model)
    has_own_head = role.is_critic and value_head_of_model(find_model(name)) is not None
    model = load_policy(
        name,
        adapter=recipe.adapter.settings,
        quantization=recipe.adapter.quantization,
        freeze=recipe.adapter.freeze,
        dtype=recipe.dtype,
        device=device_of(recipe),
        gradient_checkpointing=stage.gradient_checkpointing,
        add_tokens=stage.tokens_to_add,
        head_config=ValueHeadConfig() if has_own_head else role.value_head,
        vision=recipe.vision.settings,
    )
    if role.model is not None:
        _require_same_tokens(context, role, model)
    if role.is_critic and not has_own_head:
        model = _with_critic_head(model)
    return replace(model, temperature=role.temperature)


def _with_critic_head(model: Model) -> Model:
    """The model with a value head beside its output head, which then is not trained."""
    head = place_critic_head(_critic_head(model), model.causal_lm)
    output, embeddings = model.causal_lm.get_output_embeddings(), model.causal_lm.get_input_embeddings()
    if output.weight is not embeddings.weight:
        output.requires_grad_(False)
    return replace(model, critic_head=head)


def _critic_head(model: Model) -> nn.Linear:
    """A value head that predicts 0: drawn weights would add noise of the size of the rewards to all advantages."""
    head = new_value_head(model.causal_lm.config.get_text_config(decoder=True).hidden_size)
    nn.init.zeros_(head.weight)
    return head


def load_frozen(context: StageContext[Any], role: Role) -> Model:
    """Loads a frozen model, which scores the tokens of the stage.

    Raises:
        ModelError: it cannot be loaded, or has another tokenizer.
    """
    recipe, name = context.recipe, role.model or context.reader.model
    name = context.resolve_model(name)
    reference, device = find_model(name), device_of(recipe)
    if reference.kind == "adapter":
        with torch.random.fork_rng([device] if device.type == "cuda" else []):  # peft draws weights that it then reads
            model = policy_of(open_ref(reference, dtype=recipe.dtype, device=device))
    else:
        model = load_policy(
            name, dtype=recipe.dtype, device=device, head_config=role.value_head, vision=recipe.vision.settings
        )
    for parameter in model.model.parameters():
        parameter.requires_grad_(False)
    if not role.has_own_tokens:
        _require_same_tokens(context, role, model)
    return replace(model, temperature=role.temperature)


def _require_same_tokens(context: StageContext[Any], role: Role, model: Model) -> None:
    """Refuses a model with another tokenizer than the policy's. A critic, which sees tokens and predicts none, may have
    further ones, such as the padding of a reward model."""
    policy, own = context.reader.tokenizer.get_vocab(), model.tokenizer.get_vocab()
    if own == policy or (role.name == CRITIC and policy.items() <= own.items()):
        return
    key = "critic.model" if role.name == CRITIC else f"{role.name}_model"
    raise ModelError(
        given=f"{key}: {role.model}, whose tokenizer has other tokens than that of the policy",
        rule=f"the {role.name} scores the policy's own tokens",
        remedy=f"name a model with the same tokenizer, or remove {key}",
    )


def device_of(recipe: Recipe) -> torch.device:
    """The recipe's device.

    Raises:
        RecipeError: there is no such device.
    """
    if recipe.device == "cuda" and not torch.cuda.is_available():
        raise RecipeError(
            given="device: cuda",
            rule="torch sees no CUDA device on this machine",
            remedy="remove device, or check the driver and that torch was built for CUDA",
        )
    return default_device() if recipe.device == "auto" else torch.device(recipe.device)
