"""Similar names, for "did you mean": few edits apart, or one begins with the other."""

from __future__ import annotations

from collections.abc import Iterable

SHORTEST_PREFIX = 4
"""Characters that two names have in common before one counts as the abbreviation of the other."""


def edits(one: str, other: str) -> int:
    """Number of insertions, deletions, replacements and swaps of neighbors between two names (optimal string alignment
    distance). Upper and lower case, hyphens and underscores are the same.

    Example: ``edits("dop", "dpo") == 1``.
    """
    a, b = _plain(one), _plain(other)
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, char in enumerate(a, start=1):
        two_before, before = before, row
        row = [i]
        for j, wanted in enumerate(b, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (char != wanted))
            if i > 1 and j > 1 and char == b[j - 2] and a[i - 2] == wanted:
                cost = min(cost, two_before[j - 2] + 1)
            row.append(cost)
    return row[-1]


def similar(written: str, names: Iterable[str]) -> list[str]:
    """The names that somebody may have meant, the most similar one first; []: none is similar.

    A name is similar if at most one of three characters differs (or one of two), if one of the two begins with the
    other, as ``max_len`` and ``max_length``, or if its first words are similar, as ``respones`` and
    ``responses_per_prompt``.
    """
    ranked = []
    for place, name in enumerate(names):
        count = edits(written, name)
        if _are_few(count, written, name):
            ranked.append((count, place, name))
        elif _abbreviates(written, name) or any(_are_few(edits(written, part), written, part) for part in _parts(name)):
            ranked.append((len(written) + count, place, name))
    return [name for _, _, name in sorted(ranked)]


def _are_few(count: int, one: str, other: str) -> bool:
    return count <= max(1, max(len(one), len(other)) // 3) and count < max(len(one), len(other))


def _parts(name: str) -> list[str]:
    """The first words of a name, without its last ones: ``a_bc_d`` has ``a`` and ``a_bc``; short ones are left out."""
    ends = [place for place, char in enumerate(name) if char == "_" and place >= SHORTEST_PREFIX]
    return [name[:end] for end in ends]


def _abbreviates(one: str, other: str) -> bool:
    shorter, longer = sorted((_plain(one), _plain(other)), key=len)
    return len(shorter) >= SHORTEST_PREFIX and longer.startswith(shorter)


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
