"""Reinforcement learning with a process reward model: what is refused, what travels, and that a cut run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import burnish
from burnish.builtin.sets import builtin_rows, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.errors import Interrupted, RecipeError
from burnish.recipe.read import stage_recipe
from burnish.rollouts.source import RolloutSource
from burnish.rounding import summed
from burnish.types import Group
from tests.interrupting import interrupted_at


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy, prompts, and a process reward model of lines of its untrained text."""
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "model", hidden_size=32, layers=1)
    write_rows(folder / "math.jsonl", builtin_rows("reasoning-math", count=20))
    write_rows(folder / "steps.jsonl", builtin_rows("steps", count=8))
    burnish.reward(
        model=str(folder / "model"),
        data=str(folder / "steps.jsonl"),
        output=str(folder / "steps"),
        loss="step_cross_entropy",
        max_steps=1,
        sequences_per_step=4,
        add_tokens=["<|pad|>"],
    )
    return folder


def settings(world: Path, **changed: Any) -> dict[str, Any]:
    """Letters separate steps, since an untrained policy writes any."""
    process = {"name": "process_reward_model", "model": str(world / "steps"), "credit": "step", "separator": "e"}
    length = {"name": "length", "target": 8, "tolerance": 20, "unit": "characters", "weight": 0.5}
    return {
        "model": str(world / "model"),
        "data": str(world / "math.jsonl"),
        "reward": [process, length],
        "reward_workers": 1,
        "groups_per_step": 2,
        "responses_per_prompt": 3,
        "max_new_tokens": 24,
        "log_every": 1,
        "learning_rate": 1e-2,
        "max_steps": 4,
        **changed,
    }


def weights(done: burnish.RunResult) -> dict[str, torch.Tensor]:
    return load_file(done.folder / "model" / "model.safetensors")


def test_what_is_left_of_a_reward_is_the_rest_of_its_parts(world, tmp_path, monkeypatch):
    """reward − Σ step_rewards is the weighted sum of the other rewards: what a response's end is credited with."""
    trained: list[Group] = []
    real = RolloutSource.__iter__

    def watched(self: RolloutSource) -> Any:
        for groups in real(self):
            trained.extend(groups)
            yield groups

    monkeypatch.setattr(RolloutSource, "__iter__", watched)
    done = burnish.rl(output=str(tmp_path / "run"), **settings(world))
    responses = [response for group in trained for response in group.responses]
    stepped = [response for response in responses if response.step_rewards is not None]
    assert len(stepped) > 0.8 * len(responses)
    assert max(int((response.step_rewards != 0).sum()) for response in stepped) > 2
    for response in stepped:
        assert response.step_rewards.dtype == torch.float64
        rest = summed([response.reward, *(-response.step_rewards).tolist()])
        assert rest == 0 or 0 < rest <= 0.5, "the length has a weight of 0.5"
        assert response.advantages is not None
    assert any(len(set(response.advantages.tolist())) > 2 for response in stepped), "tokens differ in their credit"
    line = json.loads((done.folder / "metrics.jsonl").read_text().splitlines()[0])
    parts = line["rollout/reward/process_reward_model"], line["rollout/reward/length"]
    assert line["rollout/reward"] == pytest.approx(parts[0] + 0.5 * parts[1], abs=1e-9)


def test_a_cut_run_goes_on_bit_for_bit(world, tmp_path):
    """Within a batch of two updates: responses that wait have their steps."""
    given = settings(world, updates_per_batch=2)
    whole = weights(burnish.rl(output=str(tmp_path / "whole"), **given))
    with interrupted_at(1), pytest.raises(Interrupted):
        burnish.rl(output=str(tmp_path / "cut"), **given)
    resumed = weights(burnish.rl(output=str(tmp_path / "cut"), **given))
    assert all(whole[name].equal(resumed[name]) for name in whole)


def test_credit_changes_what_is_learned(world, tmp_path):
    process = settings(world)["reward"][0]
    one, other = (
        weights(
            burnish.rl(
                output=str(tmp_path / credit),
                **settings(world, reward={**process, "credit": credit, "aggregation": "sum"}, max_steps=1),
            )
        )
        for credit in ("step", "response")
    )
    assert not all(one[name].equal(other[name]) for name in one)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"algorithm": "online_dpo"}, "credit: step gives tokens advantages, and algorithm: online_dpo"),
        ({"reward_shaping": {"clip": 1.0}}, "reward_shaping.clip changes the reward of a response"),
        (
            {"reward_shaping": {"normalize": "scale"}, "policy_gradient": {"advantage_scale": "none"}},
            "remove it, or set credit: response",
        ),
        ({"algorithm": "gdpo"}, "credit: step needs a reward that is the sum of its parts"),
        ({"policy_gradient": {"reward_combination": "normalized_sum"}}, "set credit: response, or"),
    ],
)
def test_combinations_that_make_no_sense(world, changed, words):
    with pytest.raises(RecipeError, match=words):
        stage_recipe("rl", settings(world, **changed))
    process = settings(world)["reward"]
    response = [{**process[0], "credit": "response"}, process[1]]
    assert stage_recipe("rl", settings(world, **changed, reward=response)).recipe.stages
    measured = [{**process[0], "weight": 0.0}, process[1], {"name": "repetition"}]
    assert stage_recipe("rl", settings(world, **changed, reward=measured)).recipe.stages


def test_ppo_takes_rewards_of_steps(world, tmp_path):
    """The critic's stage reads the same stream; and it refuses what the stage rl refuses."""
    given = settings(world, max_steps=4)
    del given["learning_rate"]
    done = burnish.ppo(output=str(tmp_path / "run"), learning_rate=1e-3, **given)
    assert all(weight.isfinite().all() for weight in weights(done).values())
    with pytest.raises(RecipeError, match=r"reward_shaping\.clip changes"):
        stage_recipe("ppo", {**given, "reward_shaping": {"clip": 1.0}})
