"""The same numbers as TRL 1.10's PPOTrainer, the last TRL with PPO, from the same models, responses and minibatches.

TRL trains in a process of its own and records what it computes (`trl_ppo_runs`). Ours gets the responses and the order
of the minibatches, and computes all else: scores, rewards, advantages, losses, weights. Where conventions differ, TRL's
number is explained by its convention and shown to be another one: docs/methods/ppo.md has the reasons.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from burnish.builtin.tiny import END, make_tokenizer
from burnish.credit.gae import Gae, gae
from burnish.credit.settings import GaeSettings
from burnish.losses.base import Loss
from burnish.losses.policy.gradient import PolicyGradient
from burnish.losses.policy.settings import PpoClip
from burnish.losses.value import ValueLoss
from burnish.model.policy import Model
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.packing import count_denominators
from burnish.train.step import Trainer
from burnish.types import Group
from tests.trl_ppo import (
    BATCH,
    CLIP,
    GAMMA,
    KL_COEF,
    LAMBDA,
    WRITTEN,
    Ours,
    case,
    distance,
    groups_of,
    installed,
    records_of,
    rows,
    with_streams,
    write_models,
)

pytestmark = pytest.mark.slow

CREDIT = GaeSettings(kl_coef=KL_COEF, gamma=GAMMA, gae_lambda=LAMBDA, critic_lambda=LAMBDA)
NEAR = {"rtol": 1e-5, "atol": 1e-5}
"""Agreement of numbers of the order of 1 in float32, also after several updates."""
LENGTHS = (3, 5, WRITTEN, WRITTEN, 7, 4, WRITTEN, 2)
"""Of given responses, with their end token."""
CUT = (2, 6)
"""Those that are cut, without one."""
ONCE = {"num_ppo_epochs": 1, "num_mini_batches": 1}
HALVES = {"per_device_train_batch_size": BATCH // 2, "gradient_accumulation_steps": 2}
Record = Mapping[str, Any]


def given_responses() -> list[list[int]]:
    draw, end = random.Random(1), make_tokenizer().eos_token_id
    written = [[draw.randrange(200) for _ in range(length)] for length in LENGTHS]
    return [row if number in CUT else [*row[:-1], end] for number, row in enumerate(written)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_models(folder)
    return folder


@pytest.fixture(scope="module")
def records(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """What TRL computes, by case."""
    trl, ended = installed(tmp_path_factory.mktemp("trl")), given_responses()
    one_batch = {**ONCE, "total_episodes": BATCH}
    cases = {
        "agreeing": case(),
        "other weight of the value loss": case(vf_coef=0.1),
        "clipped gradients": case(max_grad_norm=1e-3),
        "k3": case(kl_estimator="k3", **one_batch),
        "whitened rewards": case(whiten_rewards=True, **one_batch),
        "ended": case(ended, **ONCE),
        "ended, two epochs": case(ended, **{**ONCE, "num_ppo_epochs": 2}),
        "halves": case(ended, **ONCE, **HALVES),
        "halves and minibatches": case(ended, **HALVES),
        "halves of the last batch": case(ended, count=BATCH, **ONCE, **HALVES),
        "padding ends": case(ended, pad=END, **ONCE),
    }
    return records_of(cases, models, trl, tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="module")
def agreeing(records: Record) -> Record:
    return records["agreeing"]


@pytest.fixture(scope="module")
def ours(models: Path, agreeing: Record) -> Ours:
    """Both batches by our parts."""
    ours = Ours(models)
    for number, batch in enumerate(agreeing["batches"]):
        minibatches = [call["micro_batch_inds"].tolist() for call in agreeing["calls"] if call["batch"] == number]
        ours.batch(groups_of(batch, agreeing["pad"]), minibatches, CREDIT)
    return ours


def same(mine: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(mine, theirs, **NEAR)


def recorded(record: Record) -> tuple[Record, list[Group], Tensor]:
    """The only batch of a case: itself, its groups with TRL's log-probabilities and values, and its scores."""
    [batch] = record["batches"]
    streams = {"sampler_logprobs": batch["logprobs"], "reference_logprobs": batch["ref_logprobs"]}
    return batch, with_streams(groups_of(batch, record["pad"]), **streams, values=batch["values"]), batch["scores"]


def credited(groups: list[Group], scores: Tensor, **changes: Any) -> list[Group]:
    return [item[0] for item in Gae(replace(CREDIT, **changes)).assign(groups, list(scores[:, None]))]


def token_rewards(groups: list[Group], scores: Tensor, **changes: Any) -> list[Tensor]:
    """r_t of every response: without discount and trace, an advantage is r_t − V(s_t)."""
    only_rewards = {"gamma": 0.0, "gae_lambda": 0.0, "whiten_advantages": False}
    found = [group.responses[0] for group in credited(groups, scores, **only_rewards, **changes)]
    return [each.advantages + each.values for each in found]


def test_scores_of_all_models(ours, agreeing):
    """Also of policy and critic after four updates."""
    for groups, scores, batch in zip(ours.credited, ours.scores, agreeing["batches"], strict=True):
        same(rows(groups, "sampler_logprobs"), batch["logprobs"])
        same(rows(groups, "reference_logprobs"), batch["ref_logprobs"])
        same(rows(groups, "values"), batch["values"])
        same(scores, batch["scores"])


def test_rewards_of_tokens(ours, agreeing):
    for groups, scores, batch in zip(ours.credited, ours.scores, agreeing["batches"], strict=True):
        same(torch.stack(token_rewards(groups, scores)), batch["rewards"])


def test_rewards_of_tokens_by_k3(records):
    batch, groups, scores = recorded(records["k3"])
    same(torch.stack(token_rewards(groups, scores, kl_estimator="k3")), batch["rewards"])
    assert not torch.allclose(torch.stack(token_rewards(groups, scores)), batch["rewards"], rtol=0, atol=1e-2)


def test_advantages_and_returns(ours, agreeing):
    for groups, scores, batch in zip(ours.credited, ours.scores, agreeing["batches"], strict=True):
        same(rows(credited(groups, scores, whiten_advantages=False), "advantages"), batch["advantages"])
        same(rows(groups, "advantages"), batch["whitened"])
        same(rows(groups, "returns"), batch["returns"])


def test_losses_and_gradients_of_minibatches(ours, agreeing):
    assert len(ours.losses) == 8
    for mine, theirs in zip(ours.losses, agreeing["calls"], strict=True):
        assert theirs["updates"]
        assert mine["loss"] == pytest.approx(float(theirs["pg_loss"]), rel=1e-4, abs=1e-6)
        assert mine["value_loss"] == pytest.approx(float(theirs["vf_loss"]), rel=1e-4)
        for name, role in (("grad_norm", "policy"), ("value_grad_norm", "value")):
            norm = torch.stack([gradient.norm() for gradient in theirs["gradients"][role].values()]).norm()
            assert mine[name] == pytest.approx(float(norm), rel=1e-4)
    assert max(mine["clip_fraction"] for mine in ours.losses) > 0.2, "the clips act"
    assert max(mine["value_value_clip_fraction"] for mine in ours.losses) > 0.2


def test_weights_after_two_batches(models, ours, agreeing):
    before = Ours(models)
    for role in ("policy", "value"):
        mine, theirs = updates(before, getattr(ours, role), agreeing, role)
        assert distance(mine, theirs) < 1e-4


def updates(before: Ours, model: Model, record: Record, role: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What was added to the weights of policy or value model: here, and by TRL."""
    start, now = (
        {name: weight.detach() for name, weight in each.model.named_parameters()}
        for each in (getattr(before, role), model)
    )
    theirs = record["weights"][role]
    return {name: now[name] - start[name] for name in now}, {name: theirs[name] - start[name] for name in theirs}


def test_a_weight_of_the_value_loss_does_nothing_in_trl(models, records, agreeing):
    """Policy and value model share no weights, and Adam divides a gradient by its size."""
    other = records["other weight of the value loss"]
    before = Ours(models)
    for role in ("policy", "value"):
        (_, tenth), (_, whole) = (updates(before, getattr(before, role), each, role) for each in (other, agreeing))
        assert distance(tenth, whole) < 1e-2


def test_trl_clips_no_gradients(records, agreeing):
    """Its `max_grad_norm` is not read."""
    for role, weights in agreeing["weights"].items():
        for name, weight in weights.items():
            assert torch.equal(records["clipped gradients"]["weights"][role][name], weight)


def test_an_ended_response_has_a_further_step_in_trl(records):
    """The score is the reward of a step after the end token, whose state has a value and which has no action. Each
    advantage of an ended response differs by what that value adds; nothing is added where λ = γ = 1."""
    batch, groups, scores = recorded(records["ended"])
    mine = credited(groups, scores, whiten_advantages=False)
    for row, length in enumerate(LENGTHS):
        own, theirs = mine[row].responses[0].advantages, batch["advantages"][row, :length]
        if length == WRITTEN:
            same(own, theirs)
            continue
        further, score = float(batch["values"][row, length]), float(scores[row])
        assert batch["rewards"][row, length] == score
        extended = gae(batch["rewards"][row, : length + 1], batch["values"][row, : length + 1], 0.0, GAMMA, LAMBDA)
        same(extended[:length].float(), theirs)
        at_end = GAMMA * further + GAMMA * LAMBDA * (score - further) - score
        decay = (GAMMA * LAMBDA) ** torch.arange(length - 1, -1, -1)
        same(own + at_end * decay, theirs)
        assert abs(at_end) > 0.01


def test_the_further_step_is_in_the_value_loss_of_trl(records):
    """Before the first update V is V_old, so that the loss is ½ (V − R)², with the further steps in the mean."""
    batch, groups, scores = recorded(records["ended"])
    [call] = records["ended"]["calls"]
    steps = torch.arange(WRITTEN) <= torch.tensor(LENGTHS)[:, None]
    errors = (batch["values"] - batch["returns"]).square()
    assert float(call["vf_loss"]) == pytest.approx(float(0.5 * errors[steps].mean()), rel=1e-5)
    own = [group.responses[0] for group in credited(groups, scores)]
    errors_of_tokens = torch.cat([(each.values - each.returns).square() for each in own])
    assert float(call["vf_loss"]) != pytest.approx(float(0.5 * errors_of_tokens.mean()), rel=1e-2)


def gradient(model: Model, groups: list[Group], loss: Loss, budget: int) -> dict[str, Tensor]:
    trainer = Trainer(model, Optimizer(model.trained_parameters(), OptimizerSettings()))
    trainer.accumulate(model.pack(groups, budget), loss, count_denominators(groups))
    found = {name: p.grad.clone() for name, p in model.model.named_parameters() if p.grad is not None}
    trainer.optimizer.clear()
    return found


def test_an_update_of_trl_depends_on_its_microbatches(models, records):
    """TRL takes means over the tokens of each microbatch: with responses of different lengths, gradient accumulation
    is another update. Ours is TRL's without accumulation, in any microbatches."""
    whole, halves = (records[name]["calls"][-1]["gradients"] for name in ("ended", "halves"))
    assert distance(halves["policy"], whole["policy"]) > 0.05
    assert distance(halves["value"], whole["value"]) > 0.05
    batch, groups, _ = recorded(records["ended"])
    groups = with_streams(groups, advantages=batch["whitened"], returns=batch["returns"])
    loss, policy = PolicyGradient(clip=PpoClip(CLIP, CLIP), old_logprobs="sampler"), Ours(models).policy
    together, apart = (gradient(policy, groups, loss, budget) for budget in (1000, 16))
    assert distance(together, whole["policy"]) < 1e-4
    assert distance(apart, together) < 1e-4
    value, critic = ValueLoss(CLIP), Ours(models).value
    assert distance(gradient(critic, groups, value, 16), gradient(critic, groups, value, 1000)) < 1e-4


def test_minibatches_are_no_updates_of_trl_with_gradient_accumulation(records):
    """Two minibatches of one microbatch each are accumulated to one update, in each of two epochs."""
    calls = records["halves and minibatches"]["calls"]
    assert [bool(call["updates"]) for call in calls] == [False, True, False, True]
    assert all(len(call["micro_batch_inds"]) == BATCH // 2 for call in calls)


def test_the_last_batch_of_a_pass_is_not_accumulated_by_trl(records):
    """accelerate ends an accumulation with the data: there every microbatch is an update, by half of its gradient."""
    calls = records["halves of the last batch"]["calls"]
    assert [bool(call["updates"]) for call in calls] == [True, True]
    assert [bool(call["updates"]) for call in records["halves"]["calls"]] == [False, True]


def test_an_end_token_that_pads_is_not_trained_by_trl(records):
    """With one token for both, as many tokenizers have it, the end token counts as padding: it has no advantage, and
    the reward model scores the token before it."""
    (apart, _, scores), (alike, _, other_scores) = (recorded(records[name]) for name in ("ended", "padding ends"))
    for row, length in enumerate(LENGTHS):
        if row in CUT:
            assert other_scores[row] == pytest.approx(float(scores[row]), abs=1e-5)
            continue
        assert int(apart["sequence_lengths"][row]) == length - 1
        assert int(alike["sequence_lengths"][row]) == length - 2
        assert alike["whitened"][row, length - 1] == 0
        assert apart["whitened"][row, length - 1] != 0
        assert abs(float(other_scores[row] - scores[row])) > 1e-3


def test_statistics_of_trl_are_means_over_padding(records):
    """The mean of ½ (log ratio)² that it reports: over all places of the padded batch, of which responses are a part.
    In the first of the two epochs it is 0."""
    record = records["ended, two epochs"]
    batch, groups, _ = recorded(record)
    _, last = record["calls"]
    moved = (last["new_logprobs"] - batch["logprobs"][last["micro_batch_inds"]]).square()
    [log] = record["logs"]
    over_all = float(0.5 * moved.mean()) / 2
    assert log["policy/approxkl_avg"] == pytest.approx(over_all, rel=1e-5)
    tokens = sum(len(group.responses[0].tokens) for group in groups)
    assert float(0.5 * moved.sum() / tokens) / 2 > 1.5 * over_all


def test_whitened_rewards_keep_their_mean_in_trl(records):
    """Ours are divided by their deviation, which leaves signs and zeros; TRL's have the old mean and the deviation
    1."""
    record = records["whitened rewards"]
    batch, groups, scores = recorded(record)
    mean, deviation = record["rewards_before"].mean(), record["rewards_before"].std()
    mine = torch.stack(token_rewards(groups, scores, whiten_rewards=True))
    same(mine, record["rewards_before"] / deviation)
    same(mine + mean * (1 - 1 / deviation), batch["rewards"])
    assert float(mean) != pytest.approx(0.0, abs=1e-3)
