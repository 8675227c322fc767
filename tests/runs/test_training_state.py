"""Contents of a training's checkpoint, and what must be equal on resume."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from burnish.builtin.tiny import make_model, make_tokenizer
from burnish.errors import RunError
from burnish.losses.cross_entropy import CrossEntropy
from burnish.model.adapters.add import add_adapter
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.attention import install
from burnish.model.fingerprint import frozen_fingerprint
from burnish.model.noise import Neftune
from burnish.model.policy import Model
from burnish.model.vocabulary import extend
from burnish.optim.optimizer import Optimizer
from burnish.optim.rates import layer_factors
from burnish.optim.settings import KINDS, OptimizerSettings
from burnish.runs.checkpoint import load_checkpoint, save_checkpoint
from burnish.runs.training_state import (
    StatefulObject,
    TrainState,
    capture_checkpoint,
    changed_versions,
    require_fingerprints,
    restore_checkpoint,
)
from burnish.sources.rows import RowSource
from burnish.stages.role import POLICY
from burnish.train.early_stopping import EarlyStopping
from burnish.train.learner import Learner
from burnish.train.schedule import Schedule
from burnish.train.step import Trainer
from burnish.train.stop_rule import StopRule
from tests.conftest import make_groups


def make_trainer(adapter_rank: int = 2) -> Trainer:
    policy = Model(add_adapter(make_model(0, hidden_size=32, layers=1), AdapterSettings(rank=adapter_rank)), None)
    return Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings()))


def make_trainer_with_new_tokens() -> Trainer:
    model = make_model(0, hidden_size=32, layers=1)
    rows, _ = extend(model, make_tokenizer(), ["<|im_start|>", "<|im_end|>"])
    install(model)
    torch.manual_seed(0)
    policy = Model(add_adapter(model, AdapterSettings(rank=2), rows), None)
    return Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings(learning_rate=1e-2)))


def make_source() -> RowSource:
    return RowSource([(group,) for group in make_groups([(1, [1])] * 6)], sequences_per_step=2, seed=0)


def state(trainer: Trainer, **others: StatefulObject) -> TrainState:
    return TrainState([learner(POLICY, trainer)], make_source(), others)


def learner(name: str, trainer: Trainer) -> Learner:
    return Learner(name, trainer, CrossEntropy(), Schedule("constant", 10, 0.0), 100)


def test_only_what_trains_is_kept():
    kept = capture_checkpoint(state(make_trainer()), 3, {}).tensors
    weights = {name for name in kept if name.startswith("roles/policy/weights/")}
    assert weights
    assert all("lora_" in name for name in weights)


def test_rows_of_added_tokens_go_on_bit_for_bit():
    """Two steps, a checkpoint, and a third step by the original and by the resumed trainer."""
    groups, first, second = make_groups([(3, [4, 2])]), make_trainer_with_new_tokens(), make_trainer_with_new_tokens()
    assert frozen_fingerprint(first.policy) == frozen_fingerprint(second.policy)
    for _ in range(2):
        first.step(groups, CrossEntropy(), 100, 1.0)
    restore_checkpoint(capture_checkpoint(state(first), 2, {}), state(second))
    for trainer in (first, second):
        trainer.step(groups, CrossEntropy(), 100, 1.0)
    assert any("trainable_tokens" in name for name in first.optimizer.names)
    for one, other in zip(first.optimizer.masters.masters, second.optimizer.masters.masters, strict=True):
        assert torch.equal(one, other)


def test_the_frozen_fingerprint_sees_one_changed_bit():
    policy = make_trainer().policy
    before = frozen_fingerprint(policy)
    assert before == frozen_fingerprint(make_trainer().policy)
    frozen = next(p for p in policy.model.parameters() if not p.requires_grad)
    with torch.no_grad():
        frozen.view(torch.int32).view(-1)[0] += 1
    assert frozen_fingerprint(policy) != before


def test_each_role_has_a_folder_and_goes_on_with_its_own_state():
    """Two learners of different shapes: each continues bit for bit."""
    groups = make_groups([(3, [4]), (5, [6])])

    def roles() -> list[Learner]:
        return [learner(POLICY, make_trainer(2)), learner("critic", make_trainer(4))]

    first, second = roles(), roles()
    for step in (1, 2):
        for role in first:
            role.step(groups, step)
    saved = capture_checkpoint(TrainState(first, make_source()), 2, {})
    assert {name.split("/")[1] for name in saved.tensors if name.startswith("roles/")} == {POLICY, "critic"}
    restore_checkpoint(saved, TrainState(second, make_source()))
    for role in (*first, *second):
        role.step(groups, 3)
    for one, other in zip(first, second, strict=True):
        mine, theirs = one.trainer.optimizer.masters.weights, other.trainer.optimizer.masters.weights
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_other_parameters_are_refused():
    checkpoint = capture_checkpoint(state(make_trainer()), 1, {})
    policy = Model(make_model(0, hidden_size=32, layers=1), None)
    full = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings()))
    with pytest.raises(RunError, match="differ in"):
        restore_checkpoint(checkpoint, state(full))


def test_facts_must_hold():
    checkpoint = capture_checkpoint(state(make_trainer()), 5, {"the data": "a", "metrics_offset": 3})
    require_fingerprints(checkpoint, {"the data": "a"})
    with pytest.raises(RunError, match="the data has changed since step 5"):
        require_fingerprints(checkpoint, {"the data": "b"})


def test_other_versions_are_logged():
    checkpoint = capture_checkpoint(state(make_trainer()), 5, {})
    assert changed_versions(checkpoint) == []
    checkpoint.values["versions"]["torch"] = "1.0"
    [note] = changed_versions(checkpoint)
    assert note.startswith(
        f"torch was 1.0 when the checkpoint was written, and is {torch.__version__.partition('+')[0]}"
    )
    del checkpoint.values["versions"]
    assert changed_versions(checkpoint) == []


WAYS = {
    **{name: OptimizerSettings(name) for name in KINDS if not name.endswith("_paged")},
    "ema": OptimizerSettings(ema_decay=0.9),
    "momentum 0": OptimizerSettings("sgd", momentum=0.0),
    **{
        f"{name}, rounded by chance": OptimizerSettings(name, stochastic_rounding=True, ema_decay=0.5)
        for name in ("adamw", "adamw_8bit", "muon", "adafactor", "lion", "sgd")
    },
}


def make_policy(dtype: torch.dtype) -> Model:
    """65 x 64 is over the 4096 elements from which states have 8 bits."""
    model = make_model(0, hidden_size=64, layers=1)
    install(model)
    return Model(model.to(dtype), None)


def one_of(way: str, dtype: torch.dtype) -> Trainer:
    settings, policy = replace(WAYS[way], learning_rate=1e-2, weight_decay=0.1), make_policy(dtype)
    factors = layer_factors([name for name, _ in policy.trained_parameters()], 0.8, num_layers=1)
    optimizer = Optimizer(policy.trained_parameters(), settings, factors=factors)
    return Trainer(policy, optimizer, neftune=Neftune(5.0, seed=3))


@pytest.mark.parametrize("way", WAYS)
def test_every_optimiser_goes_on_bit_for_bit(tmp_path, way):
    """Two steps, a checkpoint on the disk, and two further steps by the original and by the resumed trainer."""
    dtype = torch.bfloat16
    groups, first, second = make_groups([(3, [4]), (5, [6])]), one_of(way, dtype), one_of(way, dtype)
    for step in range(2):
        first.step(groups, CrossEntropy(), 100, 1 / (step + 1))
    path = save_checkpoint(tmp_path, capture_checkpoint(state(first), 2, {}), 1)
    restore_checkpoint(load_checkpoint(path), state(second))
    for trainer in (first, second):
        for _ in range(2):
            trainer.step(groups, CrossEntropy(), 100, 0.5)
    for one, other in zip(first.optimizer.masters.weights, second.optimizer.masters.weights, strict=True):
        assert torch.equal(one, other)
    with first.optimizer.in_use(), second.optimizer.in_use():
        for one, other in zip(first.policy.model.parameters(), second.policy.model.parameters(), strict=True):
            assert torch.equal(one, other)


def test_a_checkpoint_changes_nothing():
    """An evaluation of the average does not change it either: training continues bit-identically."""
    groups = make_groups([(3, [4]), (5, [6])])
    for way in ("schedule_free", "adamw, rounded by chance"):
        first, second = one_of(way, torch.bfloat16), one_of(way, torch.bfloat16)
        for _ in range(3):
            first.step(groups, CrossEntropy(), 100, 1.0)
            capture_checkpoint(state(first), 2, {})
            with first.optimizer.in_use():
                pass
            second.step(groups, CrossEntropy(), 100, 1.0)
        for one, other in zip(first.optimizer.masters.weights, second.optimizer.masters.weights, strict=True):
            assert torch.equal(one, other)


def test_what_ends_a_stage_goes_on(tmp_path):
    trainer, stopping, again = make_trainer(), EarlyStopping(StopRule(2, keep_best=True)), EarlyStopping(StopRule(2))
    for step, loss in enumerate([3.0, 1.0, 2.0]):
        with torch.no_grad():
            trainer.optimizer.masters.weights[0].fill_(step)
        stopping.observe(step, loss, trainer.policy.trained_parameters())
    path = save_checkpoint(tmp_path, capture_checkpoint(state(trainer, stopping=stopping), 2, {}), 1)
    restore_checkpoint(load_checkpoint(path), state(make_trainer(), stopping=again))
    assert not again.over
    assert float(again.weights[trainer.optimizer.names[0]].mean()) == 1
    again.observe(3, 1.5, ())
    assert again.over
    assert again.summary(9) == {"steps": 3, "stopped_early": again.reason(), "best_step": 1}
