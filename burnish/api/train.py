"""Training from Python: a function for each stage, and `run` for a whole recipe. The same call again resumes.

Keyword arguments are the settings of the stage and of the recipe, as ``key=value`` on the command line; groups are
mappings (``optimizer={"kind": "muon"}``), or their kind alone (``optimizer="muon"``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from transformers import PreTrainedTokenizerBase

from burnish.api.inputs import (
    CallbackKeywords,
    Data,
    Function,
    ModelInput,
    TeacherInput,
    callbacks_in,
    model_name,
    plain_recipe,
    plain_settings,
    teacher_names,
    trains,
)
from burnish.api.settings_types import (
    DistillKeywords,
    PpoKeywords,
    PreferKeywords,
    RewardModelKeywords,
    RlKeywords,
    SftKeywords,
)
from burnish.errors import RecipeError
from burnish.recipe.read import ResolvedRecipe, mapped_recipe, read_recipe, stage_recipe
from burnish.runs.numbered import in_own_folder
from burnish.stages.result import RunResult
from burnish.stages.start import start


@trains("sft")
def sft(
    *,
    model: ModelInput,
    data: Data,
    output: str | Path | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    fresh: bool = False,
    **settings: Unpack[SftKeywords],
) -> RunResult:
    """Supervised fine-tuning (docs/methods/sft.md).

    Args:
        model: a hub name, a folder, the result of a run, or a model in memory.
        data: a path, rows in memory, or a mixture of them.
        output: run folder; None: runs/sft, with a number from 2 on.
        tokenizer: the tokenizer of a transformers or peft model in memory.
        fresh: start a new run where the same call would resume one.
        settings: such as ``epochs=2.0``, ``adapter="lora"``, ``loss=my_loss`` (a function or class); also the
            callbacks ``on_step``, ``on_evaluation`` and ``on_checkpoint`` (`burnish.train.callbacks`), which stop the
            run by returning False.

    Raises:
        UserError: a mistake that the user can correct, with the remedy.
        Interrupted: stopped by Ctrl+C, SIGTERM or a callback after a checkpoint was written.
        DivergenceError: the loss is not finite any more.
    """
    return _train("sft", model, tokenizer, output, fresh, {"data": data, **settings})


@trains("prefer")
def prefer(
    *,
    model: ModelInput,
    data: Data,
    output: str | Path | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    fresh: bool = False,
    **settings: Unpack[PreferKeywords],
) -> RunResult:
    """Preference optimization: DPO and its family (docs/prefer.md). Arguments and errors as in `sft`; settings such as
    ``loss="simpo"``, ``beta=0.1``."""
    return _train("prefer", model, tokenizer, output, fresh, {"data": data, **settings})


@trains("reward")
def reward(
    *,
    model: ModelInput,
    data: Data,
    output: str | Path | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    fresh: bool = False,
    **settings: Unpack[RewardModelKeywords],
) -> RunResult:
    """Reward model training (docs/methods/reward.md). Arguments and errors as in `sft`; settings such as
    ``center_coef=0.01``."""
    return _train("reward", model, tokenizer, output, fresh, {"data": data, **settings})


@trains("rl")
def rl(
    *,
    model: ModelInput,
    data: Data,
    reward: str | Function | Mapping[str, Any] | list[str | Function | Mapping[str, Any]],
    output: str | Path | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    fresh: bool = False,
    **settings: Unpack[RlKeywords],
) -> RunResult:
    """Reinforcement learning (docs/methods/grpo.md). Arguments and errors as in `sft`.

    Args:
        model: see `sft`.
        data: prompts, perhaps with reference answers.
        reward: a name (math, number, …), a function or class (docs/rewards.md), a mapping with a name and options, or a
            list of these. It runs in worker processes.
        output: see `sft`.
        tokenizer: see `sft`.
        fresh: see `sft`.
        settings: such as ``algorithm="dapo"``, ``responses_per_prompt=16``.
    """
    return _train("rl", model, tokenizer, output, fresh, {"data": data, "reward": reward, **settings})


@trains("ppo")
def ppo(
    *,
    model: ModelInput,
    data: Data,
    reward: str | Function | Mapping[str, Any] | list[str | Function | Mapping[str, Any]],
    output: str | Path | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    fresh: bool = False,
    **settings: Unpack[PpoKeywords],
) -> RunResult:
    """PPO with a critic (docs/methods/ppo.md). Arguments and errors as in `rl`; settings such as ``kl_coef=0.05``,
    ``critic={"model": "runs/reward"}``."""
    return _train("ppo", model, tokenizer, output, fresh, {"data": data, "reward": reward, **settings})


@trains("distill")
def distill(
    *,
    model: ModelInput,
    data: Data,
    teacher: TeacherInput,
    reward: str | Function | Mapping[str, Any] | list[str | Function | Mapping[str, Any]] | None = None,
    output: str | Path | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    fresh: bool = False,
    **settings: Unpack[DistillKeywords],
) -> RunResult:
    """Distillation from a teacher (docs/methods/distillation.md). Arguments and errors as in `sft`.

    Args:
        model: the student; see `sft`.
        data: prompts, or rows with responses where they are learned from.
        teacher: a hub name, a folder, the result of a run, the address of a server, a mapping with settings, or a list
            of these.
        reward: as in `rl`; None: none.
        output: see `sft`.
        tokenizer: see `sft`; that of a teacher in memory is in a pair, ``teacher=(model, tokenizer)``.
        fresh: see `sft`.
        settings: such as ``loss="policy_gradient"``, ``response_source="data"``.
    """
    given = {"data": data, "teacher": teacher_names(teacher), **({} if reward is None else {"reward": reward})}
    return _train("distill", model, tokenizer, output, fresh, {**given, **settings})


def train_stage(
    stage: str | type,
    *,
    model: ModelInput,
    data: Data,
    output: str | Path | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    fresh: bool = False,
    **settings: Any,
) -> RunResult:
    """Trains one stage by its name, also one of your own (docs/stages.md): ``train_stage("my_stage.py:Distil", …)``.
    Arguments and errors as in `sft`."""
    [name] = plain_settings({"stage": stage}).values()
    return _train(name, model, tokenizer, output, fresh, {"data": data, **settings})


def run(
    recipe: str | Path | Mapping[str, Any],
    *overrides: str,
    output: str | Path | None = None,
    fresh: bool = False,
    **callbacks: Unpack[CallbackKeywords],
) -> RunResult:
    """Runs a recipe of one or several stages, or resumes it.

    Args:
        recipe: a YAML file, or its content as a mapping: ``{"model": …, "stages": [{"sft": {"data": …}}]}``; in a
            mapping, functions, rows and models in memory are possible as in `sft`.
        overrides: settings as ``"key=value"``.
        output: run folder; None: that of the recipe, or runs/ and its name, with a number from 2 on.
        fresh: start a new run where the same call would resume one.
        callbacks: ``on_step``, ``on_evaluation``, ``on_checkpoint``, see `sft`.

    Raises:
        UserError: a mistake that the user can correct, with the remedy.
        Interrupted: stopped by Ctrl+C, SIGTERM or a callback after a checkpoint was written.
        DivergenceError: the loss is not finite any more.
    """
    if unknown := [name for name in callbacks if name not in CallbackKeywords.__optional_keys__]:
        raise RecipeError(
            given=f"burnish.run(…, {unknown[0]}=…)",
            rule="settings of a recipe are in the recipe, or overrides as text",
            remedy=f'write "{unknown[0]}=…" as an argument after the recipe, or put it into the recipe',
        )
    given = [*overrides, *([f"output={output}"] if output is not None else [])]
    if not isinstance(recipe, Mapping):
        return _run(read_recipe(Path(recipe), given), fresh, callbacks)
    return _run(mapped_recipe(plain_recipe(recipe), given), fresh, callbacks)


def _train(
    stage: str,
    model: ModelInput,
    tokenizer: PreTrainedTokenizerBase | None,
    output: str | Path | None,
    fresh: bool,
    settings: Mapping[str, Any],
) -> RunResult:
    given = {**plain_settings(settings), "model": model_name(model, tokenizer)}
    if output is not None:
        given["output"] = str(output)
    return _run(stage_recipe(stage, given), fresh, settings)


def _run(recipe: ResolvedRecipe, fresh: bool, keywords: Mapping[str, Any]) -> RunResult:
    return start(in_own_folder(recipe, fresh=fresh), callbacks=callbacks_in(keywords))
