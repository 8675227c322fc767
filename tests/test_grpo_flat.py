"""examples/grpo_flat.py needs only torch, numpy and transformers, and writes token by token: the same curve."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from burnish.builtin.sets import builtin_rows
from burnish.builtin.tiny import write_untrained
from burnish.credit.credit import Credit
from burnish.data.prompts import TokenizedPrompt
from burnish.data.records import Message, Task
from burnish.losses.policy.gradient import PolicyGradient
from burnish.model.load import load_policy
from burnish.model.policy import Model
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.rewards.response_view import ResponseView
from burnish.rewards.verdict import Verdict
from burnish.rollouts.batcher import Batcher
from burnish.rollouts.settings import RolloutSettings
from burnish.rollouts.source import RolloutSource
from burnish.rollouts.worker import SingleTurn
from burnish.sampling.local import LocalSampler
from burnish.sampling.params import SamplingParams
from burnish.stages.rl.algorithms import algorithm
from burnish.train.step import Trainer

SCRIPT = Path(__file__).parents[1] / "examples" / "grpo_flat.py"
STEPS, PROMPTS, RESPONSES, MOST = 4, 2, 6, 10


def judged(groups: Sequence[Sequence[ResponseView]]) -> list[list[Verdict]]:
    """1 for the right last number, a tenth for another number, 0 for none."""
    return [[_verdict(answer) for answer in group] for group in groups]


def _verdict(answer: ResponseView) -> Verdict:
    numbers, right = re.findall(r"\d+", answer.text), re.findall(r"\d+", str(answer.reference))[-1]
    reward = 0.0 if not numbers else 1.0 if numbers[-1] == right else 0.1
    return Verdict({"number": reward}, reward)


def source(policy: Model, rows: list[dict[str, str]]) -> RolloutSource:
    tokenizer = policy.tokenizer
    asked = []
    for number, row in enumerate(rows):
        turns = [{"role": "user", "content": row["question"]}]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        tokens = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
        asked.append(TokenizedPrompt(number, tokens, Task((Message("user", row["question"]),), row["answer"])))
    chosen = algorithm("grpo", max_new_tokens=MOST)
    worker = SingleTurn(
        policy,
        LocalSampler(policy, [tokenizer.eos_token_id], max_positions=256),
        judged,
        lambda tokens: str(tokenizer.decode(tokens, skip_special_tokens=True)),
        SamplingParams(max_new_tokens=MOST),
    )
    settings = RolloutSettings(groups_per_step=PROMPTS, responses_per_prompt=RESPONSES)
    return RolloutSource(asked, worker, Batcher(Credit.of(chosen.credit), settings), seed=0, max_steps=STEPS)


def test_the_flat_twin_has_the_same_curve(tmp_path):
    write_untrained(tmp_path / "model", hidden_size=64, layers=2)
    rows = [{name: str(row[name]) for name in ("question", "answer")} for row in builtin_rows("math", count=5)]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    options = {"steps": STEPS, "prompts-per-step": PROMPTS, "responses-per-prompt": RESPONSES, "max-new-tokens": MOST}
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, str(SCRIPT), str(tmp_path / "model"), str(questions), "--learning-rate", "1e-3", *given]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    flat = [json.loads(line) for line in output.splitlines()]

    policy = load_policy(str(tmp_path / "model"))
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings(learning_rate=1e-3)))
    steps, figures, rewards = source(policy, rows), [], []
    for groups in steps:
        rewards.append(steps.metrics["reward"])
        figures.append(
            trainer.step(groups, PolicyGradient.of(algorithm("grpo", max_new_tokens=MOST).loss), budget=120, factor=1.0)
        )
    assert [line["reward"] for line in flat] == pytest.approx(rewards, rel=1e-6)
    assert len(set(rewards)) > 1
    # Advantages of a group sum to 0, and so does the loss but for rounding; what it does is in its gradient.
    assert [line["loss"] for line in flat] == pytest.approx([float(each["loss"]) for each in figures], abs=1e-6)
    norms = [float(each["grad_norm"]) for each in figures]
    assert [line["grad_norm"] for line in flat] == pytest.approx(norms, rel=1e-3)
    assert min(norms) > 0.01


def test_the_flat_twin_needs_nothing_of_ours():
    text = SCRIPT.read_text()
    assert "import burnish" not in text
    assert "from burnish" not in text
