"""The reference: its values, its bits, where they are kept, and how it moves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from burnish.model.attention import install
from burnish.model.policy import Model
from burnish.model.snapshot import Snapshot
from burnish.roles.scorer import LiveScorer, ResponseScores, SnapshotScorer
from burnish.sources import precomputed_reference
from burnish.sources.annotate import (
    AnnotatedSource,
    ReferenceSync,
    SyncedGroups,
    annotate_blocks,
    annotated,
)
from burnish.sources.mismatched_source import MismatchedSource
from burnish.sources.precomputed_reference import ReferenceRows, computed, identity, stored
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


def streams(groups: Sequence[Group]) -> list[torch.Tensor]:
    return [response.reference_logprobs for group in groups for response in group.responses]


def same(one: Sequence[Group], other: Sequence[Group]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(streams(one), streams(other), strict=True))


def test_annotated_groups_have_0_where_nothing_is_trained() -> None:
    policy, groups = make_policy(), make_groups(SHAPES, holes=True)
    values = logprobs(policy, groups, 1000)
    for group, theirs in zip(annotated(groups, values), values, strict=True):
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
        torch.testing.assert_close(earlier.tensors[name], expected, rtol=1e-6, atol=1e-7)


def rows(count: int = 9) -> list[list[Group]]:
    return [[] if i == 4 else [group] for i, group in enumerate(make_groups((SHAPES * 2)[:count], holes=True))]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precomputed_reference, "BLOCK", 4)


def test_kept_values_are_computed_ones_bit_for_bit(small_blocks: None, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))
    policy, given = make_policy(), rows()
    name = identity(policy, "rows")
    fresh = ReferenceRows(given, computed(policy, given))
    first, note = stored(policy, given, name)
    assert "computed once" in note
    again, note = stored(make_policy(), given, name)
    assert "earlier run" in note
    for kept in (ReferenceRows(given, first), ReferenceRows(given, again)):
        assert all(same(kept[i], fresh[i]) for i in range(len(given)))
        assert kept[4] == []
    together = [group for each in given for group in each]
    by_step = [group for block in annotate_blocks(together, LiveScorer(policy), 1000) for group in block]
    for one, other in zip(by_step, (group for i in range(len(given)) for group in fresh[i]), strict=True):
        for a, b in zip(streams([one]), streams([other]), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_killed_process_leaves_its_blocks(small_blocks: None, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))
    policy, given, blocks = make_policy(), rows(), []
    real = precomputed_reference._block

    def counted(*arguments: object) -> object:
        blocks.append(arguments[2])
        if len(blocks) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(precomputed_reference, "_block", counted)
    with pytest.raises(KeyboardInterrupt):
        stored(policy, given, "name")
    stored(policy, given, "name")
    assert blocks == [0, 4, 4, 8], "the first block was not computed again"


def test_what_another_model_gave_is_not_believed(small_blocks: None, tmp_path: Path, monkeypatch) -> None:
    """The name is right, the probe is not: computed anew, with a line that says so."""
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))
    given = rows()
    stored(make_policy(1), given, "name")
    values, note = stored(make_policy(), given, "name")
    assert "cached values are not those of this model" in note
    fresh = ReferenceRows(given, computed(make_policy(), given))
    assert all(same(ReferenceRows(given, values)[i], fresh[i]) for i in range(len(given)))


def test_damaged_values_are_computed_anew(small_blocks: None, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))
    policy, given = make_policy(), rows()
    stored(policy, given, "name")
    path = tmp_path / "references" / "name" / "logprobs.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    _, note = stored(policy, given, "name")
    assert "computed once" in note


def test_the_identity_sees_weights_and_rows() -> None:
    policy = make_policy()
    first = identity(policy, "rows")
    assert identity(make_policy(), "rows") == first
    assert identity(policy, "other rows") != first
    with torch.no_grad():
        next(policy.model.parameters()).view(torch.int32).view(-1)[3] ^= 1
    assert identity(policy, "rows") != first


def test_each_step_is_annotated_and_the_source_goes_on_where_it_was(small_blocks: None) -> None:
    def source(policy: Model) -> AnnotatedSource:
        inner = RowSource(rows(), sequences_per_step=3, seed=1, epochs=2)
        moves = ReferenceSync(every=2, share=0.5)
        return AnnotatedSource(inner, SnapshotScorer(Snapshot(policy)), 1000, moves)

    policy = make_policy()
    whole, snapshots = source(policy), []
    steps = []
    for groups in whole:
        steps.append(groups)
        change(policy)
        weights = {name: parameter.detach().clone() for name, parameter in policy.trained_parameters()}
        snapshots.append((whole.state(), {name: each.clone() for name, each in whole.tensors().items()}, weights))
    assert len(steps) == whole.num_steps == 6
    assert not same(steps[0][:1], annotated(steps[0][:1], logprobs(policy, steps[0][:1], 1000)))
    for done, (state, tensors, weights) in enumerate(snapshots, start=1):
        again = make_policy()
        resumed = source(again)
        for name, parameter in again.trained_parameters():
            parameter.data.copy_(weights[name])
        resumed.restore(state)
        for name, tensor in resumed.tensors().items():
            tensor.copy_(tensors[name])
        for groups, expected in zip(resumed, steps[done : done + 1], strict=False):
            assert same(groups, expected)


def test_held_out_groups_follow_the_reference() -> None:
    policy, groups = make_policy(), make_groups(SHAPES)
    frozen = SnapshotScorer(Snapshot(policy))
    following = SyncedGroups(groups, frozen, 1000)
    before = list(following)
    change(policy)
    assert same(list(following), before)
    frozen.snapshot.follow(1.0)
    assert same(list(following), annotated(groups, logprobs(policy, groups, 1000)))


def test_mismatched_pairs_are_measured_with_a_reference_and_resume() -> None:
    policy = make_policy()

    def source() -> AnnotatedSource:
        inner = RowSource(rows(), sequences_per_step=3, seed=1, epochs=2)
        return AnnotatedSource(MismatchedSource(inner, seed=1, max_length=12), LiveScorer(policy), 1000)

    steps = list(source())
    for groups in steps:
        trained = [group for group in groups if not group.scored_only]
        measured = [group for group in groups if group.scored_only]
        assert len(measured) == len(trained) or len(trained) == 1
        assert all(stream is not None for stream in streams(groups))
    resumed = source()
    first = source()
    next(iter(first))
    resumed.restore(first.state())
    for groups, expected in zip(resumed, steps[1:], strict=True):
        assert same(groups, expected)
        assert all(torch.equal(a.prompt, b.prompt) for a, b in zip(groups, expected, strict=True))
