"""Runs whose rows are left out: an epoch is the usable rows, and neither cache nor interruption leaves a trace."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import burnish
import burnish.data.streaming
from burnish.builtin.sets import write_rows
from burnish.builtin.tiny import write_untrained
from burnish.errors import Interrupted
from burnish.train.step import Trainer
from tests.interrupting import interrupted_at

ROWS, USABLE, PER_STEP = 200, 80, 20
CLOCKED = {"tokens_per_second", "seconds_per_step", "mfu", "memory_gib", "wall_time_s"}


def answer(row: int) -> str:
    """Of two rows in five within the limit."""
    return f"It is {row}." if row % 5 < 2 else f"It is {row}, " * 40


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "model", hidden_size=32, layers=1)
    rows = [{"question": f"What is {row}?", "answer": answer(row)} for row in range(ROWS)]
    write_rows(folder / "rows.jsonl", rows)
    write_rows(folder / "broken.jsonl", [{**row, "answer": None} if i % 5 > 1 else row for i, row in enumerate(rows)])
    write_rows(folder / "short.jsonl", [row for row in rows if len(row["answer"]) < 20])
    pairs = [{"prompt": f"What is {row}?", "chosen": answer(row), "rejected": "I do not know."} for row in range(ROWS)]
    write_rows(folder / "pairs.jsonl", pairs)
    return folder


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[list[object]]:
    """The rows of every step that was trained."""
    steps: list[list[object]] = []
    step = Trainer.step

    def noted(self, groups, *rest):
        steps.append([group.metadata["row"] for group in groups if not group.scored_only])
        return step(self, groups, *rest)

    monkeypatch.setattr(Trainer, "step", noted)
    return steps


def run(world: Path, output: Path, stage: str = "sft", data: str = "rows.jsonl", **settings: object):
    given = {
        "sequences_per_step": PER_STEP,
        "max_length": 64,
        "overlong": "drop",
        "learning_rate": 1e-2,
        "log_every": 1,
    }
    files = {"model": str(world / "model"), "data": str(world / data), "output": str(output)}
    return getattr(burnish, stage)(**files, **{**given, **settings})


def metrics(done: burnish.RunResult) -> list[dict[str, object]]:
    """Lines of training, without what depends on the clock and the process."""
    lines = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in CLOCKED} for line in lines if "train/loss" in line]


def weights(done: burnish.RunResult) -> bytes:
    [path] = (done.folder / "model").glob("*.safetensors")
    return path.read_bytes()


def usable() -> list[int]:
    return [row for row in range(ROWS) if row % 5 < 2]


@pytest.mark.parametrize(
    ("stage", "data", "settings"),
    [
        ("sft", "rows.jsonl", {}),
        ("sft", "broken.jsonl", {"max_invalid_fraction": 0.7, "overlong": "error"}),
        ("prefer", "pairs.jsonl", {"reference": "precomputed"}),
        ("prefer", "pairs.jsonl", {"reference": "online"}),
        ("reward", "pairs.jsonl", {"add_tokens": ["<|pad|>"]}),
    ],
    ids=["sft", "unusable", "prefer", "prefer-online", "reward"],
)
def test_an_epoch_is_one_pass_over_the_usable_rows(world, tmp_path, drawn, stage, data, settings):
    """The second line of the audit: in version 0.1.0, 200 draws, rows 1 to 9 times, 112 of them twice in a step."""
    done = run(world, tmp_path / "run", stage, data, **settings)
    assert done.summary["steps"] == len(drawn) == USABLE // PER_STEP
    assert all(len(step) == len(set(step)) == PER_STEP for step in drawn)
    assert sorted(row for step in drawn for row in step) == usable()
    log = (done.folder / "log.txt").read_text()
    assert "80 of 200 rows are usable (120 " in log
    assert "are left out); an epoch is 80 rows, 4 steps" in log
    if data == "broken.jsonl":
        unusable = [json.loads(line)["where"] for line in (done.folder / "unusable.jsonl").read_text().splitlines()]
        assert [int(where.rpartition(" ")[2]) - 1 for where in unusable] == [
            r for r in range(ROWS) if r not in usable()
        ]


def test_a_short_run_draws_different_usable_rows(world, tmp_path, drawn):
    """The third line of the audit: in version 0.1.0, 40 draws of 15 rows. They are what a long run draws first."""
    run(world, tmp_path / "short", max_steps=2)
    short = list(drawn)
    assert len({row for step in short for row in step}) == 2 * PER_STEP
    drawn.clear()
    run(world, tmp_path / "long")
    assert drawn[:2] == short


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_a_broken_epoch_is_that_share_of_it(world, tmp_path, drawn, share):
    """Whether rows may be left out or not, so whether all of them are read or only those that are drawn."""
    for data, overlong in (("rows.jsonl", "drop"), ("short.jsonl", "error")):
        drawn.clear()
        done = run(world, tmp_path / f"run-{overlong}", data=data, overlong=overlong, epochs=share)
        rows = [row for step in drawn for row in step]
        assert len(rows) == len(set(rows)) == share * USABLE
        assert metrics(done)[-1]["epoch"] == share


def test_steps_in_which_epochs_meet_have_no_row_twice(world, tmp_path, drawn):
    done = run(world, tmp_path / "run", epochs=3, sequences_per_step=24)
    assert len(drawn) == done.summary["steps"] == 3 * USABLE // 24
    assert all(len(set(step)) == 24 for step in drawn)
    flat = [row for step in drawn for row in step]
    assert all(sorted(flat[start : start + USABLE]) == usable() for start in (0, USABLE, 2 * USABLE))


def test_a_step_of_more_rows_than_there_are_has_all_of_them(world, tmp_path, drawn):
    done = run(world, tmp_path / "run", max_steps=2, sequences_per_step=500)
    assert [sorted(step) for step in drawn] == [usable(), usable()]
    assert "an epoch is 80 rows, 1 step" in (done.folder / "log.txt").read_text()


def test_neither_cache_nor_size_leaves_a_trace(world, tmp_path, drawn, monkeypatch):
    """The set in the cache or not, and counted as a small or as a large one."""
    runs = []
    for size in (10, 1000):
        monkeypatch.setattr(burnish.data.streaming, "AT_ONCE", size)
        monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / f"cache-{size}"))
        for name in ("new", "known"):
            drawn.clear()
            done = run(world, tmp_path / f"{name}-{size}", epochs=1.5)
            runs.append((weights(done), metrics(done), done.summary, list(drawn)))
    assert all(each == runs[0] for each in runs)


@pytest.mark.parametrize("stage", ["sft", "prefer"])
@pytest.mark.parametrize("cached", [True, False], ids=["cached", "not cached"])
def test_an_interrupted_run_ends_as_an_undisturbed_one(world, tmp_path, monkeypatch, stage, cached):
    """Weights, and every figure that no clock decides: the epoch, samples and tokens go on where they were."""
    data = "rows.jsonl" if stage == "sft" else "pairs.jsonl"
    settings = {"epochs": 2.5, "sequences_per_step": 24}
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    whole = run(world, tmp_path / "whole", stage, data, **settings)
    with interrupted_at(5), pytest.raises(Interrupted):
        run(world, tmp_path / "cut", stage, data, **settings)
    if not cached:
        shutil.rmtree(tmp_path / "cache")
    again = run(world, tmp_path / "cut", stage, data, **settings)
    assert weights(again) == weights(whole)
    assert metrics(again) == metrics(whole)


def test_counters_of_a_stage(world, tmp_path):
    done = run(world, tmp_path / "run", epochs=2, sequences_per_step=30)
    raw = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in raw if "train/loss" in line]
    draws = [min(30 * step, 2 * USABLE) for step in range(1, len(lines) + 1)]
    assert [line["samples_seen"] for line in lines] == draws
    assert [line["epoch"] for line in lines] == [count / USABLE for count in draws]
    [card] = json.loads((done.folder / "data.json").read_text())["stages"]
    assert lines[-1]["tokens_seen"] == 2 * card["sets"][0]["tokens"]
    times = [line["wall_time_s"] for line in lines]
    assert times == sorted(times)
    assert times[0] > 0
    assert "epoch 2 " in (done.folder / "log.txt").read_text()


def test_comparisons_count_every_response(world, tmp_path):
    last = metrics(run(world, tmp_path / "run", "prefer", "pairs.jsonl", loss="kto", max_steps=2))[-1]
    assert (last["samples_seen"], last["epoch"]) == (2 * 2 * PER_STEP, 2 * PER_STEP / USABLE)


def test_sources_keep_their_share_of_what_is_usable(world, tmp_path, drawn):
    """Rows that are left out of one source are not replaced by rows of another."""
    sources = [
        {"path": str(world / "rows.jsonl"), "name": "long"},
        {"path": str(world / "short.jsonl"), "name": "short", "weight": 2},
    ]
    done = burnish.sft(
        model=str(world / "model"), data=sources, output=str(tmp_path / "run"), max_length=64, overlong="drop",
        sequences_per_step=PER_STEP, learning_rate=1e-2,
    )  # fmt: skip
    rows = [row for step in drawn for row in step]
    assert len(rows) == len(set(rows)) == USABLE + 2 * USABLE
    assert sum(row < ROWS for row in rows) == USABLE
    log = (done.folder / "log.txt").read_text()
    assert "long: 80 of 200 rows are usable, 33% of an epoch" in log
    assert "short: 160 of 160 rows are usable, 67% of an epoch" in log
