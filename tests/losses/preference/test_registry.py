"""Names and options: what is not used is refused, with the nearest that is."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from burnish.errors import RecipeError
from burnish.losses.preference.build import preference_loss, weighted_losses
from burnish.losses.preference.options import DataNeeds
from burnish.losses.preference.registry import PREFERENCE_LOSSES
from burnish.types import Scope, Score
from tests.preferences import compared, in_one, value

OTHERS = {
    "float": 0.3,
    "bool": True,
    "divergence": "js",
    "per": "response",
    "alpha": 1.1,
    "m0": 0.7,
}


def other_value(option: str, default: object) -> object:
    if option in OTHERS:
        return OTHERS[option]
    if isinstance(default, bool):
        return not default
    assert isinstance(default, float)
    return 0.37


@pytest.mark.parametrize(
    ("name", "option", "default"),
    [
        (name, entry.name, entry.default)
        for name, kind in PREFERENCE_LOSSES.items()
        for entry in fields(kind)
        if entry.name != "divergence_alpha"
    ],
)
def test_every_option_matters(name, option, default):
    """No option is accepted and ignored: another value gives another loss on some rows."""
    plain, changed = preference_loss(name), preference_loss(name, **{option: other_value(option, default)})
    groups = compared(plain.data)
    size = len(in_one(groups).predictor_positions)
    generator = torch.Generator().manual_seed(1)
    logprob, collision = (-torch.rand(size, dtype=torch.float64, generator=generator) for _ in range(2))
    first, second = (float(value(each.loss, groups, logprob, collision)) for each in (plain, changed))
    assert first != pytest.approx(second, rel=1e-6)


def test_divergence_alpha_matters():
    losses = {preference_loss("dpo", divergence="alpha", divergence_alpha=alpha).loss for alpha in (0.2, 0.4)}
    assert len(losses) == 2


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("dpoo", {}, "did you mean dpo?"),
        ("dpo", {"betta": 0.1}, "did you mean beta?"),
        ("dpo", {"label_smoothing": 0.1}, "does not use it"),
        ("aot", {"wpo": True}, "does not use it"),
        ("nca", {"divergence": "js"}, "does not use it"),
        ("kto", {"ld_alpha": 0.5}, "does not use it"),
        ("dpo", {"beta": 0}, "a number, above 0"),
        ("dpo", {"beta": "0.1"}, "a number, above 0"),
        ("dpo", {"beta": True}, "a number, above 0"),
        ("dpo", {"beta": float("nan")}, "a number, above 0"),
        ("dpo", {"beta": float("inf")}, "a number, above 0"),
        ("robust_dpo", {"label_smoothing": 0.5}, "at least 0, below 0.5"),
        ("exo", {"label_smoothing": 0}, "above 0, at most 0.5"),
        ("dpo", {"wpo": 1}, "true or false"),
        ("dpo", {"divergence": "kl"}, "one of reverse_kl, forward_kl, js, alpha"),
        ("dpo", {"divergence": "alpha"}, "give both or neither"),
        ("dpo", {"divergence_alpha": 0.5}, "give both or neither"),
        ("dpo", {"divergence": "alpha", "divergence_alpha": 2}, "at least 0, at most 1"),
        ("sft", {"per": "sequence"}, "one of token, response"),
    ],
)
def test_what_cannot_be_given(name, options, said):
    with pytest.raises(RecipeError, match=said):
        preference_loss(name, **options)


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [("dpo", 1.0, {}), ("dpo", 0.5, {})],
        [("dpo", 1.0, {}), ("sft", 0.0, {})],
        [("dpo", 1.0, {}), ("kto", 1.0, {})],
        [("dpo", 1.0, {}), ("bco", 1.0, {"divergence": "js"})],
    ],
)
def test_sums_that_make_no_sense(parts):
    with pytest.raises(RecipeError):
        weighted_losses(parts)


def test_a_sum_has_what_its_parts_need():
    found = weighted_losses([("dpo", 0.5, {"wpo": True}), ("aot", 1.0, {}), ("sft", 1.0, {})])
    assert (found.reference, found.data, found.measured) == (True, DataNeeds.PAIR, False)
    assert found.loss.scope is Scope.STEP
    assert list(found.loss.needs) == [Score.LOGPROB, Score.LOG_COLLISION]
    assert weighted_losses([("simpo", 1.0, {}), ("sft", 1.0, {})]).loss.scope is Scope.GROUP
    assert weighted_losses([("kto", 1.0, {}), ("sft", 1.0, {})]).measured


@pytest.mark.parametrize("name", PREFERENCE_LOSSES)
def test_only_what_is_said_is_needed(name):
    """Without reference log-probabilities, a loss works if and only if it says that it needs none."""
    preference = preference_loss(name)
    groups = compared(preference.data)
    microbatch = in_one(groups)
    row = torch.full((len(microbatch.predictor_positions),), -1.0, dtype=torch.float64)
    bare = [_without_reference(group) for group in groups]
    if preference.reference:
        with pytest.raises(AssertionError, match="reference"):
            value(preference.loss, bare, row)
    else:
        assert float(value(preference.loss, bare, row)) == float(value(preference.loss, groups, row))


def _without_reference(group):
    return replace(group, responses=tuple(replace(r, reference_logprobs=None) for r in group.responses))


def test_a_pair_is_a_pair():
    """A loss of pairs refuses rankings and lone responses: ours to check before."""
    loss = preference_loss("dpo").loss
    for data in (DataNeeds.TRIPLE, DataNeeds.VERDICT):
        groups = compared(data)
        with pytest.raises((AssertionError, RuntimeError)):
            value(loss, groups, torch.zeros(len(in_one(groups).predictor_positions), dtype=torch.float64))


def test_a_verdict_is_one_or_zero():
    groups = compared(DataNeeds.SCORED)
    with pytest.raises(RuntimeError, match="a verdict is 1 or 0"):
        value(
            preference_loss("kto").loss,
            groups,
            torch.zeros(len(in_one(groups).predictor_positions), dtype=torch.float64),
        )
