"""NEFTune: the invariance law holds with noise; its size is the paper's; without it nothing changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from burnish.losses.cross_entropy import CrossEntropy
from burnish.model.attention import plain_attention
from burnish.model.noise import Neftune, draw_noise
from burnish.model.policy import Model
from burnish.model.route import Route
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import KINDS, OptimizerSettings
from burnish.packing import count_denominators, pack
from burnish.train.step import Trainer, add
from burnish.types import Group, Microbatch
from tests.conftest import make_groups
from tests.numerics.test_invariance import assert_same, make_policy
from tests.trees import grown

SHAPES = [(9, [5]), (4, [7]), (11, [2]), (2, [6]), (1, [9])]


def gradient(policy: Model, microbatches: list[Microbatch], groups: list[Group]) -> dict[str, torch.Tensor]:
    policy.model.zero_grad()
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings()))
    sums: dict[str, torch.Tensor] = {}
    for microbatch in microbatches:
        add(sums, trainer.forward_backward(microbatch, CrossEntropy(), count_denominators(groups)))
    return {name: p.grad.clone() for name, p in policy.trained_parameters()}


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "computed again"])
def test_the_invariance_law_holds_with_noise(float64_model, checkpointing):
    policy, groups, noise = (
        make_policy(float64_model, "llama-tied", adapter=False),
        make_groups(SHAPES),
        Neftune(5.0, 7),
    )
    if checkpointing:
        policy.causal_lm.activation_checkpointing_enable({"use_reentrant": False})
    results = [gradient(policy, noise.on(pack(groups, budget), 3), groups) for budget in (10**6, 31, 15, 1)]
    for number, other in enumerate(results[1:]):
        assert_same(results[0], other, number)
    plain = gradient(policy, pack(groups, 31), groups)
    assert any(not torch.allclose(plain[name], results[0][name], rtol=1e-3) for name in plain)


def test_responses_that_share_tokens_have_no_noise():
    [tree] = grown(make_groups([(4, [9, 9])]))
    for group in (tree, *make_groups([(4, [9, 9])])):
        [microbatch] = Neftune(5.0, 0).on(pack([group], 10**6), 0)
        with pytest.raises(AssertionError, match="one response"):
            draw_noise(microbatch, 8)
    alone = Neftune(5.0, 0).on(pack(tree.expanded(), 10**6), 0)
    assert [len(draw_noise(microbatch, 8)) for microbatch in alone] == [26]


def test_the_size_is_alpha_over_the_root_of_tokens_times_width():
    """|uniform| is 1/2 on average; its bound is reached nearly."""
    [microbatch] = Neftune(5.0, 0).on(pack(make_groups([(50, [50]), (3, [1])]), 10**6), 0)
    noise = draw_noise(microbatch, 64)
    for rows, length in ((slice(0, 100), 100), (slice(100, 104), 4)):
        bound = 5.0 / (length * 64) ** 0.5
        assert float(noise[rows].abs().max()) == pytest.approx(bound, rel=0.02)
        assert float(noise[rows].abs().max()) <= bound
        assert float(noise[rows].abs().mean()) == pytest.approx(bound / 2, rel=0.06)
        assert abs(float(noise[rows].mean())) < bound / 10


def test_steps_seeds_and_sequences_have_noise_of_their_own():
    groups = make_groups([(2, [2]), (2, [2])])

    def drawn(seed: int, step: int) -> torch.Tensor:
        return draw_noise(Neftune(5.0, seed).on(pack(groups, 100), step)[0], 8)

    assert torch.equal(drawn(0, 0), drawn(0, 0))
    assert not torch.equal(drawn(0, 0), drawn(0, 1))
    assert not torch.equal(drawn(0, 0), drawn(1, 0))
    assert not torch.equal(drawn(0, 0)[:4], drawn(0, 0)[4:])


def test_noise_stays_out_of_what_has_none(float64_model):
    """Evaluation and other forwards: the hook goes with its microbatch."""
    policy, [microbatch] = make_policy(float64_model, "llama", adapter=False), pack(make_groups([(3, [4])]), 100)
    before = policy.hidden(microbatch)
    [noisy] = Neftune(5.0, 0).on([microbatch], 0)
    assert not torch.equal(policy.hidden(noisy), before)
    assert torch.equal(policy.hidden(microbatch), before)
    assert torch.equal(policy.hidden(replace(noisy, noise=None)), before)


@pytest.mark.parametrize("name", [name for name in KINDS if not name.endswith("_paged")])
def test_gradients_do_not_depend_on_the_optimiser(float64_model, name):
    policy, groups = make_policy(float64_model, "llama", adapter=False), make_groups([(4, [7]), (9, [5, 2])])
    results = []
    for budget in (10**6, 12):
        policy.model.zero_grad()
        trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings(name)))
        for microbatch in pack(groups, budget):
            trainer.forward_backward(microbatch, CrossEntropy(), count_denominators(groups))
        results.append({name: p.grad.clone() for name, p in policy.trained_parameters()})
    assert_same(*results, name)


def test_a_model_that_takes_one_sequence_at_a_time_gets_the_same_noise(float64_model):
    policy, groups, noise = make_policy(float64_model, "llama", adapter=False), make_groups(SHAPES), Neftune(5.0, 7)
    packed = gradient(policy, noise.on(pack(groups, 10**6), 3), groups)
    with plain_attention(policy.causal_lm):
        alone = gradient(replace(policy, route=Route.UNPACKED), noise.on(pack(groups, 10**6), 3), groups)
    assert_same(packed, alone, 0)
