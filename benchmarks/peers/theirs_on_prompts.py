"""TRL's GRPOTrainer as a contender: the same prompts in the same order, and responses of full length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from peers.cases import Case, Contender
from peers.meter import Meter
from peers.rl_cases import LEARNING_RATE, RESPONSES, WRITTEN
from peers.rl_reward import vowels
from peers.split import Split
from peers.theirs import MeterCallback, same_training


class PromptMeterCallback(MeterCallback):
    """Reports steps to the split too, and collects gradient norms."""

    def __init__(self, meter: Meter, split: Split) -> None:
        super().__init__(meter)
        self.split = split
        self.norms: list[float] = []

    def on_step_end(self, *arguments: Any, **others: Any) -> None:
        self.split.step()
        super().on_step_end(*arguments, **others)

    def on_log(self, arguments: Any, state: Any, control: Any, logs: dict[str, Any], **others: Any) -> None:
        super().on_log(arguments, state, control, logs, **others)
        if "grad_norm" in logs:
            self.norms.append(float(logs["grad_norm"]))


class RecordingTrainer(GRPOTrainer):
    """GRPOTrainer that records the rollouts of its first step, so that Burnish can compute them again."""

    seen: dict[str, Any] | None = None

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        made = super()._generate_and_score_completions(inputs)
        if self.seen is None:
            rows = zip(made["prompt_ids"], made["prompt_mask"], strict=True)
            prompts = [tokens[mask.bool()].tolist() for tokens, mask in rows]
            lengths = made["completion_mask"].sum(-1).tolist()
            assert set(lengths) == {self.max_completion_length}, "no token ends a response early"
            texts = self.processing_class.batch_decode(made["completion_ids"], skip_special_tokens=True)
            self.seen = {
                "prompts": prompts,
                "responses": made["completion_ids"].tolist(),
                "rewards": vowels(texts),
                "advantages": made["advantages"].tolist(),
            }
        return made


def train(case: Case, contender: Contender, model: Path, rows: Path, output: Path) -> dict[str, Any]:
    """One epoch over the prompts; returns the measurements, seconds of each part, gradient norms by step, and the
    rollouts of the first step."""
    prompts = datasets.load_dataset(
        "json", data_files=str(rows.with_suffix(".tokens")), split="train", cache_dir=str(output / "datasets")
    )
    meter, split, weights = Meter(), Split(), AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    callback = PromptMeterCallback(meter, split)
    meter.loaded(weights)
    trainer = RecordingTrainer(
        weights,
        reward_funcs=vowels,
        args=GRPOConfig(**(_settings(case, contender, output) | contender.settings)),
        train_dataset=prompts.select_columns(["prompt"]),
        processing_class=AutoTokenizer.from_pretrained(model),
        callbacks=[callback],
    )
    without_end_token(trainer)
    parts = (
        (trainer, "_generate_single_turn", "sampling"),
        (trainer, "_calculate_rewards", "reward"),
        (trainer, "_get_per_token_logps_and_entropies", "scoring"),
        (torch.Tensor, "backward", "backward"),
    )
    with split.timing(*parts):
        trainer.train()
    return {**meter.figures(), "parts": split.steps, "beside": 0, "norms": callback.norms, "seen": trainer.seen}


def without_end_token(trainer: GRPOTrainer) -> None:
    """Removes the end token, which GRPOTrainer takes from the tokenizer; -1 is no token."""
    trainer.eos_token_ids = [-1]
    trainer.generation_config.eos_token_id = None
    trainer.generation_kwargs["eos_token_id"] = None
    trainer.model.generation_config.eos_token_id = None


def _settings(case: Case, contender: Contender, output: Path) -> dict[str, Any]:
    """Settings that make the training equal to Burnish's: a row is a response."""
    return {
        **same_training(output, case.rows_per_step * RESPONSES, contender, LEARNING_RATE),
        "loss_type": "grpo",
        "num_generations": RESPONSES,
        "max_completion_length": WRITTEN,
        "shuffle_dataset": False,
    }
