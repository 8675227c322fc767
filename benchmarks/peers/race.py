"""GRPO on the built-in arithmetic by Burnish and by TRL, from the same weights: held-out accuracy by time and steps.

The clock is stopped while held-out questions are answered. Both train on the same prompts in the same order, with the
same verifier and the same held-out questions; their random numbers differ. Burnish replaces groups whose rewards are
all equal, so from the second step on its prompts are ahead of TRL's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import datasets
import psutil
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
)
from trl import GRPOConfig, GRPOTrainer

from burnish.data.prompts import TokenizedPrompt
from burnish.evaluate.evaluator import EvalResult
from burnish.evaluate.reward_eval import RewardEval
from burnish.model.policy import Model
from burnish.recipe.read import stage_recipe
from burnish.rewards.exact import NumberReward
from burnish.rewards.response_views import response_view
from burnish.rollouts.metrics import mean
from burnish.rollouts.prompt_order import PromptOrder
from burnish.stages.on_policy.data import OnPolicyData
from peers.stage import ALIKE, assembled, opened_data, stage_runner

STEPS, EVERY = 30, 10
GROUPS, RESPONSES, WRITTEN = 8, 8, 24
HELD_OUT = 200
"""Held-out questions, drawn by the seed."""
LEARNING_RATE = 1e-4
BATCH = 64
"""Rows of TRL's forward: all of a step; fewer were not tried."""


@dataclass
class Curve:
    """Accuracy by step and by processor seconds of training."""

    steps: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    _trained: float = 0.0
    _since: float | None = None

    def go(self) -> None:
        """Starts the clock."""
        self._since = processor_seconds()

    def stop(self) -> None:
        """Stops the clock."""
        if self._since is not None:
            self._trained += processor_seconds() - self._since
        self._since = None

    def add(self, step: int, accuracy: float) -> None:
        """Adds an accuracy, while the clock is stopped."""
        self.steps.append(step)
        self.seconds.append(self._trained)
        self.accuracy.append(accuracy)

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if not name.startswith("_")}


def processor_seconds() -> float:
    """Processor time of this process and of its reward workers; on one thread, other work does not change it."""
    process = psutil.Process()
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def rl_data_of(model: Path, seed: int, output: Path) -> tuple[Any, OnPolicyData]:
    """Recipe of both, with its data."""
    settings = {
        **ALIKE,
        "model": str(model),
        "seed": seed,
        "data": "builtin:math",
        "eval_data": "builtin:math/test",
        "reward": "number",
        "responses_per_prompt": RESPONSES,
        "groups_per_step": GROUPS,
        "max_new_tokens": WRITTEN,
        "max_steps": STEPS,
        "eval_every": EVERY,
        "evaluation": {"prompts": HELD_OUT},
        "learning_rate": LEARNING_RATE,
    }
    origins = stage_recipe("rl", settings, output=str(output))
    return origins, opened_data(origins)


def by_burnish(model: Path, seed: int, output: Path) -> Curve:
    """Trains as `burnish rl`; the clock starts after the first evaluation."""
    (origins, rl_data), curve, evaluate = rl_data_of(model, seed, output), Curve(), RewardEval.evaluate

    def evaluate_off_clock(evaluator: RewardEval, policy: Model) -> EvalResult:
        curve.stop()
        result = evaluate(evaluator, policy)
        curve.add(len(curve.steps) * EVERY, float(result.figures["accuracy"]))
        curve.go()
        return result

    with (
        stage_runner(origins, rl_data.background, output, seed=seed) as run,
        mock.patch.object(RewardEval, "evaluate", evaluate_off_clock),
        rl_data.at_work(output),
    ):
        run(assembled(rl_data))
    return curve


class HeldOutCallback(TrainerCallback):
    """Measures held-out accuracy of TRL's model, greedily, every `EVERY` steps."""

    def __init__(self, curve: Curve, prompts: Sequence[TokenizedPrompt], tokenizer: PreTrainedTokenizerBase) -> None:
        self.curve, self.prompts, self.tokenizer = curve, prompts, tokenizer

    def on_train_begin(self, *_: Any, model: PreTrainedModel, **__: Any) -> None:
        self._evaluate(0, model)

    def on_step_end(self, _: Any, state: Any, __: Any, model: PreTrainedModel, **___: Any) -> None:
        if state.global_step % EVERY == 0:
            self._evaluate(state.global_step, model)

    def _evaluate(self, step: int, model: PreTrainedModel) -> None:
        self.curve.stop()
        texts = greedy_responses(model, [prompt.tokens.tolist() for prompt in self.prompts], self.tokenizer)
        self.curve.add(step, mean([graded(prompt, text) for prompt, text in zip(self.prompts, texts, strict=True)]))
        self.curve.go()


@torch.no_grad()
def greedy_responses(
    model: PreTrainedModel, prompts: Sequence[list[int]], tokenizer: PreTrainedTokenizerBase
) -> list[str]:
    """Generates by transformers, all prompts at once."""
    was_training = model.training
    batch = tokenizer.pad({"input_ids": list(prompts)}, padding_side="left", return_tensors="pt")
    output = model.eval().generate(**batch, max_new_tokens=WRITTEN, do_sample=False)
    model.train(was_training)
    return tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)


def graded(prompt: TokenizedPrompt, text: str) -> float:
    return float(NumberReward().score(response_view(prompt.task, text)))


def by_trl(model: Path, seed: int, output: Path) -> Curve:
    """TRL's GRPOTrainer in float32 without checkpointing, all rows of a step in one forward."""
    (_, rl_data), curve = rl_data_of(model, seed, output), Curve()
    tokenizer, prompts = AutoTokenizer.from_pretrained(model), rl_data.train.tokenized
    drawn = [prompts[row] for row in PromptOrder(len(prompts), seed).take(STEPS * GROUPS)]
    texts = [tokenizer.decode(prompt.tokens) for prompt in drawn]
    assert tokenizer(texts)["input_ids"] == [prompt.tokens.tolist() for prompt in drawn], "both see the same tokens"

    def right(completions: list[str], row: list[int], **_: Any) -> list[float]:
        return [graded(drawn[at], text) for at, text in zip(row, completions, strict=True)]

    trainer = GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        reward_funcs=right,
        args=_trl_settings(seed, output),
        train_dataset=datasets.Dataset.from_dict({"prompt": texts, "row": list(range(len(texts)))}),
        processing_class=tokenizer,
        callbacks=[HeldOutCallback(curve, rl_data.held_out_prompts(), tokenizer)],
    )
    trainer.train()
    return curve


def _trl_settings(seed: int, output: Path) -> GRPOConfig:
    return GRPOConfig(
        output_dir=str(output),
        loss_type="grpo",
        num_generations=RESPONSES,
        max_completion_length=WRITTEN,
        shuffle_dataset=False,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=GROUPS * RESPONSES // BATCH,
        max_steps=STEPS,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        bf16=False,
        gradient_checkpointing=False,
        seed=seed,
        logging_steps=STEPS,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )


RUNNERS = {"burnish": by_burnish, "TRL": by_trl}
