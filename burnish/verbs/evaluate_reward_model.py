"""Evaluation of a reward model with several scores, or of a process reward model (`burnish eval`).

`evaluate_preferences` evaluates reward models with one value. The model's files name its scores, which are the columns
that the rows need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from burnish.data.filter_rules import FilterRules
from burnish.data.formats.format import Stage
from burnish.data.settings import Comparison
from burnish.errors import ModelError, RecipeError
from burnish.evaluate.scores_and_steps import ScoresResult, StepsResult, evaluate_scores, evaluate_steps, right_above
from burnish.model.open import find_model, open_model, value_head_of_model
from burnish.model.settings import ValueHeadConfig
from burnish.runs.named_model import resolve_model
from burnish.sources.value_targets import value_target_at_end, value_targets_at_steps
from burnish.stages.determinism import out_of_memory_explained
from burnish.stages.reader import Reader
from burnish.verbs.evaluate import EvalSettings
from burnish.verbs.evaluate_preferences import evaluated_model, source_of
from burnish.watch.counter import count_on_terminal


class RewardModelEvalSettings(EvalSettings):
    """Settings of `burnish eval` for rows with several scores or step labels."""

    serves: ClassVar[Stage] = "reward"

    names: tuple[str, ...] = ()
    """Names of the scores; (): steps have values."""

    @property
    def comparison(self) -> Comparison:
        return "scores" if self.names else "steps"

    @property
    def score_names(self) -> tuple[str, ...]:
        return self.names

    @property
    def filter_rules(self) -> FilterRules:
        return FilterRules()


@dataclass(frozen=True, eq=False, slots=True)
class RewardModelEvalReport:
    """Results of the evaluation of a reward model."""

    model: str
    data: str
    rows: int
    """Number of rows read."""
    left_out: int
    """Number of rows left out by filters or max_length, or invalid."""
    judged: ScoresResult | StepsResult
    notes: tuple[str, ...] = ()
    """Lines for the user."""

    def figures(self) -> dict[str, Any]:
        """Metrics for the JSON output."""
        counts = {"rows": self.rows, "left_out": self.left_out, "responses": len(self.judged.values)}
        return {"model": self.model, "data": self.data, **counts, **self.judged.figures()}

    def samples(self) -> Sequence[dict[str, Any]]:
        """Every response."""
        return self.judged.samples()

    def table(self) -> list[tuple[str, str]]:
        """Rows of the table in the terminal: metric and value, with its interval if it has one."""
        metrics = self.judged.figures()
        rows = [("responses", f"{len(self.judged.values):,}")]
        for name, value in metrics.items():
            if name.endswith(("_low", "_high")):
                continue
            bounds = (metrics.get(f"{name}_low"), metrics.get(f"{name}_high"))
            interval = "" if None in bounds else f" (95 %: {bounds[0]:.3f} to {bounds[1]:.3f})"
            rows.append((name.replace("_", " "), f"{value:.3f}{interval}"))
        return rows


def value_head_to_evaluate(model: str, base: str | None = None) -> ValueHeadConfig | None:
    """The value head of a model with several scores or step values; None for other models."""
    head_config = value_head_of_model(find_model(resolve_model(model), base))
    return (
        head_config if head_config is not None and (head_config.judged == "step" or head_config.outputs > 1) else None
    )


def evaluate_reward_model(
    model: str, settings: EvalSettings, head_config: ValueHeadConfig, *, base: str | None = None
) -> RewardModelEvalReport:
    """Evaluates a reward model; see `evaluate.evaluate` for the arguments.

    Raises:
        UserError: a mistake that the user can correct, with the remedy.
    """
    if head_config.judged == "answer" and not head_config.names:
        raise ModelError(
            given=f"{model}, a reward model whose {head_config.outputs} values have no names",
            rule="each value is compared with the column of its name",
            remedy="name them: id2label in its config.json",
        )
    for given in ("reward", "reference"):
        if given in settings.model_fields_set:
            raise RecipeError(
                given=f"{given}, and the model is a reward model",
                rule=f"{given} defines the implicit reward of a language model; a reward model has values",
                remedy=f"remove {given}",
            )
    reading = RewardModelEvalSettings(**settings.model_dump(exclude_unset=True), names=head_config.names)
    opened = open_model(resolve_model(model), base=base, dtype=settings.dtype, allow_reward_model=True)
    reader = Reader.of_opened(reading, opened, settings.seed)
    rows, gate = reader.filter_held_out(reader.open(source_of(settings)))
    assert gate is not None, "rows of reward models are filtered"
    prepared = rows.preparation.whole(told=count_on_terminal("rows made into tokens"))
    policy, budget = evaluated_model(opened), reader.tokens_per_microbatch
    judged: ScoresResult | StepsResult
    with out_of_memory_explained(budget):
        if head_config.judged == "step":
            groups = [value_targets_at_steps(group) for group in prepared]
            judged = evaluate_steps(policy, groups, budget, right_above(head_config))
        else:
            judged = evaluate_scores(
                policy, [value_target_at_end(group) for group in prepared], head_config.names, budget
            )
    left_out = gate.num_rows - len(set(prepared.picked.rows.tolist()))
    return RewardModelEvalReport(model, settings.data, gate.num_rows, left_out, judged, (*opened.notes, *gate.lines()))
