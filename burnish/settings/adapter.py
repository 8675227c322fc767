"""Settings of the trained weights: full fine-tuning, LoRA and other adapters, quantization. A recipe has one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from burnish.config.settings import Settings
from burnish.model.adapters.kinds import KINDS, AdapterKind
from burnish.model.adapters.settings import AdapterSettings, Init
from burnish.model.settings import EXCEPT, Quantization
from burnish.settings.aliases import named_here
from burnish.settings.numbers import Positive
from burnish.settings.other_names import ADAPTERS

Above = Annotated[float, Field(gt=0)]
Names = Annotated[tuple[str, ...], Field(strict=False)]

_QUANTIZATION = ("bits", "quant_type", "double_quantization", "int8_threshold")
_LORA_ALONE = ("loraplus_ratio",)


class Adapter(Settings):
    """Trained weights: all of them, or an adapter (docs/adapters.md)."""

    kind: Annotated[Literal["full", "qlora", AdapterKind], BeforeValidator(named_here(ADAPTERS))] = "full"
    """Adapter: full (none: all weights are trained), lora (low-rank matrices on frozen weights, arXiv 2106.09685),
    qlora (LoRA on 4-bit or 8-bit weights, arXiv 2305.14314; needs the extra `quant`), or another method of peft."""
    rank: Positive = 16
    """Rank of LoRA's matrices."""
    alpha: Above = 32.0
    """LoRA's output is scaled by alpha / rank."""
    rslora: bool = False
    """Scales LoRA's output by alpha / √rank instead (arXiv 2312.03732), so that larger ranks learn as fast."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout probability on the adapter's input; above 0, a step depends on its split into microbatches."""
    targets: str | Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = "all-linear"
    """Adapted layers: all-linear (without the head), attention, mlp; a regular expression that is searched in their
    full names; or a list of the last parts of their names."""
    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False, min_length=1)] | None = None
    """Indices of the adapted decoder layers, from 0; null: all layers."""
    modules_to_save: Names = ()
    """Modules that are fully trained and saved with the adapter, by the last parts of their names: [embed_tokens],
    [norm]."""
    target_experts: bool = False
    """Also adapts the tensors that store a layer's experts (Mixtral, Qwen MoE, gpt-oss)."""
    dora: bool = False
    """Weight-decomposed LoRA: trains the norm of each row of the weights separately from its direction (arXiv
    2402.09353)."""
    init: Init = "zero"
    """Initialization of LoRA's matrices: zero and gaussian differ in A alone; pissa (arXiv 2404.02948) and olora
    (2406.01775) start from a factorization of the weights."""
    rank_pattern: dict[str, Positive] = Field(default_factory=dict)
    """Ranks that differ from `rank`, by layer name or pattern: {down_proj: 32}."""
    alpha_pattern: dict[str, Above] = Field(default_factory=dict)
    """Alphas that differ from `alpha`, by layer name or pattern: {down_proj: 64}."""
    loraplus_ratio: Above = 1.0
    """Learning rate of LoRA's B divided by that of A (LoRA+, arXiv 2402.12354, which recommends about 16)."""
    block_size: Positive = 8
    """Block size of the rotations of oft and road."""
    bits: Literal[4, 8] = 4
    """Bits per weight of qlora's base model."""
    quant_type: Literal["nf4", "fp4"] = "nf4"
    """Data type of 4-bit weights: nf4 or fp4."""
    double_quantization: bool = True
    """Also quantizes the scales of 4-bit weights: 4.13 instead of 4.5 bits per weight."""
    int8_threshold: Annotated[float, Field(ge=0)] = 0.0
    """With 8-bit weights, inputs above this threshold are computed in 16 bits (arXiv 2208.07339: 6, for models above
    6 B parameters); 0: none are. Above 0, a step depends on its split into microbatches."""
    freeze: Names = ()
    """With kind: full, regular expressions that are searched in the names of weights, such as [embed_tokens,
    'layers\\.[0-3]\\.']: weights that match are not trained. A pattern after ! makes them trainable again; the last
    match decides."""

    @property
    def method(self) -> AdapterKind:
        """The adapter's kind without the quantization of its base: lora for qlora."""
        assert self.kind != "full", "all weights learn: there is no adapter"
        return "lora" if self.kind == "qlora" else self.kind

    @property
    def settings(self) -> AdapterSettings | None:
        """The adapter's settings; None: all weights are trained."""
        if self.kind == "full":
            return None
        shared = {name: value for name, value in self if name in AdapterSettings.__slots__ and name != "kind"}
        return AdapterSettings(kind=self.method, **shared)

    @property
    def quantization(self) -> Quantization | None:
        """Quantization of the base model; None: it is not quantized."""
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
        factorizes = self.init in ("pissa", "olora")
        yield (
            factorizes and self.kind == "qlora",
            f"adapter.init: {self.init} takes a part out of the weights before they are quantized, and here the base "
            "is quantized as it is; remove adapter.init, or set adapter.kind: lora",
        )
        yield (
            factorizes and self.dora,
            f"adapter.dora scales the weights that adapter.init: {self.init} takes apart; choose one of the two",
        )
        yield (
            factorizes and self.target_experts,
            f"adapter.init: {self.init} factorizes one matrix, and a layer's experts are many matrices in one tensor",
        )
        yield (
            factorizes and self.dropout > 0,
            f"adapter.init: {self.init} subtracts the product of its initial factors, where adapter.dropout would drop "
            "other inputs than in the product of the trained ones: the model would not begin as the base; remove "
            "adapter.dropout, or adapter.init",
        )
        yield (
            self.dora and self.target_experts,
            "adapter.dora does not work on experts' tensors (peft); choose one of the two",
        )
        yield (
            self.target_experts and self.dropout > 0,
            "the adapters of experts are added to the weights before the input is multiplied, so adapter.dropout must "
            "be 0",
        )
        yield (
            self.target_experts and self.kind == "qlora",
            "bitsandbytes quantizes linear layers, and no experts that are stored in one tensor; set adapter.kind: "
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
            ("freeze", [pattern.removeprefix(EXCEPT) for pattern in self.freeze]),
        ):
            for pattern in patterns:
                yield not _is_expression(pattern), f"adapter.{name}: {pattern} is not a regular expression"


def _is_expression(pattern: object) -> bool:
    if not isinstance(pattern, str):
        return True
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True
