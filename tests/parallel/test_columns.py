"""A softmax over a vocabulary that processes divide: every score and its gradients are those of the whole one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from burnish.parallel.mesh import Mesh
from tests.parallel.group import Processes, processes
from tests.parallel.work import scores_apart

BOUND = 1e-12


@pytest.fixture(scope="module")
def group() -> Iterator[Processes]:
    with processes(2) as two:
        yield two


@pytest.mark.parametrize("route", ["frozen", "recomputed", "known"])
@pytest.mark.parametrize("softcap", [None, 2.0], ids=["plain", "soft-capped"])
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_scores_and_gradients_are_those_of_the_whole_vocabulary(
    group: Processes, route: str, softcap: float | None, bias: bool
) -> None:
    for apart in group(scores_apart, route, softcap, bias, mesh=Mesh(tensor=2)):
        assert apart.keys() >= {"values", "hidden"}
        assert {name: value for name, value in apart.items() if value > BOUND} == {}
