"""Evaluators that generate: prompts are shared among processes, and every rank has the result of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import pytest
import torch

from burnish.builtin.tiny import make_model, make_tokenizer
from burnish.data.prompts import TokenizedPrompt
from burnish.data.records import Task
from burnish.evaluate.evaluator import EvalResult, Evaluator
from burnish.evaluate.generation_eval import GenerationEval
from burnish.evaluate.reward_eval import RewardEval
from burnish.model.attention import install
from burnish.model.policy import Model
from burnish.parallel.world import ONE_PROCESS, World
from burnish.rewards.response_view import ResponseView
from burnish.rewards.verdict import Verdict
from burnish.rollouts.worker import SingleTurn
from burnish.sampling.local import LocalSampler
from burnish.sampling.params import SamplingParams
from tests.parallel.threads import in_world

TOKENIZER = make_tokenizer()
PROMPTS = tuple(
    TokenizedPrompt(row, torch.tensor(TOKENIZER.encode(text)), Task(text, "e"))
    for row, text in ((3, "one"), (5, "two, three"), (6, "four"))
)


def grade(groups: Sequence[Sequence[ResponseView]]) -> list[list[Verdict]]:
    """The number of characters."""
    return [[Verdict({"long": float(len(view.text))}, float(len(view.text))) for view in views] for views in groups]


def decode(tokens: Sequence[int]) -> str:
    return str(TOKENIZER.decode(list(tokens)))


def accuracy_of(policy: Model, world: World) -> Evaluator:
    return GenerationEval(PROMPTS, LocalSampler(policy, [256], 512), "contains", 8, world)


def reward_of(policy: Model, world: World) -> Evaluator:
    worker = SingleTurn(policy, LocalSampler(policy, [256], 512), grade, decode, SamplingParams(8, temperature=0.0))
    return RewardEval(PROMPTS, worker, 4.0, world)


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("evaluator", [accuracy_of, reward_of])
def test_every_rank_has_the_result_of_all_prompts(evaluator: Callable[[Model, World], Evaluator], size: int) -> None:
    model = make_model(1, hidden_size=32, layers=1)
    install(model)

    def evaluated(world: World) -> EvalResult:
        policy = Model(deepcopy(model), TOKENIZER)
        return evaluator(policy, world).evaluate(policy)

    expected = evaluated(ONE_PROCESS)
    assert [sample.index for sample in expected.samples] == [3, 5, 6]
    for found in in_world(size, evaluated):
        assert found.figures == expected.figures
        assert found.samples == expected.samples
