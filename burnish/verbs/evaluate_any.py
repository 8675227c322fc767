"""Evaluation chosen by the settings, the kind of model and the format of the rows (`burnish eval`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from burnish.config.text import parse_overrides
from burnish.verbs.evaluate import EvalReport, EvalSettings, evaluate, read_settings
from burnish.verbs.evaluate_preferences import PreferenceEvalReport, evaluate_preferences, holds_comparisons
from burnish.verbs.evaluate_reward_model import RewardModelEvalReport, evaluate_reward_model, value_head_to_evaluate
from burnish.verbs.evaluate_rewards import RewardEvalReport, RewardEvalSettings, evaluate_rewards

AnyReport = EvalReport | PreferenceEvalReport | RewardModelEvalReport | RewardEvalReport


def evaluate_any(
    model: str, given: Mapping[str, Any], overrides: Sequence[str] = (), *, base: str | None = None
) -> AnyReport:
    """Evaluates a model: with ``verifier``, pass@k; a reward model, its accuracy; on comparisons, preference accuracy;
    otherwise loss, perplexity and accuracy.

    Args:
        model: a hub name, or a folder of a model, an adapter or a run.
        given: settings, ``data`` among them.
        overrides: further settings as ``key=value``.
        base: base model of an adapter, if it is not at the path in the adapter's config.

    Raises:
        UserError: a mistake that the user can correct, with the remedy.
    """
    if "verifier" in {**given, **parse_overrides(overrides)}:
        return evaluate_rewards(model, read_settings(RewardEvalSettings, dict(given), overrides), base=base)
    settings = read_settings(EvalSettings, dict(given), overrides)
    value_head = value_head_to_evaluate(model, base)
    if value_head is not None:
        return evaluate_reward_model(model, settings, value_head, base=base)
    return (evaluate_preferences if holds_comparisons(settings) else evaluate)(model, settings, base=base)
