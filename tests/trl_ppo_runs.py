"""Runs TRL 1.10's PPOTrainer and records what it computes, for the tests of parity. Imports nothing of Burnish.

    python tests/trl_ppo_runs.py CASES.json RECORDS.pt

TRL computes in one function, so what it has is read from that function's variables, where it calls `masked_whiten` and
where it calls the optimizer; its code is not changed. A case may give responses, which then take the place of generated
ones.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import torch
from datasets import Dataset
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    set_seed,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

ROLLOUT = (
    "query_responses",
    "context_length",
    "responses",
    "sequence_lengths",
    "logprobs",
    "ref_logprobs",
    "values",
    "scores",
    "rewards",
    "advantages",
    "returns",
)
"""Variables of `PPOTrainer.train` when the advantages are whitened; these are not whitened yet."""
MINIBATCH = ("micro_batch_inds", "pg_loss", "vf_loss", "vpred", "new_logprobs")
"""Its variables when the optimizer is called, for each microbatch."""


class Recorder:
    """What a trainer computes: a record for each batch, and for each call of its optimizer."""

    def __init__(self, trainer: PPOTrainer) -> None:
        self.trainer = trainer
        self.batches: list[dict[str, Any]] = []
        self.calls: list[dict[str, Any]] = []
        self.logs: list[dict[str, float]] = []
        self._whiten = ppo_trainer.masked_whiten
        self._step = trainer.optimizer.step

    def whiten(self, values: Tensor, mask: Tensor, shift_mean: bool = True) -> Tensor:
        """In place of `masked_whiten`."""
        result = self._whiten(values, mask, shift_mean)
        if shift_mean:
            self.batches.append(_copied(sys._getframe(1), ROLLOUT) | {"whitened": result.masked_fill(~mask, 0)})
        else:
            self.rewards_before = values.clone()
        return result

    def log(self, metrics: dict[str, float]) -> None:
        """In place of the trainer's `log`."""
        self.logs.append(dict(metrics))

    def step(self, *arguments: Any, **options: Any) -> Any:
        """In place of the optimizer's `step`, which accelerate leaves out while gradients are accumulated."""
        updates = self.trainer.accelerator.sync_gradients
        record = _copied(sys._getframe(1), MINIBATCH) | {"batch": len(self.batches) - 1, "updates": updates}
        if updates:
            record["gradients"] = _weights(self.trainer, gradients=True)
        self.calls.append(record)
        return self._step(*arguments, **options)


def _copied(frame: FrameType, names: tuple[str, ...]) -> dict[str, Any]:
    """Copies of a function's variables, all as tensors."""
    return {name: torch.as_tensor(value).detach().clone() for name, value in frame.f_locals.items() if name in names}


def _weights(trainer: PPOTrainer, *, gradients: bool = False) -> dict[str, dict[str, Tensor]]:
    """Weights or gradients of the policy and of the value model."""
    return {
        name: {
            key: (parameter.grad if gradients else parameter.detach()).clone()
            for key, parameter in model.named_parameters()
            if parameter.grad is not None or not gradients
        }
        for name, model in (("policy", trainer.policy_model), ("value", trainer.value_model))
    }


def _given(responses: list[list[int]], pad: int) -> Any:
    """In place of `batch_generation`: these responses, and the logits of the model as it is."""
    longest = max(len(row) for row in responses)
    rows = torch.tensor([row + [pad] * (longest - len(row)) for row in responses])

    @torch.no_grad()
    def batch_generation(model: Any, queries: Tensor, _: int, pad_token_id: int, config: Any) -> tuple[Tensor, Tensor]:
        whole = torch.cat([queries, rows], dim=1)
        logits = ppo_trainer.forward(model, whole, pad_token_id).logits[:, queries.shape[1] - 1 : -1]
        return whole, logits / config.temperature

    return batch_generation


def run(case: Mapping[str, Any], models: Path) -> dict[str, Any]:
    """Trains a case; returns its records, and the weights afterwards.

    Args:
        case: prompts (token ids), settings (of PPOConfig), pad (the padding token), responses (token ids) or None.
        models: folder with the models policy, reference, reward and value.
    """
    set_seed(case["seed"])
    tokenizer = AutoTokenizer.from_pretrained(models / "policy", padding_side="left")
    tokenizer.add_special_tokens({"pad_token": case["pad"]})
    with tempfile.TemporaryDirectory() as output:
        trainer = PPOTrainer(
            PPOConfig(output_dir=output, **case["settings"]),
            tokenizer,
            model=_loaded(AutoModelForCausalLM, models / "policy"),
            ref_model=_loaded(AutoModelForCausalLM, models / "reference"),
            reward_model=_loaded(AutoModelForSequenceClassification, models / "reward"),
            value_model=_loaded(AutoModelForSequenceClassification, models / "value"),
            train_dataset=Dataset.from_dict({"input_ids": case["prompts"]}),
        )
        recorder = Recorder(trainer)
        trainer.optimizer.step, trainer.log = recorder.step, recorder.log
        responses, generate = case.get("responses"), ppo_trainer.batch_generation
        if responses:
            generate = _given(responses, tokenizer.pad_token_id)
        with (
            mock.patch.object(ppo_trainer, "masked_whiten", recorder.whiten),
            mock.patch.object(ppo_trainer, "batch_generation", generate),
        ):
            trainer.train()
    return {
        "pad": tokenizer.pad_token_id,
        "batches": recorder.batches,
        "calls": recorder.calls,
        "logs": recorder.logs,
        "weights": _weights(trainer),
        "rewards_before": getattr(recorder, "rewards_before", None),
    }


def _loaded(kind: Any, folder: Path) -> PreTrainedModel:
    return kind.from_pretrained(folder, dtype=torch.float32)


def main() -> None:
    cases = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    records = {name: run(case, Path(cases["models"])) for name, case in cases["cases"].items()}
    torch.save(records, sys.argv[2])


if __name__ == "__main__":
    main()
