"""Evaluation of a model on comparisons (`burnish eval` on pairs): share of pairs whose better response has the higher
reward.

A reward model has values. A language model has implicit rewards: its log-probabilities (the mean over a response's
tokens, or their sum), or, with a reference, the implicit reward of DPO: the sum of log-ratios.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from burnish.data.dataset import TokenizedDataset
from burnish.data.filter_rules import FilterRules
from burnish.data.formats.format import Stage
from burnish.data.mixture import open_data
from burnish.data.settings import Comparison
from burnish.errors import DataError, ModelError, RecipeError
from burnish.evaluate.preference_eval import BY_LOGPROB, ComparedPairs, metrics, score_pairs
from burnish.evaluate.reward_model_eval import accuracy_by_length, calibration_error, reward_metrics, score_by_value
from burnish.losses.preference.implicit import ImplicitReward, LogProb, LogRatio
from burnish.model.integrity import require_finite
from burnish.model.open import LoadedModel, open_model, policy_of
from burnish.model.policy import Model
from burnish.roles.filler import StreamFiller
from burnish.roles.scorer import LiveScorer
from burnish.runs.named_model import resolve_model
from burnish.settings.data import DatasetSettings, sources
from burnish.sources.value_targets import value_target_at_end
from burnish.stages.determinism import out_of_memory_explained
from burnish.stages.reader import Reader
from burnish.types import Group
from burnish.verbs.evaluate import EvalSettings
from burnish.watch.counter import count_on_terminal

_NAMES = {"mean": "mean log-probability of a token", "sum": "log-probability of the answer"}


class PreferenceEvalSettings(EvalSettings):
    """Settings of `burnish eval` on comparisons."""

    serves: ClassVar[Stage] = "prefer"

    @property
    def comparison(self) -> Comparison:
        return "rankings"

    @property
    def filter_rules(self) -> FilterRules:
        return FilterRules()


@dataclass(frozen=True, eq=False, slots=True)
class PreferenceEvalReport:
    """Results of an evaluation on comparisons."""

    model: str
    data: str
    rows: int
    """Number of rows read."""
    left_out: int
    """Number of rows left out by filters or max_length, or invalid."""
    reward: str
    """Name of the reward."""
    judged: ComparedPairs
    by_reward_model: bool = False
    """Whether margins are those of a reward model, which are calibrated as probabilities."""
    notes: tuple[str, ...] = ()
    """Lines for the user."""

    def figures(self) -> dict[str, Any]:
        """Metrics for the JSON output."""
        return {
            "model": self.model,
            "data": self.data,
            "rows": self.rows,
            "left_out": self.left_out,
            "pairs": len(self.judged.margins),
            "reward": self.reward,
            **(reward_metrics if self.by_reward_model else metrics)(self.judged),
        }

    def samples(self) -> list[dict[str, Any]]:
        """Every comparison: the margin of its reward, and how much longer the better answer is."""
        pairs = zip(self.judged.margins.tolist(), self.judged.longer.tolist(), strict=True)
        return [{"margin": margin, "longer_by": longer} for margin, longer in pairs]

    def table(self) -> list[tuple[str, str]]:
        """Rows of the table in the terminal: metric and value."""
        rows = [("pairs", f"{len(self.judged.margins):,}"), ("reward", self.reward)]
        shares = {"pair accuracy": self.judged.accuracy, "length controlled": self.judged.controlled}
        if self.by_reward_model:
            rows.append(("calibration error", f"{calibration_error(self.judged):.1%}"))
            by_length = accuracy_by_length(self.judged).items()
            shares |= {f"better answer {name.replace('_', ' ')}": share for name, share in by_length}
        for name, share in shares.items():
            if share is not None:
                rows.append((name, f"{share.value:.1%} (95 %: {share.low:.1%} to {share.high:.1%})"))
        return rows


def holds_comparisons(settings: EvalSettings) -> bool:
    """Whether the data are pairs or rankings.

    Raises:
        RecipeError: they are not, and reward or reference is given.
    """
    named = sources(source_of(settings), format=settings.format, columns=settings.columns, documents=settings.documents)
    stages = open_data(named, seed=settings.seed, stage=None).format.stages
    compares = "prefer" in stages and "sft" not in stages
    given = [name for name in ("reward", "reference") if name in settings.model_fields_set]
    if given and not compares:
        raise RecipeError(
            given=f"{given[0]}, and {settings.data} has no comparisons",
            rule=f"{given[0]} is for pairs and rankings",
            remedy=f"remove {given[0]}, or name data with chosen and rejected",
        )
    return compares


def evaluate_preferences(model: str, settings: EvalSettings, *, base: str | None = None) -> PreferenceEvalReport:
    """Evaluates a model on comparisons; see `evaluate.evaluate` for the arguments.

    Raises:
        UserError: a mistake that the user can correct, with the remedy.
    """
    reading = PreferenceEvalSettings(**settings.model_dump(exclude_unset=True))
    opened = open_model(resolve_model(model), base=base, dtype=settings.dtype, allow_reward_model=True)
    reader = Reader.of_opened(reading, opened, settings.seed)
    rows, gate = reader.filter_held_out(reader.open(source_of(settings)))
    assert gate is not None, "comparisons are filtered"
    prepared = rows.preparation.whole(told=count_on_terminal("rows made into tokens"))
    policy, budget = evaluated_model(opened), reader.tokens_per_microbatch
    with out_of_memory_explained(budget):
        if policy.is_reward_model:
            judged, name = _by_value(settings, policy, prepared, budget), "value of the reward model"
        else:
            groups, reward, name = _rewarded(settings, policy, prepared, budget)
            judged = score_pairs(policy, groups, {"": reward}, budget)[""]
    require_finite("margin of a pair", model, torch.from_numpy(judged.margins))
    return PreferenceEvalReport(
        model=model,
        data=settings.data,
        rows=gate.num_rows,
        left_out=gate.num_rows - len(set(prepared.picked.rows.tolist())),
        reward=name,
        judged=judged,
        by_reward_model=policy.is_reward_model,
        notes=(*opened.notes, *gate.lines()),
    )


def _by_value(settings: EvalSettings, policy: Model, prepared: TokenizedDataset, budget: int) -> ComparedPairs:
    given = [name for name in ("reward", "reference") if name in settings.model_fields_set]
    if given:
        raise RecipeError(
            given=f"{given[0]}, and the model is a reward model",
            rule=f"{given[0]} defines the implicit reward of a language model; a reward model has values",
            remedy=f"remove {given[0]}",
        )
    if (outputs := len(policy.value_head.weight)) != 1:
        raise ModelError(
            given=f"a reward model with {outputs} values for each response",
            rule="responses are compared by one value",
            remedy="name a reward model with one (num_labels: 1 in its config.json)",
        )
    return score_by_value(policy, [value_target_at_end(group) for group in prepared], budget)


def source_of(settings: EvalSettings) -> DatasetSettings:
    return DatasetSettings(path=settings.data, count=settings.count, split=settings.split)


def _rewarded(
    settings: EvalSettings, policy: Model, prepared: TokenizedDataset, budget: int
) -> tuple[Sequence[Group], ImplicitReward, str]:
    """The groups with the streams that the reward needs, the reward, and its name."""
    if settings.reference is None:
        reward = BY_LOGPROB if settings.reward == "mean" else LogProb(1.0)
        return prepared, reward, _NAMES[settings.reward]
    if "reward" in settings.model_fields_set:
        raise RecipeError(
            given=f"reward: {settings.reward} with a reference",
            rule="with a reference, the reward is the sum of log-ratios",
            remedy="remove one of them",
        )
    reference = open_model(resolve_model(settings.reference), dtype=settings.dtype)
    if reference.tokenizer.get_vocab() != policy.tokenizer.get_vocab():
        raise ModelError(
            given=f"reference: {settings.reference}, whose tokenizer has other tokens than the model's",
            rule="the reference scores the model's own tokens",
            remedy="name the model that this one was trained from",
        )
    filler = StreamFiller(LiveScorer(evaluated_model(reference)), "reference_logprobs", budget)
    return list(filler.in_blocks(prepared)), LogRatio(1.0), f"log-ratio to {settings.reference}"


def evaluated_model(opened: LoadedModel) -> Model:
    try:
        return policy_of(opened)
    except ModelError as error:
        raise DataError(
            given=f"comparisons, and {opened.named.given} cannot be packed: {error.given}",
            rule="comparisons are scored with a shared prompt",
            remedy="name a model that can be trained here",
        ) from error
