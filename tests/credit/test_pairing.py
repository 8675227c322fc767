"""Graded responses as preference losses have them: which are compared, in which order, and what teaches nothing."""

import math

import pytest
import torch

from burnish.credit.pairing import Pairing
from burnish.losses.preference.build import preference_loss
from burnish.packing import count_denominators, pack
from burnish.types import Group, Response, TokenScores

NAN = math.nan


def group(size: int) -> Group:
    """Response k has k + 1 tokens, all of them k."""
    responses = [
        Response(
            tokens=torch.full((k + 1,), k),
            trainable=torch.ones(k + 1, dtype=torch.bool),
            reference_logprobs=torch.full((k + 1,), -1.0),
        )
        for k in range(size)
    ]
    return Group(prompt=torch.tensor([9]), responses=tuple(responses))


def pairs(rule: Pairing, *rewards: float) -> list[list[tuple[int, float]]]:
    """Of each group that comes out: which responses, with their rewards."""
    lessons = rule.assign([group(len(rewards))], [torch.tensor(rewards, dtype=torch.float64)])
    return [[(int(r.tokens[0]), r.reward) for r in each.responses] for lesson in lessons for each in lesson]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("best_worst", [[(2, 3.0), (3, 0.0)]]),
        (
            "all",
            [
                [(2, 3.0), (0, 1.0)],
                [(2, 3.0), (4, 1.0)],
                [(2, 3.0), (3, 0.0)],
                [(0, 1.0), (3, 0.0)],
                [(4, 1.0), (3, 0.0)],
            ],
        ),
        ("ranking", [[(2, 3.0), (0, 1.0), (4, 1.0), (3, 0.0)]]),
        ("verdicts", [[(0, 1.0), (2, 1.0), (3, 0.0), (4, 1.0)]]),
    ],
)
def test_forms_by_hand(form, expected):
    """The second response is judged by nobody, and is in nothing."""
    assert pairs(Pairing(form, success_threshold=1.0), 1.0, NAN, 3.0, 0.0, 1.0) == expected


@pytest.mark.parametrize("form", ["best_worst", "all", "ranking"])
def test_prompts_without_a_pair_are_left_out(form):
    equal, different = torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1.0])
    lessons = Pairing(form).assign([group(2), group(2)], [equal, different])
    assert lessons[0] == ()
    assert [int(r.tokens[0]) for r in lessons[1][0].responses] == [1, 0]


@pytest.mark.parametrize(("form", "name"), [("best_worst", "dpo"), ("all", "ipo"), ("ranking", "plackett_luce")])
def test_where_nothing_differs_a_step_has_a_loss_and_no_gradient(form, name):
    [[silent], []] = Pairing(form).assign([group(3), group(3)], [torch.ones(3), torch.tensor([2.0, 2.0, NAN])])
    [microbatch] = pack([silent], 100)
    logprob = torch.full((len(microbatch.predictor_positions),), -2.0, dtype=torch.float64, requires_grad=True)
    output, counts = preference_loss(name).loss(TokenScores(logprob=logprob), microbatch), count_denominators([silent])
    loss = sum(term.total / counts[term.denominator] for term in output.terms.values())
    assert math.isfinite(float(loss.detach()))
    assert torch.autograd.grad(loss, logprob)[0].abs().max() == 0


def test_nothing_is_learned_of_what_nobody_judged():
    assert Pairing().assign([group(2)], [torch.tensor([NAN, 1.0])]) == [()]
    assert Pairing("verdicts").assign([group(2)], [torch.tensor([NAN, NAN])]) == [()]
