"""Reader of hub data sets (``owner/name@revision:config[split]``) and of folders of `datasets.save_to_disk`.

`datasets` loads them with a memory-mapped cache, so a set may be larger than memory. With ``first`` a set is streamed,
and only its first rows are fetched; it may be larger than the disk.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

import datasets
from datasets.naming import camelcase_to_snakecase

from burnish.builtin.places import misspelt
from burnish.data.reading.tables import table_digest, without_nulls
from burnish.data.row import Row
from burnish.data.rows import Rows
from burnish.errors import DataError
from burnish.hub import Refusal, look_up, offline
from burnish.local_path import nearest_path

RULE = (
    "the data is a file of this machine, or a hub set that can be reached: owner/name@revision:config[split]; a name "
    "that looks like a path, or begins with an existing folder, is never looked up on the hub"
)
_NAME = re.compile(r"(?P<name>[^@:\[\]]+)(@(?P<revision>[^:\[\]]+))?(:(?P<config>[^\[\]]+))?(\[(?P<split>[^\[\]]+)\])?")


@dataclass(frozen=True, slots=True)
class HubName:
    """Name of a hub data set, in parts. Example: ``HubName.of("owner/name@v1.0:main[test]").split == "test"``."""

    name: str
    revision: str | None
    """Branch, tag or commit; None: the newest."""
    config: str | None
    """Configuration of the set; None: the only one."""
    split: str | None
    """Split, or a slice of it such as ``train[:10%]`` without its inner brackets; None: not given."""

    @classmethod
    def of(cls, text: str) -> HubName | None:
        """Parses a hub name; None: the text is no hub name."""
        match = _NAME.fullmatch(text)
        return cls(match["name"], match["revision"], match["config"], match["split"]) if match else None


@dataclass(frozen=True, eq=False, slots=True)
class HubRows(Rows):
    """Rows of one split of a hub data set."""

    source: str
    items: datasets.Dataset
    columns: tuple[str, ...]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]
        return without_nulls(self.items[index])

    def where(self, index: int) -> str:
        return f"{self.source} row {range(len(self))[index]} (counted from 0)"


def read_hub(path: str, split: str | None, *, first: int | None = None) -> HubRows:
    """Opens a split of a hub data set (default "train"); ``first``: stream that many rows instead of fetching all."""
    hub = HubName.of(path)
    if hub is None:
        raise DataError(
            given=f"{path} is no file here, and no hub name",
            rule="a hub name is owner/name@revision:config[split]; all but owner/name may be left out",
            remedy="correct the name; for a file, give its path (./name.jsonl)",
        )
    if split and hub.split and split != hub.split:
        raise DataError(
            given=f"{path} with split {split!r}", rule="a split is named once", remedy="leave one of them out"
        )
    chosen = split or hub.split or "train"
    with quiet(), _access(path, hub), _hub_errors(path, chosen):
        options: dict[str, Any] = {"split": chosen, "revision": hub.revision}
        if first is None:
            dataset = datasets.load_dataset(hub.name, hub.config, **options)
        else:
            stream = datasets.load_dataset(hub.name, hub.config, streaming=True, **options)
            rows = list(itertools.islice(stream, first))
            dataset = datasets.Dataset.from_list(rows, features=stream.features)
    return _rows(path, dataset)


@contextmanager
def _access(path: str, hub: HubName) -> Iterator[None]:
    """Context manager around the loading of a hub set; without network, of one that was fetched before.

    Raises:
        DataError: the hub does not give it.
    """
    if meant := misspelt(path):
        raise DataError(given=f"{path} is no file here", rule=RULE, remedy=f"did you mean {meant}?")
    answer = look_up(hub.name, "dataset", hub.revision)
    if isinstance(answer, Refusal) and not (answer.may_be_cached and _is_cached(hub.name)):
        near = nearest_path(path)
        raise DataError(
            given=f"{path} is no file here, and as a name on the hub it fails: {answer.reason}",
            rule=RULE,
            remedy=f"{f'did you mean {near}? Otherwise ' if near else ''}{answer.remedy}",
        )
    if answer == "online":
        yield
        return
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True  # its own copy of the switch
    try:
        with offline():
            yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _is_cached(name: str) -> bool:
    """Whether `datasets` has stored a set of this name."""
    *owner, own = name.split("/")
    folder = escape("___".join([*owner, camelcase_to_snakecase(own)]))
    return any(Path(datasets.config.HF_DATASETS_CACHE).glob(f"{folder}/*/*/*"))


def read_saved(path: str, split: str | None) -> HubRows:
    """Opens a folder of ``save_to_disk``: a data set, or one for each split."""
    with _hub_errors(path, split or "train"), quiet():
        dataset = datasets.load_from_disk(path)
    if isinstance(dataset, Mapping):
        chosen = split or "train"
        if chosen not in dataset:
            raise DataError(
                given=f"{path} has no split {chosen!r}",
                rule=f"it has: {', '.join(dataset)}",
                remedy=f"name one: split: {next(iter(dataset))}",
            )
        return _rows(path, dataset[chosen])
    return _rows(path, dataset)


def _rows(path: str, dataset: datasets.Dataset) -> HubRows:
    if len(dataset) == 0:
        raise DataError(
            given=f"{path} has no rows", rule="a data set has at least one row", remedy="name another split"
        )
    return HubRows(path, dataset, tuple(dataset.column_names), _fingerprint(dataset))


_BATCH = 10_000


def _fingerprint(dataset: datasets.Dataset) -> str:
    """Hashes the values: the fingerprint of `datasets` depends on how and where a set was made."""
    return table_digest(dataset.with_format("arrow").iter(_BATCH), b"burnish hub rows 1\n")


@contextmanager
def _hub_errors(path: str, split: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            given=f"{path} (split {split!r}) is no file here, and as a name on the hub it fails: {error}",
            rule=RULE,
            remedy="check the name, the split and the network; for a file, give its path (./name.jsonl)",
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Context manager that hides progress bars and retry notices, and restores the settings afterwards."""
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    # An environment variable overrides the switch, and setting the switch then warns.
    switchable = datasets.config.HF_DATASETS_DISABLE_PROGRESS_BARS is None
    hide = switchable and not datasets.are_progress_bars_disabled()
    if hide:
        datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if hide:
            datasets.enable_progress_bars()
