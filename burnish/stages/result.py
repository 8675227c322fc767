"""Result of a finished run with what its folder holds, and the check that its data did not change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.errors import DataError, ModelError, RunError
from burnish.model.open import LoadedModel, open_model
from burnish.recipe.chain import starting_stage
from burnish.recipe.read import stage_names
from burnish.recipe.recipe import Recipe
from burnish.run_files import METRICS, MODEL, SAMPLES
from burnish.runs.stage_folder import StageFolder
from burnish.stages.context import StageContext
from burnish.stages.kind import kind_of
from burnish.watch.journal_lines import MetricsLine, read_metrics, read_samples
from burnish.watch.plot import plot_metrics
from burnish.watch.report import NAME
from burnish.watch.summary import summary_html

if TYPE_CHECKING:  # optional libraries
    from matplotlib.figure import Figure
    from pandas import DataFrame


@dataclass(frozen=True, slots=True, repr=False)
class RunResult:
    """Result of a run. In a notebook it is shown as a summary with curves.

    Example: ``result = burnish.sft(...); result.plot("loss"); result.load().model.generate(...)``.
    """

    folder: Path
    """The run folder."""
    summary: Mapping[str, Any]
    """Content of finished.json: ``steps``, the fingerprint of the ``data``, and the fingerprints of the ``inputs``;
    with several stages ``stages``, these by name."""
    again: bool
    """True: the run was finished before, and nothing was done."""
    unread: str = ""
    """Reason why the data of a run that was finished before could not be compared; "": they are equal."""

    def __repr__(self) -> str:
        return f"RunResult({self.folder}: {self.steps:,} steps{', finished before' if self.again else ''})"

    @property
    def steps(self) -> int:
        """Number of optimizer steps of all stages."""
        return sum(stage["steps"] for stage in self.summary.get("stages", {"": self.summary}).values())

    @property
    def model(self) -> Path | None:
        """Folder of the final model; None: no stage trained one."""
        return self.folder / MODEL if (self.folder / MODEL).is_dir() else None

    @property
    def report(self) -> Path:
        """The report, a page for a browser."""
        return self.folder / NAME

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Metrics of all stages in order, a mapping for each step with ``stage`` and ``step``; those of an evaluation
        after a step are in its mapping. Names are those of metrics.jsonl (docs/glossary.md)."""
        steps: dict[tuple[str, int], dict[str, Any]] = {}
        for line in self._lines():
            steps.setdefault((line.stage, line.step), {}).update(line.to_line())
        return list(steps.values())

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The metrics of evaluations alone: a mapping for each, with ``stage`` and ``step`` (0: before training)."""
        lines = (line.to_line() for line in self._lines() if any(name.startswith("eval/") for name in line.metrics))
        return list(lines)

    @property
    def samples(self) -> list[dict[str, Any]]:
        """Records of samples.jsonl: responses to held-out prompts and, in a stage rl, rollouts (docs/watch.md)."""
        return [sample.to_line() for sample in read_samples(self.folder / SAMPLES)]

    def metrics_frame(self) -> DataFrame:
        """`metrics` as a frame of pandas, a row for each step.

        Raises:
            RunError: pandas is not installed.
        """
        try:
            from pandas import DataFrame  # an optional library
        except ImportError as error:
            raise RunError(
                given="metrics_frame() without pandas",
                rule="a frame is one of the package pandas, which is not installed",
                remedy="pip install pandas, or use metrics, a list of mappings",
            ) from error
        return DataFrame(self.metrics)

    def plot(self, *names: str) -> Figure:
        """Curves of metrics by step, training and held-out rows together.

        Args:
            names: names of metrics, such as ``loss`` or ``train/grad_norm``; none: the most important ones.

        Raises:
            RunError: matplotlib is not installed, or the run has no such metric.
        """
        return plot_metrics(list(self._lines()), names)

    def load(self) -> LoadedModel:
        """Opens the final model with its tokenizer and chat template, for evaluation, generation and chat.

        Raises:
            ModelError: there is no model, or its files are damaged.
        """
        if self.model is None:
            raise ModelError(
                given=f"the run {self.folder}, which has no model",
                rule="a run has a model if one of its stages trains one",
                remedy="load the model from which the run started",
            )
        return open_model(str(self.model), allow_reward_model=True)

    def _repr_html_(self) -> str:
        """Summary for Jupyter."""
        return summary_html(self.folder)

    def _lines(self) -> list[MetricsLine]:
        """Lines of metrics.jsonl without alerts."""
        return [line for line in read_metrics(self.folder / METRICS) if isinstance(line, MetricsLine)]


def start_model(recipe: Recipe, name: str, models: Mapping[str, Path | None]) -> str | None:
    """Model that a stage starts from; None: the recipe's.

    Args:
        recipe: the recipe.
        name: name of the stage.
        models: name of each finished stage → its model; None: it wrote none.
    """
    start = starting_stage(recipe.named_stages, name)
    while start is not None and models.get(start) is None:
        start = starting_stage(recipe.named_stages, start)
    return None if start is None else str(models[start])


def require_same_data(recipe: Recipe, path: Path, summary: Mapping[str, Any]) -> str:
    """Refuses a finished run whose data have changed since.

    Args:
        recipe: recipe of the run.
        path: its folder.
        summary: see `RunResult.summary`.

    Returns:
        Reason why the data could not be compared (a finished run needs neither them nor its model); "": they are equal.

    Raises:
        RunError: the data have changed.
    """
    names = stage_names(recipe)
    stages = summary.get("stages", {names[0]: summary})
    models = dict(zip(names, StageFolder.finished_before(path.absolute(), names), strict=False))
    for number, name in enumerate(names):
        try:
            context: StageContext[Any] = StageContext.of(recipe, number, start_model(recipe, name, models))
            fingerprints = kind_of(recipe.stages[number]).fingerprints(context)
        except (DataError, ModelError) as error:
            return error.given
        for kind, before in stages[name]["inputs"].items():
            if fingerprints[kind] != before:
                raise RunError(
                    given=f"the run folder {path} is finished, and {kind} of its stage {name} have changed",
                    rule="a finished run keeps the data that it was trained on",
                    remedy="give another --output to train on the new data, or restore the old data",
                )
    return ""
