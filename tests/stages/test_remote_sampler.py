"""Stages of reinforcement learning whose sampler is elsewhere: in a thread, with a copy of the weights.

Loop and step are those of every stage. With the newest weights the run is the same bit for bit; one version behind, it
learns by ratios to what the sampler reported.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import burnish
from burnish.builtin.sets import builtin_rows, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.errors import Interrupted, RecipeError
from burnish.train.learner import Learner
from burnish.types import Group
from tests.interrupting import interrupted_at

REMOTE = Path(__file__).parents[1] / "sampling" / "remote.py"
TIMED = ("seconds", "per_second", "wall_time", "memory", "mfu")
"""Parts of the names of metrics that measure the machine."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "model", hidden_size=32, layers=1)
    write_rows(folder / "math.jsonl", builtin_rows("math", count=40))
    write_rows(folder / "test.jsonl", builtin_rows("math", "test", count=8))
    return folder


def run(world: Path, output: Path, kind: str, recipe: dict[str, Any] | None = None, **changed: Any) -> Path:
    settings = {
        "data": str(world / "math.jsonl"),
        "eval_data": str(world / "test.jsonl"),
        "reward": {"name": "length", "target": 8, "tolerance": 20, "unit": "characters"},
        "reward_workers": 1,
        "groups_per_step": 2,
        "responses_per_prompt": 3,
        "max_new_tokens": 5,
        "max_steps": 4,
        "eval_every": 2,
        "log_every": 1,
        "log_samples_every": 1,
        "checkpoint_every": 1,
        "learning_rate": 1e-2,
        **changed,
    }
    stage = kind if kind == "rl" else f"{REMOTE}:{kind}"
    path = output.with_suffix(".yaml")
    path.write_text(yaml.safe_dump({"model": str(world / "model"), "stages": [{stage: settings}], **(recipe or {})}))
    return burnish.run(path, f"output={output}").folder


def lines(folder: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    """Lines of a journal, without the stage's name and what measures the machine."""
    found = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key != "stage" and not any(part in key for part in TIMED)}
        for line in found
    ]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    [path] = (folder / "model").glob("*.safetensors")
    return load_file(path)


@pytest.mark.parametrize(
    ("recipe", "changed"),
    [
        ({}, {}),
        ({"adapter": {"kind": "lora", "rank": 2}}, {}),
        ({}, {"updates_per_batch": 2, "optimizer": {"ema_decay": 0.5}}),
    ],
    ids=["full", "lora", "several updates, averaged weights evaluated"],
)
def test_with_the_newest_weights_the_run_is_the_same(world, tmp_path, recipe, changed):
    """Weights, metrics, evaluations and samples, bit for bit."""
    here = run(world, tmp_path / "here", "rl", recipe, **changed)
    remote = run(world, tmp_path / "remote", "RemoteRl", recipe, **changed)
    mine, theirs = weights(here), weights(remote)
    assert mine.keys() == theirs.keys()
    assert all(mine[name].equal(theirs[name]) for name in mine)
    for name in ("metrics.jsonl", "samples.jsonl"):
        assert lines(here, name) == lines(remote, name)
    assert len(lines(here, "samples.jsonl")) > 8


RATIOS = {"policy_gradient": {"old_logprobs": "sampler"}}


def test_one_version_behind_it_learns_by_the_sampler_s_probabilities(world, tmp_path, monkeypatch):
    """Each step's responses are of the weights before the last update; the clip sees ratios that differ from 1."""
    versions, step = [], Learner.step

    def recorded(self: Learner, groups: Sequence[Group], number: int) -> object:
        versions.append({int(version) for group in groups for r in group.responses for version in r.policy_version})
        return step(self, groups, number)

    monkeypatch.setattr(Learner, "step", recorded)
    folder = run(world, tmp_path / "stale", "StaleRl", learning_rate=0.1, **RATIOS)
    assert versions == [{0}, {0}, {1}, {2}]
    clipped = {line["step"]: line["train/clip_fraction"] for line in lines(folder) if "train/loss" in line}
    assert clipped.keys() == {1, 2, 3, 4}
    assert clipped[1] == 0 < clipped[3]
    assert "is not deterministic" in (folder / "log.txt").read_text()


def test_a_ratio_of_1_is_refused_for_older_weights(world, tmp_path):
    with pytest.raises(RecipeError, match="up to 1 steps behind") as caught:
        run(world, tmp_path / "refused", "StaleRl")
    assert "old_logprobs: sampler" in str(caught.value)


def test_an_interrupted_stage_trains_on_every_step_once(world, tmp_path):
    """Its sampler begins again with the newest weights, so the run differs; but no step is lost or repeated."""
    with interrupted_at(2), pytest.raises(Interrupted):
        run(world, tmp_path / "stale", "StaleRl", **RATIOS)
    folder = run(world, tmp_path / "stale", "StaleRl", **RATIOS)
    assert [line["step"] for line in lines(folder) if "train/loss" in line] == [1, 2, 3, 4]
    assert [line["step"] for line in lines(folder) if "eval/reward" in line] == [0, 2, 4]
