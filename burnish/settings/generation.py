"""What a user may say of how responses are written: in a stage `rl`, which has `SamplingSettings` as its group
`sampling`, and in the verbs that write responses, which have the same keys at the top."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from burnish.config.settings import Settings
from burnish.settings.data_settings import DataSettings
from burnish.settings.numbers import Positive

TRUNCATIONS = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""Settings by which tokens are drawn from another distribution than the policy's, and what turns each off."""


class SamplingSettings(Settings):
    """How the tokens of a response are chosen. In a stage rl, what draws from another distribution than the policy's
    goes with updates_per_batch: 1 alone."""

    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Divisor of the logits, in writing and in learning."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Only the likeliest tokens that together have this probability; in a stage rl with updates_per_batch: 1 alone.
    1: all."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Only so many of the likeliest tokens; in a stage rl with updates_per_batch: 1 alone. 0: all."""
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Only tokens that have this share of the likeliest one's probability; in a stage rl with updates_per_batch: 1
    alone. 0: all."""
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    """Divides the positive logits of tokens that were there; in a stage rl with updates_per_batch: 1 alone. 1: none."""
    stop: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False)] = ()
    """Texts that end a response, beside the model's end tokens; they stay in it."""

    @property
    def truncation(self) -> str:
        """The first key by which tokens are drawn from another distribution than the policy's, or ""."""
        return next((name for name, off in TRUNCATIONS.items() if getattr(self, name) != off), "")


class GenerationSettings(DataSettings):
    """How prompts are read, and how long responses may be."""

    max_new_tokens: Positive = 256
    """Most tokens of a response."""

    @model_validator(mode="after")
    def _prompts_are_read_whole(self) -> GenerationSettings:
        if self.overlong not in ("error", "drop"):
            raise ValueError(
                f"overlong: {self.overlong} would change what is asked; a prompt is kept whole, or error or drop"
            )
        if self.train_on != "assistant":
            raise ValueError(
                f"train_on: {self.train_on} is of answers in rows, and here the policy writes them; remove it"
            )
        if self.special_tokens_in_text != "text":
            raise ValueError("special_tokens_in_text: what a prompt says stays text here; remove it")
        if self.max_length is not None and self.max_length <= self.max_new_tokens:
            raise ValueError(
                f"max_length: {self.max_length} is prompt and response together, and max_new_tokens: "
                f"{self.max_new_tokens} leaves no prompt; raise the one or lower the other"
            )
        return self
