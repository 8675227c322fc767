"""A stage in which no response is better than another leaves the weights as they were, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import burnish
from burnish.builtin.sets import builtin_rows, write_rows
from burnish.builtin.tiny import write_untrained

REWARDS = """
def same(answer):
    return 0.7

def none(answer):
    return 0.0
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "model", hidden_size=32, layers=1)
    write_rows(folder / "math.jsonl", builtin_rows("math", count=8))
    (folder / "rewards.py").write_text(REWARDS)
    return folder


def run(world: Path, output: Path, **settings: Any) -> burnish.RunResult:
    reward: Any = f"{world / 'rewards.py'}:same"
    if settings.get("algorithm") == "gdpo":
        reward = [reward, f"{world / 'rewards.py'}:none"]
    rest = {
        "reward": reward,
        "reward_workers": 1,
        "groups_per_step": 2,
        "responses_per_prompt": 8,
        "max_steps": 3,
    }
    rest |= {"max_new_tokens": 4, "log_every": 1, "learning_rate": 1e-2, "schedule": "constant"}
    model, data = str(world / "model"), str(world / "math.jsonl")
    return burnish.rl(model=model, data=data, output=str(output), **{**rest, **settings})


def moved(world: Path, done: burnish.RunResult) -> bool:
    before, after = load_file(world / "model" / "model.safetensors"), load_file(done.folder / "model/model.safetensors")
    return not all(torch.equal(before[name], after[name]) for name in before)


def steps(done: burnish.RunResult) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "train/loss" in line]


@pytest.mark.parametrize("algorithm", ["grpo", "rloo", "reinforce_pp", "gdpo", "online_dpo"])
def test_equal_rewards_move_no_weight(world, tmp_path, algorithm):
    rest: dict[str, Any] = {"optimizer.weight_decay": 0.1} | (
        {} if algorithm == "reinforce_pp" else {"max_resamples": 1}
    )
    done = run(world, tmp_path / "run", algorithm=algorithm, **rest)
    assert not moved(world, done)
    assert [(line["train/skipped"], line["train/grad_norm"]) for line in steps(done)] == [(1, 0)] * 3
    assert len({line["train/learning_rate"] for line in steps(done)}) == 1


def test_what_else_the_loss_has_still_moves_them(world, tmp_path):
    done = run(world, tmp_path / "run", **{"policy_gradient.entropy_coef": 0.01})
    assert moved(world, done)
    assert not any("train/skipped" in line for line in steps(done))


def test_the_cause_is_told(world, tmp_path):
    done = run(world, tmp_path / "run")
    lines = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    [message] = [line["message"] for line in lines if "alert" in line]
    assert "all responses to a prompt get the same reward" in message
