"""TRL's SFTTrainer, DPOTrainer and GRPOTrainer as contenders on rows with images; all weights are trained."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import datasets
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoTokenizer
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor
from trl import DPOConfig, DPOTrainer, GRPOConfig, SFTConfig, SFTTrainer

from peers import pair_cases, rl_cases
from peers.cases import LEARNING_RATE, Case, Contender
from peers.images import Files, method_of
from peers.meter import Meter
from peers.rl_reward import vowels
from peers.split import Split
from peers.theirs import MeterCallback, same_training
from peers.theirs_on_pairs import PairMeterCallback
from peers.theirs_on_prompts import PromptMeterCallback, RecordingTrainer, without_end_token

TEMPLATE = (
    "{% for message in messages %}{% if not loop.first %}{{ '\n' }}{% endif %}<|im_start|>{{ message.role + '\n' }}"
    "{% for part in message.content %}{{ '<image>' if part.type == 'image' else part.text }}{% endfor %}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}{{ '\n<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML that ends with the end of the answer, since TRL trains all that the template writes after the prompt."""


def train(case: Case, contender: Contender, model: Path, rows: Path, output: Path) -> dict[str, Any]:
    """One epoch over the rows; returns the measurements."""
    meter, weights = Meter(), AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32)
    meter.loaded(weights)
    trains = {"sft": _sft, "prefer": _prefer, "rl": _rl}[method_of(case)]
    return trains(meter, weights, case, contender, _processor(model), _rows(rows), output)


def _sft(
    meter: Meter, weights: Any, case: Case, contender: Contender, processor: Any, rows: Any, output: Path
) -> dict[str, Any]:
    settings = {
        **same_training(output, case.rows_per_step, contender, LEARNING_RATE),
        "train_sampling_strategy": "sequential",
        "max_length": None,
    }
    SFTTrainer(
        weights,
        SFTConfig(**(settings | contender.settings)),
        train_dataset=rows,
        processing_class=processor,
        callbacks=[MeterCallback(meter)],
    ).train()
    return meter.figures()


def _prefer(
    meter: Meter, weights: Any, case: Case, contender: Contender, processor: Any, rows: Any, output: Path
) -> dict[str, Any]:
    settings = {
        **same_training(output, case.rows_per_step, contender, pair_cases.LEARNING_RATE),
        "train_sampling_strategy": "sequential",
        "max_length": None,
        "beta": pair_cases.BETA,
    }
    callback = PairMeterCallback(meter)
    DPOTrainer(
        weights,
        args=DPOConfig(**(settings | contender.settings)),
        train_dataset=rows,
        processing_class=processor,
        callbacks=[callback],
    ).train()
    return {**meter.figures(), "chosen": callback.chosen}


def _rl(
    meter: Meter, weights: Any, case: Case, contender: Contender, processor: Any, rows: Any, output: Path
) -> dict[str, Any]:
    settings = {
        **same_training(output, case.rows_per_step * rl_cases.RESPONSES, contender, rl_cases.LEARNING_RATE),
        "loss_type": "grpo",
        "num_generations": rl_cases.RESPONSES,
        "max_completion_length": rl_cases.WRITTEN,
        "shuffle_dataset": False,
    }
    split = Split()
    callback = PromptMeterCallback(meter, split)
    trainer = RecordingTrainer(
        weights,
        reward_funcs=vowels,
        args=GRPOConfig(**(settings | contender.settings)),
        train_dataset=rows,
        processing_class=processor,
        callbacks=[callback],
    )
    without_end_token(trainer)
    processor.tokenizer.eos_token = None  # from which Trainer would set it again
    trainer.train()
    return {**meter.figures(), "norms": callback.norms, "seen": trainer.seen}


def _processor(model: Path) -> Idefics3Processor:
    return Idefics3Processor(
        image_processor=Idefics3ImageProcessorPil.from_pretrained(model),
        tokenizer=AutoTokenizer.from_pretrained(model),
        image_seq_len=json.loads((model / "processor_config.json").read_text(encoding="utf-8"))["image_seq_len"],
        chat_template=TEMPLATE,
    )


def _rows(rows: Path) -> datasets.Dataset:
    """Rows with pictures in memory, which no trainer needs to read."""
    lines = [json.loads(line) for line in Files(rows).theirs.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line["images"] = [
            Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB") for url in line["images"]
        ]
    return datasets.Dataset.from_list(lines)
