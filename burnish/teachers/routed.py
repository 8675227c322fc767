"""Several teachers: each group of rollouts has the first one whose condition its row meets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from burnish.data.records import Task
from burnish.errors import DataError
from burnish.roles.filler import Filler, task_of
from burnish.types import Group, Response


@dataclass(frozen=True, eq=False, slots=True)
class Route:
    """A teacher of some rows."""

    where: Mapping[str, object]
    """Column → value that the row has; {}: any row."""
    teacher: Filler

    def serves(self, task: Task) -> bool:
        """Whether the row is this teacher's."""
        return all(task.extra.get(column) == value for column, value in self.where.items())


@dataclass(frozen=True, eq=False, slots=True)
class RoutedTeachers:
    """Fills groups by the teachers of their rows; every token has the index of its teacher (`teacher_index`)."""

    routes: Sequence[Route]

    def __call__(self, groups: Sequence[Group]) -> list[Group]:
        own = [route_of(self.routes, task_of(group)) for group in groups]
        filled: dict[int, Group] = {}
        for number, route in enumerate(self.routes):
            places = [place for place, index in enumerate(own) if index == number]
            by_teacher = route.teacher([groups[place] for place in places])
            filled |= {place: _marked(group, number) for place, group in zip(places, by_teacher, strict=True)}
        return _equally_wide([filled[place] for place in range(len(groups))])


def route_of(routes: Sequence[Route], task: Task) -> int:
    """Index of the teacher of a row.

    Raises:
        DataError: no teacher has it.
    """
    for number, route in enumerate(routes):
        if route.serves(task):
            return number
    columns = sorted({column for route in routes for column in route.where})
    values = ", ".join(f"{column}: {task.extra.get(column)!r}" for column in columns)
    raise DataError(
        given=f"a row that no teacher has ({values})",
        rule="every row has a teacher: the first whose `where` it meets",
        remedy="add a teacher without `where` at the end of the list, or leave such rows out of the data",
    )


def _marked(group: Group, number: int) -> Group:
    def index(size: int) -> dict[str, Any]:
        return {"teacher_index": torch.full((size,), number)}

    responses = [replace(response, **index(len(response.tokens))) for response in group.responses]
    return replace(group, responses=tuple(responses))


def _equally_wide(groups: Sequence[Group]) -> list[Group]:
    """The groups with hidden states of one width: those of narrower teachers are filled with zeros."""
    states = [r.teacher_states for group in groups for r in group.responses if r.teacher_states is not None]
    width = max((each.shape[1] for each in states), default=0)

    def widened(response: Response) -> Response:
        if response.teacher_states is None or response.teacher_states.shape[1] == width:
            return response
        missing = width - response.teacher_states.shape[1]
        return replace(response, teacher_states=torch.nn.functional.pad(response.teacher_states, (0, missing)))

    return [replace(group, responses=tuple(map(widened, group.responses))) for group in groups]
