"""TRL's DPOTrainer and KTOTrainer as contenders: pairs are tokens, and steps are as long as Burnish's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from peers.cases import Case, Contender
from peers.meter import Meter
from peers.pair_cases import BETA, LEARNING_RATE
from peers.theirs import MeterCallback, adapter_of, same_training

KINDS = ("chosen", "rejected")


class PairMeterCallback(MeterCallback):
    """Collects log-probabilities of chosen responses too."""

    def __init__(self, meter: Meter) -> None:
        super().__init__(meter)
        self.chosen: list[float] = []

    def on_log(self, arguments: Any, state: Any, control: Any, logs: dict[str, Any], **others: Any) -> None:
        super().on_log(arguments, state, control, logs, **others)
        if "logps/chosen" in logs:
            self.chosen.append(float(logs["logps/chosen"]))


class GivenTokens:
    """Trainer whose rows are tokens already; prevents it from tokenizing text."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


class GivenPairs(GivenTokens, DPOTrainer):
    """DPO."""


class GivenLabels(GivenTokens, KTOTrainer):
    """KTO."""


def train(case: Case, contender: Contender, model: Path, rows: Path, output: Path) -> dict[str, Any]:
    """One epoch over the pairs; returns the measurements, and the mean log-probability of chosen by step.

    The measurement begins when the weights are loaded, before the trainer loads or computes a second model.
    """
    pairs = datasets.load_dataset(
        "json", data_files=str(rows.with_suffix(".tokens")), split="train", cache_dir=str(output / "datasets")
    )
    meter, weights = Meter(), AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    has_labels = case.loss == "kto"
    per_step = case.rows_per_step * (2 if has_labels else 1)
    settings = {
        **same_training(output, per_step, contender, LEARNING_RATE),
        "train_sampling_strategy": "sequential",
        "beta": BETA,
        **contender.settings,
    }
    trainer_of, settings_of = (GivenLabels, KTOConfig) if has_labels else (GivenPairs, DPOConfig)
    callback = PairMeterCallback(meter)
    meter.loaded(weights)
    trainer = trainer_of(
        weights,
        args=settings_of(**settings),
        train_dataset=_as_labeled_rows(pairs, settings["per_device_train_batch_size"]) if has_labels else pairs,
        processing_class=AutoTokenizer.from_pretrained(model),
        callbacks=[callback],
        peft_config=adapter_of(case),
    )
    trainer.train()
    return {**meter.figures(), "chosen": callback.chosen}


def _as_labeled_rows(pairs: datasets.Dataset, batch: int) -> datasets.Dataset:
    """Each response as a row with a label and the response before it in its batch, as KTOTrainer pairs them when it
    tokenizes. Desirable responses come before undesirable ones, so that neighbors have other prompts in batches of two
    or more pairs."""
    rows = []
    for start in range(0, len(pairs), max(1, batch // 2)):
        part = [pairs[at] for at in range(start, min(start + max(1, batch // 2), len(pairs)))]
        labeled = [(pair["prompt_ids"], pair[f"{kind}_ids"], kind == "chosen") for kind in KINDS for pair in part]
        rows += [
            {"prompt_ids": prompt, "completion_ids": answer, "label": label, "KL_completion_ids": labeled[at - 1][1]}
            for at, (prompt, answer, label) in enumerate(labeled)
        ]
    return datasets.Dataset.from_list(rows)
