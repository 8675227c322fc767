"""The same numbers as TRL 1.16's RewardTrainer on the same model and pairs, by its own loss. As in `test_trl`."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel
from trl import RewardTrainer
from trl.trainer.reward_trainer import DataCollatorForPreference

from burnish.losses.reward.bradley_terry import BradleyTerry
from burnish.model.settings import ValueHeadConfig
from burnish.model.value_head import with_value_head
from burnish.sources.value_targets import value_target_at_end
from burnish.types import Group
from tests.trl_trainers import REL, assert_same_gradient, packed, plain, random_model, step_of, without_init

pytestmark = pytest.mark.slow

SHAPES = [(4, [5, 3]), (9, [2, 6]), (3, [4, 4]), (6, [7, 1])]
SCORES = [(4.0, 1.0), (0.5, 0.0), (1.0, 1.0), (2.0, -1.0)]
PADDING = 60
"""A token that ends no row."""


@pytest.fixture(scope="module")
def judge() -> PreTrainedModel:
    model = with_value_head(random_model(0), ValueHeadConfig(seed=1))
    model.config.pad_token_id = PADDING
    return model


def pairs() -> list[Group]:
    """Chosen and rejected, with the scores of the data."""
    return [
        value_target_at_end(
            replace(
                group,
                responses=tuple(
                    replace(response, reward=score) for response, score in zip(group.responses, scores, strict=True)
                ),
            )
        )
        for group, scores in zip(plain(SHAPES), SCORES, strict=True)
    ]


def theirs(
    judge: PreTrainedModel, groups: list[Group], *, margins: bool = False, center_coef: float | None = None
) -> tuple[float, dict[str, Tensor], RewardTrainer]:
    """TRL's loss, its gradient, itself."""
    model = copy.deepcopy(judge).train()
    rows = []
    for group in groups:
        chosen, rejected = (torch.cat([group.prompt, response.tokens]).tolist() for response in group.responses)
        assert PADDING not in (chosen[-1], rejected[-1]), "transformers would read the token before"
        row: dict[str, object] = {"chosen_ids": chosen, "rejected_ids": rejected}
        better, worse = group.responses
        assert better.reward is not None
        assert worse.reward is not None
        rows.append({**row, "margin": better.reward - worse.reward} if margins else row)
    trainer = without_init(RewardTrainer, model, args=SimpleNamespace(center_rewards_coefficient=center_coef))
    loss = trainer.compute_loss(model, DataCollatorForPreference(pad_token_id=PADDING)(rows))
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return float(loss.detach()), gradients, trainer


@pytest.mark.parametrize(
    ("loss", "facts"),
    [
        (BradleyTerry(), {}),
        (BradleyTerry(margin=1.0), {"margins": True}),
        (BradleyTerry(center_coef=0.01), {"center_coef": 0.01}),
        (BradleyTerry(margin=1.0, center_coef=0.5), {"margins": True, "center_coef": 0.5}),
    ],
    ids=["plain", "margins", "center", "both"],
)
def test_the_loss_of_reward_trainer(judge, loss, facts):
    groups = pairs()
    expected, gradients, trainer = theirs(judge, groups, **facts)
    figures, mine = step_of(packed(judge), groups, loss)
    assert figures["loss"] == pytest.approx(expected, rel=REL)
    assert_same_gradient(mine, gradients)
    metrics = trainer._metrics["train"]
    assert figures["pair_accuracy"] == pytest.approx(metrics["accuracy"][0])
    assert figures["reward_margin"] == pytest.approx(metrics["margin"][0], rel=1e-4)
    assert (figures["reward_chosen"] + figures["reward_rejected"]) / 2 == pytest.approx(
        metrics["mean_reward"][0], rel=1e-4
    )


def test_equal_rewards_are_an_error_in_trl_and_half_right_here():
    """TRL counts a pair as right if chosen is greater; we count a tie as a half."""
    flat = with_value_head(random_model(0), ValueHeadConfig(seed=1))
    flat.config.pad_token_id = PADDING
    torch.nn.init.zeros_(flat.score.weight)
    _, _, trainer = theirs(flat, pairs())
    figures, _ = step_of(packed(flat), pairs(), BradleyTerry())
    assert trainer._metrics["train"]["accuracy"][0] == 0
    assert figures["pair_accuracy"] == 0.5
