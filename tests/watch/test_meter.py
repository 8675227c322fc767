"""The meter: every step its line, nothing read before it is due, and nothing that is not finite passes."""

from __future__ import annotations

import math

import pytest
import torch

from burnish.errors import DivergenceError
from burnish.watch.meter import Meter
from burnish.watch.peak import measured_peak

CPU = torch.device("cpu")


class Written(list):
    """Lines as metrics.jsonl would have them."""

    def __call__(self, lines):
        self.extend(line.to_line() for line in lines)


def make_meter() -> tuple[Meter, Written]:
    written = Written()
    return Meter("sft", written, CPU, torch.float32), written


def test_a_line_for_every_step_and_means_for_people():
    meter, written = make_meter()
    for step, loss in enumerate([3.0, 2.0, 1.0], start=1):
        meter.record(step, {"train/loss": torch.tensor(loss), "train/learning_rate": 0.5}, tokens=10, flops=1e3)
    assert not written, "nothing is read before it is due"
    means = meter.flush()
    assert [(line["step"], line["train/loss"]) for line in written] == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert all(line["stage"] == "sft" for line in written)
    assert means["train/loss"] == 2.0
    assert means["tokens_per_second"] > 0
    assert meter.flush() == {}
    assert len(written) == 3


def test_speeds_agree_with_each_other():
    """All of them are of one time: three steps of 10 tokens and 2000 FLOPs, on the measured peak."""
    meter, written = make_meter()
    for step in (1, 2, 3):
        meter.record(step, {}, tokens=10, flops=2e3)
    means = meter.flush()
    seconds = 3 * means["seconds_per_step"]
    assert means["tokens_per_second"] == pytest.approx(30 / seconds)
    assert means["mfu"] == pytest.approx(6e3 / seconds / measured_peak(CPU, torch.float32))
    assert means["memory_gib"] > 0.05, "torch alone is larger"
    assert {name: written[0][name] for name in means} == means


def test_metrics_are_not_read_when_they_are_recorded():
    """A tensor that changes until the flush is read at the flush: there was no synchronisation before."""
    meter, written = make_meter()
    loss = torch.tensor(1.0)
    meter.record(1, {"train/loss": loss}, tokens=1, flops=1.0)
    loss.fill_(7.0)
    meter.flush()
    assert written[0]["train/loss"] == 7.0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_stops_the_run_and_is_on_record(value):
    meter, written = make_meter()
    meter.record(1, {"train/loss": torch.tensor(1.0)}, tokens=1, flops=1.0)
    meter.record(2, {"train/loss": torch.tensor(value)}, tokens=1, flops=1.0)
    with pytest.raises(DivergenceError, match="step 2"):
        meter.flush()
    assert len(written) == 2
    with pytest.raises(DivergenceError, match="eval/loss"):
        meter.write_now(3, {"eval/loss": torch.tensor(value)})
    assert len(written) == 3
