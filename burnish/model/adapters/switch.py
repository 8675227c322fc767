"""Active adapters of a model: several adapters on one base, of which a forward uses some.

Roles such as policy and critic share a base and have an adapter each. peft's own `set_adapter` freezes the adapters
that it switches off; here no `requires_grad` changes, so that each role has its optimizer and trains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import TracebackType
from typing import TypeAlias

from peft import PeftModel
from peft.tuners.trainable_tokens import TrainableTokensLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper, TrainableTokensWrapper
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from burnish.model.adapters.initial import ADAPTER, INITIAL

_Layer: TypeAlias = BaseTunerLayer | AuxiliaryTrainingWrapper
"""Layer with weights of each adapter."""


class ActiveAdapters(AbstractContextManager[None]):
    """Context manager that makes some adapters of a model active, and restores what was active.

    It may be nested, and entered again. Example: ``with ActiveAdapters(model, ("critic",)): model(…)``.
    """

    def __init__(self, model: PeftModel, names: Sequence[str]) -> None:
        """
        Args:
            model: has the adapters.
            names: the adapters whose sum is active; (): the base alone.
        """
        unknown = set(names) - set(model.peft_config)
        assert not unknown, f"the model has the adapters {', '.join(model.peft_config)}, not {', '.join(unknown)}"
        self._model, self._names = model, tuple(names)
        self._before: list[tuple[object, list[tuple[_Layer, object]]]] = []

    def __enter__(self) -> None:
        tuner = self._model.base_model
        if tuple(tuner.active_adapters) == self._names:
            self._before.append((tuner.active_adapter, []))
            return
        layers = list(_layers(self._model))
        self._before.append((tuner.active_adapter, [(layer, layer.active_adapter) for layer in layers]))
        for layer in layers:
            _activate(layer, _known(layer, self._names))
        tuner.active_adapter = list(self._names)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._model.base_model.active_adapter, layers = self._before.pop()
        for layer, names in layers:
            _activate(layer, names)


def active_with(model: PeftModel, name: str) -> tuple[str, ...]:
    """The adapters that are active where one is: PiSSA's and OLoRA's also needs its initial factors."""
    return (name, INITIAL) if name == ADAPTER and INITIAL in model.peft_config else (name,)


def adapter_parameters(model: PeftModel, names: Sequence[str]) -> Iterator[nn.Parameter]:
    """The parameters of some adapters, with modules that train whole and rows of added tokens."""
    for layer in _layers(model):
        for part in layer.adapter_layer_names:
            weights = layer.get_submodule(part)
            for name in names:
                if name in weights:
                    yield from (
                        (weights[name],) if isinstance(weights[name], nn.Parameter) else weights[name].parameters()
                    )


def recompute_with_active_adapters(model: PeftModel) -> None:
    """Makes activation checkpointing compute a layer again with the adapters that were active in its forward, since
    the backward may run with others."""

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), ActiveAdapters(model, model.base_model.active_adapters)

    for module in model.modules():
        if "_gradient_checkpointing_func" in vars(module):  # transformers sets it where checkpointing is on
            function = vars(module)["_gradient_checkpointing_func"]
            module._gradient_checkpointing_func = partial(function, context_fn=contexts)


def _layers(model: PeftModel) -> Iterator[_Layer]:
    return (module for module in model.modules() if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper))


def _known(layer: _Layer, names: Sequence[str]) -> list[str]:
    """The adapters among these that the layer takes as active: tuner layers ignore unknown ones, others cannot."""
    weights = _alternatives(layer)
    known = [name for name in names if weights is None or name in weights]
    assert weights is None or len(known) <= 1, f"a module that trains whole has one active adapter, not {known}"
    return known


def _alternatives(layer: _Layer) -> nn.ModuleDict | nn.ParameterDict | None:
    """Weights by adapter of a layer that takes one at a time; None: a tuner layer, which adds several."""
    if isinstance(layer, ModulesToSaveWrapper):
        return layer.modules_to_save
    if isinstance(layer, TrainableTokensWrapper):
        return layer.token_adapter.trainable_tokens_delta
    return layer.trainable_tokens_delta if isinstance(layer, TrainableTokensLayer) else None


def _activate(layer: _Layer, names: object) -> None:
    # peft has no function for this that leaves requires_grad as it is.
    layer._active_adapter = names
