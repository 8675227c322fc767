"""Whole runs on CUDA: every kind of training, what it measures, and that a killed run goes on to the same bits."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import burnish

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

STEPS = 4
LENGTH = {"name": "length", "target": 8, "tolerance": 20, "unit": "characters"}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "sft": ("sft", {"data": "train.jsonl"}),
    "sft, bfloat16": ("sft", {"data": "train.jsonl", "dtype": "bfloat16"}),
    "lora": ("sft", {"data": "train.jsonl", "adapter.kind": "lora", "gradient_checkpointing": True}),
    "qlora": ("sft", {"data": "train.jsonl", "adapter.kind": "qlora", "dtype": "bfloat16"}),
    "turns": ("sft", {"data": "turns.jsonl", "chat_template": "forgetful.jinja"}),
    "dpo, turns": ("prefer", {"data": "pairs-of-turns.jsonl", "chat_template": "forgetful.jinja"}),
    "dpo": ("prefer", {"data": "pairs.jsonl"}),
    "kto": ("prefer", {"data": "labelled.jsonl", "loss": "kto"}),
    "reward": ("reward", {"data": "pairs.jsonl", "add_tokens": ["<|pad|>"]}),
    "rl": ("rl", {"data": "math.jsonl", "kl_coef": 0.1}),
    "ppo": ("ppo", {"data": "math.jsonl", "critic.learning_rate": 1e-3, "critic.value_clip": 0.2}),
    "ppo, lora": ("ppo", {"data": "math.jsonl", "adapter.kind": "lora", "kl_limit": 1.0}),
    "distill": ("distill", {"data": "math.jsonl", "divergence": "forward_kl"}),
    "distill, full": ("distill", {"data": "math.jsonl", "loss": "full", "divergence": "jsd"}),
    "distill, gradient": ("distill", {"data": "math.jsonl", "loss": "policy_gradient"}),
    "distill, table": ("distill", {"data": "math.jsonl", "response_source": "data"}),
    "distill, text": ("distill", {"data": "math.jsonl", "response_source": "teacher", "loss": "cross_entropy"}),
    "distill, self": (
        "distill",
        {"data": "math.jsonl", "adapter.kind": "lora", "teacher": {"model": "student", "context": "Be brief."}},
    ),
    "rl, entropy": ("rl", {"data": "math.jsonl", "policy_gradient.entropy_target": 3.0}),
}


def settings(kind: str, world: Path, device: torch.device) -> tuple[str, dict[str, Any]]:
    method, own = KINDS[kind]
    sizes: dict[str, Any] = {"max_steps": STEPS, "log_every": 1, "learning_rate": 1e-3, "tokens_per_microbatch": 600}
    if method in ("rl", "ppo"):
        sizes |= {
            "groups_per_step": 2,
            "responses_per_prompt": 3,
            "max_new_tokens": 6,
            "reward_workers": 1,
            "reward": LENGTH,
        }
    elif method == "distill":
        sizes |= {"groups_per_step": 2, "max_new_tokens": 6, "teacher": {"model": str(world / "teacher")}}
    else:
        sizes |= {"sequences_per_step": 8, "max_length": 300, "overlong": "drop"}
    data = {"model": str(world / "model"), "data": str(world / own["data"])}
    if "chat_template" in own:
        data["chat_template"] = str(world / own["chat_template"])
    return method, {**sizes, **own, **data, "device": device.type}


def train(kind: str, world: Path, output: Path, device: torch.device, **more: Any) -> list[dict[str, Any]]:
    """The lines of its steps."""
    method, given = settings(kind, world, device)
    getattr(burnish, method)(output=str(output), **{**given, **more})
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "train/loss" in line]


@pytest.mark.parametrize("kind", KINDS)
def test_it_trains(world, tmp_path, device, figures, kind):
    if kind == "qlora":
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    lines = train(kind, world, tmp_path / "run", device)
    assert len(lines) == STEPS
    assert all(math.isfinite(line["train/loss"]) and line["train/grad_norm"] > 0 for line in lines)
    assert (tmp_path / "run" / "model").is_dir()
    told = (tmp_path / "run" / "log.txt").read_text()
    assert "forward of its own" not in told, "packed attention was not computed"
    assert "once per response" not in told, "prompts were not shared"
    figures[f"training/{kind}/seconds_per_step"] = lines[-1]["seconds_per_step"]
    figures[f"training/{kind}/memory_gib"] = lines[-1]["memory_gib"]


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_losses_are_those_of_a_cpu(world, tmp_path, device, kind):
    there, here = (
        [line["train/loss"] for line in train(kind, world, tmp_path / where.type, where)]
        for where in (device, torch.device("cpu"))
    )
    assert there == pytest.approx(here, rel=2e-3)


def digests(output: Path) -> dict[str, str]:
    files = sorted((output / "model").glob("*.safetensors"))
    assert files, "a finished run has written weights"
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("kind", ["sft", "rl", "ppo", "distill"])
def test_a_killed_run_goes_on_to_the_same_bits(world, tmp_path, device, kind):
    """With `deterministic: true`, the default: killed by SIGKILL after a checkpoint, in a process of its own."""
    every = {"checkpoint_every": 1, "checkpoints": {"keep_last": 1}}
    train(kind, world, tmp_path / "whole", device, **every)
    kill(kind, world, tmp_path / "killed", device, every)
    train(kind, world, tmp_path / "killed", device, **every)
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


def kill(kind: str, world: Path, output: Path, device: torch.device, more: dict[str, Any]) -> None:
    """Runs it until it says that the second step is done, and has it killed by itself: whoever watches comes late."""
    method, given = settings(kind, world, device)
    job = output.with_suffix(".yaml")
    job.write_text(yaml.safe_dump({"method": method, "output": str(output), **given, **more}))
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    process = subprocess.run(
        [sys.executable, Path(__file__).parent / "killed.py", job], env={**os.environ, "PYTHONPATH": paths}, check=False
    )
    assert process.returncode == -signal.SIGKILL
    assert list((output / "checkpoints").glob("step-*"))
