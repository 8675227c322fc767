"""Places the rewards of steps on tokens: a step's reward belongs to the token that completes its last character.

Rewards know the text of a response, credit and losses its tokens. Tokens are not tokenized again: the text up to a
token is that of the tokens so far, and grows with every token. The rewards are parts of the response's reward, and are
float64 like it, so that what is left of it without them is exact.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from burnish.rewards.response_view import ResponseView
from burnish.rewards.response_views import Decode, decoded_after
from burnish.rewards.verdict import StepReward, Verdict
from burnish.types import Response


def with_step_rewards(
    response: Response, prompt: Sequence[int], view: ResponseView, verdict: Verdict, decode: Decode
) -> Response:
    """The response with its `step_rewards`; unchanged if its verdict has none, or no reward.

    Args:
        response: the sampled response.
        prompt: the tokens before it, if the response begins in its prompt; empty: it does not.
        view: the response as rewards saw it.
        verdict: its verdict.
        decode: the function by which the view was made.
    """
    if not verdict.steps or not isinstance(verdict.reward, float):
        return response
    return replace(response, step_rewards=step_rewards(response.tokens.tolist(), prompt, view, verdict.steps, decode))


def step_rewards(
    tokens: Sequence[int], prompt: Sequence[int], view: ResponseView, steps: Sequence[StepReward], decode: Decode
) -> Tensor:
    """[R] float64, the reward of the steps that end at each token; 0 where none does.

    A step that ends within the generation prefix was not written by the policy: no token gets its reward, which stays a
    part of the response's. Steps that one token completes are added.
    """
    rewards = torch.zeros(len(tokens), dtype=torch.float64)
    begun = len(view.generation_prefix)
    for step in steps:
        if step.end >= begun:
            rewards[completing_token(tokens, prompt, view.written[: step.end - begun + 1], decode)] += step.reward
    return rewards


def completing_token(tokens: Sequence[int], prompt: Sequence[int], beginning: str, decode: Decode) -> int:
    """Index of the token with which the text of a response has this beginning. A token that writes a part of a
    character does not complete it.

    Args:
        tokens: the response.
        prompt: the tokens with which it is decoded; empty: it is decoded alone.
        beginning: a beginning of its text, not empty.
        decode: decodes tokens.
    """

    def is_written(count: int) -> bool:
        return decoded_after(prompt, tokens[:count], decode).startswith(beginning)

    return bisect_left(range(1, len(tokens)), True, key=is_written)
