"""Vision-language models on CUDA: packed images are those of plain sequences, and every stage trains as on a CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import burnish
from burnish.model.route import Route
from tests.vision.equality import difference
from tests.vision.small import FAMILIES

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

BOUNDS = {torch.float64: (1e-6, 1e-5), torch.float32: (1e-3, 1e-2)}
"""Of a log-probability in nats and of a gradient, see `tests.gpu.test_attention`; towers round to float32 in places."""
SIZES: dict[str, Any] = {"max_steps": 3, "log_every": 1, "learning_rate": 1e-3, "chat_template": "chatml"}
ROLLOUTS = {"groups_per_step": 4, "responses_per_prompt": 4, "max_new_tokens": 8, "reward_workers": 1}
STAGES: dict[str, dict[str, Any]] = {
    "sft": {"data": {"path": "builtin:shapes", "count": 24}, "sequences_per_step": 8},
    "prefer": {"data": {"path": "builtin:shapes-preferences", "count": 24}, "sequences_per_step": 8},
    "rl": {"data": {"path": "builtin:shapes-counting", "count": 24}, "reward": "number", **ROLLOUTS},
}


@pytest.mark.parametrize("dtype", BOUNDS, ids=["float64", "float32"])
@pytest.mark.parametrize("small", FAMILIES, ids=lambda small: small.name)
def test_packed_images_are_plain_sequences(device, figures, small, dtype, tmp_path, monkeypatch):
    """Shared prompts with images, in turns, beside text; blocks of images that see each other in both directions."""
    found = difference(small, tmp_path, Route.SHARED, 10_000, monkeypatch, device=device, dtype=dtype)
    figures[f"vision/{small.name}/{dtype}/logprob"] = found.logprob
    figures[f"vision/{small.name}/{dtype}/gradient"] = found.gradient
    assert found.logprob < BOUNDS[dtype][0]
    assert found.gradient < BOUNDS[dtype][1], found.worst
    assert found.into_tower > 1e-6


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_trains_as_on_a_cpu(device, figures, stage, tmp_path):
    """The first step of the same rows; of rl, whose responses may differ in a near tie, that it ends with finite
    losses and the tower's gradient."""
    own = {"model": "builtin:tiny-vision", "vision.tower": "trained", **SIZES, **STAGES[stage]}
    train = getattr(burnish, stage)
    found = train(output=str(tmp_path / "here"), device=device.type, **own)
    losses = [line["train/loss"] for line in found.metrics if "train/loss" in line]
    assert len(losses) == SIZES["max_steps"]
    assert all(torch.isfinite(torch.tensor(losses)))
    figures[f"vision/{stage}/last_step_seconds"] = _seconds(found.folder)
    if stage == "rl":
        return
    wanted = train(output=str(tmp_path / "cpu"), device="cpu", **own)
    first = next(line["train/loss"] for line in wanted.metrics if "train/loss" in line)
    assert losses[0] == pytest.approx(first, rel=1e-3)


def _seconds(folder: Path) -> float:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return float([line for line in lines if "train/loss" in line][-1]["seconds_per_step"])
