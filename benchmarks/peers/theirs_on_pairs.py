"""TRL's DPOTrainer as a contender: pairs are tokens already, and steps are as long as Burnish's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from peers.cases import Case, Contender
from peers.meter import Meter
from peers.pair_cases import BETA, LEARNING_RATE
from peers.theirs import Ears, adapter_of, same_training


class Listening(Ears):
    """Hears the log-probabilities of chosen answers too."""

    def __init__(self, meter: Meter) -> None:
        super().__init__(meter)
        self.chosen: list[float] = []

    def on_log(self, arguments: Any, state: Any, control: Any, logs: dict[str, Any], **others: Any) -> None:
        super().on_log(arguments, state, control, logs, **others)
        if "logps/chosen" in logs:
            self.chosen.append(float(logs["logps/chosen"]))


class GivenTokens(DPOTrainer):
    """DPOTrainer for rows that are tokens already, which it would otherwise make again from text."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


def train(case: Case, contender: Contender, model: Path, rows: Path, output: Path) -> dict[str, Any]:
    """One epoch over the pairs; returns the meter's figures, and the mean log-probability of chosen by step.

    The meter begins when the weights are loaded, before the trainer loads a second model or asks it.
    """
    pairs = datasets.load_dataset(
        "json", data_files=str(rows.with_suffix(".tokens")), split="train", cache_dir=str(output / "datasets")
    )
    meter, weights = Meter(), AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    settings = {
        **same_training(output, case.rows_per_step, contender, LEARNING_RATE),
        "train_sampling_strategy": "sequential",
        "beta": BETA,
    }
    ears = Listening(meter)
    meter.loaded(weights)
    trainer = GivenTokens(
        weights,
        args=DPOConfig(**(settings | contender.settings)),
        train_dataset=pairs,
        processing_class=AutoTokenizer.from_pretrained(model),
        callbacks=[ears],
        peft_config=adapter_of(case),
    )
    trainer.train()
    return {**meter.figures(), "chosen": ears.chosen}
