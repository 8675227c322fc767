"""A stage's data, opened to be looked at: what `burnish data profile` and `burnish data view` work on.

Beside `run`, from the same settings, so what is seen is what is trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from burnish.data import Writer, choose_template
from burnish.data.lengths import Overlong
from burnish.data.maker import Maker
from burnish.data.mixture import Data
from burnish.model.load import load_config, load_tokenizer, max_positions
from burnish.recipe.read import stage_recipe
from burnish.recipe.run import longest_allowed, open_stage_data


@dataclass(frozen=True, eq=False, slots=True)
class Opened:
    """Data, and all that decides how it is learned."""

    data: Data
    maker: Maker
    max_positions: int
    """The longest sequence of the model."""
    max_length: int
    overlong: Overlong

    def lines(self) -> Iterator[str]:
        """Each source for people."""
        return self.data.lines()


def open_to_look(model: str, data: str, settings: Sequence[str]) -> Opened:
    """Opens data as `burnish sft` with these settings would."""
    recipe = stage_recipe("sft", {"model": model, "data": data}, settings).recipe
    stage = recipe.stages[0].sft
    tokenizer, positions = load_tokenizer(model, stage.tokens_to_add), max_positions(load_config(model))
    opened, max_length = open_stage_data(recipe, stage, stage.data), longest_allowed(recipe, stage)
    maker = Maker(
        opened.rows,
        opened.format,
        Writer(tokenizer, choose_template(tokenizer, stage.template), stage.template_options),
        stage.train_on,
        stage.control_text,
        max_length if stage.overlong == "cut_turns" else None,
    )
    return Opened(opened, maker, positions, max_length, stage.overlong)
