"""Teacher that is a model in this process: fills the streams of groups by one forward of each prompt with its
responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from burnish.model.policy import Model
from burnish.roles.scorer import Computed, of_responses
from burnish.streams import spread
from burnish.teachers.prompts import PromptRenderer
from burnish.teachers.signal import Signal
from burnish.types import Group, Response

Opened = Callable[[], AbstractContextManager[Model]]
"""Gives the teacher, ready to compute until the context ends."""


@dataclass(frozen=True, eq=False, slots=True)
class LocalTeacher:
    """Fills the streams of a signal (see `roles.filler.Filler`)."""

    opened: Opened
    """The teacher: a model on the device, earlier weights of the student, or a model that is loaded when it is used."""
    signal: Signal
    budget: int
    """Maximum number of tokens of a microbatch."""
    renderer: PromptRenderer | None = None
    """Renders prompts as the teacher reads them; None: it reads those of the student."""

    def __call__(self, groups: Sequence[Group]) -> list[Group]:
        return filled(groups, self.renderer, self.streams)

    def streams(self, groups: Sequence[Group]) -> list[list[dict[str, Tensor]]]:
        """Per group and response: stream → [trained tokens, …]."""
        if not groups:
            return []
        with self.opened() as model:
            teacher = replace(model, temperature=self.signal.temperature)
            return of_responses(teacher, groups, self.budget, lambda packed: Computed(self.signal.of(teacher, packed)))


def filled(
    groups: Sequence[Group],
    renderer: PromptRenderer | None,
    streams: Callable[[Sequence[Group]], list[list[dict[str, Tensor]]]],
) -> list[Group]:
    """The groups with the streams that a teacher computes of them, as it reads them; see `LocalTeacher.renderer`."""
    seen = groups if renderer is None else [renderer.seen(group) for group in groups]
    return [with_streams(group, of_group) for group, of_group in zip(groups, streams(seen), strict=True)]


def with_streams(group: Group, streams: Sequence[Mapping[str, Tensor]]) -> Group:
    """The group with streams of the trained tokens of its responses; 0 at other tokens."""
    pairs = zip(group.responses, streams, strict=True)
    return replace(group, responses=tuple(_with_streams(*pair) for pair in pairs))


def _with_streams(response: Response, streams: Mapping[str, Tensor]) -> Response:
    values: dict[str, Any] = {name: spread(values, response.trainable) for name, values in streams.items()}
    return replace(response, **values)
