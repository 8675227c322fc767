"""Which tokens a row has already, for the repetition penalty: kept up to date by one token at a time."""

from __future__ import annotations

import torch
from torch import Tensor


class TokenHistory:
    """A table [most rows, V] of what prompt and response of every row have. Rows are numbered without gaps."""

    def __init__(self, most_rows: int, vocabulary: int, device: torch.device) -> None:
        self._table = torch.zeros((most_rows, vocabulary), dtype=torch.bool, device=device)

    def begin(self, place: int, prompt: Tensor) -> None:
        """A row begins here, after a prompt [P]."""
        self._table[place] = False
        self._table[place, prompt.to(self._table.device)] = True

    def add(self, start: int, tokens: Tensor) -> None:
        """The rows from `start` on have one more token each, [R]."""
        rows = torch.arange(start, start + len(tokens), device=self._table.device)
        self._table[rows, tokens.to(self._table.device)] = True

    def move(self, source: int, target: int) -> None:
        """A row takes the place of another."""
        self._table[target] = self._table[source]

    def of(self, rows: slice) -> Tensor:
        """[R, V] bool, a view."""
        return self._table[rows]
