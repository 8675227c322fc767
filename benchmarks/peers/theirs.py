"""TRL's SFTTrainer as a contender: rows are tokens and labels, and steps are as long as Burnish's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback
from trl import SFTConfig, SFTTrainer

from peers.cases import ALPHA, LEARNING_RATE, RANK, Case, Contender
from peers.meter import Meter


class MeterCallback(TrainerCallback):
    """Reports steps and losses to the meter."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.meter.step()

    def on_log(self, _arguments: Any, _state: Any, _control: Any, logs: dict[str, Any], **__: Any) -> None:
        if "loss" in logs:
            self.meter.losses.append(float(logs["loss"]))


def train(case: Case, contender: Contender, model: Path, rows: Path, output: Path) -> dict[str, Any]:
    """One epoch over the rows; returns the measurements."""
    meter = Meter()
    arguments = SFTConfig(**(_settings(case, contender, output) | contender.settings))
    trainer = SFTTrainer(
        _model(case, model),
        arguments,
        train_dataset=datasets.load_dataset(
            "json", data_files=str(rows.with_suffix(".tokens")), split="train", cache_dir=str(output / "datasets")
        ),
        processing_class=AutoTokenizer.from_pretrained(model),
        callbacks=[MeterCallback(meter)],
        peft_config=adapter_of(case),
    )
    meter.loaded(trainer.model)
    trainer.train()
    return meter.figures()


def _settings(case: Case, contender: Contender, output: Path) -> dict[str, Any]:
    """Settings that make the training equal to Burnish's."""
    accumulated = max(1, case.rows_per_step // contender.batch)
    if contender.settings.get("packing"):  # about as many tokens per step as for the others
        accumulated = max(1, case.rows_per_step * 200 // contender.settings["max_length"])
    alike = same_training(output, case.rows_per_step, contender, LEARNING_RATE)
    return {**alike, "gradient_accumulation_steps": accumulated, "train_sampling_strategy": "sequential"}


def same_training(output: Path, rows_per_step: int, contender: Contender, learning_rate: float) -> dict[str, Any]:
    """Settings of all of TRL's trainers, for one epoch. The optimizer is TRL's default: torch's fused AdamW."""
    batch = min(contender.batch, rows_per_step)
    return {
        "output_dir": str(output),
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": rows_per_step // batch,
        "num_train_epochs": 1,
        "learning_rate": learning_rate,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
    }


def _model(case: Case, folder: Path) -> Any:
    """Model with the checkpoint's float32 weights; NF4 for QLoRA."""
    if case.adapter != "qlora":
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, quantization_config=nf4)


def adapter_of(case: Case) -> LoraConfig | None:
    """LoRA as in Burnish; None: all weights are trained."""
    if case.adapter == "full":
        return None
    return LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
