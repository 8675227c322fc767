"""Reader of rows for one model and its tokenizer, by the settings of data.

Training and evaluation read with it in the same way, so that their losses are comparable.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from burnish.data.dataset import DatasetSpec
from burnish.data.filters import PreferenceFilters, apply_filters
from burnish.data.mixture import Data, open_data
from burnish.data.rows import Indices
from burnish.data.sample import split_count
from burnish.data.sample_builder import SampleBuilder, is_conversation
from burnish.data.settings import DataSource
from burnish.data.split import Split, split
from burnish.data.template import Template, choose_template
from burnish.errors import DataError, ModelError
from burnish.model.load import default_device
from burnish.model.open import LoadedModel
from burnish.model.positions import exact_positions
from burnish.settings.data import DataField, DatasetSettings, sources
from burnish.settings.data_settings import DataSettings
from burnish.sources.epoch_order import epoch_order
from burnish.vision.processing import ImageProcessing
from burnish.watch.counter import count_on_terminal

TOKENS_PER_MICROBATCH = {"cpu": 1024, "cuda": 4096}
"""The default of tokens_per_microbatch, by the kind of device. On CPU it was the fastest of 512 to 4096 at 15 and 100
million parameters (docs/devlog.md): activations stay near the cache. Gradients are added once per microbatch, so fewer
tokens cost time, on a GPU most of all (not measured there)."""

_ROWS_LOOKED_AT = 256
"""Number of rows, evenly spread, of which one has to use a template that is named."""


@dataclass(frozen=True, eq=False, slots=True)
class OpenedData:
    """Opened rows, with the settings that turn them into groups."""

    data: Data
    preparation: DatasetSpec
    max_positions: int
    """Maximum length of a sequence of the model."""

    def lines(self) -> Iterator[str]:
        """Log lines about each source."""
        return self.data.lines()

    def drawn(self, draws: int, seed: int) -> DatasetSpec:
        """Specification of the first `draws` rows of the first epoch, for a run that ends within it."""
        return self.picked(epoch_order(seed, 0, len(self.data.rows))[:draws]).preparation

    def picked(self, rows: Indices) -> OpenedData:
        """The opened data with only the rows of these indices, in this order."""
        return self.of(replace(self.data, rows=self.data.rows.pick(rows)))

    def of(self, data: Data) -> OpenedData:
        """The opened data with other rows of the same sources."""
        builder = replace(self.preparation.builder, rows=data.rows)
        return replace(self, data=data, preparation=replace(self.preparation, builder=builder))


@dataclass(frozen=True, eq=False, slots=True)
class StageRows:
    """Opened rows of a stage, before filters."""

    train: OpenedData
    held_out: OpenedData | None
    """Held-out rows, of their own or taken out of the training data; None: there are none."""
    split: Split | None = None
    """How the rows were split; None: held-out rows are of their own, or there are none."""


@dataclass(frozen=True, eq=False, slots=True)
class Reader:
    """Reads rows for one model."""

    reading: DataSettings
    model: str
    """Name in messages: a hub name or a folder."""
    tokenizer: PreTrainedTokenizerBase
    template: Template
    max_positions: int
    """Maximum length of a sequence of the model."""
    seed: int
    """Seed of the rows that a source draws."""
    named_template: str | None = None
    """Chat template that the settings of these data name; None: they name none."""
    images: ImageProcessing | None = None
    """Image processing of the model; None: it takes text alone."""

    @classmethod
    def of(
        cls,
        reading: DataSettings,
        model: str,
        config: PretrainedConfig,
        tokenizer: PreTrainedTokenizerBase,
        seed: int,
        images: ImageProcessing | None = None,
    ) -> Self:
        """Makes a reader for the model with this name and configuration."""
        template = choose_template(tokenizer, reading.chat_template)
        positions, named = exact_positions(config), reading.chat_template
        return cls(reading, model, tokenizer, template, positions, seed, named, images)

    @classmethod
    def of_opened(cls, reading: DataSettings, opened: LoadedModel, seed: int) -> Self:
        """Makes a reader for an opened model."""
        config = opened.causal_lm.config
        return cls.of(reading, opened.named.given, config, opened.tokenizer, seed, opened.images)

    @property
    def tokens_per_microbatch(self) -> int:
        return self.reading.tokens_per_microbatch or TOKENS_PER_MICROBATCH[default_device().type]

    @property
    def max_length(self) -> int:
        """Maximum length of a row, tokens: that of the recipe, or what the model's positions and a microbatch allow.

        Raises:
            ModelError: the recipe has more than the model's positions.
        """
        positions = self.max_positions
        longest = self.reading.max_length or min(positions, self.reading.tokens_per_microbatch or positions)
        if longest > positions:
            raise ModelError(
                given=f"max_length: {longest}",
                rule=f"{self.model} supports {positions} positions",
                remedy=f"set max_length to at most {positions}",
            )
        return longest

    @property
    def limit_key(self) -> str:
        """Setting that `max_length` comes from, unless it is the model's positions."""
        return "max_length" if self.reading.max_length is not None else "tokens_per_microbatch"

    def open(
        self, data: str | DatasetSettings | Sequence[str | DatasetSettings], *, held_out: bool = False
    ) -> OpenedData:
        """Opens the rows of `data`, ready to be tokenized; held-out rows need not use a template that is named."""
        reading = self.reading
        named = sources(
            data,
            format=reading.format,
            columns=reading.columns,
            documents=reading.documents,
            prompt_template=reading.prompt_template,
            scores=reading.score_names,
        )
        opened = open_data(named, seed=self.seed, stage=reading.serves)
        preparation = DatasetSpec.of(
            opened.rows,
            self.tokenizer,
            self.template,
            format=opened.format,
            max_length=self.max_length,
            max_positions=self.max_positions,
            overlong=reading.overlong,
            train_on=reading.train_on,
            special_tokens_in_text=reading.special_tokens_in_text,
            chat_template_kwargs=reading.chat_template_kwargs,
            max_invalid_fraction=reading.max_invalid_fraction,
            comparison=reading.comparison,
            limit_key=self.limit_key,
            last_text_only=reading.serves == "reward",
            images=None if self.images is None else self.images.within(_folders(named)),
        )
        if not held_out:
            self._require_use_of_template(preparation.builder)
        return OpenedData(opened, preparation, self.max_positions)

    def open_stage(
        self, data: DataField, eval_data: DataField | None = None, eval_share: float | None = None
    ) -> StageRows:
        """Opens training and held-out rows: those of `eval_data`, or a share of `data`.

        Args:
            data: training data.
            eval_data: held-out data of their own; None: there are none.
            eval_share: share of the prompts of `data` whose rows are held out instead; None: no row of it is.

        Raises:
            DataError: the rows cannot be read, or all of them fall on one side of the split.
        """
        opened = self.open(data)
        if eval_share is None:
            return StageRows(opened, None if eval_data is None else self.open(eval_data, held_out=True))
        halves = split(opened.data, eval_share, self.seed, count_on_terminal("rows read to split them"))
        return StageRows(opened.of(halves.train), opened.of(halves.held_out), halves)

    def _require_use_of_template(self, builder: SampleBuilder) -> None:
        """Refuses a template that is named for data which are plain text: it would have no effect.

        Raises:
            DataError: none of the rows that are looked at has messages.
        """
        if self.named_template is None:
            return
        converted = []
        count = len(builder.rows)
        for row in np.unique(np.linspace(0, count - 1, min(count, _ROWS_LOOKED_AT)).astype(np.int64)).tolist():
            with suppress(DataError):  # an invalid row, which is reported when it is tokenized
                converted.append(builder.format.convert(builder.rows[row]))
        if converted and not any(map(is_conversation, converted)):
            raise DataError(
                given=f"chat_template: {self.named_template}, and the rows of {builder.rows.source} are plain text "
                f"({builder.format.name})",
                rule="a chat template renders messages; plain text is continued as it is",
                remedy="remove chat_template, write messages, or name the column question, which is a user's message",
            )

    def gate(
        self, opened: OpenedData, held_out: PreferenceFilters | None = None
    ) -> tuple[OpenedData, PreferenceFilters | None]:
        """Applies the preference filters to training rows: the rows that pass, and the report; None: no filters.

        Args:
            opened: rows.
            held_out: filters of the held-out rows; None: there are none.

        Raises:
            DataError: a finding whose rule is error.
        """
        rules = self.reading.filter_rules
        return (opened, None) if rules is None else _passed(opened, apply_filters(opened.data, rules, held_out))

    def filter_held_out(self, opened: OpenedData) -> tuple[OpenedData, PreferenceFilters | None]:
        """As `gate`, for held-out rows and with their rules (`FilterRules.of_measured`)."""
        rules = self.reading.filter_rules
        return (opened, None) if rules is None else _passed(opened, apply_filters(opened.data, rules.of_measured()))


def _passed(opened: OpenedData, gate: PreferenceFilters) -> tuple[OpenedData, PreferenceFilters]:
    return (opened.picked(gate.passed) if len(gate.passed) < gate.num_rows else opened), gate


def _folders(named: Sequence[DataSource]) -> list[str]:
    """Folders of the data files, in which relative paths of images begin; a built-in set and one of the hub have
    none."""
    paths = [split_count(source.path)[0] for source in named]
    files = [path for path in paths if os.path.exists(path) or glob.has_magic(path)]
    folders = (path if os.path.isdir(path) else os.path.dirname(path) for path in files)
    return list(dict.fromkeys(map(os.path.abspath, folders)))
