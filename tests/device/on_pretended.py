"""What training does on CUDA, on a pretended one: which device every tensor is on, and what waits for it.

Run by `test_pretended.py` in a process whose torch found `pretended_cuda.cpp`. Fake tensors have no numbers, so torch
refuses whatever must read one on the host (`.item()`, a boolean of a tensor, a mask as an index): a step that passes
here never waits for the device. Tensors of two devices in one operation are refused too, and operations that CUDA
refuses where only deterministic algorithms are allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode, unset_fake_temporarily
from torch.nn.attention import flex_attention
from torch.utils._python_dispatch import TorchDispatchMode

from burnish import layout, microbatch, types
from burnish.builtin.tiny import make_model
from burnish.losses.base import Loss
from burnish.losses.cross_entropy import CrossEntropy
from burnish.losses.policy.entropy import EntropyControl
from burnish.losses.policy.gradient import PolicyGradient
from burnish.losses.preference.build import preference_loss
from burnish.losses.preference.registry import PREFERENCE_LOSSES
from burnish.losses.reward.bradley_terry import BradleyTerry
from burnish.model import flex
from burnish.model.adapters.add import add_adapter
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.attention import install
from burnish.model.decoding import Decoding, Prefill, ResponseKeys
from burnish.model.policy import Model
from burnish.model.prefix_cache import PrefixCache
from burnish.model.value_head import ValueHeadConfig, with_value_head
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.packing import count_denominators
from burnish.sampling.choice import SamplingParams, choose
from burnish.sampling.token_history import TokenHistory
from burnish.sources.mismatched_pairs import mismatched
from burnish.sources.value_targets import value_target_at_end
from burnish.stages.rl.algorithms import algorithm
from burnish.train import step as step_file
from burnish.train.step import Trainer, score_joined
from burnish.types import Group
from tests.conftest import make_groups
from tests.preferences import annotated, compared

CUDA = torch.device("cuda", 0)
FAKE = FakeTensorMode(allow_non_fake_inputs=True)
BUDGET = 30
"""Tokens: some groups are cut."""
REFUSED = {
    torch.ops.aten.cumsum.default,
    torch.ops.aten.cumprod.default,
    torch.ops.aten.histc.default,
    torch.ops.aten.kthvalue.default,
    torch.ops.aten.median.dim,
    torch.ops.aten.put_.default,
}
"""torch's list of what raises an error on CUDA under `use_deterministic_algorithms`, as far as one might use it."""


class DeterministicAlone(TorchDispatchMode):
    """Refuses what CUDA refuses in a deterministic run: running sums of floating-point numbers, and others."""

    supports_higher_order_operators = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in REFUSED and (source := args[0]).device.type == "cuda" and source.dtype.is_floating_point:
            raise RuntimeError(f"{func} has no deterministic implementation on CUDA")
        return func(*args, **(kwargs or {}))


@contextmanager
def pretended() -> Iterator[None]:
    with FAKE, DeterministicAlone():
        yield


@pytest.fixture(autouse=True)
def on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moves without pinned memory, which fake tensors lack; and what is done with numbers of the host, with numbers."""
    for module in (types, layout):
        monkeypatch.setattr(module, "move", lambda tensor, device: tensor.to(device))
    monkeypatch.setattr(step_file, "join", real(microbatch.join))
    monkeypatch.setattr(flex, "_compiled_flex", lambda: flex._attend)
    monkeypatch.setattr(flex, "_compiled_create", lambda: flex.create_block_mask)
    monkeypatch.setattr(flex_attention, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)


def real(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, computing with real tensors also where fake ones are made."""

    def call(*arguments: Any, **options: Any) -> Any:
        with unset_fake_temporarily():
            return function(*arguments, **options)

    return call


def moved(model: nn.Module) -> nn.Module:
    """The model with fake weights on the pretended device."""
    made: dict[int, nn.Parameter] = {}
    with FAKE:
        for module in model.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    kind = {"dtype": parameter.dtype, "device": CUDA}
                    if id(parameter) not in made:
                        empty = torch.empty(parameter.shape, **kind)
                        made[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
                    module._parameters[name] = made[id(parameter)]
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=CUDA)
    return model


def policy_of(*, adapter: bool = False, dtype: torch.dtype = torch.float32, values: bool = False) -> Model:
    model = make_model(0, hidden_size=64, layers=1).to(dtype)
    install(model)
    if values:
        model = with_value_head(model, ValueHeadConfig())
    return Model(moved(add_adapter(model, AdapterSettings(rank=3)) if adapter else model), tokenizer=None)


def train(
    policy: Model, groups: Sequence[Group], loss: Loss, settings: OptimizerSettings | None = None, budget: int = BUDGET
) -> dict[str, Any]:
    """A step, whose figures stay on the device."""
    trained = [group for group in groups if not group.scored_only]
    measured = [group for group in groups if group.scored_only]
    microbatches, denominators = policy.pack(trained, budget), count_denominators(trained)
    to_measure = policy.pack(measured, budget) if measured else []
    with pretended():
        trainer = Trainer(policy, Optimizer(policy.trained_parameters(), settings or OptimizerSettings()))
        if to_measure:
            loss = loss.with_measurements(*score_joined(policy, to_measure, loss.needs))
        sums = trainer.accumulate(microbatches, loss, denominators)
        sums["grad_norm"] = trainer.optim_step(1.0)
    assert {value.device for value in sums.values()} == {CUDA}
    return sums


def test_what_waits_for_the_device_is_refused() -> None:
    with pretended(), pytest.raises(DataDependentOutputException):
        bool(torch.zeros(3, device=CUDA).all())


def test_what_is_not_deterministic_is_refused() -> None:
    with pretended(), pytest.raises(RuntimeError, match="no deterministic implementation"):
        torch.zeros(3, device=CUDA).cumsum(0)


def test_two_devices_in_one_operation_are_refused() -> None:
    with pretended(), pytest.raises(RuntimeError, match="same device"):
        torch.zeros(3, device=CUDA) + torch.zeros(3)


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_a_step_of_likelihood(dtype: torch.dtype, adapter: bool) -> None:
    groups = make_groups([(9, [5]), (4, [7, 3]), (11, [2, 6, 1])], holes=True)
    for loss in (CrossEntropy(), CrossEntropy(label_smoothing=0.1, z_loss=0.1)):
        train(policy_of(adapter=adapter, dtype=dtype), groups, loss)


@pytest.mark.parametrize("name", ["adamw", "muon", "schedule_free"])
def test_a_step_of_an_optimizer(name: str) -> None:
    groups = make_groups([(4, [7, 3])])
    train(policy_of(dtype=torch.bfloat16), groups, CrossEntropy(), OptimizerSettings(kind=name))


def test_an_average_of_the_weights() -> None:
    train(policy_of(), make_groups([(4, [7, 3])]), CrossEntropy(), OptimizerSettings(ema_decay=0.9))


@pytest.mark.parametrize("name", PREFERENCE_LOSSES)
def test_a_step_of_a_preference_loss(name: str) -> None:
    found = preference_loss(name)
    groups = compared(found.data)
    if found.measured:
        generator = torch.Generator().manual_seed(0)
        groups += [annotated(group, generator, found.data) for group in mismatched(groups, seed=0, step=0)]
    train(policy_of(), groups, found.loss)


def test_a_step_of_a_reward_model() -> None:
    groups = [value_target_at_end(group) for group in make_groups([(4, [7, 3]), (5, [2, 6])])]
    train(policy_of(values=True), groups, BradleyTerry())


def sampled(groups: Sequence[Group]) -> list[Group]:
    def of(response: Any) -> Any:
        stream = torch.linspace(-1, 0, len(response.tokens))
        names = ("sampler_logprobs", "old_logprobs", "reference_logprobs", "advantages")
        return replace(response, **dict.fromkeys(names, stream))

    return [replace(group, responses=tuple(of(each) for each in group.responses)) for group in groups]


@pytest.mark.parametrize("name", ["grpo", "dapo", "gspo", "cispo"])
def test_a_step_of_reinforcement(name: str) -> None:
    loss = PolicyGradient.of(algorithm(name, max_new_tokens=9).loss)
    train(policy_of(), sampled(make_groups([(4, [7, 3]), (5, [2, 6])])), loss)


def test_metrics_of_a_skipped_step_are_where_the_others_are() -> None:
    policy = policy_of()
    with pretended():
        trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings()))
        assert {value.device for value in trainer.leave_weights().values()} == {CUDA}


def test_figures_of_a_loss_that_adapts_are_where_the_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read together with those of the device, in one transfer. (Fake sums are no numbers to adapt to.)"""
    monkeypatch.setattr(EntropyControl, "observe", lambda self, sums: {"entropy_weight": 0.5})
    loss = EntropyControl(
        PolicyGradient(entropy_coef=0.1), entropy_target=1.0, entropy_coef_lr=0.1, entropy_coef_max=1.0
    )
    policy, groups = policy_of(), sampled(make_groups([(4, [7, 3])]))
    monkeypatch.setattr(Model, "pack", real(Model.pack))
    monkeypatch.setattr(step_file, "count_denominators", real(count_denominators))
    with FAKE:
        trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings()))
        sums = trainer.step(groups, loss, BUDGET, 1.0)
    assert {value.device for value in sums.values()} == {CUDA}


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(),
        SamplingParams(temperature=0.0),
        SamplingParams(top_k=5, top_p=0.9, min_p=0.1, repetition_penalty=1.1),
    ],
    ids=["plain", "greedy", "all truncations"],
)
def test_the_next_tokens(params: SamplingParams) -> None:
    with pretended():
        probabilities = torch.empty(6, 300, device=CUDA)
        seen = TokenHistory(6, 300, CUDA)
        seen.begin(0, torch.arange(5))
        seen.add(0, torch.arange(6))
        tokens = choose(probabilities, probabilities[:, 0], torch.empty(6, device=CUDA), params, seen.of(slice(0, 6)))
    assert tokens.device == CUDA


def test_prompts_and_their_responses_are_decoded() -> None:
    policy = policy_of()
    with pretended(), torch.no_grad():
        with unset_fake_temporarily():
            prefill = Prefill.of([torch.arange(5), torch.arange(70)], torch.device("cpu"))
        prefill = replace(prefill, layout=prefill.layout.to(CUDA))
        policy.decode(torch.zeros(75, dtype=torch.int64, device=CUDA), prefill.positions, prefill)
        shelves, responses = PrefixCache(CUDA), ResponseKeys(3, 4)
        first, second = shelves.put([5, 70], prefill.prompts())
        arrangement = shelves.arrange([first, second, second])
        lengths = torch.tensor([5, 70, 70], device=CUDA)
        places = torch.tensor([0, 0, 0], device=CUDA)
        decoding = Decoding(responses, places, 1, arrangement, lengths, lengths + places)
        hidden = policy.decode(torch.zeros(3, dtype=torch.int64, device=CUDA), decoding.positions, decoding)
    assert hidden.device == CUDA
