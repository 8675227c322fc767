"""TRL's DistillationTrainer as a contender: the same prompts in the same order, and responses of full length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DistillationConfig, DistillationTrainer
from trl.trainer import distillation_trainer

from peers.cases import Case, Contender
from peers.distill_cases import LEARNING_RATE, RESPONSES, WRITTEN
from peers.meter import Meter
from peers.split import Split
from peers.theirs import same_training
from peers.theirs_on_prompts import PromptMeterCallback


class RecordingTrainer(DistillationTrainer):
    """DistillationTrainer that records the responses of its first step, so that they can be computed again, and
    tells the forward of the teacher from the student's."""

    seen: dict[str, Any] | None = None

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        made = super()._generate_and_score_completions(inputs)
        if self.seen is None:
            rows = zip(made["prompt_ids"], made["prompt_mask"], strict=True)
            assert set(made["completion_mask"].sum(-1).tolist()) == {WRITTEN}, "no token ends a response early"
            self.seen = {
                "prompts": [tokens[mask.bool()].tolist() for tokens, mask in rows],
                "responses": made["completion_ids"].tolist(),
            }
        return made

    def _get_last_hidden_state(self, unwrapped_model: nn.Module, *arguments: Any, **options: Any) -> Any:
        teaches = unwrapped_model is self.accelerator.unwrap_model(self.teacher_model)
        forward = self.states_of_teacher if teaches else self.states_of_student
        return forward(unwrapped_model, *arguments, **options)

    def states_of_teacher(self, *arguments: Any, **options: Any) -> Any:
        return super()._get_last_hidden_state(*arguments, **options)

    def states_of_student(self, *arguments: Any, **options: Any) -> Any:
        return super()._get_last_hidden_state(*arguments, **options)


def train(case: Case, contender: Contender, student: Path, teacher: Path, rows: Path, output: Path) -> dict[str, Any]:
    """One epoch over the prompts; returns the measurements, seconds of each part, gradient norms by step, and the
    responses of the first step."""
    models = [AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32) for folder in (student, teacher)]
    meter, split = Meter(), Split()
    callback = PromptMeterCallback(meter, split)
    trainer = RecordingTrainer(
        models[0],
        models[1],
        args=DistillationConfig(**(_settings(case, contender, output) | contender.settings)),
        train_dataset=_repeated(rows, output),
        processing_class=AutoTokenizer.from_pretrained(student, padding_side="left"),
        callbacks=[callback],
    )
    _without_end_token(trainer)
    parts = (
        (trainer, "_generate_single_turn", "sampling"),
        (trainer, "states_of_teacher", "teacher"),
        (trainer, "states_of_student", "student"),
        (distillation_trainer, "_chunked_divergence_loss", "student"),
        (torch.Tensor, "backward", "backward"),
    )
    meter.loaded(nn.ModuleList(models))
    with split.timing(*parts):
        trainer.train()
    return {**meter.figures(), "parts": split.steps, "beside": 0, "norms": callback.norms, "seen": trainer.seen}


def _repeated(rows: Path, output: Path) -> datasets.Dataset:
    """The prompts in the order of training, each as often as it gets responses."""
    prompts = datasets.load_dataset(
        "json", data_files=str(rows.with_suffix(".tokens")), split="train", cache_dir=str(output / "datasets")
    ).select_columns(["prompt"])
    return prompts.select([row for row in range(len(prompts)) for _ in range(RESPONSES)])


def _without_end_token(trainer: DistillationTrainer) -> None:
    """Removes the end token, which DistillationTrainer takes from the tokenizer; -1 is no token."""
    trainer.eos_token_ids = [-1]
    trainer.generation_config.eos_token_id = None
    trainer.generation_kwargs["eos_token_id"] = None
    trainer.model.generation_config.eos_token_id = None


def _settings(case: Case, contender: Contender, output: Path) -> dict[str, Any]:
    """Settings that make the training equal to Burnish's: a row is a response."""
    return {
        **same_training(output, case.rows_per_step * RESPONSES, contender, LEARNING_RATE),
        "max_completion_length": WRITTEN,
        "shuffle_dataset": False,
    }
