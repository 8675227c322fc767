"""Reads an answer of /v1/completions with ``prompt_logprobs``, in vLLM's form, and checks all of it.

The form: ``choices[0].prompt_logprobs`` is a list with null for the first token, which nothing predicts, and for every
further token an object {token id as text: {"logprob": nats, "rank": …, "decoded_token": …}} of the k most probable
tokens and, beside them or among them, the given one. vLLM writes -9999.0 for a probability of 0, since JSON has no
infinity.

What does not fit is an error and not asked for again: another answer that looked right would be no better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from burnish.errors import ModelError, RunError, UserError

ROUNDING = 1e-3
"""Nats above 0 that a log-probability may have by rounding."""


def check_model(answer: Mapping[str, Any], model: str, server: str) -> None:
    """Refuses the answer of another model.

    Raises:
        ModelError: the answer names another model than the one that was asked.
    """
    found = answer.get("model")
    if found != model:
        raise ModelError(
            given=f"{server} was asked for the model {model!r}, and {found!r} answered",
            rule="one model answers all requests, under the name by which it is asked",
            remedy="give the name under which the model answers (of several served names, the first); if the server "
            "was exchanged, start the one with the first model again",
        )


def read_prompt_logprobs(
    answer: Mapping[str, Any], tokens: Sequence[int], num_response: int, k: int, server: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities of the last tokens and of the k most probable ones in their places.

    Args:
        answer: the JSON object of the server.
        tokens: [P + R] the token ids that were sent.
        num_response: R, the number of last tokens that are read; all are checked.
        k: number of most probable tokens; of equally probable ones those with the smaller ids.
        server: its address, for messages.

    Returns:
        logprobs [R] float32 nats, topk_tokens [R, k] int64, topk_logprobs [R, k] float32 nats, most probable first.

    Raises:
        RunError: the answer has not the form, other positions than tokens, or fewer than k entries.
        ModelError: a log-probability is no number, or above 0.
    """
    positions = _positions(answer, len(tokens), server)
    entries = [_entries(positions[index], tokens[index], index, k, server) for index in range(1, len(tokens))]
    scored = entries[len(entries) - num_response :]
    given = [logprobs[token] for logprobs, token in zip(scored, tokens[len(tokens) - num_response :], strict=True)]
    best = [sorted(logprobs.items(), key=lambda entry: (-entry[1], entry[0]))[:k] for logprobs in scored]
    return (
        torch.tensor(given, dtype=torch.float32),
        torch.tensor([[token for token, _ in row] for row in best], dtype=torch.int64).reshape(num_response, k),
        torch.tensor([[value for _, value in row] for row in best], dtype=torch.float32).reshape(num_response, k),
    )


def _positions(answer: Mapping[str, Any], num_tokens: int, server: str) -> list[Any]:
    """One entry for each token, the first null."""
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and len(choices) == 1 else None
    positions = choice.get("prompt_logprobs") if isinstance(choice, dict) else None
    if not isinstance(positions, list):
        raise RunError(
            given=f"{server} answered without choices[0].prompt_logprobs",
            rule="the teacher's server returns log-probabilities of given tokens (prompt_logprobs), as vLLM does",
            remedy="serve the teacher with vLLM, or use a teacher in this process",
        )
    if len(positions) != num_tokens or positions[0] is not None:
        first = "null" if positions and positions[0] is None else "not null"
        raise _malformed(server, f"{len(positions)} positions for {num_tokens} tokens, the first {first}")
    return positions


def _entries(position: object, token: int, index: int, k: int, server: str) -> dict[int, float]:
    """Token id → log-probability in nats of one position."""
    where = f"position {index} (token {token})"
    if not isinstance(position, dict):
        raise _malformed(server, f"no entries at {where}")
    logprobs = {}
    for name, entry in position.items():
        if not (name.isascii() and name.isdigit() and isinstance(entry, dict)):
            raise _malformed(server, f"an entry {name[:20]!r} at {where} that is no token id with its log-probability")
        logprobs[int(name)] = _checked(entry.get("logprob"), f"token {name} at {where}", server)
    if token not in logprobs:
        raise _malformed(server, f"no log-probability of the given token at {where}")
    if len(logprobs) < k:
        raise too_many(f"{server} answered with {len(logprobs)} tokens at {where}, asked for the {k} most probable", k)
    return logprobs


def _checked(value: object, where: str, server: str) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value > ROUNDING:  # type: ignore[arg-type,operator]  # a number
        raise ModelError(
            given=f"{server} answered with the log-probability {value!r:.40} of {where}",
            rule=f"a log-probability is a finite number and at most 0 (up to {ROUNDING:g} of rounding)",
            remedy="see whether the server's model computes well: its log, its dtype, its quantization",
        )
    return float(value)  # type: ignore[arg-type]  # a number


def too_many(given: str, k: int) -> UserError:
    """The error for more most probable tokens than the server returns."""
    return RunError(
        given=given,
        rule="a server returns at most as many most probable tokens as it is allowed (vLLM: --max-logprobs, by "
        "default 20), and no more than its vocabulary has",
        remedy=f"start the server with --max-logprobs {k} or more, or ask for fewer tokens",
    )


def _malformed(server: str, what: str) -> UserError:
    return RunError(
        given=f"{server} answered with {what}",
        rule="prompt_logprobs has one position for each given token: null for the first, and then the entries of "
        "the given token and of the most probable ones",
        remedy="see whether something between here and the server changes prompts or answers; vLLM returns this form",
    )
