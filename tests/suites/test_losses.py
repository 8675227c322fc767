"""The suite that every loss must pass: gradients, invariance, denominators, declared needs, no state.

``pytest tests/suites/test_losses.py -k NAME`` runs it for one loss. The losses are in `loss_cases`; hand values and
limits of each are in tests/losses.
"""

from __future__ import annotations

import importlib
import inspect
import operator
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

import burnish.losses
from burnish.losses.base import AdaptiveLoss, Loss, has_signal
from burnish.losses.distillation.settings import DivergenceOptions
from burnish.losses.policy.entropy import EntropyControl
from burnish.losses.weighted_sum import WeightedSum
from burnish.model.attention import install
from burnish.model.divergence import TopK
from burnish.model.policy import Model
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.packing import count_denominators, pack
from burnish.streams import present_streams
from burnish.train.step import Trainer, measure
from burnish.types import (
    TEACHER_SCORES,
    VALUE_SCORES,
    Denominator,
    Group,
    LossOutput,
    Microbatch,
    Response,
    Scope,
    Score,
    TokenScores,
)
from tests.suites.loss_cases import CASES, LossCase
from tests.suites.scored import Scored, Step, vars_of, with_plain_scores, with_random_scores
from tests.trees import grown

MakeModel = Callable[[str], PreTrainedModel]
TABLE = "tests/suites/loss_cases.py"
PACKINGS = {"packed": 10**6, "cut": 13}
"""Tokens of a microbatch: all groups in one; whole groups and cut ones in several."""


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> LossCase:
    return CASES[request.param]


@dataclass(frozen=True)
class Given:
    """A loss with its measurements, and the trained groups of a step with random scores."""

    loss: Loss
    parts: Sequence[Scored]

    @classmethod
    def of(cls, case: LossCase, groups: Sequence[Group]) -> Given:
        loss = case.make()
        scored_only = [group for group in groups if group.scored_only]
        if scored_only:
            measured = Step.of(with_random_scores(loss, scored_only, seed=1))
            loss = loss.with_measurements(measured.scores, measured.microbatch)
        return cls(loss, with_random_scores(loss, trained(groups)))

    @cached_property
    def step(self) -> Step:
        return Step.of(self.parts)


@pytest.fixture(scope="module")
def given(case: LossCase) -> Given:
    return Given.of(case, case.step(0))


def trained(groups: Sequence[Group]) -> list[Group]:
    return [group for group in groups if not group.scored_only]


def terms(output: LossOutput) -> dict[str, float]:
    return {name: float(term.total.detach()) for name, term in output.terms.items()}


def figures(output: LossOutput) -> dict[str, float]:
    return terms(output) | {name: float(term.total.detach()) for name, term in output.metrics.items()}


def close(expected: object) -> object:
    return pytest.approx(expected, rel=1e-11, abs=1e-13)


def test_every_loss_of_the_package_is_here() -> None:
    losses = [case.make() for case in CASES.values()]
    parts = [part.loss for loss in losses if isinstance(loss, WeightedSum) for part in loss.parts]
    parts += [loss.loss for loss in losses if isinstance(loss, EntropyControl)]
    missing = loss_classes() - {type(loss) for loss in (*losses, *parts)}
    assert not missing, f"add to others() of {TABLE}: {', '.join(kind.__name__ for kind in missing)}"


def loss_classes() -> set[type[Any]]:
    """Classes of burnish.losses with the members of `Loss`."""
    modules = pkgutil.walk_packages(burnish.losses.__path__, "burnish.losses.")
    found = [kind for module in modules for _, kind in inspect.getmembers(importlib.import_module(module.name))]
    classes = {kind for kind in found if inspect.isclass(kind) and kind.__module__.startswith("burnish.losses.")}
    members = {"needs", "scope", "__call__", "score_gradients", "with_measurements"}
    return {kind for kind in classes - {Loss} if members <= set(dir(kind))}


def make_policy(float64_model: MakeModel, loss: Loss, groups: Sequence[Group]) -> Model:
    """A model with windows, with a value head beside its output head if the loss needs values."""
    model = float64_model("qwen3-windowed")
    install(model)
    if VALUE_SCORES.isdisjoint(loss.needs):
        comparison = None if TEACHER_SCORES.isdisjoint(loss.needs) else TopK(DivergenceOptions())
        return Model(model, tokenizer=None, chunk_bytes=4096, comparison=comparison)
    outputs = max(1, *(len(response.scores or ()) for group in groups for response in group.responses))
    head = nn.Linear(model.config.hidden_size, outputs, bias=False, dtype=torch.float64)
    return Model(model, tokenizer=None, critic_head=head)


def test_the_gradient_of_a_model_is_that_of_unpacked_sequences(float64_model: MakeModel, case: LossCase) -> None:
    """Whether all groups are in one microbatch, or some are cut; and what is reported is the same."""
    groups, loss = case.step(0), case.make()
    policy = make_policy(float64_model, loss, groups)
    expected, value = _unpacked(policy, loss, groups)
    assert max(float(gradient.abs().max()) for gradient in expected.values()) > 0, "something is learned"
    reports = []
    for way, budget in PACKINGS.items():
        found, report = _packed(policy, case.make(), groups, pack(trained(groups), budget))
        assert report["loss"] == close(value), way
        _assert_same(found, expected, way)
        reports.append(report)
    assert reports[1] == close(reports[0])


@pytest.mark.parametrize("forks", [False, True], ids=["trees", "forks"])
def test_shared_beginnings_change_nothing(float64_model: MakeModel, case: LossCase, forks: bool) -> None:
    """Responses that begin alike, and responses of several texts: as every text alone, whole and cut."""
    groups, loss = grown(case.step(0), forks=forks), case.make()
    policy = make_policy(float64_model, loss, groups)
    expected, value = _unpacked(policy, loss, groups)
    for way, budget in PACKINGS.items():
        found, report = _packed(policy, case.make(), groups, pack(trained(groups), budget))
        assert report["loss"] == close(value), way
        _assert_same(found, expected, way)


def _unpacked(policy: Model, loss: Loss, groups: Sequence[Group]) -> tuple[dict[str, Tensor], float]:
    """Gradient and loss of the step by transformers' own forward of every response alone."""
    scored_only = [group for group in groups if group.scored_only]
    if scored_only:
        with torch.no_grad():
            measured = Step.of(with_plain_scores(policy, loss.needs, scored_only))
        loss = loss.with_measurements(measured.scores, measured.microbatch)
    value = Step.of(with_plain_scores(policy, loss.needs, trained(groups))).value(loss)
    _clear(policy)
    torch.autograd.backward(value)
    return _gradients(policy), float(value.detach())


def _packed(
    policy: Model, loss: Loss, groups: Sequence[Group], microbatches: list[Microbatch]
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Gradient and metrics of the step by the trainer."""
    _clear(policy)
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings()))
    loss = measure(policy, loss, (group for group in groups if group.scored_only), budget=30)
    sums = trainer.accumulate(microbatches, loss, count_denominators(groups))
    return _gradients(policy), {name: float(value) for name, value in sums.items()}


def _clear(policy: Model) -> None:
    for _, parameter in policy.trained_parameters():
        parameter.grad = None


def _gradients(policy: Model) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in policy.trained_parameters() if p.grad is not None}


def _assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], way: str) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = float(gradient.abs().max()) or 1.0
        assert float((found[name] - gradient).abs().max()) < 1e-11 * scale, (way, name)


gradcheck = partial(torch.autograd.gradcheck, atol=1e-8, rtol=1e-6, nondet_tol=0.0)


def test_the_gradient_is_the_derivative_of_the_value(case: LossCase, given: Given) -> None:
    """By differences. A loss that holds something constant by definition says so in `loss_cases.HELD`."""
    loss, step = given.loss, given.step
    kinds = list(loss.needs)

    def value(*scores: Tensor) -> Tensor:
        scored = TokenScores(
            **{kind.value: score for kind, score in zip(kinds, scores, strict=True)},
            bootstrap_value=step.scores.bootstrap_value,
        )
        return replace(step, scores=scored).value(loss)

    leaves = [step.scores.of(kind).detach().requires_grad_() for kind in kinds]
    if case.held:
        assert not gradcheck(value, leaves, raise_exception=False), f"remove it from HELD of {TABLE}"
    else:
        assert gradcheck(value, leaves), f"if this is by definition, it is in HELD of {TABLE}"


def test_declared_gradients_are_those_of_the_loss(given: Given) -> None:
    loss, step = given.loss, given.step
    known = loss.score_gradients(step.microbatch, step.denominators)
    if known is None:
        return
    assert known.keys() == set(loss.needs)
    for kind, gradient in step.gradients(loss).items():
        assert torch.allclose(known[kind].to(gradient), gradient, rtol=1e-12, atol=0), kind
    empty = loss.score_gradients(step.microbatch, dict.fromkeys(Denominator, 0.0))
    assert empty is not None
    assert all(bool(gradient.isfinite().all()) for gradient in empty.values())


def test_the_order_of_groups_does_not_matter(given: Given) -> None:
    loss, parts = given.loss, given.parts
    order = [2, 0, *range(3, len(parts)), 1]
    there, back = given.step, Step.of([parts[index] for index in order])
    assert float(back.value(loss).detach()) == close(float(there.value(loss).detach()))
    assert_close(_leaf_gradients(parts, loss, order), _leaf_gradients(parts, loss))


def assert_close(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-14)


def _leaf_gradients(parts: Sequence[Scored], loss: Loss, order: Sequence[int] | None = None) -> list[Tensor]:
    """Gradients of the step's loss with respect to each group's scores, in the order of the parts."""
    leaves = [part.scores.of(kind) for part in parts for kind in loss.needs]
    value = Step.of([parts[index] for index in order or range(len(parts))]).value(loss)
    found = torch.autograd.grad(value, leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if each is None else each for leaf, each in zip(leaves, found, strict=True)]


def test_terms_are_sums_over_what_the_loss_sees_at_once(given: Given) -> None:
    """Over groups, each alone. A loss of the whole step has nothing smaller to sum over."""
    loss, parts = given.loss, given.parts
    whole = given.step.output(loss)
    assert all(isinstance(term.denominator, Denominator) for term in (*whole.terms.values(), *whole.metrics.values()))
    assert all(term.total.dim() == 0 for term in (*whole.terms.values(), *whole.metrics.values()))
    assert any(term.total.requires_grad for term in whole.terms.values())
    if loss.scope is Scope.STEP:
        return
    alone = [figures(Step.of([part]).output(loss)) for part in parts]
    assert {name: sum(each[name] for each in alone) for name in alone[0]} == close(figures(whole))


def test_a_step_given_twice_has_twice_the_sums_and_the_same_loss(given: Given) -> None:
    """Numerators and denominators double, so halves of a step can be computed apart, and repetition teaches nothing
    else."""
    loss, parts = given.loss, given.parts
    once, twice = given.step, Step.of([*parts, *parts])
    doubled = {name: 2 * value for name, value in terms(once.output(loss)).items()}
    assert terms(twice.output(loss)) == close(doubled)
    assert float(twice.value(loss).detach()) == close(float(once.value(loss).detach()))
    assert_close(_leaf_gradients(parts, loss, [*range(len(parts))] * 2), _leaf_gradients(parts, loss))


def without_weight(response: Response) -> Response:
    return response if response.weights is None else replace(response, weights=0 * response.weights)


def without_advantage(response: Response) -> Response:
    return response if response.advantages is None else replace(response, advantages=0 * response.advantages)


def with_reward(response: Response, reward: float) -> Response:
    return response if response.reward is None else replace(response, reward=reward)


EMPTY: dict[str, Callable[[Response], Response]] = {
    "no weight": without_weight,
    "no advantage": without_advantage,
    "all are desirable": lambda response: with_reward(response, 1.0),
    "none is desirable": lambda response: with_reward(response, 0.0),
}


@pytest.mark.parametrize("kind", EMPTY)
def test_nothing_to_divide_by_gives_zero_and_no_signal_no_gradient(case: LossCase, kind: str) -> None:
    """A term or metric without anything to count is 0, and nothing is NaN."""
    groups = case.step(0)
    if (emptied := [_emptied(kind, group) for group in groups]) == groups:
        return
    given = Given.of(case, emptied)
    output, gradients = given.step.output(given.loss), given.step.gradients(given.loss).values()
    for name, term in (*output.terms.items(), *output.metrics.items()):
        assert bool(term.total.isfinite()), name
        assert given.step.denominators[term.denominator] or float(term.total.detach()) == 0, name
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    if not has_signal(given.loss, trained(emptied)):
        assert all(bool((gradient == 0).all()) for gradient in gradients)


def _emptied(kind: str, group: Group) -> Group:
    """The group itself if it has nothing of the kind."""
    responses = tuple(map(EMPTY[kind], group.responses))
    return group if all(map(operator.is_, responses, group.responses)) else replace(group, responses=responses)


def test_a_step_has_a_signal(given: Given) -> None:
    assert has_signal(given.loss, [part.group for part in given.parts])
    assert any(bool((gradient != 0).any()) for gradient in given.step.gradients(given.loss).values())


def test_a_call_changes_nothing_and_says_the_same_again(given: Given) -> None:
    loss, step = given.loss, given.step
    tensors = {**vars_of(step.scores), **present_streams(step.microbatch), "weights": step.microbatch.weights}
    before = {name: tensor.detach().clone() for name, tensor in tensors.items() if tensor is not None}
    state = loss.state_dict() if isinstance(loss, AdaptiveLoss) else repr(loss)
    first = figures(step.output(loss))
    loss.score_gradients(step.microbatch, step.denominators)
    loss.with_measurements(step.scores, step.microbatch)
    step.gradients(loss)
    assert figures(step.output(loss)) == first
    assert (loss.state_dict() if isinstance(loss, AdaptiveLoss) else repr(loss)) == state
    assert all(torch.equal(tensors[name].detach(), tensor) for name, tensor in before.items())


def test_it_reads_the_scores_that_it_declares_and_no_others(given: Given) -> None:
    """A score that is missing is told, and one that was not asked for is not read."""
    loss, step = given.loss, given.step
    expected = figures(step.output(loss))
    for kind in loss.needs:
        with pytest.raises(AssertionError):
            replace(step, scores=replace(step.scores, **{kind.value: None})).output(loss)
    nan = torch.full_like(step.scores.of(next(iter(loss.needs))), torch.nan)
    further = {kind.value: nan for kind in Score if kind not in loss.needs}
    assert figures(replace(step, scores=replace(step.scores, **further)).output(loss)) == expected


def test_a_missing_stream_is_told_or_is_not_read(given: Given) -> None:
    """The value never depends silently on whether a stream is there."""
    loss, step = given.loss, given.step
    expected = terms(step.output(loss))
    for name in present_streams(step.microbatch):
        missing: dict[str, Any] = {name: None}
        bare = replace(step, microbatch=replace(step.microbatch, **missing))
        try:
            found = terms(bare.output(loss))
        except AssertionError:
            continue
        assert found == expected, name
