"""Rewards of steps on tokens: each belongs to the token that completes its step, whatever the tokens are."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from burnish.builtin.places import tiny_folder
from burnish.builtin.tiny import make_tokenizer
from burnish.data.records import Task
from burnish.evaluate.detokenize import response_decoder
from burnish.rewards.response_views import response_views
from burnish.rewards.steps import step_ends
from burnish.rewards.verdict import Failure, FailureKind, StepReward, Verdict
from burnish.rollouts.step_rewards import completing_token, step_rewards, with_step_rewards
from burnish.types import Group, Response

NAMES = ("bytes", "pieces")
PROMPT = "Solve 2+2. <think>\nWell, é"


@cache
def tokenizer_of(name: str) -> PreTrainedTokenizerBase:
    """A tokenizer with a token for each byte, and that of the built-in model, whose tokens are pieces of words."""
    return make_tokenizer() if name == "bytes" else AutoTokenizer.from_pretrained(tiny_folder())


def sampled(tokens: list[int]) -> Response:
    return Response(tokens=torch.tensor(tokens), trainable=torch.ones(len(tokens), dtype=torch.bool))


def placed(
    name: str, text: str, prefix: str = "", *, ended: bool = True
) -> tuple[list[int], torch.Tensor, list[StepReward]]:
    """Tokens of a response, rewards on them, and the rewards of its steps: 1, 2, 4, …: a sum shows which it has."""
    tokenizer = tokenizer_of(name)
    encoded = [
        tokenizer(part, add_special_tokens=False).input_ids for part in (PROMPT.removesuffix(prefix) + prefix, text)
    ]
    tokens = [*encoded[1], *([tokenizer.eos_token_id] if ended else [])]
    decode = response_decoder(tokenizer, [tokenizer.eos_token_id])
    group = Group(prompt=torch.tensor(encoded[0]), responses=(sampled(tokens),))
    [view] = response_views(Task("", generation_prefix=prefix), group, decode)
    steps = [StepReward(end, 2.0**number) for number, end in enumerate(step_ends(view.text))]
    rewards = step_rewards(tokens, encoded[0] if prefix else [], view, steps, decode)
    assert view.text == prefix + text
    return tokens, rewards, steps


LINES = st.lists(st.text(st.sampled_from("ab 1+=é中😀\u0301\t"), max_size=8), max_size=6)


@given(st.sampled_from(NAMES), LINES, st.sampled_from(["", "<think>\nWell, é"]), st.booleans())
def test_a_reward_is_at_the_first_token_with_which_the_step_is_complete(name, lines, prefix, ended):
    """Checked by decoding every beginning; multi-byte characters are complete with their last byte."""
    text = "\n".join(lines)
    tokenizer = tokenizer_of(name)
    if not text and not ended:
        return
    tokens, rewards, steps = placed(name, text, prefix, ended=ended)
    expected = [0.0] * len(tokens)
    written = [step for step in steps if step.end >= len(prefix)]
    for step in written:
        beginning = text[: step.end - len(prefix) + 1]
        counts = (
            count for count in range(1, len(tokens) + 1) if tokenizer.decode(tokens[:count]).startswith(beginning)
        )
        expected[next(counts) - 1] += step.reward
    assert rewards.tolist() == expected
    assert math.fsum(rewards.tolist()) == math.fsum(step.reward for step in written), (
        "nothing is lost, nothing is added"
    )


def test_by_hand():
    """One byte a token: 'é' has two, '😀' four. The end token completes nothing."""
    _, rewards, _ = placed("bytes", "a\né\n😀 \nb")
    assert rewards.nonzero()[:, 0].tolist() == [0, 3, 8, 11]
    assert rewards[rewards != 0].tolist() == [1, 2, 4, 8]
    assert len(rewards) == 13


def test_a_step_of_the_prefix_belongs_to_no_token():
    """Of the steps "<think>\\nWell, é" and "x", the prompt writes the first, unless the response goes on with it."""
    _, rewards, steps = placed("bytes", "\nx", "<think>\nWell, é")
    assert [step.reward for step in steps] == [1, 2]
    assert rewards.tolist() == [0, 2, 0]
    _, rewards, _ = placed("bytes", "!\nx", "<think>\nWell, é")
    assert rewards.tolist() == [1, 0, 2, 0]


def test_steps_that_one_token_completes_are_added():
    pieces = {1: "a\nb", 2: "\nc"}
    view = response_views(
        Task(""),
        Group(prompt=torch.tensor([9]), responses=(sampled([1, 2]),)),
        lambda tokens: "".join(pieces[t] for t in tokens),
    )[0]
    steps = [StepReward(end, value) for end, value in zip(step_ends(view.text), (1.0, 2.0, 4.0), strict=True)]
    assert step_rewards([1, 2], [], view, steps, lambda tokens: "".join(pieces[t] for t in tokens)).tolist() == [3, 4]


def test_the_number_of_decodings_grows_with_the_logarithm():
    calls = []

    def decode(tokens: list[int]) -> str:
        calls.append(len(tokens))
        return "x" * len(tokens)

    assert completing_token([0] * 1024, [], "x" * 700, decode) == 699
    assert len(calls) <= 11


@pytest.mark.parametrize("reward", [None, Failure(FailureKind.CRASH, "no")])
def test_a_response_without_a_reward_has_none_of_steps(reward):
    response = sampled([1])
    view = response_views(Task(""), Group(prompt=torch.tensor([9]), responses=(response,)), lambda _: "a")[0]
    steps = (StepReward(0, 1.0),)
    assert with_step_rewards(response, [], view, Verdict({}, reward, steps), lambda _: "a") is response
    assert with_step_rewards(response, [], view, Verdict({}, 1.0, ()), lambda _: "a") is response
    given_steps = with_step_rewards(response, [], view, Verdict({}, 1.0, steps), lambda _: "a").step_rewards
    assert given_steps is not None
    assert (given_steps.tolist(), given_steps.dtype) == ([1.0], torch.float64)
