"""Teacher behind a server that returns log-probabilities of given tokens (vLLM's `prompt_logprobs`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from burnish.errors import ModelError
from burnish.roles.logprob_server import GivenTokens, LogprobServer, TokenLogprobs
from burnish.teachers.local import filled
from burnish.teachers.prompts import PromptRenderer
from burnish.teachers.signal import Signal
from burnish.types import Group, Response

LEAST = 1e-8
"""Smallest mass of all other tokens: what a server rounds away would make a reverse KL infinite."""
LOWEST = -100.0
"""Smallest log-probability, nats; a server writes -9999 for a probability of 0."""


@dataclass(frozen=True, eq=False, slots=True)
class ServerTeacher:
    """Fills the streams of a signal (see `roles.filler.Filler`). The server has the student's tokenizer."""

    server: LogprobServer
    signal: Signal
    """logprobs or top_k, at the temperature 1."""
    renderer: PromptRenderer | None = None
    """Renders prompts as the teacher reads them; None: it reads those of the student."""

    def __call__(self, groups: Sequence[Group]) -> list[Group]:
        return filled(groups, self.renderer, self.streams)

    def streams(self, groups: Sequence[Group]) -> list[list[dict[str, Tensor]]]:
        """Per group and response: stream → [trained tokens, …].

        Raises:
            ModelError: another model answers than at first, or its tokens are not the student's.
            RunError: the server does not answer in time.
        """
        if not groups:
            return []
        self.server.verify()
        k = self.signal.k if self.signal.form == "top_k" else 0
        asked = [
            GivenTokens(tuple(group.prompt.tolist()), tuple(response.tokens.tolist()))
            for group in groups
            for response in group.responses
        ]
        answers = iter(self.server.score(asked, k))
        return [[self._streams(next(answers), response) for response in group.responses] for group in groups]

    def _streams(self, answer: TokenLogprobs, response: Response) -> dict[str, Tensor]:
        trained = response.trainable
        if self.signal.form == "logprobs":
            return {"teacher_logprobs": answer.logprobs[trained].clamp(min=LOWEST)}
        tokens, logprobs = answer.topk_tokens[trained], answer.topk_logprobs[trained].clamp(min=LOWEST)
        size = self.signal.vocabulary
        if size is not None and len(tokens) and int(tokens.max()) >= size:
            raise ModelError(
                given=f"token {int(tokens.max())} of {self.server.model}, and the student has {size:,} tokens",
                rule="the model of the server has the student's tokenizer",
                remedy="serve a model with the same tokenizer",
            )
        tail = (1 - logprobs.double().exp().sum(dim=1)).clamp(min=LEAST).log().float()
        return {"teacher_topk_tokens": tokens, "teacher_topk_logprobs": logprobs, "teacher_tail_logprobs": tail}


@dataclass(frozen=True, eq=False, slots=True)
class ServedModel:
    """State of a served teacher in checkpoints: the probe, by which a resumed run tells if it is the same model."""

    server: LogprobServer

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """See `runs.training_state.StatefulObject`."""
        return {"probe": torch.tensor(self.server.probe, dtype=torch.float64)}, {}

    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Compares the server with the stored probe.

        Raises:
            ModelError: it serves another model now.
        """
        self.server.verify(tensors["probe"].tolist())
