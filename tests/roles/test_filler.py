"""Filled streams: their values, their bits, where they are kept, and a reference that is updated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from burnish.model.attention import install
from burnish.model.policy import Model
from burnish.model.settings import ValueHeadConfig
from burnish.model.snapshot import Snapshot
from burnish.model.value_head import with_value_head
from burnish.roles import precomputed
from burnish.roles.filler import FollowingGroups, StreamFiller
from burnish.roles.precomputed import computed, identity, stored
from burnish.roles.scorer import LiveScorer, ResponseScores, SnapshotScorer
from burnish.sources.filled import FilledRows, FilledSource, SnapshotSync
from burnish.sources.mismatched_source import MismatchedSource
from burnish.sources.rows import RowSource
from burnish.types import Group, Score
from tests.conftest import FAMILIES, make_groups

SHAPES = [(5, [4, 6]), (3, [2, 2]), (7, [5, 3]), (2, [1, 4]), (6, [3]), (4, [2, 3, 1])]


def make_policy(seed: int = 0) -> Model:
    torch.manual_seed(seed)
    model = FAMILIES["llama"]().train()
    install(model)
    return Model(model, tokenizer=None)


def change(policy: Model) -> None:
    torch.manual_seed(99)
    for _, parameter in policy.trained_parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)


def logprobs(policy: Model, groups: Sequence[Group], budget: int) -> ResponseScores:
    return LiveScorer(policy).score(groups, Score.LOGPROB, budget)


def live(policy: Model) -> StreamFiller:
    return StreamFiller(LiveScorer(policy), "reference_logprobs", 1000)


def filled_rows(given: list[list[Group]], policy: Model) -> FilledRows:
    return FilledRows(given, computed(live(policy), given), live(policy))


def streams(groups: Sequence[Group]) -> list[torch.Tensor]:
    return [response.reference_logprobs for group in groups for response in group.responses]


def same(one: Sequence[Group], other: Sequence[Group]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(streams(one), streams(other), strict=True))


def test_filled_groups_have_0_where_nothing_is_trained() -> None:
    policy, groups = make_policy(), make_groups(SHAPES, holes=True)
    values = logprobs(policy, groups, 1000)
    for group, theirs in zip(live(policy)(groups), values, strict=True):
        for response, each in zip(group.responses, theirs, strict=True):
            assert torch.equal(response.reference_logprobs[response.trainable], each)
            assert not response.reference_logprobs[~response.trainable].any()


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_a_reference_that_follows(share: float) -> None:
    policy = make_policy()
    begin = {name: parameter.detach().clone() for name, parameter in policy.trained_parameters()}
    earlier = Snapshot(policy)
    change(policy)
    earlier.follow(share)
    for name, parameter in policy.trained_parameters():
        expected = share * parameter.detach() + (1 - share) * begin[name]
        torch.testing.assert_close(earlier.state_dict()[0][f"weights/{name}"], expected, rtol=1e-6, atol=1e-7)


def rows(count: int = 9) -> list[list[Group]]:
    return [[] if i == 4 else [group] for i, group in enumerate(make_groups((SHAPES * 2)[:count], holes=True))]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precomputed, "BLOCK", 4)


def test_kept_values_are_computed_ones_bit_for_bit(small_blocks: None, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))
    policy, given = make_policy(), rows()
    name = identity(policy, "rows")
    fresh = filled_rows(given, policy)
    first, note = stored(live(policy), given, name, torch.float32)
    assert "computed once" in note
    again, note = stored(live(make_policy()), given, name, torch.float32)
    assert "earlier run" in note
    for kept in (FilledRows(given, first, live(policy)), FilledRows(given, again, live(policy))):
        assert all(same(kept[i], fresh[i]) for i in range(len(given)))
        assert kept[4] == []
    together = [group for each in given for group in each]
    by_step = live(policy).in_blocks(together)
    for one, other in zip(by_step, (group for i in range(len(given)) for group in fresh[i]), strict=True):
        for a, b in zip(streams([one]), streams([other]), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_killed_process_leaves_its_blocks(small_blocks: None, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))
    policy, given, blocks = make_policy(), rows(), []
    real = precomputed._block

    def counted(*arguments: object) -> object:
        blocks.append(arguments[2])
        if len(blocks) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(precomputed, "_block", counted)
    with pytest.raises(KeyboardInterrupt):
        stored(live(policy), given, "name", torch.float32)
    stored(live(policy), given, "name", torch.float32)
    assert blocks == [0, 4, 4, 8], "the first block was not computed again"


def test_what_another_model_gave_is_not_believed(small_blocks: None, tmp_path: Path, monkeypatch) -> None:
    """The name is right, the probe is not: computed anew, with a line that says so."""
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))
    given = rows()
    stored(live(make_policy(1)), given, "name", torch.float32)
    values, note = stored(live(make_policy()), given, "name", torch.float32)
    assert "cached values are not those of this model" in note
    fresh = filled_rows(given, make_policy())
    assert all(same(FilledRows(given, values, live(make_policy()))[i], fresh[i]) for i in range(len(given)))


def test_damaged_values_are_computed_anew(small_blocks: None, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))
    policy, given = make_policy(), rows()
    stored(live(policy), given, "name", torch.float32)
    path = tmp_path / "references" / "name" / "logprobs.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    _, note = stored(live(policy), given, "name", torch.float32)
    assert "computed once" in note


def test_the_identity_sees_weights_and_rows() -> None:
    policy = make_policy()
    first = identity(policy, "rows")
    assert identity(make_policy(), "rows") == first
    assert identity(policy, "other rows") != first
    with torch.no_grad():
        next(policy.model.parameters()).view(torch.int32).view(-1)[3] ^= 1
    assert identity(policy, "rows") != first


def test_each_step_is_filled_and_the_source_goes_on_where_it_was(small_blocks: None) -> None:
    """A reference that is updated is a role with state of its own: with it, and the source's, the same steps follow."""

    def source(policy: Model) -> tuple[FilledSource, Snapshot]:
        inner, snapshot = RowSource(rows(), sequences_per_step=3, seed=1, epochs=2), Snapshot(policy)
        filler = StreamFiller(SnapshotScorer(snapshot), "reference_logprobs", 1000)
        return FilledSource(inner, [filler], SnapshotSync(snapshot, every=2, share=0.5)), snapshot

    policy = make_policy()
    (whole, snapshot), states, steps = source(policy), [], []
    for groups in whole:
        steps.append(groups)
        change(policy)
        weights = {name: parameter.detach().clone() for name, parameter in policy.trained_parameters()}
        tensors, values = snapshot.state_dict()
        states.append((whole.state_dict(), ({name: each.clone() for name, each in tensors.items()}, values), weights))
    assert len(steps) == whole.num_steps == 6
    assert not same(steps[0][:1], live(policy)(steps[0][:1]))
    for done, (state, of_snapshot, weights) in enumerate(states, start=1):
        again = make_policy()
        resumed, reference = source(again)
        for name, parameter in again.trained_parameters():
            parameter.data.copy_(weights[name])
        resumed.load_state_dict(*state)
        reference.load_state_dict(*of_snapshot)
        for groups, expected in zip(resumed, steps[done : done + 1], strict=False):
            assert same(groups, expected)


def test_held_out_groups_follow_the_reference() -> None:
    policy, groups = make_policy(), make_groups(SHAPES)
    snapshot = Snapshot(policy)
    filler = StreamFiller(SnapshotScorer(snapshot), "reference_logprobs", 1000)
    following = FollowingGroups(groups, filler, snapshot)
    before = list(following)
    change(policy)
    assert same(list(following), before)
    snapshot.follow(1.0)
    assert same(list(following), live(policy)(groups))


def test_only_missing_streams_are_filled() -> None:
    policy, groups = make_policy(), make_groups(SHAPES)
    filler = replace(live(policy), only_missing=True)
    first = live(make_policy(1))(groups[:2])
    filled = filler([*first, *groups[2:]])
    assert same(filled[:2], first)
    assert same(filled[2:], live(policy)(groups[2:]))


def test_state_values_come_with_their_bootstrap() -> None:
    """A critic's values are those of its scorer, and the value after the last token is beside them."""
    model = FAMILIES["llama"]().train()
    install(model)
    critic = Model(with_value_head(model, ValueHeadConfig(seed=1)), tokenizer=None)
    groups = make_groups(SHAPES, holes=True)
    scores = LiveScorer(critic).score(groups, Score.STATE_VALUE, 1000)
    filled = StreamFiller(LiveScorer(critic), "values", 1000, Score.STATE_VALUE)(groups)
    for group, of_group in zip(filled, scores, strict=True):
        for response, each in zip(group.responses, of_group, strict=True):
            assert len(each) == int(response.trainable.sum()) + 1
            assert torch.equal(response.values[response.trainable], each[:-1])
            assert response.bootstrap_value == float(each[-1])


def test_mismatched_pairs_are_measured_with_a_reference_and_resume() -> None:
    policy = make_policy()

    def source() -> FilledSource:
        inner = RowSource(rows(), sequences_per_step=3, seed=1, epochs=2)
        return FilledSource(MismatchedSource(inner, seed=1, max_length=12), [live(policy)])

    steps = list(source())
    for groups in steps:
        trained = [group for group in groups if not group.scored_only]
        measured = [group for group in groups if group.scored_only]
        assert len(measured) == len(trained) or len(trained) == 1
        assert all(stream is not None for stream in streams(groups))
    resumed = source()
    first = source()
    next(iter(first))
    resumed.load_state_dict(*first.state_dict())
    for groups, expected in zip(resumed, steps[1:], strict=True):
        assert same(groups, expected)
        assert all(torch.equal(a.prompt, b.prompt) for a, b in zip(groups, expected, strict=True))
