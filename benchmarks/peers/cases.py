"""Cases of the comparison: models, rows, adapters, and the settings of every contender."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

DataName = Literal[
    "gsm8k", "mixture", "random", "hh", "long", "prompts", "shapes", "shapes-preferences", "shapes-counting"
]
AdapterKind = Literal["full", "lora", "qlora"]
PairLoss = Literal["dpo", "kto"]

SIZES: dict[str, dict[str, int]] = {
    "1M": {"hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 4, "vocab_size": 2048},
    "15M": {"hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 6, "vocab_size": 32000},
    "100M": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "vocab_size": 32000},
}
"""Llamas with heads of 48 to 64. 1M is the smallest useful size, with a smaller vocabulary."""
HEADS = {"1M": 2, "15M": 6, "100M": 12}
ROWS_PER_STEP = {"1M": 32, "15M": 16, "100M": 8}
POSITIONS = 8192
SHORTEST, LONGEST = 30, 600
"""Tokens of a row, for both sets of rows."""
LEARNING_RATE = 1e-3
"""For random weights, so that the losses that are compared move."""
RANK, ALPHA = 16, 32.0
ENVIRONMENT = {
    # Every allocation is offered huge pages: without them, a fresh tensor costs a page fault for every 4 KiB, and
    # times of all contenders vary by a third. The same for all.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison, which all contenders train."""

    size: str
    data: DataName
    adapter: AdapterKind = "full"
    per_step: int | None = None
    """Rows of a step; None: the default of the size."""
    loss: PairLoss = "dpo"
    """Loss of pairs."""

    @property
    def name(self) -> str:
        return f"{self.size}-{self.data}-{self.adapter}" + ("" if self.loss == "dpo" else f"-{self.loss}")

    @property
    def rows_per_step(self) -> int:
        return self.per_step or ROWS_PER_STEP[self.size]


@dataclass(frozen=True, slots=True)
class Contender:
    """Library with its settings."""

    name: str
    library: Literal["burnish", "trl"]
    batch: int = 8
    """Rows of TRL's forward (per_device_train_batch_size); accumulated to the rows of a step."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of SFTConfig, or of the recipe."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        return cls(**values)

    @property
    def narrow(self) -> bool:
        """Whether it computes in bfloat16, TRL's default; contenders are compared within the same type."""
        by_default = self.library == "trl"
        return self.settings.get("dtype") == "bfloat16" or bool(self.settings.get("bf16", by_default))


FLOAT32 = {"bf16": False, "gradient_checkpointing": False}
PADDING_FREE = {**FLOAT32, "padding_free": True, "max_length": None}
BFLOAT16 = {**PADDING_FREE, "bf16": True}
BURNISH = Contender("burnish", "burnish")
BURNISH_BFLOAT16 = Contender("burnish, bfloat16", "burnish", settings={"dtype": "bfloat16"})
"""Weights and activations in bfloat16, float32 master weights in the optimizer."""
DEFAULTS = Contender("TRL, defaults", "trl")
"""bfloat16 autocast, gradient checkpointing, batches of 8 padded rows."""
PLAIN = Contender("TRL, float32", "trl", 8, FLOAT32)
"""Neither bfloat16 nor checkpointing, otherwise its defaults."""
SEARCHED = (
    *(Contender(f"TRL, padding-free, {n}", "trl", n, PADDING_FREE) for n in (1, 2, 4, 8)),
    *(Contender(f"TRL, padded, {n}", "trl", n, FLOAT32) for n in (1, 4)),
    Contender("TRL, padded, 8, rebalanced", "trl", 8, {**FLOAT32, "train_sampling_strategy": "batch_rebalance"}),
    Contender("TRL, packed by bfd to 1 024", "trl", 1, {**FLOAT32, "packing": True, "max_length": 1024}),
    *(Contender(f"TRL, padding-free, {n}, bfloat16", "trl", n, BFLOAT16) for n in (2, 4, 8)),
)
"""Candidates for TRL's best setting, searched once per size: the fastest in float32 and in bfloat16 take part. TRL
1.16 computes its loss in chunks by default; Liger's kernels are Triton's, which has no CPU. Packing trains other rows
in a step, so its losses cannot be compared."""
CASES = (
    *(Case(size, data) for size in SIZES for data in ("gsm8k", "mixture")),
    *(Case(size, "mixture", adapter) for size in ("15M", "100M") for adapter in ("lora", "qlora")),
)
