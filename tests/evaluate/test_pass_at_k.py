"""pass@k: unbiased by enumeration, and measured on a model."""

from __future__ import annotations

import json
from itertools import combinations
from math import comb
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.builtin.sets import builtin_rows, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.cli.main import main
from burnish.errors import RecipeError
from burnish.evaluate.pass_at_k import mean_pass_at_k, pass_at_k
from burnish.verbs.evaluate import read_settings
from burnish.verbs.evaluate_rewards import RewardEvalSettings


@given(st.integers(1, 7), st.data())
def test_it_is_the_share_of_subsets_with_a_right_one(written, data):
    right, k = data.draw(st.integers(0, written)), data.draw(st.integers(1, written))
    subsets = list(combinations([True] * right + [False] * (written - right), k))
    assert pass_at_k(k, right, written) == pytest.approx(sum(map(any, subsets)) / len(subsets))


@given(st.integers(1, 12), st.floats(0, 1), st.data())
def test_it_is_unbiased(written, chance, data):
    """Its exact expectation over how many are right is the chance that one of k is."""
    k = data.draw(st.integers(1, written))
    weights = [comb(written, c) * chance**c * (1 - chance) ** (written - c) for c in range(written + 1)]
    expected = sum(weight * pass_at_k(k, c, written) for c, weight in enumerate(weights))
    assert expected == pytest.approx(1 - (1 - chance) ** k, abs=1e-9)


def test_prompts_with_too_few_judged_responses_are_left_out():
    share = mean_pass_at_k(2, [(1, 4), (0, 1), (4, 4)])
    assert share is not None
    assert share.value == pytest.approx((0.5 + 1.0) / 2)
    assert share.low < share.value < share.high
    assert mean_pass_at_k(2, [(1, 1)]) is None


def test_more_than_is_written_cannot_be_drawn():
    with pytest.raises(RecipeError, match="sample more"):
        read_settings(RewardEvalSettings, {"data": "x"}, ["verifier=number", "responses_per_prompt=4", "k=[1,8]"])
    with pytest.raises(RecipeError, match="the policy generates them"):
        read_settings(RewardEvalSettings, {"data": "x"}, ["verifier=number", "train_on=last"])


def test_the_command_counts_what_its_samples_say(tmp_path: Path):
    write_untrained(tmp_path / "model", hidden_size=32, layers=1)
    write_rows(tmp_path / "math.jsonl", builtin_rows("math", count=6))
    reward = "verifier={name: length, target: 8, tolerance: 8, unit: characters}"
    files = ["--data", str(tmp_path / "math.jsonl"), "--output", str(tmp_path / "f.json")]
    options = [reward, "responses_per_prompt=4", "k=[1,4]", "max_new_tokens=6", "success_threshold=0.3"]
    with pytest.raises(SystemExit) as ended:
        main(["eval", str(tmp_path / "model"), *files, "--samples", str(tmp_path / "s.jsonl"), *options])
    assert ended.value.code == 0
    found = json.loads((tmp_path / "f.json").read_text())
    right = [json.loads(line)["reward"] >= 0.3 for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert len(right) == 24
    assert found["pass_at_1"] == pytest.approx(sum(right) / 24)
    groups = [right[start : start + 4] for start in range(0, 24, 4)]
    assert found["pass_at_4"] == pytest.approx(sum(map(any, groups)) / 6)
    assert 0 < found["pass_at_1"] < 1
