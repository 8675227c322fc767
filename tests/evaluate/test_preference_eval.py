"""What a policy prefers: by hand, by plain forwards, and against a judge of lengths alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from burnish.evaluate.preference_eval import (
    BY_LOGPROB,
    ComparedPairs,
    PreferenceEval,
    metrics,
    score_pairs,
    wilson_interval,
)
from burnish.losses.preference.implicit import LogProb, LogRatio
from burnish.model.attention import install, plain_attention
from burnish.model.policy import Model
from burnish.roles.filler import StreamFiller
from burnish.roles.scorer import LiveScorer
from burnish.types import Group
from tests.conftest import FAMILIES, make_groups


@pytest.fixture
def policy() -> Model:
    torch.manual_seed(0)
    model = FAMILIES["llama"]().train()
    install(model)
    return Model(model, tokenizer=None)


def bare(groups: list[Group]) -> list[Group]:
    """Every token counts 1."""
    return [
        replace(group, responses=tuple(replace(response, weights=None) for response in group.responses))
        for group in groups
    ]


def test_wilson_by_hand():
    """8 of 10: centre (0.8 + 0.19207) / 1.38415, reach 1.38415⁻¹ · 1.96 · √(0.016 + 0.0096037)."""
    share = wilson_interval(8, 10)
    assert (share.value, share.low, share.high) == pytest.approx((0.8, 0.49016, 0.94332), abs=1e-5)
    assert wilson_interval(0, 3).low == 0
    assert wilson_interval(3, 3).high == 1


def test_margins_are_those_of_plain_forwards(policy: Model):
    rows = bare(make_groups([(5, [4, 6]), (3, [2, 2]), (4, [3]), (7, [5, 3, 8])], holes=True))
    found = score_pairs(policy, rows, {"mean": BY_LOGPROB, "sum": LogProb(1.0)}, 9)
    sums, means, longer = [], [], []
    for group in rows:
        values = []
        for response in group.responses:
            tokens = torch.cat([group.prompt, response.tokens])
            logits = plain(policy, tokens)
            each = logits.log_softmax(-1)[len(group.prompt) - 1 : -1].gather(1, response.tokens[:, None])[:, 0]
            values.append(each[response.trainable])
        if len(values) > 1:
            sums.append(float(values[0].sum() - values[-1].sum()))
            means.append(float(values[0].mean() - values[-1].mean()))
            longer.append(len(values[0]) - len(values[-1]))
    assert found["sum"].margins == pytest.approx(np.array(sums), rel=1e-4, abs=1e-4)
    assert found["mean"].margins == pytest.approx(np.array(means), rel=1e-4, abs=1e-4)
    assert found["sum"].longer.tolist() == longer
    assert policy.model.training


def plain(policy: Model, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad(), plain_attention(policy.causal_lm):
        return policy.model(input_ids=tokens[None]).logits[0]


def test_a_judge_of_lengths_gets_half():
    """However biased the data are: 90 of 100 better answers are the longer ones."""
    longer = np.array([3] * 90 + [-3] * 10)
    pairs = ComparedPairs(longer.astype(float), longer)
    assert pairs.accuracy.value == 0.9
    controlled = pairs.controlled
    assert controlled is not None
    assert controlled.value == 0.5
    assert controlled.low < 0.5 < controlled.high


def test_a_judge_of_quality_keeps_its_accuracy():
    longer = np.array([3] * 90 + [-3] * 10)
    pairs = ComparedPairs(np.tile([1.0, 1, 1, 1, -1], 20), longer)
    assert pairs.accuracy.value == 0.8
    assert pairs.controlled is not None
    assert pairs.controlled.value == pytest.approx(0.8)
    assert pairs.controlled.high - pairs.controlled.low > pairs.accuracy.high - pairs.accuracy.low


def test_intervals_hold_what_they_promise():
    """In 95 of 100 draws of 40 comparisons the true share is inside, up to what 400 trials can tell."""
    draw = np.random.default_rng(0)
    longer = np.array([1, -1] * 20)
    inside = plain = 0
    for _ in range(400):
        margins = np.where(draw.random(40) < np.where(longer > 0, 0.8, 0.6), 1.0, -1.0)
        pairs = ComparedPairs(margins, longer)
        assert pairs.controlled is not None
        inside += pairs.controlled.low <= 0.7 <= pairs.controlled.high
        plain += pairs.accuracy.low <= 0.7 <= pairs.accuracy.high
    assert 0.92 < inside / 400 < 0.99
    assert 0.92 < plain / 400 < 0.99


def test_without_both_kinds_of_pairs_lengths_cannot_be_controlled():
    pairs = ComparedPairs(np.array([1.0, -1.0]), np.array([2, 1]))
    assert pairs.controlled is None
    assert sorted(metrics(pairs)) == ["pair_accuracy", "pair_accuracy_high", "pair_accuracy_low"]
    assert metrics(ComparedPairs(np.array([]), np.array([], np.int64))) == {}


def test_equal_rewards_are_a_coin():
    assert ComparedPairs(np.zeros(4), np.ones(4, np.int64)).accuracy.value == 0.5


def test_the_evaluator_of_a_stage(policy: Model):
    """At the beginning the policy equals its reference: implicit rewards are 0, log-probabilities differ."""
    rows = bare(make_groups([(5, [4, 6]), (3, [3, 2]), (7, [5, 3])]))
    annotated = StreamFiller(LiveScorer(policy), "reference_logprobs", 1000)(rows)
    found = PreferenceEval(annotated, LogRatio(0.1), 1000).evaluate(policy).figures
    assert found["pair_accuracy"] == 0.5
    expected = score_pairs(policy, rows, {"": BY_LOGPROB}, 1000)[""]
    assert found["pair_accuracy_by_logprob"] == expected.accuracy.value
    without = PreferenceEval(rows, LogProb(2.0, per_token=True), 1000).evaluate(policy).figures
    assert without["pair_accuracy"] == expected.accuracy.value
    assert not any("by_logprob" in name for name in without)
