"""Rules of the preference filters: the keys `filters.…` of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from burnish.config.settings import Settings

Rule = Literal["drop", "keep", "error"]
DropOrError = Literal["drop", "error"]
"""Rules for rows without a training signal, which cannot be kept."""


class FilterRules(Settings):
    """Rules for flawed comparisons, applied before training: drop, keep, or error (stops the run)."""

    identical: DropOrError = "drop"
    """Responses that are all the same."""
    tie: DropOrError = "drop"
    """Responses of equal score."""
    prompts: DropOrError = "error"
    """Responses to different prompts."""
    empty: Rule = "drop"
    """A response that is empty."""
    duplicate: Rule = "keep"
    """A row that repeats an earlier one (rows repeated by a source's weight too)."""
    contradiction: Rule = "keep"
    """Two rows with the opposite preference for the same responses."""
    contamination: Rule = "drop"
    """A training row whose prompt is in eval_data."""
    max_chosen_longer_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Stop if the better response is the longer one in a larger share of the training pairs."""
    min_rows_per_tag: Annotated[int, Field(ge=0)] = 0
    """Stop if fewer training rows carry a tag (column tags), or a pair of tags."""

    def of_measured(self) -> FilterRules:
        """Rules for held-out rows: without the limits on the whole set, which concern training only."""
        return self.model_copy(update={"max_chosen_longer_share": 1.0, "min_rows_per_tag": 0})
