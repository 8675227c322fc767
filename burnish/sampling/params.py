"""How responses are written, as settings. Needs no torch; `choice` and the samplers do it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen, and when a response ends. Example: ``SamplingParams(temperature=0.7, top_p=0.9)``.

    Truncations apply in this order: repetition penalty, top-k, top-p, min-p.
    """

    max_new_tokens: int = 256
    """Most tokens of a response."""
    temperature: float = 1.0
    """Divisor of the logits; 0: always the likeliest token (its log-probability is reported at temperature 1)."""
    top_k: int = 0
    """Only so many of the likeliest tokens; 0: all."""
    top_p: float = 1.0
    """The fewest likeliest tokens that together have this probability (arXiv 1904.09751); 1: all."""
    min_p: float = 0.0
    """Only tokens that have this share of the likeliest one's probability (arXiv 2407.01082); 0: all."""
    repetition_penalty: float = 1.0
    """Divides the positive logits of tokens that prompt or response have, multiplies the negative ones
    (arXiv 1909.05858, section 4.1); 1: none."""
    stop: tuple[str, ...] = ()
    """Texts that end a response; they stay in it."""
    stop_ids: tuple[int, ...] = ()
    """Further tokens that end a response, beside the end tokens of the model."""
    seed: int = 0
    """Of the choice; another seed gives other responses."""

    def __post_init__(self) -> None:
        assert self.max_new_tokens >= 1, "a response has at least one token"
        assert self.temperature >= 0 and self.top_k >= 0 and self.repetition_penalty > 0, "see the fields"
        assert 0 < self.top_p <= 1 and 0 <= self.min_p <= 1, "shares of probability are between 0 and 1"

    @property
    def scored_temperature(self) -> float:
        """The temperature at which log-probabilities are reported."""
        return self.temperature or 1.0
