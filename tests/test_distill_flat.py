"""examples/distill_flat.py needs only torch, numpy and transformers; its three losses beside each other.

A first step of each has the same responses, so that they are compared on the same tokens.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from burnish.builtin.sets import builtin_rows
from burnish.builtin.tiny import make_model, make_tokenizer, write_untrained

SCRIPT = Path(__file__).parents[1] / "examples" / "distill_flat.py"
OPTIONS = {"steps": 5, "prompts-per-step": 2, "responses-per-prompt": 8, "max-new-tokens": 8, "learning-rate": 1e-2}
ALL = len(make_tokenizer())
"""Size of the vocabulary."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Student, teacher and questions. The teacher is decided enough to be more than a nat away."""
    folder = tmp_path_factory.mktemp("models")
    write_untrained(folder / "student", hidden_size=64, layers=2)
    teacher = make_model(1, hidden_size=64, layers=2)
    for parameter in teacher.parameters():
        parameter.data *= 3.0
    teacher.save_pretrained(folder / "teacher")
    rows = ({name: str(row[name]) for name in ("question", "answer")} for row in builtin_rows("math", count=1))
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def steps_of(folder: Path, **changes: Any) -> list[dict[str, float]]:
    """What the example prints."""
    options = {**OPTIONS, **{name.replace("_", "-"): value for name, value in changes.items()}}
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    named = [str(folder / name) for name in ("student", "teacher", "questions.jsonl")]
    done = subprocess.run([sys.executable, str(SCRIPT), *named, *given], check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def full(folder: Path) -> list[dict[str, float]]:
    return steps_of(folder)


def test_the_full_loss_is_the_kl_and_falls(full):
    assert [line["loss"] for line in full] == pytest.approx([line["kl"] for line in full], rel=1e-6)
    assert full[0]["kl"] > 1.05 * full[-1]["kl"]


def test_fewer_buckets_have_less_divergence(folder, full):
    """Merging tokens into a bucket never increases a KL; with one token in the last bucket, none is merged."""
    few, most = (steps_of(folder, loss="top_k", top_k=number, steps=1)[0] for number in (4, ALL - 1))
    assert few["kl"] == most["kl"] == full[0]["kl"]
    assert 0.0 < few["loss"] < most["loss"]
    assert (most["loss"], most["grad_norm"]) == pytest.approx((full[0]["loss"], full[0]["grad_norm"]), rel=1e-4)


def test_the_policy_gradient_estimates_the_kl(folder, full):
    """Its loss is the mean of log π_student − log π_teacher over the samples, whose expectation is the KL; samples are
    noisier than expectations, also in the gradient."""
    found = steps_of(folder, loss="policy_gradient", steps=20, learning_rate=0)
    assert found[0]["kl"] == full[0]["kl"]
    assert fmean(line["loss"] for line in found) == pytest.approx(fmean(line["kl"] for line in found), rel=0.1)
    assert found[0]["grad_norm"] > full[0]["grad_norm"]


def test_the_flat_twin_needs_nothing_of_ours():
    text = SCRIPT.read_text()
    assert "import burnish" not in text
    assert "from burnish" not in text
