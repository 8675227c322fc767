"""The meter: every step its line, nothing read before it is due, and nothing that is not finite passes."""

from __future__ import annotations

import math

import pytest
import torch

from burnish.errors import DivergenceError
from burnish.watch import Meter


class Written(list):
    """Lines as metrics.jsonl would have them."""

    def __call__(self, lines):
        self.extend(lines)


def test_a_line_for_every_step_and_means_for_people():
    written = Written()
    meter = Meter("sft", written)
    for step, loss in enumerate([3.0, 2.0, 1.0], start=1):
        meter.record(step, {"train/loss": torch.tensor(loss), "train/learning_rate": 0.5}, tokens=10)
    assert not written, "nothing is read before it is due"
    means = meter.flush()
    assert [(line["step"], line["train/loss"]) for line in written] == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert all(line["stage"] == "sft" for line in written)
    assert means["train/loss"] == 2.0
    assert means["tokens_per_second"] > 0
    assert meter.flush() == {}
    assert len(written) == 3


def test_figures_are_not_read_when_they_are_recorded():
    """A tensor that changes until the flush is read at the flush: there was no synchronisation before."""
    written = Written()
    meter = Meter("sft", written)
    loss = torch.tensor(1.0)
    meter.record(1, {"train/loss": loss}, tokens=1)
    loss.fill_(7.0)
    meter.flush()
    assert written[0]["train/loss"] == 7.0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_stops_the_run_and_is_on_record(value):
    written = Written()
    meter = Meter("sft", written)
    meter.record(1, {"train/loss": torch.tensor(1.0)}, tokens=1)
    meter.record(2, {"train/loss": torch.tensor(value)}, tokens=1)
    with pytest.raises(DivergenceError, match="step 2"):
        meter.flush()
    assert len(written) == 2
    with pytest.raises(DivergenceError, match="eval/loss"):
        meter.write_now(3, {"eval/loss": torch.tensor(value)})
    assert len(written) == 3
