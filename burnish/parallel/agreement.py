"""Agreement of the processes of a run: all have the same recipe, versions and data, or the run ends at once.

Processes of several machines may have other files. Without this, they would train on different rows, and nothing
would show it.
"""

from __future__ import annotations

from collections.abc import Mapping

from burnish.errors import RunError
from burnish.parallel.world import World


def require_agreement(world: World, facts: Mapping[str, str]) -> None:
    """Verifies that all processes have the same facts. Collective.

    Args:
        world: the processes.
        facts: name → text, such as a fingerprint; names are part of the message.

    Raises:
        RunError: names the first process that differs from rank 0, and in what.
    """
    if world.size == 1:
        return
    first, *others = world.gather(dict(facts))
    for rank, found in enumerate(others, start=1):
        for name in first.keys() | found.keys():
            if first.get(name) != found.get(name):
                raise RunError(
                    given=f"{name} of rank {rank}: {_short(found.get(name))}; of rank 0: {_short(first.get(name))}",
                    rule="all processes of a run have the same recipe, versions, data and models",
                    remedy=f"give the machine of rank {rank} the same files and packages",
                )


def _short(text: str | None) -> str:
    return "none" if text is None else text if len(text) <= 40 else f"{text[:37]}..."
