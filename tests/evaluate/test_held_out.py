"""The held-out loss is what one training step on all the rows would report, whatever the budget."""

from __future__ import annotations

import pytest
import torch

from burnish.evaluate import held_out
from burnish.evaluate.held_out import held_out_loss
from burnish.losses.cross_entropy import CrossEntropy
from burnish.losses.preference.build import preference_loss
from burnish.model.attention import install
from burnish.model.policy import Model
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.sources.mismatched_pairs import mismatched
from burnish.train.step import Trainer
from tests.conftest import FAMILIES, make_groups
from tests.preferences import annotated, compared

ROWS = make_groups([(3, [4]), (5, [9]), (2, [3]), (7, [5]), (4, [8])], holes=True)


@pytest.fixture
def policy() -> Model:
    torch.manual_seed(0)
    model = FAMILIES["llama"]().double()
    install(model)
    return Model(model.train(), tokenizer=None)


@pytest.mark.parametrize("loss", [CrossEntropy(), CrossEntropy(0.1, 0.01)])
def test_it_is_the_loss_of_a_step(policy, loss):
    evaluated = held_out_loss(policy, ROWS, loss, budget=1000)
    sums = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings())).step(ROWS, loss, 1000, 0.0)
    for name, value in evaluated.items():
        assert float(value) == pytest.approx(float(sums[name]), rel=1e-12)


def test_blocks_and_budgets_do_not_matter(policy, monkeypatch):
    whole = float(held_out_loss(policy, ROWS, CrossEntropy(), budget=1000)["loss"])
    monkeypatch.setattr(held_out, "GROUPS_AT_ONCE", 2)
    assert float(held_out_loss(policy, ROWS, CrossEntropy(), budget=20)["loss"]) == pytest.approx(whole, rel=1e-12)


def test_nothing_of_the_training_is_disturbed(policy):
    random_state = torch.get_rng_state()
    held_out_loss(policy, ROWS, CrossEntropy(), budget=100)
    assert policy.model.training
    assert all(p.grad is None for p in policy.model.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("name", ["dpo", "aot", "beta_dpo", "kto", "lipo"])
def test_preferences_are_evaluated_over_all_rows(policy, monkeypatch, name):
    """Cut groups, constants from measured groups and sorts of all rows: as one step on all of them reports."""
    preference = preference_loss(name)
    rows = compared(preference.data)
    if preference.measured:
        generator = torch.Generator().manual_seed(8)
        rows += [annotated(group, generator, preference.data, -20.0) for group in mismatched(rows, seed=1, step=2)]
    monkeypatch.setattr(held_out, "GROUPS_AT_ONCE", 2)
    evaluated = held_out_loss(policy, rows, preference.loss, budget=13)
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings()))
    sums = trainer.step(rows, preference.loss, 1000, 0.0)
    for figure, value in evaluated.items():
        assert float(value) == pytest.approx(float(sums[figure]), rel=1e-12)
    assert not preference.measured or float(evaluated["kl"]) > 0


def test_a_long_evaluation_tells_how_far_it_is(policy):
    """Between microbatches, in rows; and what it says does not depend on whether anyone listens."""
    told: list[tuple[str, int, int]] = []
    listened = held_out_loss(policy, ROWS, CrossEntropy(), 20, on_part=lambda *part: told.append(part))
    assert float(listened["loss"]) == float(held_out_loss(policy, ROWS, CrossEntropy(), 20)["loss"])
    dones = [done for _, done, _ in told]
    assert dones == sorted(dones)
    assert dones[0] == 0
    assert len(told) > 2
    assert {total for *_, total in told} == {len(ROWS)}
