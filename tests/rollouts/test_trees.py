"""Rollouts that begin alike travel as a tree, from the fillers to the step."""

from __future__ import annotations

import torch

from burnish.credit.credit import Credit
from burnish.data.prompts import TokenizedPrompt
from burnish.data.records import Task
from burnish.roles.filler import without_task
from burnish.rollouts.batcher import Batcher
from burnish.rollouts.settings import RolloutSettings
from burnish.rollouts.worker import GradedGroup
from burnish.types import Group, Response


def response(reward: float | None, *own: int, common: int = 80) -> Response:
    """Tokens that others have too, then some of its own."""
    tokens = torch.tensor([*range(common), *own])
    return Response(tokens=tokens, trainable=torch.ones(len(tokens), dtype=torch.bool), reward=reward, finish="end")


def graded(*responses: Response) -> GradedGroup:
    prompt = torch.tensor([7, 8])
    group = Group(prompt=prompt, responses=responses)
    return GradedGroup(TokenizedPrompt(0, prompt, Task("q")), group, ("",) * len(responses), ())


def credited(*responses: Response) -> tuple[list[Group], list[Group]]:
    """What a filler sees, and the groups of the items."""
    seen: list[Group] = []

    def fill(groups: list[Group]) -> list[Group]:
        seen.extend(without_task(group) for group in groups)
        return groups

    batcher = Batcher(Credit(), RolloutSettings(groups_per_step=1, responses_per_prompt=3), [fill])
    return seen, batcher.credit([graded(*responses)], [0]).groups


def test_a_common_beginning_is_shared_by_fillers_and_step():
    seen, [group] = credited(response(1.0, 100), response(0.0, 101), response(0.5, 102, 103))
    assert seen[0].tree == group.tree
    assert group.num_tokens == 2 + 80 + 4
    assert all(each.advantages is not None for each in group.responses)


def test_a_response_that_is_left_out_is_no_part_of_the_tree():
    seen, [group] = credited(response(1.0, 100), response(None, 101), response(0.0, 102))
    assert len(seen[0].responses) == 3
    assert len(group.responses) == 2
    assert group.tree is not None
    assert group.num_tokens == 2 + 80 + 2


def test_few_common_tokens_leave_a_group_as_it_is():
    _, [group] = credited(response(1.0, 100, common=20), response(0.0, 101, common=20))
    assert group.tree is None
