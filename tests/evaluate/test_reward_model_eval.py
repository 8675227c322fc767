"""What is measured of a reward model, by hand, and that its evaluator finds it in packed groups."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from burnish.builtin.tiny import write_untrained
from burnish.evaluate.preference_eval import ComparedPairs
from burnish.evaluate.reward_model_eval import (
    RewardModelEval,
    accuracy_by_length,
    calibration_error,
    reward_metrics,
    score_by_value,
)
from burnish.model.attention import plain_attention
from burnish.model.load import load_policy
from burnish.model.policy import Model
from burnish.model.settings import ValueHeadConfig
from burnish.sources.value_targets import value_target_at_end
from tests.conftest import make_groups


def pairs(margins: list[float], longer: list[int] | None = None) -> ComparedPairs:
    return ComparedPairs(np.array(margins, np.float64), np.array(longer or [0] * len(margins), np.int64))


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_a_calibrated_judge_has_no_error():
    """Of four that it gives a probability of ¾, three are right."""
    assert calibration_error(pairs([logit(0.75)] * 3 + [-logit(0.75)])) == pytest.approx(0, abs=1e-12)


def test_an_error_by_hand():
    """At 0.9, half are right: off by 0.4. At 0.6, all are: off by 0.4. A tie says ½ and is half right: off by 0."""
    margins = [logit(0.9), -logit(0.9), logit(0.6), logit(0.6), 0.0]
    assert calibration_error(pairs(margins)) == pytest.approx((2 * 0.4 + 2 * 0.4) / 5, rel=1e-12)


def test_one_who_is_sure_and_wrong():
    assert calibration_error(pairs([-50.0, -50.0])) == pytest.approx(1.0)


def test_accuracy_by_difference_of_lengths():
    """The limits belong to the far ones: 50 is far, 49 is not."""
    found = accuracy_by_length(pairs([1, -1, 1, -1, 1, 1], [-60, -50, -49, 49, 50, 0]))
    assert {name: share.value for name, share in found.items()} == {
        "shorter_by_50": 0.5,
        "shorter": 1.0,
        "equal": 1.0,
        "longer": 0.0,
        "longer_by_50": 1.0,
    }
    assert list(accuracy_by_length(pairs([1.0], [3]))) == ["longer"], "there are no others"


def test_nothing_to_compare():
    assert reward_metrics(pairs([])) == {}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("reward_model")
    write_untrained(folder, hidden_size=32, layers=1)
    return load_policy(str(folder), head_config=ValueHeadConfig(), add_tokens=["<|pad|>"])


def test_packed_groups_are_scored_as_single_answers(policy):
    """Groups of one are skipped; lengths are of whole responses, of which one token is scored."""
    groups = [value_target_at_end(group) for group in make_groups([(4, [5, 3]), (9, [4]), (3, [2, 8, 6])], holes=True)]
    found = score_by_value(policy, groups, 16)
    values = [[plain(policy, group.prompt, r.tokens) for r in group.responses] for group in (groups[0], groups[2])]
    assert found.margins.tolist() == pytest.approx([each[0] - each[-1] for each in values], abs=1e-5)
    assert found.longer.tolist() == [2, -4]
    assert policy.model.training
    tagged = RewardModelEval(groups, 16, [["polite"], [], ["rude"]]).evaluate(policy).figures
    assert tagged["pair_accuracy_of_polite"] == float(found.right[0])
    assert tagged["pair_accuracy"] == float(found.right.mean())


@torch.no_grad()
def plain(policy: Model, prompt: torch.Tensor, response: torch.Tensor) -> float:
    """The value of one answer by transformers' own forward."""
    with plain_attention(policy.causal_lm):
        return float(policy.model(input_ids=torch.cat([prompt, response])[None]).logits[0, 0])
