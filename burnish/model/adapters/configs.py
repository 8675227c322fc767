"""peft's configuration class for each kind of adapter; `kinds` has their options."""

from __future__ import annotations

from collections.abc import Mapping

import peft
from peft import PeftConfig

from burnish.model.adapters.kinds import KINDS, AdapterKind

CONFIGS: Mapping[AdapterKind, type[PeftConfig]] = {
    "lora": peft.LoraConfig,
    "vera": peft.VeraConfig,
    "randlora": peft.RandLoraConfig,
    "loha": peft.LoHaConfig,
    "lokr": peft.LoKrConfig,
    "ia3": peft.IA3Config,
    "oft": peft.OFTConfig,
    "hra": peft.HRAConfig,
    "road": peft.RoadConfig,
    "miss": peft.MissConfig,
    "delora": peft.DeloraConfig,
    "gralora": peft.GraloraConfig,
    "hira": peft.HiraConfig,
}

assert set(CONFIGS) == set(KINDS), "every kind has its class"


def kind_of(config: PeftConfig) -> AdapterKind | None:
    """The kind of a stored adapter; None: not supported."""
    return next((name for name, kind in CONFIGS.items() if type(config) is kind), None)
