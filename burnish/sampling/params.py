"""Sampling parameters. Imports no torch; used by `choice` and the samplers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Parameters of token choice and of the end of a response. Example: ``SamplingParams(temperature=0.7, top_p=0.9)``.

    Truncations apply in this order: repetition penalty, top-k, top-p, min-p.
    """

    max_new_tokens: int = 256
    """Maximum number of tokens of a response."""
    temperature: float = 1.0
    """Divisor of the logits; 0: greedy (log-probabilities are reported at temperature 1)."""
    top_k: int = 0
    """Only this many most probable tokens; 0: all."""
    top_p: float = 1.0
    """Only the smallest set of most probable tokens with this total probability (arXiv 1904.09751); 1: all."""
    min_p: float = 0.0
    """Only tokens with at least this share of the most probable token's probability (arXiv 2407.01082); 0: all."""
    repetition_penalty: float = 1.0
    """Divides positive logits of tokens in prompt or response, multiplies negative ones
    (arXiv 1909.05858, section 4.1); 1: none."""
    stop: tuple[str, ...] = ()
    """Texts that end a response, and are kept in it."""
    stop_ids: tuple[int, ...] = ()
    """Further tokens that end a response, in addition to the model's end tokens."""
    seed: int = 0
    """Seed of the random numbers."""

    def __post_init__(self) -> None:
        assert self.max_new_tokens >= 1, "a response has at least one token"
        assert self.temperature >= 0 and self.top_k >= 0 and self.repetition_penalty > 0, "see the fields"
        assert 0 < self.top_p <= 1 and 0 <= self.min_p <= 1, "shares of probability are between 0 and 1"

    @property
    def scored_temperature(self) -> float:
        """The temperature at which log-probabilities are reported."""
        return self.temperature or 1.0
