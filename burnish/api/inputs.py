"""Arguments of the Python functions as a recipe holds them: models in memory, functions and rows become names."""

from __future__ import annotations

import hashlib
import inspect
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sized
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias, TypedDict, TypeVar

from peft import PeftConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from burnish.config.live_code import with_names
from burnish.config.user_code import refuse_inside_user_code
from burnish.data.memory import with_stored_rows
from burnish.errors import ModelError, RecipeError
from burnish.local_path import cache_folder
from burnish.model.open import LoadedModel
from burnish.model.quantization import is_quantized
from burnish.recipe.read import key_of_stage
from burnish.stages.result import RunResult
from burnish.train.callbacks import Callbacks, CheckpointInfo, EvaluationInfo, StepInfo
from burnish.watch.quiet import quiet_transformers

Data: TypeAlias = str | Path | Mapping[str, Any] | Sized
"""A path, a hub dataset or builtin:… set; rows in memory (a list of mappings, a datasets.Dataset, a data frame); a
mapping with ``path`` and settings of one dataset; or a list of these, a mixture."""
ModelInput: TypeAlias = str | Path | LoadedModel | RunResult | Any
"""A hub name or a folder; the result of a run; a `LoadedModel`; or a transformers or peft model, with its tokenizer."""
TeacherInput: TypeAlias = ModelInput | Mapping[str, Any] | list[ModelInput | Mapping[str, Any]]
"""A teacher of distillation: a model, the address of a server, a mapping of its settings, or a list of these."""
Function: TypeAlias = Callable[..., Any]


P = ParamSpec("P")
R = TypeVar("R")


def trains(stage: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator of the function of a stage: a call that Python refuses, such as one without `data` but with another
    tool's name for it, is answered as the same key in a recipe."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                signature.bind(*args, **kwargs)
            except TypeError:
                for key in kwargs:
                    if key not in signature.parameters and key not in CallbackKeywords.__optional_keys__:
                        key_of_stage(stage, key)  # raises RecipeError for an unknown key
                raise
            return function(*args, **kwargs)

        return call

    return decorate


class CallbackKeywords(TypedDict, total=False):
    """Functions that are called during a run, see `burnish.train.callbacks`. One that returns False stops the run."""

    on_step: Callable[[StepInfo], object]
    on_evaluation: Callable[[EvaluationInfo], object]
    on_checkpoint: Callable[[CheckpointInfo], object]


def callbacks_in(keywords: Mapping[str, Any]) -> Callbacks:
    """The callbacks among keyword arguments.

    Raises:
        RecipeError: one cannot be called.
    """
    for name in CallbackKeywords.__optional_keys__:
        if name in keywords and not callable(keywords[name]):
            raise RecipeError(
                given=f"{name} is an object of the class {type(keywords[name]).__name__}",
                rule=f"{name} is a function of one argument (burnish.train.callbacks)",
                remedy="give a function",
            )
    return Callbacks(**{name: keywords[name] for name in CallbackKeywords.__optional_keys__ if name in keywords})


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a recipe holds them: files for rows in memory, a name for each function, class and callable object,
    text for each path; without callbacks.

    Raises:
        RecipeError: a user's file that is being run for one of its functions starts a run.
    """
    refuse_inside_user_code()
    callbacks = CallbackKeywords.__optional_keys__
    _refuse_peft_config(settings.get("adapter"))
    given = with_stored_rows({key: value for key, value in settings.items() if key not in callbacks})
    return {key: with_names(value) for key, value in given.items()}


def _refuse_peft_config(adapter: Any) -> None:
    """Refuses a configuration of peft, and writes what it is here."""
    if not isinstance(adapter, PeftConfig):
        return
    names = {"r": "rank", "lora_alpha": "alpha", "lora_dropout": "dropout"}
    ours = {name: vars(adapter)[theirs] for theirs, name in names.items() if theirs in vars(adapter)}
    raise RecipeError(
        given=f"adapter is a {type(adapter).__name__} of peft",
        rule="adapter is a mapping of settings (docs/adapters.md)",
        remedy=f"write adapter={ {'kind': str(adapter.peft_type.value).lower(), **ours} }",
    )


def plain_stages(stages: Any) -> Any:
    """The stages of a recipe in mappings, each with plain settings; anything else unchanged, which reading refuses."""
    if not isinstance(stages, list | tuple):
        return stages
    return [
        {name: plain_settings(own) if isinstance(own, Mapping) else own for name, own in stage.items()}
        if isinstance(stage, Mapping)
        else stage
        for stage in stages
    ]


def plain_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe in a mapping with plain settings, and the name of its model."""
    plain = plain_settings({key: value for key, value in recipe.items() if key not in ("model", "stages")})
    if "model" in recipe:
        plain["model"] = model_name(recipe["model"])
    return plain | ({"stages": plain_stages(recipe["stages"])} if "stages" in recipe else {})


def model_name(model: ModelInput, tokenizer: PreTrainedTokenizerBase | None = None) -> str:
    """Name of a model for a recipe. A model in memory is written into the cache once, so that its run can be resumed.

    Args:
        model: see `ModelInput`.
        tokenizer: the tokenizer of a transformers or peft model.

    Raises:
        ModelError: a model without its tokenizer, a quantized model, or an object that is no model.
    """
    if isinstance(model, str | Path | RunResult | LoadedModel) and tokenizer is not None:
        raise ModelError(
            given=f"tokenizer with model {model!r:.80}",
            rule="a name, a folder and a result have a tokenizer of their own",
            remedy="leave tokenizer out, or give a transformers model",
        )
    if isinstance(model, str | Path):
        return str(model)
    if isinstance(model, RunResult):
        return str(model.folder)
    if isinstance(model, LoadedModel):
        return _stored(model.model, model.tokenizer)
    if isinstance(model, tuple) and len(model) == 2:
        model, tokenizer = model
    if not callable(getattr(model, "save_pretrained", None)):
        raise ModelError(
            given=f"model is an object of the class {type(model).__name__}",
            rule="model is a name, a folder, the result of a run, or a transformers or peft model with its tokenizer",
            remedy='write model="Qwen/Qwen3-0.6B", or model=model, tokenizer=tokenizer',
        )
    if tokenizer is None:
        raise ModelError(
            given=f"a {type(model).__name__} without its tokenizer",
            rule="rows are tokenized and the trained model is saved with the tokenizer of the model",
            remedy="write model=model, tokenizer=tokenizer",
        )
    return _stored(model, tokenizer)


def teacher_names(teacher: TeacherInput) -> Any:
    """Teachers as a recipe holds them, each by the name of its model (see `model_name`).

    Raises:
        ModelError: a model in memory has no name.
    """
    if isinstance(teacher, list):
        return [teacher_names(one) for one in teacher]
    if not isinstance(teacher, Mapping):
        return model_name(teacher)
    named = {"model": model_name(teacher["model"])} if teacher.get("model") is not None else {}
    return {**teacher, **named}


def _stored(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    """Folder of the model in the cache, named by its content."""
    if is_quantized(model):
        raise ModelError(
            given=f"a quantized {type(model).__name__}",
            rule="a model in memory is written with its own weights, and these are quantized",
            remedy="give the name of the unquantized model, and adapter={'kind': 'qlora'}",
        )
    models = cache_folder() / "models"
    models.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=".partial-", dir=models))
    try:
        with quiet_transformers():
            model.save_pretrained(place)
            tokenizer.save_pretrained(place)
        final = models / _content(place)
        if not final.exists():
            place.rename(final)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return str(final)


def _content(folder: Path) -> str:
    """sha256 of the names and bytes of the files, 24 digits."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}\0".encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:24]
