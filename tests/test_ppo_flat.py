"""examples/ppo_flat.py needs only torch, numpy and transformers, and writes token by token: the same curve."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from burnish.builtin.sets import builtin_rows
from burnish.builtin.tiny import write_untrained
from burnish.credit.gae import Gae
from burnish.credit.settings import GaeSettings
from burnish.data.prompts import TokenizedPrompt
from burnish.data.records import Message, Task
from burnish.losses.policy.gradient import PolicyGradient
from burnish.losses.value import ValueLoss
from burnish.model.load import load_policy
from burnish.model.policy import Model
from burnish.model.snapshot import Snapshot
from burnish.model.value_head import new_value_head
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.rewards.response_view import ResponseView
from burnish.rewards.verdict import Verdict
from burnish.roles.filler import StreamFiller
from burnish.roles.scorer import LiveScorer, SnapshotScorer
from burnish.rollouts.batcher import Batcher
from burnish.rollouts.settings import RolloutSettings
from burnish.rollouts.source import RolloutSource
from burnish.rollouts.worker import SingleTurn
from burnish.sampling.local import LocalSampler
from burnish.sampling.params import SamplingParams
from burnish.train.step import Trainer
from burnish.types import Score

SCRIPT = Path(__file__).parents[1] / "examples" / "ppo_flat.py"
STEPS, PROMPTS, RESPONSES, MINIBATCHES, EPOCHS, MOST = 8, 2, 3, 2, 2, 10


def judged(groups: Sequence[Sequence[ResponseView]]) -> list[list[Verdict]]:
    """1 for the right last number, a tenth for another number, 0 for none."""
    return [[_verdict(answer) for answer in group] for group in groups]


def _verdict(answer: ResponseView) -> Verdict:
    numbers, right = re.findall(r"\d+", answer.text), re.findall(r"\d+", str(answer.reference))[-1]
    reward = 0.0 if not numbers else 1.0 if numbers[-1] == right else 0.1
    return Verdict({"number": reward}, reward)


def source(policy: Model, critic: Model, rows: list[dict[str, str]]) -> RolloutSource:
    tokenizer = policy.tokenizer
    asked = []
    for number, row in enumerate(rows):
        turns = [{"role": "user", "content": row["question"]}]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        tokens = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
        asked.append(TokenizedPrompt(number, tokens, Task((Message("user", row["question"]),), row["answer"])))
    worker = SingleTurn(
        policy,
        LocalSampler(policy, [tokenizer.eos_token_id], max_positions=256),
        judged,
        lambda tokens: str(tokenizer.decode(tokens, skip_special_tokens=True)),
        SamplingParams(max_new_tokens=MOST),
    )
    settings = RolloutSettings(
        PROMPTS, RESPONSES, updates_per_batch=MINIBATCHES, epochs_per_batch=EPOCHS, max_resamples=1, drops=False
    )
    fillers = [
        StreamFiller(SnapshotScorer(Snapshot(policy)), "reference_logprobs", 120),
        StreamFiller(LiveScorer(critic), "values", 120, Score.STATE_VALUE),
    ]
    rule = Gae(GaeSettings(kl_coef=0.05))
    return RolloutSource(asked, worker, Batcher(rule, settings, fillers), seed=0, max_steps=STEPS)


def trainer_of(model: Model, rate: float) -> Trainer:
    return Trainer(model, Optimizer(model.trained_parameters(), OptimizerSettings(learning_rate=rate)))


def test_the_flat_twin_has_the_same_curve(tmp_path):
    write_untrained(tmp_path / "model", hidden_size=64, layers=2)
    rows = [{name: str(row[name]) for name in ("question", "answer")} for row in builtin_rows("math", count=5)]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    options = {"steps": STEPS, "prompts-per-step": PROMPTS, "responses-per-prompt": RESPONSES, "max-new-tokens": MOST}
    options |= {"minibatches": MINIBATCHES, "epochs": EPOCHS}
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    rates = ["--learning-rate", "1e-3", "--critic-learning-rate", "2e-3"]
    command = [sys.executable, str(SCRIPT), str(tmp_path / "model"), str(questions), *rates, *given]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    flat = [json.loads(line) for line in output.splitlines()]

    policy, plain = load_policy(str(tmp_path / "model")), load_policy(str(tmp_path / "model"))
    head = new_value_head(plain.causal_lm.config.hidden_size)
    torch.nn.init.zeros_(head.weight)
    critic = replace(plain, critic_head=head)
    trainer, critics = trainer_of(policy, 1e-3), trainer_of(critic, 2e-3)
    loss, steps, found, rewards = PolicyGradient(old_logprobs="sampler"), source(policy, critic, rows), [], []
    for groups in steps:
        rewards += [steps.metrics["reward"]] if steps.metrics else []
        ours, values = trainer.step(groups, loss, 120, 1.0), critics.step(groups, ValueLoss(), 120, 1.0)
        figures = {"loss": ours["loss"], "grad_norm": ours["grad_norm"]}
        figures |= {"value_loss": values["loss"], "value_grad_norm": values["grad_norm"]}
        found.append({name: float(value) for name, value in figures.items()})
    assert [line["reward"] for line in flat[::4]] == pytest.approx(rewards, rel=1e-6)
    for name in found[0]:
        assert [line[name] for line in flat] == pytest.approx([each[name] for each in found], rel=2e-3, abs=1e-5), name


def test_the_flat_twin_needs_nothing_of_ours():
    text = SCRIPT.read_text()
    assert "import burnish" not in text
    assert "from burnish" not in text
