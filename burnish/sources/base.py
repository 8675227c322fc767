"""Contract of sources: iterators over the groups of each step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor

from burnish.types import Group
from burnish.watch.journal_lines import RolloutSample
from burnish.watch.parts import OnPart

NO_METRICS: Mapping[str, float] = MappingProxyType({})

State = tuple[dict[str, Tensor], dict[str, Any]]
"""State for a checkpoint: tensors by name (not copies), and values that JSON can hold."""


class Source(ABC):
    """Iterator over steps, each a sequence of groups, with a state for checkpoints.

    Everything that a loop asks of a source is declared here, with defaults where most sources have none. A source
    around another one derives from `WrappedSource`, which forwards all of it.
    """

    @property
    @abstractmethod
    def num_steps(self) -> int:
        """Number of steps of the whole stage, known before it begins."""

    @property
    @abstractmethod
    def epoch(self) -> float:
        """Number of passes over the rows, or prompts, so far; 1.5: the second pass is half done."""

    @abstractmethod
    def __iter__(self) -> Iterator[Sequence[Group]]:
        """The groups of each remaining step, in order. A step is drawn when it is asked for."""

    @abstractmethod
    def state_dict(self) -> State:
        """State after the groups that were drawn."""

    @abstractmethod
    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Continues from a `state_dict`: the same groups follow."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """Metrics of the step that was drawn last; metrics.jsonl prefixes their names with ``rollout/``."""
        return NO_METRICS

    @property
    def samples(self) -> Sequence[RolloutSample]:
        """Responses of the step that was drawn last, for samples.jsonl."""
        return ()

    @property
    def notes(self) -> Sequence[str]:
        """Lines for the log about the step that was drawn last."""
        return ()

    def validate(self) -> None:  # noqa: B027  # most sources have read all data
        """Validates all data that was not read yet. Called before the first checkpoint, so that invalid data are
        reported while the recipe can still be changed.

        Raises:
            DataError: the data are invalid.
        """

    def after_step(self, step: int) -> None:  # noqa: B027  # most sources do not depend on the weights
        """Takes notice that the learners have new weights, those after this number of optimizer steps."""

    def report_to(self, on_part: OnPart) -> None:  # noqa: B027  # rows are drawn in no time
        """Reports from now on how far a step is prepared, where that takes long."""

    def can_extend(self, step: int, num_steps: int) -> bool:
        """Whether the present state, after `step` steps of a run of `num_steps`, is that of a longer run too: whether
        the run can be extended from here, see `runs.extension`."""
        return False


class WrappedSource(Source):
    """Source around another one, all of which it forwards. Its own state is beside that of the other."""

    def __init__(self, source: Source) -> None:
        self.source = source

    @property
    def num_steps(self) -> int:
        return self.source.num_steps

    @property
    def epoch(self) -> float:
        return self.source.epoch

    @property
    def metrics(self) -> Mapping[str, float]:
        return self.source.metrics

    @property
    def samples(self) -> Sequence[RolloutSample]:
        return self.source.samples

    @property
    def notes(self) -> Sequence[str]:
        return self.source.notes

    def validate(self) -> None:
        self.source.validate()

    def after_step(self, step: int) -> None:
        self.source.after_step(step)

    def report_to(self, on_part: OnPart) -> None:
        self.source.report_to(on_part)

    def can_extend(self, step: int, num_steps: int) -> bool:
        return self.source.can_extend(step, num_steps)

    def state_dict(self) -> State:
        tensors, values = self.source.state_dict()
        return {f"source/{name}": tensor for name, tensor in tensors.items()}, {"source": values, "own": self.own()}

    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        inner = {name.removeprefix("source/"): tensor for name, tensor in tensors.items()}
        self.source.load_state_dict(inner, values["source"])
        self.load_own(values["own"])

    @abstractmethod
    def own(self) -> dict[str, Any]:
        """Values of the state of this source alone."""

    @abstractmethod
    def load_own(self, values: Mapping[str, Any]) -> None:
        """Restores the result of `own`."""
