"""TRL 1.10's PPOTrainer as a contender, the last one of TRL. Its process imports that version.

What it computes is read from the variables of its one function, as in tests/trl_ppo_runs.py; its code is not changed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import datasets
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

from peers.cases import Case, Contender
from peers.meter import Meter
from peers.ppo_cases import CLIP, EPOCHS, KL_COEF, LAMBDA, LEARNING_RATE, WRITTEN, Shape
from peers.theirs import same_training


class Phases(TrainerCallback):
    """Seconds of sampling, scoring and updates of each batch, which follow each other."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.steps: list[dict[str, float]] = []
        self._now: dict[str, float] = {}
        self._since = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._since = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.end("updates")
        self.steps.append(self._now)
        self._now = {}
        self.meter.step()

    def end(self, part: str) -> None:
        """Ends a part."""
        now = time.perf_counter()
        self._now[part], self._since = now - self._since, now

    def after(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """The function, whose return ends a part."""

        def timed(*arguments: Any, **options: Any) -> Any:
            result = function(*arguments, **options)
            self.end(part)
            return result

        return timed


class Seen:
    """The first batch and its first update, so that Burnish can compute them again."""

    def __init__(self, trainer: PPOTrainer) -> None:
        self.trainer, self.pad = trainer, trainer.processing_class.pad_token_id
        self.batch: dict[str, Any] = {}
        self.update: dict[str, Any] = {"rows": [], "value_losses": []}
        self._whiten, self._step = ppo_trainer.masked_whiten, trainer.optimizer.step

    def whiten(self, values: Tensor, mask: Tensor, shift_mean: bool = True) -> Tensor:
        """In place of `masked_whiten`, which gets the advantages of a batch."""
        result = self._whiten(values, mask, shift_mean)
        if not self.batch:
            found, start = sys._getframe(2).f_locals, sys._getframe(2).f_locals["context_length"]
            assert mask.all(), "no token ends a response early"
            prompts = [row[row != self.pad].tolist() for row in found["query_responses"][:, :start]]
            kept = {name: found[name].tolist() for name in ("responses", "logprobs", "scores", "values", "returns")}
            self.batch = {"prompts": prompts, "advantages": result.tolist(), **kept}
        return result

    def step(self, *arguments: Any, **options: Any) -> Any:
        """In place of the optimizer's `step`, up to the first update."""
        found = sys._getframe(1).f_locals
        self.update["rows"] += found["micro_batch_inds"].tolist()
        self.update["value_losses"].append(float(found["vf_loss"]))
        if self.trainer.accelerator.sync_gradients:
            self.update["norm"] = _norm(self.trainer.policy_model)
            self.update["value_norm"] = _norm(self.trainer.value_model)
            self.trainer.optimizer.step = self._step
        return self._step(*arguments, **options)


def _norm(model: nn.Module) -> float:
    norms = [parameter.grad.norm() for parameter in model.parameters() if parameter.grad is not None]
    return float(torch.stack(norms).norm())


def train(case: Case, contender: Contender, models: Path, rows: Path, output: Path, batches: int) -> dict[str, Any]:
    """A number of batches; returns the measurements, seconds of each part, and the first update with its batch."""
    prompts = datasets.load_dataset(
        "json", data_files=str(rows.with_suffix(".tokens")), split="train", cache_dir=str(output / "datasets")
    )
    tokenizer = AutoTokenizer.from_pretrained(models / "policy", padding_side="left")
    tokenizer.add_special_tokens({"pad_token": "<|pad|>"})  # a token that the policy does not have
    loaded = {name: _loaded(AutoModelForCausalLM, models / "policy") for name in ("model", "ref_model")}
    for name in ("reward", "value"):
        loaded[f"{name}_model"] = _loaded(AutoModelForSequenceClassification, models / name)
    meter = Meter()
    phases = Phases(meter)
    trainer = PPOTrainer(
        PPOConfig(**_settings(case, contender, output, batches)),
        tokenizer,
        train_dataset=prompts,
        callbacks=[phases],
        **loaded,
    )
    seen = Seen(trainer)
    trainer.optimizer.step = seen.step
    with (
        mock.patch.object(ppo_trainer, "batch_generation", phases.after(ppo_trainer.batch_generation, "sampling")),
        mock.patch.object(ppo_trainer, "masked_whiten", phases.after(seen.whiten, "scoring")),
    ):
        meter.loaded(nn.ModuleList(loaded.values()))
        trainer.train()
    return {**meter.figures(), "parts": phases.steps, "beside": 0, "batch": seen.batch, "update": seen.update}


def _loaded(kind: Any, folder: Path) -> Any:
    return kind.from_pretrained(folder, dtype=torch.float32)


def _settings(case: Case, contender: Contender, output: Path, batches: int) -> dict[str, Any]:
    """Settings that make the training equal to Burnish's."""
    own = dict(contender.settings)
    shape = Shape.in_settings(own)
    return {
        **same_training(output, case.rows_per_step, contender, LEARNING_RATE),
        "num_mini_batches": shape.minibatches,
        "num_ppo_epochs": EPOCHS,
        "total_episodes": batches * case.rows_per_step,
        "response_length": WRITTEN,
        "temperature": 1.0,
        "kl_coef": KL_COEF,
        "lam": LAMBDA,
        "cliprange": CLIP,
        "cliprange_value": CLIP,
        "vf_coef": 1.0,
        "weight_decay": 0.0,
        "num_sample_generations": 0,
        **own,
    }
