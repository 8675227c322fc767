"""A longer length extends a run: bit for bit the longer run, or refused with the reason and nothing changed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

import burnish
from burnish.errors import Interrupted, RunError
from burnish.evaluate.evaluator import EvalResult
from burnish.evaluate.held_out import HeldOutLoss
from burnish.runs.extension import LengthKeys
from tests.interrupting import interrupted_at
from tests.stages.small import REWARD, write_world

CLOCKED = {"tokens_per_second", "seconds_per_step", "mfu", "memory_gib", "wall_time_s"}
CLOCKED |= {"rollout/seconds_sampling", "rollout/seconds_grading"}
CONSTANT = {"kind": "constant", "warmup_ratio": 0.0}
LORA = {"kind": "lora", "rank": 2}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


def sft(world: Path, output: Path, **settings: Any) -> burnish.RunResult:
    files = {"model": str(world / "model"), "data": str(world / "train.jsonl"), "output": str(output)}
    sizes = {"sequences_per_step": 8, "learning_rate": 1e-2, "schedule": CONSTANT}
    return burnish.sft(**{**files, **sizes, **settings})


def content(folder: Path) -> dict[str, Any]:
    """All that a run leaves, without what depends on the clock."""
    files = [*folder.glob("model/*.safetensors"), *sorted(folder.glob("checkpoints/*/tensors.safetensors"))[-1:]]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {
        "weights": [hashlib.sha256(path.read_bytes()).hexdigest() for path in files],
        "metrics": [{name: value for name, value in line.items() if name not in CLOCKED} for line in lines],
        "finished": json.loads((folder / "finished.json").read_text()),
        "identity": json.loads((folder / "identity.json").read_text()),
        "data": json.loads((folder / "data.json").read_text()),
    }


def listing(folder: Path) -> dict[str, bytes]:
    """Files of a run folder that a refused extension must not touch."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name not in (".lock", "log.txt"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


SHORT_AND_LONG = {
    "full": ({"max_steps": 3}, {"max_steps": 7}),
    "lora": ({"max_steps": 3, "adapter": LORA}, {"max_steps": 7, "adapter": LORA}),
    "rows that are drawn, then all": ({"max_steps": 2}, {"max_steps": 9}),
    "a last step with fewer rows": ({"epochs": 1.0, "checkpoint_every": 1}, {"epochs": 2.0, "checkpoint_every": 1}),
    "epochs, then steps": ({"epochs": 1.0}, {"max_steps": 6}),
    "stable part of wsd": (
        {"max_steps": 4, "schedule": {"kind": "wsd", "warmup_ratio": 0.0, "decay_ratio": 0.25}},
        {"max_steps": 8, "schedule": {"kind": "wsd", "warmup_ratio": 0.0, "decay_ratio": 0.25}},
    ),
}


@pytest.mark.parametrize("kind", SHORT_AND_LONG)
@pytest.mark.parametrize("evaluated", [False, True], ids=["alone", "evaluated"])
def test_an_extended_run_is_the_longer_run(world, tmp_path, kind, evaluated):
    """Weights, metrics, summary and identity; the evaluation after the shorter run's last step is not in it."""
    short, long = SHORT_AND_LONG[kind]
    more: dict[str, Any] = {"eval_data": str(world / "test.jsonl"), "checkpoints.keep_best": True} if evaluated else {}
    sft(world, tmp_path / "run", **short, **more)
    extended = sft(world, tmp_path / "run", **long, **more)
    whole = sft(world, tmp_path / "whole", **long, **more)
    assert not extended.again
    assert extended.summary == whole.summary
    assert content(extended.folder) == content(whole.folder)
    assert sft(world, tmp_path / "run", **long, **more).again
    log = (extended.folder / "log.txt").read_text()
    assert "the run is extended" in log
    assert "resuming from step" in log
    assert ">finished<" in extended.report.read_text()


def test_rollouts_are_extended_too(world, tmp_path):
    def rl(output: str, steps: int) -> burnish.RunResult:
        sizes = {"groups_per_step": 2, "responses_per_prompt": 3, "max_new_tokens": 4, "reward_workers": 1}
        return burnish.rl(
            model=str(world / "model"),
            data=str(world / "train.jsonl"),
            reward=REWARD,
            output=str(tmp_path / output),
            max_steps=steps,
            schedule=CONSTANT,
            **sizes,
        )

    rl("run", 2)
    assert content(rl("run", 4).folder) == content(rl("whole", 4).folder)


def test_an_interrupted_run_is_extended_too(world, tmp_path):
    with interrupted_at(2), pytest.raises(Interrupted):
        sft(world, tmp_path / "run", max_steps=4)
    extended, whole = (sft(world, tmp_path / name, max_steps=6) for name in ("run", "whole"))
    assert content(extended.folder) == content(whole.folder)


def test_an_extension_that_is_interrupted_goes_on(world, tmp_path):
    sft(world, tmp_path / "run", max_steps=2)
    with interrupted_at(1), pytest.raises(Interrupted):
        sft(world, tmp_path / "run", max_steps=5)
    extended, whole = (sft(world, tmp_path / name, max_steps=5) for name in ("run", "whole"))
    assert content(extended.folder) == content(whole.folder)


REFUSED = {
    "cosine": ({"max_steps": 3, "schedule": {"kind": "cosine"}}, {"max_steps": 6}, "the learning rate of step 2 was"),
    "a warmup that is a share of the run": (
        {"max_steps": 4, "schedule": {"kind": "constant", "warmup_ratio": 0.5}},
        {"max_steps": 8},
        "the learning rate of step 1 was 0.005, and is 0.0025 in 8 steps",
    ),
    "a decay that has begun": (
        {"max_steps": 10, "schedule": {"kind": "wsd", "warmup_ratio": 0.0, "decay_ratio": 0.8}},
        {"max_steps": 20},
        "the learning rate of step",
    ),
    "a last step with fewer rows": (
        {"epochs": 1.0, "checkpoints.keep_last": 1, "checkpoint_every": 4},
        {"epochs": 2.0},
        "the rows of step 4, the last one, are not those of a longer run",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_run_that_would_have_been_another_is_refused(world, tmp_path, kind):
    short, longer, reason = REFUSED[kind]
    done = sft(world, tmp_path / "run", **short)
    before = listing(done.folder)
    with pytest.raises(RunError) as caught:
        sft(world, tmp_path / "run", **{**short, **longer})
    assert reason in caught.value.given
    assert "before" in caught.value.given
    assert f"--model {done.folder}" in caught.value.remedy
    assert listing(done.folder) == before
    assert sft(world, tmp_path / "run", **short).again, "it is finished as before"


def test_a_shorter_length_and_other_settings_are_refused_as_before(world, tmp_path):
    sft(world, tmp_path / "run", max_steps=3)
    for other in ({"max_steps": 2}, {"max_steps": 5, "learning_rate": 0.1}):
        with pytest.raises(RunError, match="was started with other settings"):
            sft(world, tmp_path / "run", **other)


def test_a_run_that_ended_early_is_not_extended(world, tmp_path):
    rule = {
        "eval_data": str(world / "test.jsonl"),
        "eval_every": 1,
        "early_stopping": {"patience": 1, "min_delta": 9.0},
    }
    sft(world, tmp_path / "run", max_steps=4, **rule)
    with pytest.raises(RunError, match="a longer run ends there too"):
        sft(world, tmp_path / "run", max_steps=8, **rule)


def test_data_that_have_changed_are_refused(world, tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_text((world / "train.jsonl").read_text())
    sft(world, tmp_path / "run", max_steps=2, data=str(data))
    data.write_text("\n".join(data.read_text().splitlines()[1:]))
    with pytest.raises(RunError, match="the data of the longer run is not that of the steps that were done"):
        sft(world, tmp_path / "run", max_steps=4, data=str(data))


@pytest.mark.parametrize(
    ("old", "new", "longer"),
    [
        ({"max_steps": 3}, {"max_steps": 4}, True),
        ({"max_steps": 3}, {"max_steps": 3}, False),
        ({"max_steps": 4}, {"max_steps": 3}, False),
        ({}, {"epochs": 2.0}, True),
        ({"epochs": 2.0}, {}, False),
        ({"epochs": 1.0}, {"max_steps": 3}, True),
        ({"max_steps": 3}, {"max_steps": 4, "seed": 1}, False),
    ],
)
def test_which_identities_may_be_longer(old, new, longer):
    keys = LengthKeys("epochs", "max_steps")
    full = {"epochs": None, "max_steps": None, "seed": 0}
    assert keys.may_be_longer({**full, **old}, {**full, **new}) is longer


def test_the_last_stage_of_several_is_extended(world, tmp_path):
    """The stages before it stay as they are, and their lengths may not change."""
    stage = {"data": str(world / "train.jsonl"), "sequences_per_step": 8, "learning_rate": 1e-2, "schedule": CONSTANT}
    recipe = {"model": str(world / "model"), "stages": [{"sft": {**stage, "max_steps": 2}} for _ in range(2)]}
    (tmp_path / "two.yaml").write_text(json.dumps(recipe))

    def run(output: str, *overrides: str) -> burnish.RunResult:
        return burnish.run(tmp_path / "two.yaml", f"output={tmp_path / output}", *overrides)

    run("run")
    longer = "sft-2.max_steps=4"
    assert content(run("run", longer).folder) == content(run("whole", longer).folder)
    with pytest.raises(RunError, match="was started with other settings"):
        run("run", "sft.max_steps=3", longer)


@pytest.mark.parametrize("rule", ["online", "precomputed"])
def test_a_reference_is_that_of_the_longer_run(world, tmp_path, rule, monkeypatch):
    """Precomputed log-probabilities are packed with the rows that a run draws, and may differ in their last bits."""
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))

    def prefer(output: str, steps: int) -> burnish.RunResult:
        return burnish.prefer(
            model=str(world / "model"),
            data=str(world / "pairs.jsonl"),
            output=str(tmp_path / output),
            max_steps=steps,
            sequences_per_step=4,
            learning_rate=1e-3,
            schedule=CONSTANT,
            reference=rule,
            overlong="error",
        )

    done = prefer("run", 2)
    if rule == "online":
        assert content(prefer("run", 4).folder) == content(prefer("whole", 4).folder)
    else:
        before = listing(done.folder)
        with pytest.raises(RunError, match="the reference of the longer run is not that of the steps"):
            prefer("run", 4)
        assert listing(done.folder) == before


def test_the_evaluation_after_the_last_step_is_done_again_if_it_failed(world, tmp_path, monkeypatch):
    """Its checkpoint is from before it, so that a longer run has the same."""
    settings = {"eval_data": str(world / "test.jsonl"), "max_steps": 3, "checkpoints.keep_best": True}
    evaluate, calls = HeldOutLoss.evaluate, []

    def failing(self: HeldOutLoss, *arguments: Any) -> EvalResult:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(HeldOutLoss, "evaluate", failing)
        with pytest.raises(KeyboardInterrupt):
            sft(world, tmp_path / "run", **settings)
    assert (tmp_path / "run" / "checkpoints" / "step-3").is_dir()
    resumed, whole = (sft(world, tmp_path / name, **settings) for name in ("run", "whole"))
    assert content(resumed.folder) == content(whole.folder)
