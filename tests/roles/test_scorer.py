"""Scorers: scores of whole groups are those of each response alone, and the model is left as it was."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from burnish.model.attention import install
from burnish.model.policy import Model
from burnish.model.settings import ValueHeadConfig
from burnish.model.snapshot import Snapshot
from burnish.model.value_head import with_value_head
from burnish.packing import pack_singly
from burnish.roles.scorer import LiveScorer, ResponseScores, SnapshotScorer
from burnish.types import Group, Score
from tests.conftest import FAMILIES, make_groups

SHAPES = [(5, [4, 6]), (3, [2, 2]), (7, [5, 3]), (2, [1, 4]), (6, [3]), (4, [2, 3, 1])]


def make_policy(outputs: int = 0) -> Model:
    """A language model, or a reward model with this many outputs."""
    torch.manual_seed(0)
    model = FAMILIES["llama"]().train()
    if outputs:
        model = with_value_head(model, ValueHeadConfig(outputs=outputs, seed=2))
    install(model)
    return Model(model, tokenizer=None)


def same(one: ResponseScores, other: ResponseScores) -> bool:
    return all(torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


def alone(policy: Model, groups: Sequence[Group], kind: Score) -> list[torch.Tensor]:
    """Scores of each response in a forward of its own."""
    return [policy.score(microbatch, [kind]).of(kind).detach() for microbatch in pack_singly(groups)]


@pytest.mark.parametrize(
    ("kind", "outputs"), [(Score.LOGPROB, 0), (Score.ENTROPY, 0), (Score.VALUE, 1), (Score.VALUE, 3)]
)
@pytest.mark.parametrize("budget", [8, 20, 1000])
def test_scores_are_those_of_each_response_alone(kind: Score, outputs: int, budget: int) -> None:
    policy, groups = make_policy(outputs), make_groups(SHAPES, holes=True)
    found = [each for scores in LiveScorer(policy).score(groups, kind, budget) for each in scores]
    for one, other in zip(found, alone(policy, groups, kind), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
        assert not one.requires_grad
        assert one.shape[1:] == ((outputs,) if outputs > 1 else ())


def test_every_response_has_a_score_of_each_trained_token() -> None:
    policy, groups = make_policy(), make_groups(SHAPES, holes=True)
    scores = LiveScorer(policy).score(groups, Score.LOGPROB, 20)
    sizes = [[len(each) for each in of_group] for of_group in scores]
    assert sizes == [[int(response.trainable.sum()) for response in group.responses] for group in groups]
    assert LiveScorer(policy).score([], Score.LOGPROB, 20) == []


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_restored_also_after_an_error(training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, groups, modes = make_policy(), make_groups(SHAPES), []
    policy.model.train(training)

    def fail(*_: object) -> None:
        modes.append(policy.model.training)
        raise RuntimeError("no memory")

    scorer = LiveScorer(policy)
    scorer.score(groups, Score.LOGPROB, 1000)
    assert policy.model.training is training
    monkeypatch.setattr(Model, "score", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        scorer.score(groups, Score.LOGPROB, 1000)
    assert modes == [False]
    assert policy.model.training is training


def test_a_snapshot_scores_as_the_policy_did() -> None:
    policy, groups = make_policy(), make_groups(SHAPES)
    live = LiveScorer(policy)
    before = live.score(groups, Score.LOGPROB, 1000)
    scorer = SnapshotScorer(Snapshot(policy))
    with torch.no_grad():
        for _, parameter in policy.trained_parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    after = live.score(groups, Score.LOGPROB, 1000)
    assert not same(before, after)
    assert same(scorer.score(groups, Score.LOGPROB, 1000), before)
    assert same(live.score(groups, Score.LOGPROB, 1000), after)
