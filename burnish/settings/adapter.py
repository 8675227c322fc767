"""What a user may say of the weights that learn. Under `recipe`, which has one such answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from burnish.config.settings import Settings
from burnish.model.adapters.kinds import KINDS, AdapterKind
from burnish.model.adapters.settings import AdapterSettings, Init
from burnish.model.settings import EXCEPT, Quantization
from burnish.settings.numbers import Positive

Above = Annotated[float, Field(gt=0)]
Names = Annotated[tuple[str, ...], Field(strict=False)]

_QUANTIZATION = ("bits", "quant_type", "double_quantization", "int8_threshold")
_LORA_ALONE = ("loraplus_ratio",)


class Adapter(Settings):
    """Which weights learn (docs/adapters.md)."""

    kind: Literal["full", "qlora", AdapterKind] = "full"
    """full: all weights. lora: small matrices beside frozen weights (arXiv 2106.09685). qlora: the same beside 4-bit
    or 8-bit weights (arXiv 2305.14314; needs the extra `quant`). The others are methods of peft."""
    rank: Positive = 16
    """LoRA's inner width."""
    alpha: Above = 32.0
    """LoRA's scale is alpha / rank."""
    rslora: bool = False
    """The scale is alpha / √rank (arXiv 2312.03732): with it, a larger rank learns as fast."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """On the adapter's input. Above 0, a step depends on how it is split into microbatches."""
    targets: str | Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = "all-linear"
    """Adapted layers: all-linear (without the head), attention, mlp; a pattern (a regular expression that is found in
    their full names); or a list of the last parts of their names."""
    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False, min_length=1)] | None = None
    """Numbers of the adapted decoder layers, from 0; null: all."""
    modules_to_save: Names = ()
    """Modules that train whole beside the adapter, by the last parts of their names: [embed_tokens], [norm]."""
    target_experts: bool = False
    """Adapts also the tensors in which a layer's experts are stored (Mixtral, Qwen MoE, gpt-oss)."""
    dora: bool = False
    """Trains the length of each row of the weights apart from its direction (arXiv 2402.09353)."""
    init: Init = "zero"
    """How LoRA's matrices begin: zero and gaussian differ in A alone; pissa (arXiv 2404.02948) and olora (2406.01775)
    begin with a part of the weights."""
    rank_pattern: dict[str, Positive] = Field(default_factory=dict)
    """Other ranks by name or pattern: {down_proj: 32}."""
    alpha_pattern: dict[str, Above] = Field(default_factory=dict)
    """Other alphas by name or pattern."""
    loraplus_ratio: Above = 1.0
    """LoRA's B learns so many times as fast as A (LoRA+, arXiv 2402.12354, which finds about 16 good)."""
    block_size: Positive = 8
    """Of the rotations of oft and road."""
    bits: Literal[4, 8] = 4
    """Of qlora's base."""
    quant_type: Literal["nf4", "fp4"] = "nf4"
    """The values of 4-bit weights."""
    double_quantization: bool = True
    """The scales of 4-bit weights are quantised too: 4.13 instead of 4.5 bits a weight."""
    int8_threshold: Annotated[float, Field(ge=0)] = 0.0
    """Of 8-bit weights: inputs above it keep 16 bits (arXiv 2208.07339; 6 there, for models above 6 B); 0: none do.
    Above 0, a step depends on how it is split into microbatches."""
    freeze: Names = ()
    """Of kind: full, weights that do not train: patterns that are found in their names, such as [embed_tokens,
    'layers\\.[0-3]\\.']; a pattern after ! trains after all, and later ones count more."""

    @property
    def method(self) -> AdapterKind:
        """The kind without what is said of its base."""
        assert self.kind != "full", "all weights learn: there is no adapter"
        return "lora" if self.kind == "qlora" else self.kind

    @property
    def settings(self) -> AdapterSettings | None:
        """The adapter; None: all weights learn."""
        if self.kind == "full":
            return None
        shared = {name: value for name, value in self if name in AdapterSettings.__slots__ and name != "kind"}
        return AdapterSettings(kind=self.method, **shared)

    @property
    def quantisation(self) -> Quantization | None:
        """How the base is stored; None: as plain numbers."""
        if self.kind != "qlora":
            return None
        return Quantization(self.bits, self.quant_type, self.double_quantization, self.int8_threshold)

    def _has_effect(self, option: str) -> bool:
        if option in _QUANTIZATION:
            return self.kind == "qlora"
        if option == "freeze" or self.kind == "full":
            return self.kind == "full" and option in ("kind", "freeze")
        if option in _LORA_ALONE:
            return self.method == "lora"
        return KINDS[self.method].takes(option)

    @model_validator(mode="after")
    def _options_belong_to_the_kind(self) -> Adapter:
        for name, value in self:
            if value == type(self).model_fields[name].get_default(call_default_factory=True) or self._has_effect(name):
                continue
            others = [
                kind for kind in ("full", "lora", "qlora", *KINDS) if self.model_construct(kind=kind)._has_effect(name)
            ]
            raise ValueError(
                f"adapter.{name} has no effect with adapter.kind: {self.kind}; "
                f"set adapter.kind: {' or '.join(dict.fromkeys(others))}, or remove it"
            )
        return self

    @model_validator(mode="after")
    def _options_go_together(self) -> Adapter:
        for impossible, reason in self._impossible():
            if impossible:
                raise ValueError(reason)
        return self

    def _impossible(self) -> Iterator[tuple[bool, str]]:
        begins = self.init in ("pissa", "olora")
        yield (
            begins and self.kind == "qlora",
            f"adapter.init: {self.init} takes a part out of the weights before they are quantised, and here the base "
            "is quantised as it is; remove adapter.init, or set adapter.kind: lora",
        )
        yield (
            begins and self.dora,
            f"adapter.dora scales the weights that adapter.init: {self.init} takes apart; choose one of the two",
        )
        yield (
            begins and self.target_experts,
            f"adapter.init: {self.init} begins with a part of one matrix, and experts are many in one",
        )
        yield (
            self.dora and self.target_experts,
            "adapter.dora does not work on experts' tensors (peft); choose one of the two",
        )
        yield (
            self.target_experts and self.dropout > 0,
            "experts' weights and adapters are added before they meet an input, so adapter.dropout must be 0",
        )
        yield (
            self.target_experts and self.kind == "qlora",
            "bitsandbytes quantises linear layers, and no experts that are stored in one tensor; set adapter.kind: "
            "lora",
        )
        yield (
            self.bits == 8 and self.dora,
            "adapter.dora loses the scales of 8-bit weights (peft 0.21, on a CPU); set adapter.bits: 4, or choose one "
            "of the two",
        )
        yield self.bits == 8 and self.quant_type != "nf4", "adapter.quant_type has no effect with adapter.bits: 8"
        yield (
            self.bits == 8 and not self.double_quantization,
            "adapter.double_quantization has no effect with adapter.bits: 8",
        )
        yield self.bits == 4 and self.int8_threshold > 0, "adapter.int8_threshold has no effect with adapter.bits: 4"
        for name, patterns in (
            ("targets", [self.targets]),
            ("freeze", [each.removeprefix(EXCEPT) for each in self.freeze]),
        ):
            for pattern in patterns:
                yield not _is_expression(pattern), f"adapter.{name}: {pattern} is no regular expression"


def _is_expression(pattern: object) -> bool:
    if not isinstance(pattern, str):
        return True
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True
