"""What happens to flawed comparisons: the rules of `filters`, which also are what a recipe may say of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from burnish.config.settings import Settings

Rule = Literal["drop", "keep", "error"]
LeftOut = Literal["drop", "error"]
"""Rows from which nothing can be learned cannot be kept."""


class FilterRules(Settings):
    """What happens to flawed comparisons before any is learned from: drop, keep, or error: stop the run."""

    identical: LeftOut = "drop"
    """Answers that are all the same."""
    tie: LeftOut = "drop"
    """Answers of equal worth."""
    prompts: LeftOut = "error"
    """Answers to different prompts."""
    empty: Rule = "drop"
    """An answer that is empty."""
    duplicate: Rule = "keep"
    """A row that says what an earlier one says (those that weight repeats too)."""
    contradiction: Rule = "keep"
    """Two rows that prefer the opposite, of the same answers."""
    contamination: Rule = "drop"
    """A row of the training whose prompt is in eval_data."""
    max_chosen_longer_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Stop if the better answer is the longer one in a larger share of the pairs to learn from."""
    min_rows_per_tag: Annotated[int, Field(ge=0)] = 0
    """Stop if fewer rows to learn from carry a tag (column tags), or two tags that meet in a row."""

    def of_measured(self) -> FilterRules:
        """For rows that are measured: what a policy could learn from all of them together does not stop a run."""
        return self.model_copy(update={"max_chosen_longer_share": 1.0, "min_rows_per_tag": 0})
