"""Whole runs with averages, noise and early ends: what they evaluate is what they save, and they go on exactly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import burnish
import burnish.runs.resume
from burnish.builtin.sets import generate, write_rows
from burnish.builtin.tiny import write_untrained
from tests.plain import plain_loss


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "model", hidden_size=32, layers=1)
    write_rows(folder / "train.jsonl", generate(seed=1, count=60))
    write_rows(folder / "test.jsonl", generate(seed=2, count=8))
    return folder


def train(world: Path, output: Path, **settings: object) -> burnish.RunResult:
    files = {name: str(world / file) for name, file in {"model": "model", "data": "train.jsonl"}.items()}
    defaults = {"eval_data": str(world / "test.jsonl"), "max_steps": 8, "sequences_per_step": 6, "learning_rate": 1e-2}
    return burnish.sft(**{**files, "output": str(output), **defaults, **settings})


def metrics(folder: Path, name: str) -> dict[int, float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line[name] for line in lines if name in line}


def weights(folder: Path) -> bytes:
    [file] = (folder / "model").glob("*.safetensors")
    return file.read_bytes()


class PowerCutError(Exception):
    """In place of a power cut."""


def crash_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The run dies when the checkpoint of the step is written; after that, it lives."""
    save = burnish.runs.resume.save_checkpoint

    def save_and_crash(folder, checkpoint, keep, world):
        path = save(folder, checkpoint, keep, world)
        if checkpoint.step == step:
            monkeypatch.setattr(burnish.runs.resume, "save_checkpoint", save)
            raise PowerCutError
        return path

    monkeypatch.setattr(burnish.runs.resume, "save_checkpoint", save_and_crash)


AVERAGED = {
    "schedule-free": {"optimizer": "schedule_free"},
    "ema": {"optimizer.ema_decay": 0.6, "learning_rate": 3e-2},
    "ema of an adapter": {"optimizer.ema_decay": 0.6, "adapter": {"kind": "lora", "rank": 4}, "learning_rate": 5e-2},
}


@pytest.mark.parametrize("way", AVERAGED)
def test_the_average_is_evaluated_and_saved(world, tmp_path, way):
    run = train(world, tmp_path / "run", **AVERAGED[way])
    before, after = metrics(run.folder, "eval/loss").values()
    assert after < before
    assert plain_loss(run.folder / "model", world / "test.jsonl") == pytest.approx(after, rel=1e-5)


ENDED = {"eval_every": 2, "early_stopping": {"patience": 2, "min_delta": 100.0}, "checkpoints.keep_best": True}


def test_early_stopping_ends_the_run_with_its_reason(world, tmp_path):
    """Nothing improves by 100: evaluations before the first step, after 2 and after 4."""
    run = train(world, tmp_path / "run", **ENDED)
    assert list(metrics(run.folder, "train/loss")) == [1, 2, 3, 4]
    assert run.steps == 4
    assert run.summary["stopped_early"].startswith("stopped after step 4: the held-out loss did not fall by more than")
    assert "the schedule is that of all 8 steps" in (run.folder / "log.txt").read_text()
    rates = metrics(train(world, tmp_path / "whole", eval_data=None).folder, "train/learning_rate")
    assert metrics(run.folder, "train/learning_rate") == {step: rates[step] for step in range(1, 5)}
    assert train(world, tmp_path / "run", **ENDED).again


RUINOUS = {"learning_rate": 0.5, "optimizer.max_grad_norm": None, "max_steps": 4, "eval_every": 4}


def test_the_best_is_what_is_saved(world, tmp_path):
    """A rate that ruins the model: what it was before the first step is the best."""
    run = train(world, tmp_path / "run", **RUINOUS, **{"checkpoints.keep_best": True})
    losses = metrics(run.folder, "eval/loss")
    assert losses[0] < losses[4]
    assert run.summary["best_step"] == 0
    assert plain_loss(run.folder / "model", world / "test.jsonl") == pytest.approx(losses[0], rel=1e-5)
    begun, ended = (AutoModelForCausalLM.from_pretrained(f / "model").state_dict() for f in (world, run.folder))
    assert all(torch.equal(begun[name], ended[name]) for name in begun)


WAYS = {
    "average, noise and an early end": {**ENDED, "optimizer.ema_decay": 0.6, "neftune_alpha": 5.0},
    "the best, with schedule-free": {"eval_every": 2, "checkpoints.keep_best": True, "optimizer": "schedule_free"},
    "rounded by chance": {
        "dtype": "bfloat16",
        "optimizer": {"kind": "lion", "stochastic_rounding": True},
        "neftune_alpha": 5.0,
    },
}


@pytest.mark.parametrize("step", [2, 4])
@pytest.mark.parametrize("way", WAYS)
def test_interrupted_and_gone_on_with_is_undisturbed(world, tmp_path, monkeypatch, way, step):
    """At step 4 the first of them is over: it only has to be written."""
    settings = {**WAYS[way], "checkpoint_every": 2}
    whole = train(world, tmp_path / "whole", **settings)
    crash_after(monkeypatch, step)
    with pytest.raises(PowerCutError):
        train(world, tmp_path / "run", **settings)
    gone_on = train(world, tmp_path / "run", **settings)
    assert weights(gone_on.folder) == weights(whole.folder)
    assert gone_on.summary == whole.summary
    assert metrics(gone_on.folder, "train/loss") == metrics(whole.folder, "train/loss")


def test_noise_is_for_training_alone_and_no_matter_of_packing(world, tmp_path):
    plain = train(world, tmp_path / "plain", max_steps=3)
    noisy = train(world, tmp_path / "noisy", max_steps=3, neftune_alpha=15.0)
    small = train(world, tmp_path / "small", max_steps=3, neftune_alpha=15.0, tokens_per_microbatch=120)
    first = [metrics(run.folder, "eval/loss")[0] for run in (plain, noisy)]
    assert first[0] == first[1]
    losses = [metrics(run.folder, "train/loss")[1] for run in (plain, noisy, small)]
    assert losses[1] != pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[1], rel=1e-6)


def test_a_rehearsal_changes_no_bit(world, tmp_path):
    settings = {"max_steps": 2, "adapter": {"kind": "lora", "rank": 4, "dropout": 0.3}}
    plain, rehearsed = (train(world, tmp_path / str(r), dry_run=r, **settings) for r in (False, True))
    assert weights(plain.folder) == weights(rehearsed.folder)
