"""TRL's GRPOTrainer as a contender: the same prompts in the same order, and responses that nothing ends early."""

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
from peers.theirs import Ears, same_training


class Listening(Ears):
    """Tells the split too, and hears the norm of the gradient."""

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


class Remembering(GRPOTrainer):
    """GRPOTrainer that keeps what it learned from in its first step, for others to compute again."""

    seen: dict[str, Any] | None = None

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        made = super()._generate_and_score_completions(inputs)
        if self.seen is None:
            rows = zip(made["prompt_ids"], made["prompt_mask"], strict=True)
            prompts = [tokens[mask.bool()].tolist() for tokens, mask in rows]
            written = made["completion_mask"].sum(-1).tolist()
            assert set(written) == {self.max_completion_length}, "nothing ends a response early"
            texts = self.processing_class.batch_decode(made["completion_ids"], skip_special_tokens=True)
            self.seen = {
                "prompts": prompts,
                "responses": made["completion_ids"].tolist(),
                "rewards": vowels(texts),
                "advantages": made["advantages"].tolist(),
            }
        return made


def train(case: Case, contender: Contender, model: Path, rows: Path, output: Path) -> dict[str, Any]:
    """One epoch over the prompts; returns the meter's figures, seconds of each part, norms of gradients by step, and
    what was learned from in the first step."""
    prompts = datasets.load_dataset(
        "json", data_files=str(rows.with_suffix(".tokens")), split="train", cache_dir=str(output / "datasets")
    )
    meter, split, weights = Meter(), Split(), AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    ears = Listening(meter, split)
    meter.loaded(weights)
    trainer = Remembering(
        weights,
        reward_funcs=vowels,
        args=GRPOConfig(**(_settings(case, contender, output) | contender.settings)),
        train_dataset=prompts.select_columns(["prompt"]),
        processing_class=AutoTokenizer.from_pretrained(model),
        callbacks=[ears],
    )
    _endless(trainer)
    parts = (
        (trainer, "_generate_single_turn", "sampling"),
        (trainer, "_calculate_rewards", "reward"),
        (trainer, "_get_per_token_logps_and_entropies", "scoring"),
        (torch.Tensor, "backward", "backward"),
    )
    with split.timing(*parts):
        trainer.train()
    return {**meter.figures(), "parts": split.steps, "beside": 0, "norms": ears.norms, "seen": trainer.seen}


def _endless(trainer: GRPOTrainer) -> None:
    """No token ends a response. GRPOTrainer always has the tokenizer's end token; -1 is none."""
    trainer.eos_token_ids = [-1]
    trainer.generation_config.eos_token_id = None
    trainer.generation_kwargs["eos_token_id"] = None
    trainer.model.generation_config.eos_token_id = None


def _settings(case: Case, contender: Contender, output: Path) -> dict[str, Any]:
    """What makes the training the same as Burnish's: a row is a response."""
    return {
        **same_training(output, case.rows_per_step * RESPONSES, contender, LEARNING_RATE),
        "loss_type": "grpo",
        "num_generations": RESPONSES,
        "max_completion_length": WRITTEN,
        "shuffle_dataset": False,
    }
