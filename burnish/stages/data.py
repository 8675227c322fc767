"""Interface of a stage's opened data, by which `run` uses the data of every kind of stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from burnish.stages.context import S_co, StageContext


@dataclass(frozen=True, slots=True)
class DataArtifacts:
    """Facts of a stage's data that are stored with the weights."""

    template: str | dict[str, str] | None
    """Chat template, see `Template.saved`; None: all rows were plain text."""
    end_tokens: frozenset[int]
    """Ids of tokens that end trained responses, in addition to the model's own."""
    fingerprint: str
    """sha256 of the training data."""


@dataclass(frozen=True, eq=False, slots=True)
class StageData(ABC, Generic[S_co]):
    """Opened data of a stage. Opened before the model is loaded, so that mistakes in the data show at once."""

    context: StageContext[S_co]
    """The stage."""

    @property
    @abstractmethod
    def fingerprints(self) -> Mapping[str, str]:
        """Fingerprints of the data by name, which must be equal when a run is resumed."""

    @property
    @abstractmethod
    def artifacts(self) -> DataArtifacts:
        """Facts for the model's folder and the summary; may wait until all rows are tokenized."""

    @property
    def tokens_per_microbatch(self) -> int:
        """Maximum number of tokens of a microbatch."""
        return self.context.reader.tokens_per_microbatch

    @property
    def background(self) -> AbstractContextManager[object]:
        """Context manager that stops background work, such as tokenization, at its end."""
        return nullcontext()

    def at_work(self, folder: Path) -> AbstractContextManager[object]:
        """Context manager around the training of the stage, which stops background work at its end. The data may keep
        files in `folder`, the folder of the stage."""
        return self.background

    def when_ready(self, then: Callable[[], None]) -> None:
        """Calls the function once all rows are read and tokenized."""
        then()

    def report(self) -> Iterator[str]:
        """Log lines before the stage's work."""
        return iter(())

    def lines(self) -> Iterator[str]:
        """Log lines about all rows, once they are ready."""
        return iter(())

    def card(self) -> Mapping[str, object]:
        """Content of data.json for the stage."""
        return {"mixture": [], "sets": []}

    def unusable(self) -> str:
        """JSON lines: every invalid row that was left out, with the reason; "": there is none."""
        return ""
