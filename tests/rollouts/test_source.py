"""Groups that the policy writes: what is learned, dropped, counted, and kept across an interruption."""

import json
import math
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from burnish.credit.combine import combined
from burnish.credit.credit import Credit, zero_variance
from burnish.credit.pairing import Pairing
from burnish.data.prompts import TokenizedPrompt
from burnish.data.records import Task
from burnish.errors import RunError
from burnish.losses.policy.gradient import PolicyGradient
from burnish.losses.policy.settings import PpoClip
from burnish.losses.preference.build import preference_loss
from burnish.model.attention import install
from burnish.model.policy import Model
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.rewards.verdict import Failure, FailureKind, Verdict
from burnish.rollouts.batcher import Batcher
from burnish.rollouts.prompt_order import PromptOrder
from burnish.rollouts.replay_buffer import ReplayBuffer
from burnish.rollouts.serialization import load_items, store_items
from burnish.rollouts.settings import ReplayRule, RolloutSettings
from burnish.rollouts.source import RolloutSource
from burnish.rollouts.worker import SingleTurn
from burnish.sampling.local import LocalSampler
from burnish.sampling.params import SamplingParams
from burnish.train.step import Trainer
from tests.families import FAMILIES, VOCABULARY
from tests.stored import plain, saved

END = 7
GOOD = 11
PARAMS = SamplingParams(max_new_tokens=6)


def judge(answers):
    """The share of good tokens; the last prompt's answers are judged by nobody."""
    return [[_verdict(answer) for answer in group] for group in answers]


def _verdict(answer):
    if answer.prompt == "unjudgeable":
        return Verdict({"good": Failure(FailureKind.CRASH, "always")}, Failure(FailureKind.CRASH, "always"))
    share = answer.text.split().count(str(GOOD)) / len(answer.text.split())
    return Verdict({"good": share}, share)


def asked(count: int = 5, prompt: str = "") -> list[TokenizedPrompt]:
    generator = torch.Generator().manual_seed(0)
    tokens = [torch.randint(VOCABULARY, (3 + row,), generator=generator) for row in range(count)]
    return [TokenizedPrompt(row, each, Task(prompt or f"row {row}")) for row, each in enumerate(tokens)]


def decode(tokens) -> str:
    return " ".join(map(str, tokens))


@pytest.fixture
def policy():
    torch.manual_seed(0)
    model = FAMILIES["llama"]()
    install(model)
    return Model(model, tokenizer=None)


def source(policy, prompts=None, *, grade=judge, **changes) -> RolloutSource:
    """A source with these settings of rollouts, of its batcher and of its own, changed."""

    def taken(names):
        return {name: changes.pop(name) for name in names if name in changes}

    chosen = {"groups_per_step": 3, "responses_per_prompt": 4} | taken(RolloutSettings.__dataclass_fields__)
    settings = RolloutSettings(**chosen)
    buffer = None if settings.replay is None else ReplayBuffer(settings.replay, seed=0)
    batcher = {"rule": Credit(advantage_scale="none"), "buffer": buffer} | taken(("rule", "weights"))
    sampler, params = LocalSampler(policy, [END], 256), changes.pop("params", PARAMS)
    worker = SingleTurn(policy, sampler, grade, decode, params)
    rest = {"seed": 0, "max_steps": 4} | changes
    return RolloutSource(prompts or asked(), worker, Batcher(settings=settings, **batcher), **rest)


def test_every_step_has_groups_that_teach(policy):
    mine = source(policy)
    for step, groups in enumerate(mine, start=1):
        assert 1 <= len(groups) <= 3
        for group in groups:
            advantages = [float(response.advantages[0]) for response in group.responses]
            assert math.isclose(sum(advantages), 0, abs_tol=1e-6)
            assert max(advantages) > 0
            assert all(bool((response.policy_version == step - 1).all()) for response in group.responses)
    assert step == mine.num_steps == 4


def test_groups_without_signal_are_replaced_and_counted(policy):
    mine = source(policy, groups_per_step=2, max_resamples=4)
    groups = next(iter(mine))
    assert len(mine.newest) == len(groups) + mine.metrics["groups_dropped"]
    assert len(mine.newest) <= 8
    assert [zero_variance(each.rewards) for each in mine.newest].count(True) == mine.metrics["groups_dropped"]


def test_a_batch_in_which_nothing_teaches_is_still_a_step(policy):
    mine = source(policy, grade=lambda answers: [[Verdict({"same": 1.0}, 1.0) for _ in each] for each in answers])
    groups = next(iter(mine))
    assert len(groups) == 3
    assert all(float(response.advantages.abs().max()) == 0 for group in groups for response in group.responses)
    assert mine.metrics["groups_dropped"] == 12


def test_failures_are_no_rewards(policy):
    prompts = [*asked(3), *asked(1, "unjudgeable")]
    mine = source(policy, prompts, groups_per_step=4, max_resamples=1)
    groups = next(iter(mine))
    assert len(groups) <= 3
    assert mine.metrics["ungraded"] == 4
    with pytest.raises(RunError, match="reward good: crash on 16 of 16 responses, the first: always"):
        next(iter(source(policy, asked(2, "unjudgeable"), groups_per_step=1)))


def test_several_updates_learn_from_one_batch(policy):
    mine = source(policy, groups_per_step=2, updates_per_batch=2, max_steps=3)
    versions = [{int(r.policy_version[0]) for g in groups for r in g.responses} for groups in mine]
    assert versions == [{0}, {0}, {2}]


@pytest.mark.parametrize("updates", [1, 2, 3])
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_going_on_in_the_midst_of_a_batch_gives_the_same_groups(policy, updates, stop):
    whole = [[plain(g) for g in groups] for groups in source(policy, updates_per_batch=updates, curriculum=True)]
    first = source(policy, updates_per_batch=updates, curriculum=True)
    list(islice(first, stop))
    second = source(policy, updates_per_batch=updates, curriculum=True)
    second.load_state_dict(*saved(first.state_dict()))
    assert [[plain(g) for g in groups] for groups in second] == whole[stop:]


REPLAYED = {"replay": ReplayRule(groups=4, fraction=0.5), "groups_per_step": 2, "max_steps": 5}


@pytest.mark.parametrize("updates", [1, 2])
def test_earlier_groups_are_learned_from_again(policy, updates):
    mine = source(policy, updates_per_batch=updates, **REPLAYED)
    versions = [sorted(int(group.responses[0].policy_version[0]) for group in groups) for groups in mine]
    assert versions[0] == [0, 0]
    written = [0, 1, 2, 3, 4] if updates == 1 else [0, 0, 2, 2, 4]
    for step, found in enumerate(versions[updates:], start=updates):
        assert len(found) == 2
        assert found[1] == written[step], "one is new"
        assert found[0] < written[step], "and one was written earlier"
    assert mine.metrics["replayed"] == 1


def test_what_is_learned_again_is_what_was_written(policy):
    """Tokens, log-probabilities and advantages, to the bit: nothing is judged or credited twice."""
    seen: dict[tuple, str] = {}
    again = 0
    for groups in source(policy, **REPLAYED):
        for group in groups:
            stored = json.dumps(plain(group))
            key = (int(group.responses[0].policy_version[0]), tuple(group.prompt.tolist()))
            again += key in seen
            assert seen.setdefault(key, stored) == stored
    assert again == 4


@pytest.mark.parametrize("updates", [1, 2])
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_what_is_kept_for_replay_goes_on(policy, updates, stop):
    whole = [[plain(g) for g in groups] for groups in source(policy, updates_per_batch=updates, **REPLAYED)]
    first = source(policy, updates_per_batch=updates, **REPLAYED)
    list(islice(first, stop))
    second = source(policy, updates_per_batch=updates, **REPLAYED)
    second.load_state_dict(*saved(first.state_dict()))
    assert [[plain(g) for g in groups] for groups in second] == whole[stop:]


def test_cut_responses_are_compared_and_not_learned_from(policy):
    plain, masked = (
        next(iter(source(policy, params=SamplingParams(40), mask_truncated=each))) for each in (False, True)
    )
    unmasked = {tuple(group.prompt.tolist()): group for group in plain}
    cut = 0
    for other in masked:
        one = unmasked.get(tuple(other.prompt.tolist()), other)
        for before, after in zip(one.responses, other.responses, strict=True):
            assert after.advantages.equal(before.advantages)
            assert bool(after.trainable.any()) == (after.finish == "end")
            cut += after.finish == "length"
        assert any(response.finish == "end" for response in other.responses), "a group of cut ones is replaced"
    assert cut > 0


def test_a_step_in_which_all_is_cut_has_no_gradient(policy):
    mine = source(policy, params=SamplingParams(1, stop_ids=()), mask_truncated=True, groups_per_step=1)
    groups = [g for g in next(iter(mine)) if all(r.finish == "length" for r in g.responses)]
    before = [parameter.detach().clone() for _, parameter in policy.trained_parameters()]
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings(learning_rate=0.1)))
    sums = trainer.step(groups, PolicyGradient(kl_coef=0.0, entropy_coef=0.1), 4096, 1.0)
    assert float(sums["loss"]) == 0
    assert all(one.equal(other) for one, (_, other) in zip(before, policy.trained_parameters(), strict=True))


def two_rewards(answers):
    """The share of good tokens, and a hundredth of the length."""

    def verdict(answer):
        tokens = answer.text.split()
        parts = {"good": tokens.count(str(GOOD)) / len(tokens), "long": len(tokens) / 100}
        return Verdict(parts, sum(parts.values()))

    return [[verdict(answer) for answer in group] for group in answers]


def test_several_rewards_are_normalised_by_part(policy):
    weights, rule = (
        {"good": 1.0, "long": 2.0},
        Credit(baseline="none", advantage_scale="none", reward_combination="normalized_sum"),
    )
    mine = source(policy, grade=two_rewards, rule=rule, weights=weights, log_samples_every=1)
    groups = next(iter(mine))
    tried = {id(each.group.responses[0].tokens): each for each in mine.newest}
    for group in groups:
        parts = tried[id(group.responses[0].tokens)].outcomes(list(weights))
        [expected] = combined([parts], torch.tensor([1.0, 2.0]), "normalized_sum")
        assert torch.tensor([float(response.advantages[0]) for response in group.responses]).equal(expected.float())
    shown = [sample for sample in mine.samples if sample.advantage is not None]
    assert shown
    for sample in shown:
        assert math.isclose(sum(sample.contributions.values()), sample.advantage, abs_tol=1e-5)


def test_a_part_that_differs_teaches_where_the_sum_does_not(policy):
    def grade(answers):
        return [[Verdict({"a": k / 2, "b": (1 - k / 2) * 3}, 0.0) for k, _ in enumerate(each)] for each in answers]

    weights = {"a": 1.0, "b": 0.5}
    rule = Credit(reward_combination="normalized_sum")
    mine = source(policy, grade=grade, rule=rule, weights=weights, max_resamples=1)
    assert len(next(iter(mine))) == 3
    assert mine.metrics["groups_dropped"] == 0


@pytest.mark.parametrize(("form", "count", "size"), [("best_worst", 3, 2), ("ranking", 3, 4), ("verdicts", 3, 4)])
def test_comparisons_of_what_was_tried(policy, form, count, size):
    mine = source(policy, rule=Pairing(form, success_threshold=0.1, needs_reference=False), drops=form != "verdicts")
    groups = next(iter(mine))
    assert len(groups) <= count
    for group in groups:
        rewards = [response.reward for response in group.responses]
        assert len(rewards) == size
        assert rewards == sorted(rewards, reverse=True) or form == "verdicts"
        assert all(response.advantages is None for response in group.responses)


def test_online_comparisons_find_what_is_rewarded(policy):
    """A preference loss without reference learns from the policy's own best and worst."""
    rule = Pairing(needs_reference=False)
    mine = source(policy, groups_per_step=4, responses_per_prompt=8, max_steps=30, rule=rule)
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings(learning_rate=0.01)))
    loss, rewards = preference_loss("cpo", beta=0.5).loss, []
    for groups in mine:
        trainer.step(groups, loss, 4096, 1.0)
        rewards.append(mine.metrics["reward"])
    assert rewards[0] < 0.1
    assert sum(rewards[-5:]) / 5 > 0.4


def test_a_group_comes_back_bit_for_bit(policy):
    [group, *_] = next(iter(source(policy)))
    [[again]] = load_items(*saved(store_items([(group,)], "pending")), "pending")
    assert again.prompt.equal(group.prompt)
    for one, other in zip(again.responses, group.responses, strict=True):
        for name in ("tokens", "trainable", "sampler_logprobs", "advantages", "policy_version"):
            assert getattr(one, name).equal(getattr(other, name))
            assert getattr(one, name).dtype == getattr(other, name).dtype
        assert (one.reward, one.finish) == (other.reward, other.finish)


@given(st.integers(1, 7), st.lists(st.integers(0, 9), max_size=6), st.integers(0, 5))
def test_draws_go_through_every_row_of_an_epoch(rows, counts, seed):
    draws = PromptOrder(rows, seed)
    taken = [row for count in counts for row in draws.take(count)]
    assert taken == PromptOrder(rows, seed).take(len(taken))
    for start in range(0, len(taken) - rows + 1, rows):
        assert sorted(taken[start : start + rows]) == list(range(rows))


def test_a_curriculum_prefers_what_is_solved_half_the_time():
    draws = PromptOrder(3, 0, curriculum=True)
    for row, rate in ((0, 0.0), (1, 0.5), (2, 1.0)):
        for _ in range(20):
            draws.update(row, rate)
    counts = [0, 0, 0]
    for _ in range(2000):
        counts[draws.take(1)[0]] += 1
    total = 1 + 2 * 0.05
    for found, weight in zip(counts, (0.05, 1, 0.05), strict=True):
        expected = 2000 * weight / total
        assert abs(found - expected) < 5 * math.sqrt(expected)


@pytest.mark.parametrize("updates", [1, 2])
def test_learning_by_trying_finds_what_is_rewarded(policy, updates):
    """The reward rises from chance (1 in 61) to most of what is possible, on-policy and with several updates."""
    mine = source(
        policy, groups_per_step=4, responses_per_prompt=8, max_steps=30, updates_per_batch=updates, rule=Credit()
    )
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings(learning_rate=0.01)))
    loss = (
        PolicyGradient(old_logprobs="policy")
        if updates == 1
        else PolicyGradient(old_logprobs="sampler", clip=PpoClip(0.2, 0.28))
    )
    rewards = []
    for groups in mine:
        trainer.step(groups, loss, 4096, 1.0)
        if mine.metrics:  # responses were written for this step
            rewards.append(mine.metrics["reward"])
    assert rewards[0] < 0.1
    assert sum(rewards[-5:]) / 5 > 0.4
