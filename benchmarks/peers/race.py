"""GRPO on the built-in arithmetic by Burnish and by TRL, from the same weights: held-out accuracy, and when.

The clock stands still while held-out questions are answered. Both learn from the same prompts in the same order, by the
same verifier, and are examined on the same questions; they draw responses by other numbers. Burnish replaces groups in
which no response is better than another, so from the second step on its prompts run ahead of TRL's.
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

from burnish.evaluate.evaluator import EvalResult
from burnish.evaluate.reward_eval import RewardEval
from burnish.model.policy import Model
from burnish.recipe.read import stage_recipe
from burnish.sources.prompt_order import PromptOrder, mean
from burnish.sources.rollouts import RolloutPrompt
from burnish.stages.assemble import assemble
from burnish.stages.rl.data import RLData
from burnish.stages.supervised_data import StageContext
from burnish.tasks.exact import NumberReward
from burnish.tasks.response_views import response_view
from peers.stage import ALIKE, stage_runner

STEPS, EVERY = 30, 10
GROUPS, RESPONSES, WRITTEN = 8, 8, 24
EXAMINED = 200
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
        """The clock runs."""
        self._since = processor_seconds()

    def stop(self) -> None:
        """The clock stands still."""
        if self._since is not None:
            self._trained += processor_seconds() - self._since
        self._since = None

    def add(self, step: int, accuracy: float) -> None:
        """What was found, while the clock stands still."""
        self.steps.append(step)
        self.seconds.append(self._trained)
        self.accuracy.append(accuracy)

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if not name.startswith("_")}


def processor_seconds() -> float:
    """Of this process and of those that judge for it: on one thread these are seconds, whoever else is at work."""
    here = psutil.Process()
    times = [each.cpu_times() for each in (here, *here.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def practice_of(model: Path, seed: int, output: Path) -> tuple[Any, RLData]:
    """The recipe that both follow, and what it opens."""
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
        "evaluation": {"prompts": EXAMINED},
        "learning_rate": LEARNING_RATE,
    }
    origins = stage_recipe("rl", settings, output=str(output))
    return origins, RLData.of(StageContext.of(origins.recipe))


def by_burnish(model: Path, seed: int, output: Path) -> Curve:
    """The run of `burnish rl`; its clock begins after the first examination, and the processes that judge with it."""
    (origins, practice), curve, examine = practice_of(model, seed, output), Curve(), RewardEval.examine

    def examined(exam: RewardEval, policy: Model) -> EvalResult:
        curve.stop()
        found = examine(exam, policy)
        curve.add(len(curve.steps) * EVERY, float(found.figures["accuracy"]))
        curve.go()
        return found

    with (
        stage_runner(origins, practice.beside, output, seed=seed) as run,
        mock.patch.object(RewardEval, "examine", examined),
        practice.at_work(output),
    ):
        run(assemble(origins.recipe, practice, "rl"))
    return curve


class Examiner(TrainerCallback):
    """Has TRL's model answer the held-out questions, greedily, every so many steps."""

    def __init__(self, curve: Curve, asked: Sequence[RolloutPrompt], tokenizer: PreTrainedTokenizerBase) -> None:
        self.curve, self.asked, self.tokenizer = curve, asked, tokenizer

    def on_train_begin(self, *_: Any, model: PreTrainedModel, **__: Any) -> None:
        self._examine(0, model)

    def on_step_end(self, _: Any, state: Any, __: Any, model: PreTrainedModel, **___: Any) -> None:
        if state.global_step % EVERY == 0:
            self._examine(state.global_step, model)

    def _examine(self, step: int, model: PreTrainedModel) -> None:
        self.curve.stop()
        said = greedy_answers(model, [asked.tokens.tolist() for asked in self.asked], self.tokenizer)
        self.curve.add(step, mean([judged(asked, text) for asked, text in zip(self.asked, said, strict=True)]))
        self.curve.go()


@torch.no_grad()
def greedy_answers(
    model: PreTrainedModel, prompts: Sequence[list[int]], tokenizer: PreTrainedTokenizerBase
) -> list[str]:
    """By transformers' `generate`, all at once."""
    was_training = model.training
    batch = tokenizer.pad({"input_ids": list(prompts)}, padding_side="left", return_tensors="pt")
    written = model.eval().generate(**batch, max_new_tokens=WRITTEN, do_sample=False)
    model.train(was_training)
    return tokenizer.batch_decode(written[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)


def judged(asked: RolloutPrompt, text: str) -> float:
    return float(NumberReward().score(response_view(asked.task, text)))


def by_trl(model: Path, seed: int, output: Path) -> Curve:
    """TRL's GRPOTrainer in float32 without checkpointing, all rows of a step in one forward."""
    (_, practice), curve = practice_of(model, seed, output), Curve()
    tokenizer, asked = AutoTokenizer.from_pretrained(model), practice.asked()
    drawn = [asked[row] for row in PromptOrder(len(asked), seed).take(STEPS * GROUPS)]
    texts = [tokenizer.decode(each.tokens) for each in drawn]
    assert tokenizer(texts)["input_ids"] == [each.tokens.tolist() for each in drawn], "both see the same tokens"

    def right(completions: list[str], row: list[int], **_: Any) -> list[float]:
        return [judged(drawn[at], said) for at, said in zip(row, completions, strict=True)]

    trainer = GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        reward_funcs=right,
        args=_trl_settings(seed, output),
        train_dataset=datasets.Dataset.from_dict({"prompt": texts, "row": list(range(len(texts)))}),
        processing_class=tokenizer,
        callbacks=[Examiner(curve, [each for _, each in practice.examined()], tokenizer)],
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
