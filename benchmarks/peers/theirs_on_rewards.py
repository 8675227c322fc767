"""TRL's RewardTrainer as a contender: pairs are tokens, and steps are as long as Burnish's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer

from peers.cases import Case, Contender
from peers.meter import Meter
from peers.reward_cases import LEARNING_RATE
from peers.theirs import MeterCallback, same_training


class RewardMeterCallback(MeterCallback):
    """Collects mean rewards too."""

    def __init__(self, meter: Meter) -> None:
        super().__init__(meter)
        self.rewards: list[float] = []

    def on_log(self, arguments: Any, state: Any, control: Any, logs: dict[str, Any], **others: Any) -> None:
        super().on_log(arguments, state, control, logs, **others)
        if "mean_reward" in logs:
            self.rewards.append(float(logs["mean_reward"]))


def train(case: Case, contender: Contender, model: Path, rows: Path, output: Path) -> dict[str, Any]:
    """One epoch over the pairs; returns the measurements, and the mean reward by step."""
    pairs = datasets.load_dataset(
        "json", data_files=str(rows.with_suffix(".tokens")), split="train", cache_dir=str(output / "datasets")
    )
    meter = Meter()
    weights = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32)
    settings = {
        **same_training(output, case.rows_per_step, contender, LEARNING_RATE),
        "train_sampling_strategy": "sequential",
    }
    callback = RewardMeterCallback(meter)
    meter.loaded(weights)
    trainer = RewardTrainer(
        weights,
        args=RewardConfig(**(settings | contender.settings)),
        train_dataset=pairs.map(_whole, remove_columns="prompt_ids"),
        processing_class=AutoTokenizer.from_pretrained(model),
        callbacks=[callback],
    )
    trainer.train()
    return {**meter.figures(), "chosen": callback.rewards}


def _whole(pair: dict[str, list[int]]) -> dict[str, list[int]]:
    """Prompts with their responses, as RewardTrainer's collator expects them."""
    return {name: pair["prompt_ids"] + pair[name] for name in ("chosen_ids", "rejected_ids")}
