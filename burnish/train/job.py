"""Job: what a stage of a run does, whether it trains a model or makes data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Self

from burnish.runs.extension import Extension, not_extensible
from burnish.runs.stage_folder import StageFolder
from burnish.runs.stop import StopSignal
from burnish.train.callbacks import Callbacks
from burnish.watch.watch import Sinks

Template = str | dict[str, str] | None
"""Chat template as it is saved with a model; None: rows were plain text."""


class Job(ABC):
    """Work of a stage, ready to run. A subclass without learners (curation) defines `run` alone."""

    name: str
    """Name of the stage in metrics and folders."""
    notes: Sequence[str] = ()
    """Lines for the log before it begins."""

    @abstractmethod
    def run(self, folder: StageFolder, listeners: Sinks, stop: StopSignal) -> Mapping[str, Any]:
        """Works to the end, or until a stop signal. A call after an interruption goes on where the last one stopped.

        Args:
            folder: the stage's folder, for its files.
            listeners: receivers of metrics and log lines.
            stop: request to stop; checked at least between steps.

        Returns:
            JSON values for the summary, with the number of ``steps``.

        Raises:
            Interrupted: a stop signal came, and what was done is saved.
        """

    def with_callbacks(self, callbacks: Callbacks) -> Self:
        """The job that calls these; one without steps calls none."""
        return self

    def extend(self, folder: StageFolder, extension: Extension) -> None:
        """Prepares the run folder for a job that is longer than the one that ran in it, see `runs.extension`.

        Args:
            folder: the stage's folder.
            extension: the settings in which the two differ; `commit` makes the folder that of this job.

        Raises:
            RunError: the longer run would have done other steps than those that were done; nothing was changed.
        """
        raise not_extensible(extension, "a job without optimizer steps has no length to extend")

    def write_model(  # noqa: B027  # most jobs without learners have none
        self, folder: StageFolder, template: Template, end_tokens: Collection[int]
    ) -> None:
        """Writes the stage's model into its folder; a job without learners has none.

        Args:
            folder: the stage's folder.
            template: chat template that is saved with the model.
            end_tokens: ids of tokens that end responses, in addition to the model's own.
        """
