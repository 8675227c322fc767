"""examples/distill_flat.py needs only torch, numpy and transformers; its three losses beside each other.

A first step of each has the same responses, so that they are compared on the same tokens.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from burnish.builtin.sets import builtin_rows
from burnish.builtin.tiny import make_model, make_tokenizer, write_untrained
from burnish.credit.teacher import TeacherCredit
from burnish.data.prompts import TokenizedPrompt
from burnish.data.records import Task
from burnish.losses.distillation.divergence import TeacherDivergence
from burnish.losses.distillation.settings import DivergenceOptions
from burnish.losses.policy.gradient import PolicyGradient
from burnish.model.divergence import FullVocabulary, TopK
from burnish.model.load import load_policy
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.rewards.response_view import ResponseView
from burnish.rewards.verdict import Verdict
from burnish.rollouts.batcher import Batcher
from burnish.rollouts.settings import RolloutSettings
from burnish.rollouts.source import RolloutSource
from burnish.rollouts.worker import SingleTurn
from burnish.sampling.local import LocalSampler
from burnish.sampling.params import SamplingParams
from burnish.teachers.local import LocalTeacher
from burnish.teachers.signal import Signal
from burnish.train.step import Trainer

SCRIPT = Path(__file__).parents[1] / "examples" / "distill_flat.py"
OPTIONS = {"steps": 5, "prompts-per-step": 2, "responses-per-prompt": 8, "max-new-tokens": 8, "learning-rate": 1e-2}
TOP_K = 16
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
    make_tokenizer().save_pretrained(folder / "teacher")
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


class _Gathered:
    """Groups of rollouts without rewards."""

    def __call__(self, groups: Sequence[Sequence[ResponseView]]) -> list[list[Verdict]]:
        return [[Verdict({}, None) for _ in group] for group in groups]


def library(folder: Path, loss: str) -> list[dict[str, float]]:
    """The same steps by the parts of the stage distill."""
    teacher = load_policy(str(folder / "teacher"))
    options = DivergenceOptions("reverse_kl", "full" if loss == "full" else "top_k")
    comparison = FullVocabulary(options, [lambda: teacher.head]) if loss == "full" else TopK(options)
    signals = {"full": Signal("states"), "top_k": Signal("top_k", TOP_K), "policy_gradient": Signal("logprobs")}
    student = load_policy(str(folder / "student"))
    tokenizer = student.tokenizer
    fill = LocalTeacher(lambda: nullcontext(teacher), signals[loss], 200)
    is_sampled = loss == "policy_gradient"
    trained = replace(student, comparison=None if is_sampled else comparison)
    rows = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    asked = []
    for index, row in enumerate(rows):
        messages = [{"role": "user", "content": row["question"]}]
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        asked.append(TokenizedPrompt(index, torch.tensor(ids), Task(row["question"])))
    worker = SingleTurn(
        trained,
        LocalSampler(trained, [tokenizer.eos_token_id], max_positions=256),
        _Gathered(),
        lambda tokens: str(tokenizer.decode(tokens, skip_special_tokens=True)),
        SamplingParams(max_new_tokens=OPTIONS["max-new-tokens"]),
    )
    settings = RolloutSettings(
        OPTIONS["prompts-per-step"], OPTIONS["responses-per-prompt"], drops=False, learns_ungraded=True, max_resamples=1
    )
    batcher = Batcher(TeacherCredit(1.0 if is_sampled else 0.0), settings, [fill])
    source = RolloutSource(asked, worker, batcher, seed=0, max_steps=OPTIONS["steps"])
    trainer = Trainer(trained, Optimizer(trained.trained_parameters(), OptimizerSettings(learning_rate=1e-2)))
    minimized = PolicyGradient() if is_sampled else TeacherDivergence()
    sums = (trainer.step(groups, minimized, budget=120, factor=1.0) for groups in source)
    return [{name: float(each[name]) for name in ("loss", "grad_norm")} for each in sums]


@pytest.mark.parametrize("loss", ["full", "top_k", "policy_gradient"])
def test_the_flat_twin_has_the_same_curve(folder, loss):
    flat, ours = steps_of(folder, loss=loss, top_k=TOP_K), library(folder, loss)
    assert [line["loss"] for line in flat] == pytest.approx([each["loss"] for each in ours], rel=2e-3, abs=1e-5)
    assert [line["grad_norm"] for line in flat] == pytest.approx([each["grad_norm"] for each in ours], rel=5e-3)


def test_the_flat_twin_needs_nothing_of_ours():
    text = SCRIPT.read_text()
    assert "import burnish" not in text
    assert "from burnish" not in text
