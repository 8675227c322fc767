"""The reward of `rl_peers`: a file of its own, so that the processes that judge import nothing else."""

from __future__ import annotations


def vowels(completions: list[str], **_: object) -> list[float]:
    """The share of vowels: cheap, and hardly ever the same for two answers."""
    return [sum(letter in "aeiou" for letter in said) / max(1, len(said)) for said in completions]
