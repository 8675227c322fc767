"""Kinds of adapters: peft's methods that compute packed sequences as plain ones, and their options.

Imports no peft: `configs` has its classes. Tests decide which methods are in the table (docs/adapters.md): packed
equals plain in float64, the initial model is the base, the saved adapter loads in peft and can be continued. Methods
that fail are in `REFUSED`, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

AdapterKind = Literal[
    "lora",
    "vera",
    "randlora",
    "loha",
    "lokr",
    "ia3",
    "oft",
    "hra",
    "road",
    "miss",
    "delora",
    "gralora",
    "hira",
]


@dataclass(frozen=True, slots=True)
class Kind:
    """A method of peft."""

    paper: str
    """arXiv id."""
    options: Mapping[str, str]
    """Option of `AdapterSettings` → peft's name of it. Other options have no effect with this kind."""
    fixed: Mapping[str, object] = field(default_factory=dict)
    """Further options of peft's configuration."""
    learning_rate: float = 2e-4
    """Default peak learning rate: LoRA's; ten times that where only vectors train, whose few numbers have to change
    more."""

    def takes(self, option: str) -> bool:
        """Whether an option of `AdapterSettings` has an effect; targets, layers and modules_to_save always have one."""
        return option in self.options or option in ("kind", "targets", "layers", "modules_to_save")


_LORA = {
    "rank": "r",
    "alpha": "lora_alpha",
    "dropout": "lora_dropout",
    "rslora": "use_rslora",
    "dora": "use_dora",
    "rank_pattern": "rank_pattern",
    "alpha_pattern": "alpha_pattern",
    "init": "init_lora_weights",
    "target_experts": "target_parameters",
}
_PATTERNS = {"rank_pattern": "rank_pattern", "alpha_pattern": "alpha_pattern"}

KINDS: Mapping[AdapterKind, Kind] = {
    "lora": Kind("2106.09685", _LORA),
    "vera": Kind("2310.11454", {"rank": "r", "dropout": "vera_dropout"}, learning_rate=2e-3),
    "randlora": Kind(
        "2502.00987",
        {"rank": "r", "alpha": "randlora_alpha", "dropout": "randlora_dropout"},
    ),
    "loha": Kind("2108.06098", {"rank": "r", "alpha": "alpha", **_PATTERNS}),
    "lokr": Kind("2309.14859", {"rank": "r", "alpha": "alpha", **_PATTERNS}),
    "ia3": Kind("2205.05638", {}, learning_rate=2e-3),
    "oft": Kind("2306.07280", {"block_size": "oft_block_size"}, {"r": 0}),
    "hra": Kind("2405.17484", {"rank": "r"}),
    "road": Kind("2409.00119", {"block_size": "group_size"}),
    "miss": Kind("2409.15371", {"rank": "r", "dropout": "miss_dropout"}),
    "delora": Kind("2503.18225", {"rank": "r", "rank_pattern": "rank_pattern"}),
    "gralora": Kind("2505.20355", {"rank": "r", "alpha": "alpha", "dropout": "gralora_dropout"}),
    "hira": Kind("TwJrTz9cRS", {"rank": "r", "dropout": "hira_dropout", "rank_pattern": "rank_pattern"}),  # OpenReview
}
"""All kinds, with their options."""

assert set(KINDS) == set(get_args(AdapterKind)), "every kind has its entry"

_TOKENS = "adds virtual tokens before the prompt, which shift every position and are not part of a packed row"
REFUSED: Mapping[str, str] = {
    "prompt_tuning": _TOKENS,
    "multitask_prompt_tuning": _TOKENS,
    "p_tuning": _TOKENS,
    "prefix_tuning": _TOKENS,
    "cpt": _TOKENS,
    "cartridge": _TOKENS,
    "adaption_prompt": "replaces the model's attention by its own, which does not support packed rows",
    "adalora": "prunes ranks by a schedule of its own between backward and step, which checkpoints would have to hold",
    "psoft": "changes the base's weights at initialization, and refuses float64, so its laws cannot be tested",
    "fourierft": "does not start as the base (its spectrum is drawn at random)",
    "vblora": "does not start as the base (its vector bank is drawn at random)",
    "boft": "compiles a CUDA extension at first use, and continues slowly if it cannot",
    "shira": "uses sparse tensors, which torch 2.13 warns that it does not check",
    "c3a": "does not start as the base, and its convolution is float32 whatever the model's type",
    "xlora": "mixes adapters by a second forward of each batch, which packed training does not make",
    "poly": "needs the task of every row as a forward argument",
}
"""Unsupported methods of peft, and the reasons."""
