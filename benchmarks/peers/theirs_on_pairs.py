"""TRL's DPOTrainer and KTOTrainer as contenders: pairs are tokens already, and steps are as long as Burnish's."""

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
from peers.theirs import Ears, adapter_of, same_training

KINDS = ("chosen", "rejected")


class Listening(Ears):
    """Hears the log-probabilities of chosen answers too."""

    def __init__(self, meter: Meter) -> None:
        super().__init__(meter)
        self.chosen: list[float] = []

    def on_log(self, arguments: Any, state: Any, control: Any, logs: dict[str, Any], **others: Any) -> None:
        super().on_log(arguments, state, control, logs, **others)
        if "logps/chosen" in logs:
            self.chosen.append(float(logs["logps/chosen"]))


class GivenTokens:
    """For a trainer whose rows are tokens already; it would make them again from text."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


class GivenPairs(GivenTokens, DPOTrainer):
    """DPO."""


class GivenVerdicts(GivenTokens, KTOTrainer):
    """KTO."""


def train(case: Case, contender: Contender, model: Path, rows: Path, output: Path) -> dict[str, Any]:
    """One epoch over the pairs; returns the meter's figures, and the mean log-probability of chosen by step.

    The meter begins when the weights are loaded, before the trainer loads a second model or asks it.
    """
    pairs = datasets.load_dataset(
        "json", data_files=str(rows.with_suffix(".tokens")), split="train", cache_dir=str(output / "datasets")
    )
    meter, weights = Meter(), AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    verdicts = case.loss == "kto"
    per_step = case.rows_per_step * (2 if verdicts else 1)
    settings = {
        **same_training(output, per_step, contender, LEARNING_RATE),
        "train_sampling_strategy": "sequential",
        "beta": BETA,
        **contender.settings,
    }
    trainer_of, settings_of = (GivenVerdicts, KTOConfig) if verdicts else (GivenPairs, DPOConfig)
    ears = Listening(meter)
    meter.loaded(weights)
    trainer = trainer_of(
        weights,
        args=settings_of(**settings),
        train_dataset=_apart(pairs, settings["per_device_train_batch_size"]) if verdicts else pairs,
        processing_class=AutoTokenizer.from_pretrained(model),
        callbacks=[ears],
        peft_config=adapter_of(case),
    )
    trainer.train()
    return {**meter.figures(), "chosen": ears.chosen}


def _apart(pairs: datasets.Dataset, batch: int) -> datasets.Dataset:
    """Each answer as a row with a verdict, and beside it the answer before it in its batch, as KTOTrainer pairs them
    when it makes tokens. All that are wanted stand before all that are not, so that neighbours answer other prompts
    where a batch has two or more pairs."""
    rows = []
    for start in range(0, len(pairs), max(1, batch // 2)):
        part = [pairs[at] for at in range(start, min(start + max(1, batch // 2), len(pairs)))]
        judged = [(pair["prompt_ids"], pair[f"{kind}_ids"], kind == "chosen") for kind in KINDS for pair in part]
        rows += [
            {"prompt_ids": prompt, "completion_ids": answer, "label": label, "KL_completion_ids": judged[at - 1][1]}
            for at, (prompt, answer, label) in enumerate(judged)
        ]
    return datasets.Dataset.from_list(rows)
