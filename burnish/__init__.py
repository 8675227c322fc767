"""Burnish: post-training for language models.

    import burnish

    burnish.sft(model="Qwen/Qwen3-0.6B-Base", data="demos.jsonl", output="runs/mine")
    burnish.prefer(model="runs/mine/model", data="pairs.jsonl", output="runs/better", loss="dpo", beta=0.1)
    burnish.reward(model="runs/mine/model", data="pairs.jsonl", output="runs/reward")
    burnish.rl(model="runs/better/model", data="gsm8k.jsonl", output="runs/best", reward="math")
    burnish.run("recipe.yaml", "learning_rate=1e-4")
    burnish.generate(model="runs/best", data="prompts.jsonl", output="answers.jsonl", responses_per_prompt=8)

The components of a custom training loop are in `burnish.types`, `burnish.packing`, `burnish.model`, `burnish.losses`,
`burnish.train.step`; ``docs/design.md`` explains them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # importing torch takes seconds, and the command line's help must not
    from burnish.stages.result import RunResult
    from burnish.verbs.generate import GenerateResult

__version__ = "0.1.0"


def run(recipe: str | Path, *overrides: str) -> RunResult:
    """Runs a recipe file, or resumes it; overrides are ``"key=value"``. See `burnish.stages.run.run`."""
    from burnish.recipe import read_recipe
    from burnish.stages.run import run as run_recipe

    return run_recipe(read_recipe(Path(recipe), overrides))


def sft(*, model: str, data: str, output: str = "runs/sft", **settings: Any) -> RunResult:
    """Supervised fine-tuning; settings are those of a recipe, such as ``learning_rate=1e-4``."""
    return _train("sft", output, {"model": model, "data": data, **settings})


def prefer(*, model: str, data: str, output: str = "runs/prefer", **settings: Any) -> RunResult:
    """Preference learning; settings are those of a recipe, such as ``loss="simpo"``."""
    return _train("prefer", output, {"model": model, "data": data, **settings})


def reward(*, model: str, data: str, output: str = "runs/reward", **settings: Any) -> RunResult:
    """Reward model training; settings are those of a recipe, such as ``center_coef=0.01``."""
    return _train("reward", output, {"model": model, "data": data, **settings})


def rl(*, model: str, data: str, reward: Any, output: str = "runs/rl", **settings: Any) -> RunResult:
    """Reinforcement learning; settings are those of a recipe, such as ``algorithm="dapo"``."""
    return _train("rl", output, {"model": model, "data": data, "reward": reward, **settings})


def generate(
    *, model: str, data: str, output: str | Path | None = None, base: str | None = None, **settings: Any
) -> GenerateResult:
    """Generates responses to the prompts of a file; settings are those of ``burnish generate``, such as
    ``responses_per_prompt=8``. See `burnish.verbs.generate.generate`."""
    from burnish.data.memory import with_stored_rows
    from burnish.verbs.evaluate import read_settings
    from burnish.verbs.generate import GenerateSettings
    from burnish.verbs.generate import generate as generate_responses

    given = read_settings(GenerateSettings, with_stored_rows({"data": data, **settings}), [])
    return generate_responses(model, given, output=None if output is None else Path(output), base=base)


def _train(method: str, output: str, settings: dict[str, Any]) -> RunResult:
    """Runs a recipe of one stage."""
    from burnish.data.memory import with_stored_rows
    from burnish.recipe import stage_recipe
    from burnish.stages.run import run as run_recipe

    return run_recipe(stage_recipe(method, with_stored_rows(settings), output=output))
