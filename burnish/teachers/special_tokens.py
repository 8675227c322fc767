"""Leaves special tokens of responses out of the loss: their meaning is that of a template, and teacher and student may
have different ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from burnish.types import Group, Response


@dataclass(eq=False)
class MaskSpecialTokens:
    """Makes special tokens untrained (see `roles.filler.Filler`). A response of which nothing is left keeps its tokens,
    none of them trained."""

    tokens: Collection[int]
    """Ids of the special tokens."""
    _ids: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._ids = torch.tensor(sorted(self.tokens), dtype=torch.int64)

    def __call__(self, groups: Sequence[Group]) -> list[Group]:
        return [replace(group, responses=tuple(map(self._masked, group.responses))) for group in groups]

    def _masked(self, response: Response) -> Response:
        return replace(response, trainable=response.trainable & ~torch.isin(response.tokens, self._ids))
