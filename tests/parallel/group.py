"""Groups of real processes that tests share: each is started once, and does one piece of work after another.

A piece of work is a function at the top level of a module, which every process calls with its world.
"""

from __future__ import annotations

import io
import multiprocessing
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import torch

from burnish.parallel.mesh import Mesh
from burnish.parallel.place import Place
from burnish.parallel.processes import Processes as Connected
from burnish.parallel.processes import joined
from burnish.parallel.rendezvous import serve_store

TIMEOUT_S = 120.0
"""After which a test's process that does not answer is lost."""


def _serve(place: Place, channel: Connection) -> None:
    """The life of a process of a group: work until None comes."""
    torch.set_num_threads(1)
    with joined(place, torch.device("cpu"), TIMEOUT_S) as first:
        worlds = {first.mesh: first}
        while (work := channel.recv()) is not None:
            function, arguments, mesh = work
            buffer = io.BytesIO()
            try:
                world = worlds.get(mesh or first.mesh)
                if world is None:
                    world = worlds[mesh] = _in_mesh(first, place, mesh)
                torch.save(("done", function(world, *arguments)), buffer)
            except Exception:  # noqa: BLE001  # the test says it
                buffer = io.BytesIO()
                torch.save(("failed", traceback.format_exc()), buffer)
            channel.send_bytes(buffer.getvalue())


def _in_mesh(world: Connected, place: Place, mesh: Mesh) -> Connected:
    """The world of the same processes in another layout; each of them makes it."""
    return Connected(place, world.device, world._store, world._heartbeat, mesh)


class Processes:
    """Processes that work together until the context manager `processes` ends."""

    def __init__(self, size: int) -> None:
        self._store = serve_store()
        context = multiprocessing.get_context("spawn")
        pairs = [context.Pipe() for _ in range(size)]
        places = [Place(rank, size, rank, "127.0.0.1", self._store.port, True) for rank in range(size)]
        self._channels = [near for near, _ in pairs]
        self._processes = [
            context.Process(target=_serve, args=(place, far), daemon=True)
            for place, (_, far) in zip(places, pairs, strict=True)
        ]
        for process in self._processes:
            process.start()

    def __call__(self, function: Callable[..., Any], *arguments: Any, mesh: Mesh | None = None) -> list[Any]:
        """What each process returns, in the order of ranks. Function: (world, *arguments) → result. Mesh: None: each
        has all weights."""
        for channel in self._channels:
            channel.send((function, arguments, mesh))
        answers = [torch.load(io.BytesIO(channel.recv_bytes()), weights_only=False) for channel in self._channels]
        assert all(kind == "done" for kind, _ in answers), [said for kind, said in answers if kind != "done"]
        return [result for _, result in answers]

    def close(self) -> None:
        """Ends the processes."""
        for channel in self._channels:
            channel.send(None)
        for process in self._processes:
            process.join(timeout=TIMEOUT_S)


@contextmanager
def processes(size: int) -> Iterator[Processes]:
    """A group of so many processes."""
    group = Processes(size)
    try:
        yield group
    finally:
        group.close()
