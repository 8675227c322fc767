"""Reward function of `rl_peers` and `vision_peers`: a file of its own, so that reward workers import nothing else."""

from __future__ import annotations

from typing import Any


def vowels(completions: list[Any], **_: object) -> list[float]:
    """Share of vowels: cheap, and almost never equal for two responses. Responses are texts, or the messages of
    conversations."""
    texts = [each if isinstance(each, str) else each[0]["content"] for each in completions]
    return [sum(letter in "aeiou" for letter in text) / max(1, len(text)) for text in texts]
