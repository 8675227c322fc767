"""The rehearsal tries the costliest microbatch, and leaves no trace."""

import pytest
import torch

from burnish.builtin.tiny import make_model
from burnish.losses.cross_entropy import CrossEntropy
from burnish.model.adapters.add import add_adapter
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.attention import install
from burnish.model.noise import Neftune
from burnish.model.policy import Model
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.train.dry_run import costliest, dry_run
from burnish.train.step import Trainer
from tests.conftest import make_groups


def test_the_longest_and_what_fits_beside_it():
    groups = make_groups([(2, [3]), (4, [6]), (1, [1]), (3, [4])])
    chosen = {most: [group.num_tokens for group in costliest(groups, 17, most)] for most in (1, 2, 9)}
    assert chosen == {1: [10], 2: [10, 7], 9: [10, 7]}
    assert [group.num_tokens for group in costliest(groups, 16, 9)] == [10, 5]
    assert [group.num_tokens for group in costliest(groups, 4, 9)] == [10], "a longer one is alone"


def make_trainer(settings: OptimizerSettings) -> Trainer:
    model = make_model(0, hidden_size=32, layers=1)
    install(model)
    torch.manual_seed(0)
    policy = Model(add_adapter(model, AdapterSettings(rank=2, dropout=0.5)).train(), None)
    return Trainer(policy, Optimizer(policy.trained_parameters(), settings), neftune=Neftune(5.0, 0))


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit", "schedule_free"])
def test_what_follows_is_the_same_bit_for_bit(name):
    """Also with dropout, whose chance a rehearsal draws from too."""
    settings, groups = OptimizerSettings(name, learning_rate=1e-2, ema_decay=None), make_groups([(3, [4]), (5, [6])])
    results = []
    for rehearsed in (False, True):
        trainer = make_trainer(settings)
        torch.manual_seed(1)
        for _ in range(2):
            if rehearsed:
                dry_run(trainer, groups, CrossEntropy(), 12)
                assert all(p.grad is None for p in trainer.policy.model.parameters())
            trainer.step(groups, CrossEntropy(), 12, 1.0)
        results.append([weight.detach().clone() for weight in trainer.optimizer.masters.weights])
    for plain, other in zip(*results, strict=True):
        assert torch.equal(plain, other)


def test_too_little_memory_shows_and_leaves_nothing(monkeypatch):
    trainer = make_trainer(OptimizerSettings())
    forward_backward, calls = Trainer.forward_backward, []

    def limited(self, *arguments):
        calls.append(1)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward_backward(self, *arguments)

    monkeypatch.setattr(Trainer, "forward_backward", limited)
    with pytest.raises(torch.OutOfMemoryError):
        dry_run(trainer, make_groups([(3, [4])]), CrossEntropy(), 100)
    assert all(p.grad is None for p in trainer.policy.model.parameters())
