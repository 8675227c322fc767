"""A step that teaches nothing leaves weights and optimizer as they are, also after steps that left momentum."""

import pytest
import torch

from burnish.losses.cross_entropy import CrossEntropy
from burnish.losses.policy.entropy import EntropyControl
from burnish.losses.policy.gradient import PolicyGradient
from burnish.losses.preference.build import preference_loss
from burnish.model.attention import install
from burnish.model.policy import Model
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.train.step import Trainer
from burnish.types import Group, Response
from tests.families import FAMILIES

DECAYING = OptimizerSettings(learning_rate=0.1, weight_decay=0.5, ema_decay=0.9)


@pytest.fixture
def trainer() -> Trainer:
    torch.manual_seed(0)
    model = FAMILIES["llama"]()
    install(model)
    policy = Model(model, tokenizer=None)
    return Trainer(policy, Optimizer(policy.trained_parameters(), DECAYING))


def groups(*advantages: float, **streams: torch.Tensor) -> list[Group]:
    tokens = torch.tensor([5, 6, 2])
    logprobs = torch.tensor([-1.0, -2.0, -3.0])
    responses = [
        Response(
            tokens=tokens + place,
            trainable=torch.ones(3, dtype=torch.bool),
            advantages=torch.full((3,), advantage),
            sampler_logprobs=logprobs,
            reference_logprobs=logprobs,
            **streams,
        )
        for place, advantage in enumerate(advantages)
    ]
    return [Group(prompt=torch.tensor([9, 4]), responses=tuple(responses))]


def everything(trainer: Trainer) -> list[torch.Tensor]:
    """Weights, the libraries' states, the average."""
    weights = [parameter.detach().clone() for _, parameter in trainer.policy.trained_parameters()]
    states = [state for library in trainer.optimizer.libraries for state in library.state.values()]
    moments = [value.clone() for state in states for value in state.values() if isinstance(value, torch.Tensor)]
    return [*weights, *moments, *(value.clone() for value in trainer.optimizer.state_dict()[0].values())]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(a.equal(b) for a, b in zip(one, other, strict=True))


LOSSES = {
    "clipped": PolicyGradient(),
    "by sequence": PolicyGradient(ratio_level="sequence", loss_aggregation="sequence"),
    "off-policy": PolicyGradient(old_logprobs="sampler"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_without_advantages_nothing_moves(trainer, name):
    first = trainer.step(groups(1.0, -1.0), LOSSES[name], 100, 1.0)
    assert "skipped" not in first
    before = everything(trainer)
    sums = trainer.step(groups(0.0, -0.0), LOSSES[name], 100, 1.0)
    assert (float(sums["skipped"]), float(sums["grad_norm"]), float(sums["loss"])) == (1, 0, 0)
    assert same(everything(trainer), before)
    trainer.step(groups(1.0, -1.0), LOSSES[name], 100, 1.0)
    assert not same(everything(trainer), before)


def test_the_step_after_is_as_if_there_had_been_none(trainer):
    """Gradients of the step that was left out are not added to those of the next."""
    torch.manual_seed(0)
    model = FAMILIES["llama"]()
    install(model)
    policy = Model(model, tokenizer=None)
    other = Trainer(policy, Optimizer(policy.trained_parameters(), DECAYING))
    for advantages in ((1.0, -1.0), (0.0, 0.0), (0.5, -0.5)):
        trainer.step(groups(*advantages), PolicyGradient(), 100, 1.0)
        if any(advantages):
            other.step(groups(*advantages), PolicyGradient(), 100, 1.0)
    assert same(everything(trainer), everything(other))


def test_one_token_with_an_advantage_is_a_signal(trainer):
    loss = PolicyGradient()
    assert loss.has_signal(groups(0.0, 1e-30))
    [group] = groups(0.0, 1.0)
    [_, second] = group.responses
    assert not loss.has_signal(groups(0.0))
    masked = Response(tokens=second.tokens, trainable=second.trainable & False, advantages=second.advantages)
    assert not loss.has_signal([Group(prompt=group.prompt, responses=(masked,))]), "tokens that are not learned"


@pytest.mark.parametrize(
    "loss",
    [PolicyGradient(kl_coef=0.1), PolicyGradient(kl_coef=0.1, kl_estimator="k2"), PolicyGradient(entropy_coef=1)],
)
def test_other_terms_are_a_signal(trainer, loss):
    before = everything(trainer)
    assert "skipped" not in trainer.step(groups(0.0, 0.0), loss, 100, 1.0)
    assert not same(everything(trainer), before)


def test_a_held_entropy_is_a_signal_once_its_weight_is_not_0(trainer):
    """What is measured in a step that was left out moves the weight of the next one."""
    loss = EntropyControl(PolicyGradient(), entropy_target=100.0, entropy_coef_lr=0.01, entropy_coef_max=1.0)
    assert "skipped" in trainer.step(groups(0.0, 0.0), loss, 100, 1.0)
    assert loss.weight > 0
    assert "skipped" not in trainer.step(groups(0.0, 0.0), loss, 100, 1.0)


@pytest.mark.parametrize("name", ["dpo", "ipo", "cpo"])
def test_comparisons_without_weight_move_nothing(trainer, name):
    loss = preference_loss(name).loss
    trainer.step(groups(0.0, 0.0), loss, 100, 1.0)
    before = everything(trainer)
    assert "skipped" in trainer.step(groups(0.0, 0.0, weights=torch.zeros(3)), loss, 100, 1.0)
    assert same(everything(trainer), before)


def test_other_losses_are_not_asked(trainer):
    assert "skipped" not in trainer.step(groups(0.0, 0.0), CrossEntropy(), 100, 1.0)
