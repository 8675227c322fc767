"""The checks of a stage of preferences: of pairs, of verdicts, and of a loss that must see the whole step."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.builtin.sets import builtin_rows, write_rows
from burnish.checks.laws import gradients_are_invariant, packed_equals_plain
from burnish.checks.rows import answers_are_trained, rows_are_usable
from burnish.checks.subject import Subject
from burnish.losses.preference.pairs import Pairs
from burnish.recipe.read import stage_recipe
from burnish.types import LossOutput, LossTerm


def subject(world: Path, folder: Path, *settings: str) -> Subject:
    write_rows(folder / "pairs.jsonl", builtin_rows("preferences", count=30))
    given = {"model": str(world / "model"), "data": str(folder / "pairs.jsonl")}
    (folder / "work").mkdir()
    return Subject(stage_recipe("prefer", given, settings), folder / "work")


@pytest.mark.parametrize("loss", ["dpo", "kto", "aot", "simpo"])
def test_laws_hold(world: Path, tmp_path: Path, loss: str):
    asked = subject(world, tmp_path, f"loss={loss}")
    for check in (gradients_are_invariant, packed_equals_plain):
        verdict = check(asked)
        assert verdict.passed, verdict
    assert all(len(group.responses) == 2 for group in asked.shared)
    assert all((group.responses[0].reference_logprobs is None) == (loss == "simpo") for group in asked.shared)


def test_a_mean_instead_of_a_sum_is_found(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = Pairs.__call__

    def mean(self, scores, microbatch):
        output = real(self, scores, microbatch)
        terms = {k: LossTerm(v.total / microbatch.num_sequences, v.denominator) for k, v in output.terms.items()}
        return LossOutput(terms, output.metrics)

    monkeypatch.setattr(Pairs, "__call__", mean)
    verdict = gradients_are_invariant(subject(world, tmp_path))
    assert verdict.passed is False


def test_the_better_answer_is_trained_and_the_question_is_not(world: Path, tmp_path: Path):
    asked = subject(world, tmp_path)
    assert rows_are_usable(asked).passed
    verdict = answers_are_trained(asked)
    assert verdict.passed
    assert "the answer is trained, the question is not" in verdict.measured
    assert "rejected: " in verdict.shown
