"""What a checkpoint of a training has, and what may not have changed when it goes on."""

from __future__ import annotations

import pytest
import torch

from burnish.builtin.tiny import make_model, make_tokenizer
from burnish.errors import RunError
from burnish.losses import CrossEntropy
from burnish.model.adapters import AdapterSettings, add_adapter
from burnish.model.attention import install
from burnish.model.policy import Policy
from burnish.model.vocabulary import extend
from burnish.optim import Optimizer, OptimizerSettings
from burnish.runs import capture, changed_versions, frozen_fingerprint, require_facts, restore
from burnish.sources import RowSource
from burnish.step import Trainer
from tests.conftest import make_groups


def make_trainer(adapter_rank: int = 2) -> Trainer:
    policy = Policy(add_adapter(make_model(0, hidden_size=32, layers=1), AdapterSettings(rank=adapter_rank)), None)
    return Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings()))


def make_trainer_with_new_tokens() -> Trainer:
    model = make_model(0, hidden_size=32, layers=1)
    rows, _ = extend(model, make_tokenizer(), ["<|im_start|>", "<|im_end|>"])
    install(model)
    torch.manual_seed(0)
    policy = Policy(add_adapter(model, AdapterSettings(rank=2), rows), None)
    return Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings(learning_rate=1e-2)))


def make_source() -> RowSource:
    return RowSource([(group,) for group in make_groups([(1, [1])] * 6)], sequences_per_step=2, seed=0)


def test_only_what_trains_is_kept():
    trainer = make_trainer()
    kept = capture(trainer, make_source(), 3, {}).tensors
    weights = {name for name in kept if name.startswith("weights/")}
    assert weights
    assert all("lora_" in name for name in weights)


def test_rows_of_added_tokens_go_on_bit_for_bit():
    """Two steps, a checkpoint, and a third step by both who made it and who began with it."""
    groups, first, second = make_groups([(3, [4, 2])]), make_trainer_with_new_tokens(), make_trainer_with_new_tokens()
    assert frozen_fingerprint(first.policy) == frozen_fingerprint(second.policy)
    for _ in range(2):
        first.step(groups, CrossEntropy(), 100, 1.0)
    restore(capture(first, make_source(), 2, {}), second, make_source())
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


def test_other_parameters_are_refused():
    source = make_source()
    checkpoint = capture(make_trainer(), source, 1, {})
    policy = Policy(make_model(0, hidden_size=32, layers=1), None)
    full = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings()))
    with pytest.raises(RunError, match="differ in"):
        restore(checkpoint, full, source)


def test_facts_must_hold():
    checkpoint = capture(make_trainer(), make_source(), 5, {"the data": "a", "metrics_offset": 3})
    require_facts(checkpoint, {"the data": "a"})
    with pytest.raises(RunError, match="the data is not what it was at step 5"):
        require_facts(checkpoint, {"the data": "b"})


def test_other_versions_are_said():
    checkpoint = capture(make_trainer(), make_source(), 5, {})
    assert changed_versions(checkpoint) == []
    checkpoint.values["versions"]["torch"] = "1.0"
    [note] = changed_versions(checkpoint)
    assert note.startswith(
        f"torch was 1.0 when the checkpoint was written, and is {torch.__version__.partition('+')[0]}"
    )
    del checkpoint.values["versions"]
    assert changed_versions(checkpoint) == []
