"""A stage's data, opened: the rows that it names, what makes groups of them, and the feed that it learns from.

Under `run`, which learns from it, and under `burnish data profile` and `burnish data view`, which look at it: all take
it from here, so what is seen is what is trained.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Self

from transformers import PreTrainedTokenizerBase

from burnish.data import Feed, Preparation, Prepared, Template, choose_template
from burnish.data.mixture import Data, open_data
from burnish.errors import ModelError
from burnish.model.load import load_config, load_tokenizer, max_positions
from burnish.recipe.data import Source, sources
from burnish.recipe.read import stage_recipe
from burnish.recipe.schema import Recipe, Sft
from burnish.sources import epoch_order, num_draws
from burnish.watch import count_on_terminal

TOKENS_PER_MICROBATCH = 4096
"""The default of tokens_per_microbatch."""


@dataclass(frozen=True, eq=False, slots=True)
class Opened:
    """Rows, and what makes groups of them."""

    data: Data
    preparation: Preparation
    max_positions: int
    """The longest sequence of the model."""

    def lines(self) -> Iterator[str]:
        """Each source for people."""
        return self.data.lines()

    def drawn(self, draws: int, seed: int) -> Preparation:
        """Only the rows that are drawn in a run that ends within its first epoch, in the order of that epoch."""
        order = epoch_order(seed, 0, len(self.data.rows))
        maker = replace(self.preparation.maker, rows=self.data.rows.pick(order[:draws]))
        return replace(self.preparation, maker=maker)


@dataclass(frozen=True, eq=False, slots=True)
class Opener:
    """Opens data as a stage says, for its model."""

    recipe: Recipe
    stage: Sft
    model: str
    """Where the stage begins: the recipe's model, or the folder that an earlier stage wrote."""
    tokenizer: PreTrainedTokenizerBase
    template: Template
    max_positions: int

    @classmethod
    def of(cls, recipe: Recipe, number: int = 0, model: str | None = None) -> Self:
        """The model's configuration and tokenizer are read, not its weights.

        Args:
            recipe: of which stage ``number`` is opened.
            number: from 0.
            model: where the stage begins; None: with the recipe's model, and the tokens that earlier stages add.
        """
        stage = recipe.stages[number].sft
        before = recipe.stages[: number + 1] if model is None else recipe.stages[number : number + 1]
        tokens = dict.fromkeys(token for each in before for token in each.sft.tokens_to_add)
        begins = model or recipe.model
        tokenizer = load_tokenizer(begins, tuple(tokens))
        template = choose_template(tokenizer, stage.template)
        return cls(recipe, stage, begins, tokenizer, template, max_positions(load_config(begins)))

    @property
    def tokens_per_microbatch(self) -> int:
        return self.stage.tokens_per_microbatch or TOKENS_PER_MICROBATCH

    @property
    def max_length(self) -> int:
        """The longest row, tokens: as the recipe says, or what the model's positions and a microbatch hold.

        Raises:
            ModelError: the recipe says more than the model's positions.
        """
        positions = self.max_positions
        longest = self.stage.max_length or min(positions, self.stage.tokens_per_microbatch or positions)
        if longest > positions:
            raise ModelError(
                given=f"max_length: {longest}",
                rule=f"{self.model} is exact up to {positions} positions",
                remedy=f"set max_length to at most {positions}",
            )
        return longest

    def num_draws(self, rows: int) -> int:
        """How many of so many rows the stage draws, those of further epochs too."""
        stage = self.stage
        return num_draws(
            rows, sequences_per_step=stage.sequences_per_step, epochs=stage.epochs or 1.0, max_steps=stage.max_steps
        )

    def check(self) -> None:
        """Opens the data and leaves it.

        Raises:
            DataError: it cannot be read, or it is not known what its rows mean.
        """
        self.open(self.stage.data)
        if self.stage.eval_data:
            self.open(self.stage.eval_data)

    def open(self, data: str | Source | Sequence[str | Source]) -> Opened:
        """The rows that `data` names, as the stage reads and learns them."""
        stage = self.stage
        named = sources(data, format=stage.format, columns=stage.columns, documents=stage.documents)
        opened = open_data(named, seed=self.recipe.seed)
        preparation = Preparation.of(
            opened.rows,
            self.tokenizer,
            self.template,
            format=opened.format,
            max_length=self.max_length,
            overlong=stage.overlong,
            train_on=stage.train_on,
            control_text=stage.control_text,
            template_options=stage.template_options,
            max_unusable=stage.max_unusable,
        )
        return Opened(opened, preparation, self.max_positions)


@dataclass(frozen=True, eq=False, slots=True)
class Inputs:
    """What a stage learns from, and what it is measured on."""

    opener: Opener
    train: Opened
    feed: Feed
    """The groups of `train`; large sets are still being made ready when the training begins."""
    shuffle: bool
    """False: the feed has only the rows that the run draws, in their order."""
    held_out: Opened | None
    measured_on: Prepared | None
    """All groups of `held_out`."""

    @classmethod
    def of(cls, opener: Opener) -> Self:
        """Opened before the model is loaded, so that mistakes in the data show at once."""
        told = count_on_terminal("rows made into tokens")
        train = opener.open(opener.stage.data)
        held_out = opener.open(opener.stage.eval_data) if opener.stage.eval_data else None
        measured_on = held_out.preparation.whole(told=told) if held_out else None
        rows, draws = len(train.data.rows), opener.num_draws(len(train.data.rows))
        shuffle = draws >= rows or train.data.format.documents  # how many pieces documents give is not known
        preparation = train.preparation if shuffle else train.drawn(draws, opener.recipe.seed)
        return cls(opener, train, Feed(preparation, told), shuffle, held_out, measured_on)

    @property
    def tokens_per_microbatch(self) -> int:
        return self.opener.tokens_per_microbatch

    @property
    def facts(self) -> dict[str, str]:
        """What is learned and measured on, by identity: a run goes on only with the same."""
        held_out = self.held_out.preparation.identity if self.held_out else ""
        return {"the data": self.train.preparation.identity, "the held-out data": held_out}

    def report(self) -> Iterator[str]:
        """Lines for people: the sources of a mixture, what is measured on, and the first row as it is trained."""
        if len(self.train.data.parts) > 1:
            yield from self.train.data.lines()
        rows, format = self.train.data.rows, self.train.data.format
        if not self.shuffle:
            yield f"the run ends within its first epoch: it reads {len(self.feed):,} of {len(rows):,} rows"
        if self.feed.prepared is None:
            yield f"{rows.source}: {len(self.feed):,} rows ({format.name}), which become tokens beside the training"
        if self.measured_on is not None:
            yield from self.measured_on.report.lines()
        example = "".join(f"⟦{text}⟧" if learned else text for text, learned in self.feed.example())
        yield f"the first row, with what is learned in ⟦ ⟧:\n{example}"

    def card(self, train: Prepared) -> dict[str, object]:
        """What data.json holds of the stage: each set as its report has it."""
        roles = {"training": train, "held out": self.measured_on}
        sets = [{"role": role, **prepared.report.card()} for role, prepared in roles.items() if prepared is not None]
        mixture = list(self.train.data.lines()) if len(self.train.data.parts) > 1 else []
        return {"mixture": mixture, "sets": sets}

    def unusable(self, train: Prepared) -> str:
        """JSON lines: every row that was left out because it cannot be used, with the reason."""
        sets = [prepared for prepared in (train, self.measured_on) if prepared is not None]
        rows = [asdict(row) for prepared in sets for row in prepared.unusable]
        return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


def open_to_look(model: str, data: str, settings: Sequence[str]) -> Opened:
    """Opens data as `burnish sft` with these settings would."""
    recipe = stage_recipe("sft", {"model": model, "data": data}, settings).recipe
    return Opener.of(recipe).open(recipe.stages[0].sft.data)
