"""Reward function of `rl_peers`: a file of its own, so that reward workers import nothing else."""

from __future__ import annotations


def vowels(completions: list[str], **_: object) -> list[float]:
    """Share of vowels: cheap, and almost never equal for two responses."""
    return [sum(letter in "aeiou" for letter in text) / max(1, len(text)) for text in completions]
