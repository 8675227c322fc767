"""The world: N processes take the step that one takes, and measure what it measures, on every rank."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from burnish.evaluate import held_out, preference_eval
from burnish.evaluate.evaluator import Evaluator
from burnish.evaluate.held_out import HeldOutLoss
from burnish.evaluate.preference_eval import PreferenceEval
from burnish.evaluate.reward_model_eval import RewardModelEval
from burnish.evaluate.scores_and_steps import ScoresEval, StepsEval
from burnish.losses.preference.implicit import LogRatio
from burnish.losses.preference.options import DataNeeds
from burnish.model.attention import install
from burnish.model.policy import Model
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.packing import count_denominators
from burnish.parallel.world import ONE_PROCESS, World
from burnish.train.dry_run import dry_run
from burnish.train.step import Trainer, measure
from burnish.types import Scope
from tests.parallel.threads import in_world
from tests.preferences import compared
from tests.suites.loss_cases import CASES, LossCase, values_at_end, values_at_steps, values_of_scores

MakeModel = Callable[[str], PreTrainedModel]
STEPS = {
    "cross_entropy(label_smoothing=0.1, z_loss=0.3)": Scope.SEQUENCE,
    "a held entropy": Scope.SEQUENCE,
    "dpo": Scope.GROUP,
    "lipo": Scope.GROUP,
    "aot": Scope.STEP,
    "a sum of dpo, aot and sft": Scope.STEP,
    "kto": Scope.SEQUENCE,
    "beta_dpo": Scope.STEP,
}
"""Name of a case of the suite of losses → its scope. The step of kto has groups that are only scored."""
BUDGETS = {"one microbatch": 10**6, "two microbatches": 30, "whole and cut groups": 13}
"""Tokens of a microbatch; fewer microbatches than ranks leave some without any."""


def make_policy(float64_model: MakeModel, outputs: int = 0) -> Model:
    """A model, with a value head of so many outputs."""
    model = float64_model("llama")
    install(model)
    if not outputs:
        return Model(model, tokenizer=None, chunk_bytes=4096)
    return Model(model, None, critic_head=nn.Linear(model.config.hidden_size, outputs, bias=False, dtype=torch.float64))


def copies(policy: Model, count: int) -> list[Model]:
    return [deepcopy(policy) for _ in range(count)]


@dataclass(frozen=True)
class Taken:
    """What a rank got of a step."""

    gradients: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    metrics: Mapping[str, float]


def take(policy: Model, case: LossCase, budget: int, world: World = ONE_PROCESS) -> Taken:
    """The gradient of a step, then the step; clipping makes the update depend on the norm."""
    settings = OptimizerSettings(learning_rate=0.1, eps=1.0)  # the update rises with the gradient
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), settings), world=world)
    groups = case.step(0)
    trained = [group for group in groups if not group.scored_only]
    loss = measure(policy, case.make(), (group for group in groups if group.scored_only), budget, world)
    trainer.accumulate(policy.pack(trained, budget), loss, count_denominators(trained))
    gradients = {name: p.grad.clone() for name, p in policy.trained_parameters() if p.grad is not None}
    trainer.optimizer.clear()
    sums = trainer.step(groups, case.make(), budget, 1.0)
    weights = {name: parameter.detach().clone() for name, parameter in policy.trained_parameters()}
    return Taken(gradients, weights, {name: float(value) for name, value in sums.items()})


def assert_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert float((found[name] - tensor).abs().max()) <= 1e-12 * float(tensor.abs().max()), name


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
@pytest.mark.parametrize("name", STEPS)
def test_every_rank_takes_the_step_of_one_process(float64_model: MakeModel, name: str, budget: int, size: int) -> None:
    case = CASES[name]
    assert case.make().scope is STEPS[name]
    alone, *policies = copies(make_policy(float64_model), 1 + size)
    expected = take(alone, case, budget)
    ranks = in_world(size, lambda world: take(policies[world.rank], case, budget, world))
    assert expected.metrics["grad_norm"] > 0
    for found in ranks:
        assert_same(found.gradients, expected.gradients)
        assert_same(found.weights, expected.weights)
        assert found.metrics == pytest.approx(expected.metrics, rel=1e-12)
        assert found.metrics == ranks[0].metrics, "every rank reports the same bits"
        assert all(torch.equal(weight, ranks[0].weights[name]) for name, weight in found.weights.items())


def test_measured_groups_are_among_the_steps() -> None:
    assert any(group.scored_only for group in CASES["kto"].step(0))


@pytest.mark.parametrize("name", STEPS)
def test_the_held_out_loss_of_every_rank_is_that_of_one_process(
    float64_model: MakeModel, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(held_out, "GROUPS_AT_ONCE", 2)
    rows, loss = CASES[name].step(0), CASES[name].make()
    assert_evaluated_alike(float64_model, lambda world: HeldOutLoss(rows, loss, 13, world))


EVALUATORS: Mapping[str, tuple[int, Callable[[World], Evaluator]]] = {
    "preferences": (0, lambda world: PreferenceEval(compared(DataNeeds.PAIR), LogRatio(0.1), 13, world=world)),
    "reward model": (1, lambda world: RewardModelEval(values_at_end(DataNeeds.PAIR, 0), 13, world=world)),
    "scores": (2, lambda world: ScoresEval(values_of_scores(0), ("a", "b"), 13, world)),
    "steps": (1, lambda world: StepsEval(values_at_steps(0), 13, 0.0, world)),
}
"""Name → outputs of the value head, and the evaluator in a world."""


@pytest.mark.parametrize("name", EVALUATORS)
def test_every_rank_evaluates_as_one_process(
    float64_model: MakeModel, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(preference_eval, "GROUPS_AT_ONCE", 3)
    outputs, evaluator = EVALUATORS[name]
    assert_evaluated_alike(float64_model, evaluator, outputs)


def assert_evaluated_alike(float64_model: MakeModel, evaluator: Callable[[World], Evaluator], outputs: int = 0) -> None:
    """On two ranks, which score fewer microbatches than one process."""
    alone, *policies = copies(make_policy(float64_model, outputs), 3)
    expected, whole = evaluated(alone, evaluator(ONE_PROCESS))
    ranks = in_world(2, lambda world: evaluated(policies[world.rank], evaluator(world)))
    assert expected
    for found, _ in ranks:
        assert found == pytest.approx(expected, rel=1e-12)
    assert sum(scored for _, scored in ranks) == whole
    assert all(0 < scored < whole for _, scored in ranks)


def evaluated(policy: Model, evaluator: Evaluator) -> tuple[dict[str, float], int]:
    """Metrics, and how many microbatches the model scored."""
    scored = []
    handle = policy.causal_lm.get_input_embeddings().register_forward_pre_hook(lambda *_: scored.append(1))
    figures = evaluator.evaluate(policy).figures
    handle.remove()
    return {name: float(value) for name, value in figures.items()}, len(scored)


def test_the_dry_run_is_every_ranks_own(float64_model: MakeModel) -> None:
    """The largest microbatch may come to any of them."""
    policies = copies(make_policy(float64_model), 2)

    def forwards(world: World) -> int:
        policy, calls = policies[world.rank], []
        trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings()), world=world)
        policy.causal_lm.get_input_embeddings().register_forward_pre_hook(lambda *_: calls.append(1))
        dry_run(trainer, CASES["cross_entropy"].step(0)[:1], CASES["cross_entropy"].make(), 10**6)
        return len(calls)

    assert in_world(2, forwards) == [2 + 1, 2 + 1]


def test_one_process_is_the_identity() -> None:
    tensor, sums, items = torch.ones(2), {"loss": torch.ones(())}, [1, 2, 3]
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = tensor
    assert ONE_PROCESS.sum(tensor) is tensor
    assert ONE_PROCESS.sum(sums) is sums
    assert ONE_PROCESS.share(items) is items
    [gathered] = ONE_PROCESS.gather(items)
    assert gathered is items
    ONE_PROCESS.sum_gradients([parameter])
    assert parameter.grad is tensor
    assert torch.equal(ONE_PROCESS.grad_norm([parameter]), tensor.norm())
    assert (ONE_PROCESS.rank, ONE_PROCESS.size, ONE_PROCESS.is_main) == (0, 1, True)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_shards_are_disjoint_and_together_all_in_order(size: int, count: int) -> None:
    def shards(world: World) -> Sequence[Sequence[int]]:
        return world.gather(world.share(range(count)))

    for found in in_world(size, shards):
        assert [item for shard in found for item in shard] == list(range(count))


def test_sums_count_what_a_rank_lacks_as_nothing() -> None:
    def summed(world: World) -> tuple[dict[str, Tensor], Tensor | None, Tensor | None]:
        own = {"loss": torch.tensor(2.0)} | ({"kl": torch.tensor(3.0)} if world.is_main else {})
        some, none = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
        some.grad = torch.ones(1) if world.is_main else None
        world.sum_gradients([some, none])
        return world.sum(own), some.grad, none.grad

    for sums, some, none in in_world(2, summed):
        assert sums == {"loss": 4.0, "kl": 3.0}
        assert some == 1.0
        assert none is None
