"""Settings of generation: the group `sampling` of a stage `rl`; commands that generate have the same keys at the
top."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from burnish.config.settings import Settings
from burnish.settings.data_settings import DataSettings
from burnish.settings.numbers import Positive

TRUNCATIONS = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""Settings that make the sampling distribution differ from the policy's → the value that disables each."""


class SamplingSettings(Settings):
    """Settings of sampling. In a stage rl, settings that make the sampling distribution differ from the policy's need
    updates_per_batch: 1."""

    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Sampling temperature: divides the logits, in sampling and in training."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling: samples among the most probable tokens whose probabilities add up to top_p; in a stage rl only
    with updates_per_batch: 1. 1: all tokens."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Samples among the top_k most probable tokens; in a stage rl only with updates_per_batch: 1. 0: all tokens."""
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Samples among tokens with at least this share of the highest probability; in a stage rl only with
    updates_per_batch: 1. 0: all tokens."""
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    """Divides the positive logits of tokens that already occurred; in a stage rl only with updates_per_batch: 1. 1: no
    penalty."""
    stop: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False)] = ()
    """Stop strings that end a response, in addition to the model's end tokens; they stay in the response."""

    @property
    def truncation(self) -> str:
        """The first key that makes the sampling distribution differ from the policy's; "": none does."""
        return next((name for name, off in TRUNCATIONS.items() if getattr(self, name) != off), "")


class GenerationSettings(DataSettings):
    """Settings of prompts and of the length of responses."""

    max_new_tokens: Positive = 256
    """Maximum number of tokens of a response."""

    @model_validator(mode="after")
    def _prompts_are_read_whole(self) -> GenerationSettings:
        if self.overlong not in ("auto", "error", "drop"):
            raise ValueError(
                f"overlong: {self.overlong} would change the prompt; prompts are not cut: write auto, error or drop"
            )
        if self.train_on != "assistant":
            raise ValueError(
                f"train_on: {self.train_on} applies to responses in rows, and here the policy generates them; remove it"
            )
        if self.special_tokens_in_text != "text":
            raise ValueError("special_tokens_in_text: prompts are always tokenized as text here; remove it")
        if self.max_length is not None and self.max_length <= self.max_new_tokens:
            raise ValueError(
                f"max_length: {self.max_length} is the length of prompt and response together, and max_new_tokens: "
                f"{self.max_new_tokens} leaves no room for a prompt; raise max_length or lower max_new_tokens"
            )
        return self
