"""The counters of a stage: they rise with every step, and go on when a run goes on."""

from __future__ import annotations

import pytest

from burnish.watch import run_counters as module
from burnish.watch.curves import collect
from burnish.watch.journal_lines import MetricsLine
from burnish.watch.run_counters import RunCounters


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its only number is the time."""
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def test_counters_go_on_when_a_run_goes_on(clock):
    whole, first, second = RunCounters(), RunCounters(), RunCounters()
    whole.begin()
    first.begin()
    clock[0] += 2.0
    expected = {"epoch": 0.5, "samples_seen": 8, "tokens_seen": 90, "wall_time_s": 2.0}
    assert whole.count(samples=8, tokens=90, epoch=0.5) == first.count(samples=8, tokens=90, epoch=0.5) == expected
    clock[0] += 1.0
    second.load_state_dict(*first.state_dict())
    assert second.state_dict() == first.state_dict() == ({}, {"samples": 8, "tokens": 90, "seconds": 3.0})
    second.begin()
    clock[0] += 4.0
    assert second.count(samples=8, tokens=10, epoch=1.0) == whole.count(samples=8, tokens=10, epoch=1.0)
    assert second.state_dict()[1] == {"samples": 16, "tokens": 100, "seconds": 7.0}


def test_time_before_the_first_step_does_not_count(clock):
    seen = RunCounters()
    clock[0] += 50.0
    seen.begin()
    assert seen.count(samples=1, tokens=1, epoch=1.0)["wall_time_s"] == 0.0


def test_counters_are_not_drawn_as_curves():
    line = MetricsLine("sft", 1, {"train/loss": 2.0, **RunCounters().count(samples=1, tokens=2, epoch=0.1)})
    assert set(collect([line])) == {"loss"}
