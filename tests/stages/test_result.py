"""The result of a run: metrics, evaluations, samples, figures, the model, and its summary in a notebook."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

import burnish
from burnish.errors import ModelError, RunError
from burnish.evaluate.chat import Chat
from burnish.sampling.params import SamplingParams
from burnish.stages.result import RunResult
from tests.stages.small import write_world

STAGE = """
  - sft:
      data: {world}/train.jsonl
      eval_data: {world}/test.jsonl
      max_steps: 3
      eval_every: 2
      sequences_per_step: 8
      learning_rate: 0.01
      evaluation: {{generations: 2, max_new_tokens: 4}}
"""
RECIPE = f"model: {{world}}/model\nstages:{2 * STAGE}"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    world = write_world(tmp_path_factory.mktemp("world"))
    (world / "two.yaml").write_text(RECIPE.format(world=world))
    return burnish.run(world / "two.yaml", f"output={world / 'runs <b>' / 'two'}")


def test_metrics_have_a_mapping_for_each_step_of_every_stage(result):
    places = [(line["stage"], line["step"]) for line in result.metrics]
    assert places == [(stage, step) for stage in ("sft", "sft-2") for step in range(4)]
    assert all("train/loss" in line for line in result.metrics if line["step"])
    assert [line["step"] for line in result.metrics if "eval/loss" in line] == [0, 2, 3, 0, 2, 3]
    assert not any("alert" in line for line in result.metrics)


def test_evaluations_and_samples(result):
    assert [(line["stage"], line["step"]) for line in result.evaluations] == [
        (stage, step) for stage in ("sft", "sft-2") for step in (0, 2, 3)
    ]
    assert all("eval/accuracy" in line and "train/loss" not in line for line in result.evaluations)
    written = [json.loads(line) for line in (result.folder / "samples.jsonl").read_text().splitlines()]
    assert result.samples == written
    assert len(written) == 2 * 3 * 2


def test_places(result):
    assert result.model == result.folder / "model"
    assert result.report == result.folder / "report.html"
    assert result.report.is_file()


def test_a_frame_has_a_row_for_each_step(result):
    frame = result.metrics_frame()
    assert len(frame) == 8
    assert frame["train/loss"].notna().sum() == 6
    assert list(frame.columns[:2]) == ["stage", "step"]


@pytest.mark.parametrize(("package", "call"), [("pandas", "metrics_frame"), ("matplotlib", "plot")])
def test_a_missing_package_is_named_with_its_remedy(result, monkeypatch, package, call):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RunError) as caught:
        getattr(result, call)()
    assert package in caught.value.rule
    assert "pip install" in caught.value.remedy


def test_figures(result):
    figure = result.plot("loss", "train/grad_norm")
    loss, norm = figure.axes
    assert loss.get_title(loc="left") == "Loss"
    labels = [text.get_text() for text in loss.get_legend().get_texts()]
    assert sorted(labels) == ["sft eval", "sft train", "sft-2 eval", "sft-2 train"]
    assert [len(line.get_xdata()) for line in norm.get_lines()] == [3, 3]
    assert len(result.plot().axes) == 4
    with pytest.raises(RunError, match="train/loss"):
        result.plot("los")


def test_the_model_is_ready_for_use(result):
    opened = result.load()
    assert opened.template is not None
    assert (
        Chat(opened, SamplingParams(max_new_tokens=2)).answer("Hello", lambda text: None, lambda note: None) is not None
    )


def test_a_run_without_a_model_says_so(result, tmp_path):
    with pytest.raises(ModelError, match="has no model"):
        replace(result, folder=tmp_path).load()


def test_in_a_notebook_it_is_a_summary_with_curves(result):
    """Well-formed, escaped, without scripts or anything from the network."""
    html = result._repr_html_()
    page = ElementTree.fromstring(html)
    assert len(list(page.iter("svg"))) == 8
    assert "Held-out loss" in "".join(page.itertext())
    assert str(result.report) in "".join(page.itertext())
    assert "<b>" not in str(result.report) or "&lt;b&gt;" in html
    assert "<script" not in html
    assert "http" not in html


def test_a_run_that_has_no_steps_yet(result, tmp_path: Path):
    assert "No training steps yet" in replace(result, folder=tmp_path)._repr_html_()
    assert replace(result, folder=tmp_path).metrics == []
