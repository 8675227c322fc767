"""Journal lines: what is written is read back, whatever else a file has, and a line that is no record is skipped."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.runs.json_value import strict_text
from burnish.watch.journal_lines import (
    AlertLine,
    EvalSample,
    MetricsLine,
    RolloutSample,
    SampleLine,
    read_metrics,
    read_samples,
)

numbers = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(max_size=8)
places = {"stage": names, "step": st.integers(0, 2**40)}
metric_names = st.sampled_from(["train/loss", "eval/reward", "rollout/entropy", "samples_seen", "mfu"])
metrics_lines = st.builds(
    MetricsLine, **places, metrics=st.dictionaries(metric_names, numbers | st.integers(0, 2**40), max_size=5)
)
alert_lines = st.builds(AlertLine, **places, alert=names, message=st.text(), count=st.integers(1))
eval_samples = st.from_type(EvalSample)
rollout_samples = st.builds(
    RolloutSample,
    reward=numbers,
    logprob=numbers,
    advantage=st.none() | numbers,
    parts=st.dictionaries(names, numbers | names | st.none(), max_size=3),
    contributions=st.dictionaries(names, numbers, max_size=3),
)
sample_lines = st.builds(SampleLine, **places, sample=eval_samples | rollout_samples)
records = metrics_lines | alert_lines | sample_lines


def written(record) -> dict:
    """The JSON object of a line as it is in a file."""
    return json.loads(strict_text(record.to_line()))


@given(records)
def test_a_line_is_read_as_it_was_written(record):
    assert type(record).from_line(written(record)) == record


@given(records)
def test_a_record_has_all_of_its_line(record):
    """In the order of the file."""
    assert list(type(record).from_line(written(record)).to_line().items()) == list(written(record).items())


@given(alert_lines | sample_lines)
def test_unknown_fields_are_ignored(record):
    assert type(record).from_line({**written(record), "new in a later version": [1]}) == record


@given(metrics_lines)
def test_values_that_are_no_numbers_are_left_out(record):
    assert MetricsLine.from_line({**written(record), "a": "text", "b": True, "c": [1]}) == record


@given(alert_lines | sample_lines)
def test_optional_fields_may_be_missing_and_required_ones_may_not(record):
    """The stage and the step are required of every record."""
    parts = [record] if isinstance(record, AlertLine) else [record, record.sample]
    optional = {item.name for part in parts for item in fields(part) if has_default(item)}
    for name in (line := written(record)):
        without = {key: value for key, value in line.items() if key != name}
        if name == "rollout":  # a line of the other kind, which has an index
            assert SampleLine.from_line(without) is None
            continue
        assert (type(record).from_line(without) is not None) == (name in optional)


def has_default(item) -> bool:
    return item.default is not MISSING or item.default_factory is not MISSING


@given(alert_lines | sample_lines, st.sampled_from([[], True, 1.5]))
def test_a_value_of_another_type_makes_no_record(record, value):
    for name in (line := written(record)):
        if not isinstance(value, bool | float) or name in ("stage", "step", "index", "row", "prompt", "response"):
            assert type(record).from_line({**line, name: value}) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_come_back_as_nan(value):
    assert math.isnan(MetricsLine.from_line(written(MetricsLine("rl", 1, {"train/loss": value}))).metrics["train/loss"])
    sample = RolloutSample(rollout="best", row=0, prompt="", response="", reward=0.0, logprob=value)
    read = SampleLine.from_line(written(SampleLine("rl", 1, sample))).sample
    assert math.isnan(read.logprob)
    assert replace(read, logprob=0.0) == replace(sample, logprob=0.0)


@given(st.lists(metrics_lines | alert_lines, max_size=4), st.lists(sample_lines, max_size=4))
def test_files_are_read_in_order_without_what_is_no_record(tmp_path_factory, metrics, samples):
    folder = tmp_path_factory.mktemp("run")
    for name, records in (("metrics.jsonl", metrics), ("samples.jsonl", samples)):
        broken = ["[1]", "", '{"stage": "sft"}', '{"step": 1, "index": 2}', '{"stage": "sft", "ste']
        lines = [strict_text(record.to_line()) for record in records]
        (folder / name).write_text("\n".join([*broken[:4], *lines, broken[4]]))
    assert list(read_metrics(folder / "metrics.jsonl")) == metrics
    assert list(read_samples(folder / "samples.jsonl")) == samples
    assert list(read_metrics(folder / "none.jsonl")) == list(read_samples(folder / "none.jsonl")) == []
