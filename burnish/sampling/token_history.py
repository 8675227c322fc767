"""Token history of sequences, for the repetition penalty."""

from __future__ import annotations

import torch
from torch import Tensor


class TokenHistory:
    """Table [max_sequences, V] of the tokens in prompt and response. Sequences are numbered without gaps."""

    def __init__(self, max_sequences: int, vocabulary: int, device: torch.device) -> None:
        self._table = torch.zeros((max_sequences, vocabulary), dtype=torch.bool, device=device)

    def begin(self, place: int, prompt: Tensor) -> None:
        """Starts the sequence at this place with a prompt [P]."""
        self._table[place] = False
        self._table[place, prompt.to(self._table.device)] = True

    def add(self, start: int, tokens: Tensor) -> None:
        """Adds one token to each sequence from `start` on, [R]."""
        places = torch.arange(start, start + len(tokens), device=self._table.device)
        self._table[places, tokens.to(self._table.device)] = True

    def move(self, source: int, target: int) -> None:
        """Copies one sequence over another."""
        self._table[target] = self._table[source]

    def of(self, places: slice) -> Tensor:
        """[R, V] bool, a view."""
        return self._table[places]
