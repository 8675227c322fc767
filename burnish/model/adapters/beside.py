"""A further adapter on the base of a policy: a critic, say, whose frozen weights are the policy's.

The base is loaded once, and each role trains its own adapter (`switch`) with its own optimizer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from peft import LoraConfig, PeftConfig, PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel

from burnish.errors import ModelError
from burnish.model.adapters.add import peft_config, quiet_peft
from burnish.model.adapters.configs import kind_of
from burnish.model.adapters.initial import ADAPTER
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.adapters.stored import WEIGHTS
from burnish.model.adapters.switch import recompute_with_active_adapters
from burnish.model.attention import plain_attention
from burnish.model.policy import Model
from burnish.model.value_head import NAME, place_critic_head

ROWS = "trainable_tokens_delta"
"""peft's name of separately trained rows of an embedding."""


def with_adapter(policy: Model, name: str, settings: AdapterSettings, critic_head: nn.Linear | None = None) -> Model:
    """A model over the base of a policy, with a new adapter of its own; the policy stays as it is.

    Rows of added tokens train in the new adapter too if they do in the policy's. The initial model is the base.

    Args:
        policy: has an adapter.
        name: the new adapter's name, by which nothing else in the model is called.
        settings: the new adapter, of the kind of the policy's.
        critic_head: a value head [1, H] that trains with the adapter; None: the model gives what its base gives. See
            `value_head.new_value_head`.

    Raises:
        ModelError: the policy has no adapter, or one of another kind; or the settings do not fit the model.
    """
    if not isinstance(policy.model, PeftModel):
        raise ModelError(
            given=f"an adapter {name} beside a policy that trains all its weights",
            rule="roles share a base that is frozen, and each has its adapter",
            remedy="give the policy an adapter (adapter.kind=lora), or load another model for the other role",
        )
    model = policy.model
    modules = {part for module, _ in model.named_modules() for part in module.split(".")}
    assert name not in modules, f"an adapter is not called as a module of the model: {name}"
    _check_kind(model, name, settings)
    config = peft_config(_skeleton(policy.causal_lm), settings, _new_rows(model))
    _check_ends(model, name, config)
    try:
        with quiet_peft():
            model.add_adapter(name, config)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise ModelError(
            given=f"an adapter {name} beside the policy's: {' '.join(str(error).split())[:300]}",
            rule="peft can add the adapter to the layers that targets name",
            remedy="change its targets, or the option in the message",
        ) from error
    model.set_requires_grad(name)  # peft leaves an adapter that is not active frozen
    model.train(model.training)
    recompute_with_active_adapters(model)
    if critic_head is not None:
        place_critic_head(critic_head, policy.causal_lm)
    return replace(policy, adapter=name, critic_head=critic_head, notes=())


@torch.no_grad()
def copy_adapter(model: Model) -> None:
    """Copies the weights of the policy's adapter into a further one on its base, which `with_adapter` made."""
    assert model.adapter is not None, "a further adapter has a name"
    parameters = dict(model.model.named_parameters())
    own = {name for name, _ in model.trained_parameters()} & parameters.keys()
    for name in own:
        parameters[name].copy_(parameters[_renamed(name, model.adapter, ADAPTER)])


@torch.no_grad()
def load_reward_adapter(model: Model, folder: str) -> None:
    """Reads the adapter and the value head of a reward model into a further adapter on the policy's base, which
    `with_adapter` made with a critic head.

    Args:
        model: the further adapter.
        folder: folder of the reward model's adapter.

    Raises:
        ModelError: it is no reward model with one output, or its adapter is not of the same layers.
    """
    assert model.adapter is not None and model.critic_head is not None, "a critic has an adapter and a head"
    path = Path(folder).expanduser() / WEIGHTS
    if not path.is_file():
        raise _not_a_reward_adapter(folder, "which has no adapter")
    stored = load_file(path)
    head = {name: stored.pop(name) for name in list(stored) if name.rsplit(".", 2)[-2] == NAME}
    weights = {name.rpartition(".")[2]: tensor for name, tensor in head.items()}
    if weights.keys() != {"weight"} or weights["weight"].shape != model.critic_head.weight.shape:
        raise _not_a_reward_adapter(folder, "which is no reward model with one number for a response")
    model.critic_head.weight.copy_(weights["weight"])
    own = {name for name, _ in model.trained_parameters()} & dict(model.model.named_parameters()).keys()
    if not any(ROWS in name for name in own):  # rows of padding, which a critic never sees
        stored = {name: tensor for name, tensor in stored.items() if ROWS not in name}
    with quiet_peft():
        result = set_peft_model_state_dict(model.model, stored, adapter_name=model.adapter)
    if result.unexpected_keys or len(stored) != len(own):
        raise _not_a_reward_adapter(folder, "whose adapter is of other layers")


def _not_a_reward_adapter(folder: str, reason: str) -> ModelError:
    return ModelError(
        given=f"critic.model: {folder}, {reason}",
        rule="a critic on the policy's base begins as an adapter of the same layers with a value head of one output",
        remedy="name a stage reward of the same recipe, or critic.model: policy",
    )


def _renamed(name: str, adapter: str, other: str) -> str:
    """Name of the parameter of another adapter."""
    return ".".join(other if part == adapter else part for part in name.split("."))


def _check_kind(model: PeftModel, name: str, settings: AdapterSettings) -> None:
    first = kind_of(model.peft_config[ADAPTER])
    if settings.kind != first:
        raise ModelError(
            given=f"an adapter {name} of the kind {settings.kind} beside one of the kind {first}",
            rule="peft computes adapters of one kind on a base",
            remedy="give both the same kind",
        )
    if settings.init in ("pissa", "olora"):
        raise ModelError(
            given=f"an adapter {name} with init: {settings.init} beside the policy's",
            rule="a role beside the policy begins as the base, with a plain LoRA",
            remedy="remove init",
        )


def _check_ends(model: PeftModel, name: str, config: PeftConfig) -> None:
    """Checks that the adapters agree about embedding and head."""
    others = list(model.peft_config.values())
    if _trains_tied_end(config) and any(_trains_tied_end(other) for other in others):
        raise ModelError(
            given=f"an adapter {name} that trains the embedding, which is the head too, as another adapter does",
            rule="peft keeps embedding and head tied in one adapter of a base",
            remedy="leave the embedding out of modules_to_save of one of them",
        )
    rows = {layer for other in others for layer in _row_layers(other)}
    if both := sorted(rows & set(config.modules_to_save or ())):
        raise ModelError(
            given=f"an adapter {name} that trains {both[0]} whole, of which the policy's trains rows of added tokens",
            rule="a layer trains whole, or rows of it, in all adapters of a base",
            remedy=f"leave {both[0].rpartition('.')[2]} out of modules_to_save",
        )


def _trains_tied_end(config: PeftConfig) -> bool:
    """Whether the adapter trains an embedding whole that is the head too, as only LoRA can."""
    return isinstance(config, LoraConfig) and config.ensure_weight_tying


def _skeleton(model: PreTrainedModel) -> PreTrainedModel:
    """The same modules without weights and adapters: peft's names are those of the plain model."""
    with torch.device("meta"), plain_attention(model):  # some constructors look up their attention function
        return type(model)(model.config)


def _new_rows(model: PeftModel) -> list[int]:
    """Rows of added tokens that the first adapter trains."""
    return sorted({row for rows in _row_layers(model.peft_config[ADAPTER]).values() for row in rows})


def _row_layers(config: PeftConfig) -> Mapping[str, Sequence[int]]:
    """Name of the layer → its rows that train separately; only LoRA has any."""
    return (config.trainable_token_indices or {}) if isinstance(config, LoraConfig) else {}
