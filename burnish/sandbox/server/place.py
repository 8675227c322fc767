"""What all programs of a server have in common."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where the programs of a server run."""

    isolated: bool
    """Whether each has namespaces of its own."""
    user: int
    group: int
    """Of the programs, inside and outside."""
    proc: int
    """Descriptor of /proc, which is not in the root; -1: not isolated."""
    readable: tuple[str, ...]
    """Paths that programs may read."""
    devices: tuple[str, ...]
    """Paths that they may read and write, besides their folder."""
    filters: tuple[bytes, bytes]
    """Filters of system calls: of programs with one process, and with several; empty: not confined, or made anew for
    each program, whose number they hold."""
