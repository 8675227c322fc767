"""Settings of distillation that contradict each other, or have no effect, are refused with a remedy."""

from __future__ import annotations

from typing import Any

import pytest

from burnish.errors import RecipeError
from burnish.recipe.read import stage_recipe

NEEDED = {"model": "m", "data": "d", "teacher": "runs/teacher"}
SELF = {"model": "student", "ema_decay": 0.9}
REWARDED = {"reward": "number", "reward_coef": 0.1}
GIVEN = {"response_source": "data"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"curriculum": True}, "curriculum has no effect without a reward"),
        ({"success_threshold": 0.9}, "success_threshold has no effect without a reward"),
        ({"reward_workers": 2}, "reward_workers has no effect without a reward"),
        ({"reward_shaping": {"clip": 1.0}}, "has no effect without a reward"),
        ({"reward": "number", "reward_shaping": {"clip": 1.0}}, "has no effect without reward_coef"),
        ({"reward": {"name": "process_reward_model", "model": "m", "credit": "step"}}, "set credit: response"),
        ({**GIVEN, "log_samples_every": 3}, "log_samples_every is about responses of the student"),
        ({**GIVEN, "reward": "number", "curriculum": True}, "curriculum is about responses of the student"),
        ({**GIVEN, "stop_on_alerts": ["repetition"]}, "stop_on_alerts: repetition is about responses of the student"),
        ({"teacher": SELF}, "teaches nothing"),
        ({**REWARDED, "policy_gradient": {"entropy_coef": 0.1}}, "policy_gradient.entropy_coef: an entropy bonus"),
        ({**REWARDED, "policy_gradient": {"entropy_target": 1.0}}, "policy_gradient.entropy_target: an entropy bonus"),
        (
            {"eval_share": 0.1, "checkpoints": {"keep_best": True}, "evaluation": {"teacher_prompts": 0}},
            "teacher_kl needs evaluation.teacher_prompts",
        ),
        (
            {**GIVEN, "teacher": {"tables": "t"}, "eval_share": 0.1, "stop_on_alerts": ["teacher_gap"]},
            "a teacher that is no table",
        ),
    ],
)
def test_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        stage_recipe("distill", {**NEEDED, **given})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"teacher": {**SELF, "context": "Be brief."}},
        {"teacher": SELF, **REWARDED},
        {"loss": "policy_gradient", "policy_gradient": {"entropy_coef": 0.1}},
        {"reward": "number", "curriculum": True, "success_threshold": 0.9},
        {"eval_share": 0.1, "stop_on_alerts": ["teacher_gap"], **GIVEN},
    ],
)
def test_possible(given: dict[str, Any]) -> None:
    assert stage_recipe("distill", {**NEEDED, **given}).recipe.stages
