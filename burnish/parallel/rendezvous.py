"""Rendezvous stores: small values by key, through which processes of a run find one another and say how they are."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from torch import distributed as dist

RUN = "burnish"
"""Prefix of the keys that processes of a run share."""
REASON = "failed"
"""Key under which the first process that failed says why."""


def serve_store() -> Any:
    """A store that this process serves on this machine, at a port that is free (its attribute `port`)."""
    return dist.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)  # type: ignore[attr-defined]


def connect(address: str, port: int, timeout_s: float, *, serves: bool = False) -> Any:
    """A connection to the store at an address, which this process serves itself if asked to. It is for one thread.

    Raises:
        RuntimeError: there is none within the time.
    """
    limit = timedelta(seconds=timeout_s)
    return dist.TCPStore(address, port, None, serves, limit, wait_for_workers=False)  # type: ignore[attr-defined]


def with_prefix(prefix: str, store: Any) -> Any:
    """The store's keys with this prefix."""
    return dist.PrefixStore(prefix, store)  # type: ignore[attr-defined]


def say_failed(store: Any, words: str) -> None:
    """Says why a process ends, if nobody has yet; `store` has the prefix `RUN`."""
    if not store.check([REASON]):
        store.set(REASON, words)
