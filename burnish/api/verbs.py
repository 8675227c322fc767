"""Commands on a model and on data, from Python: as `burnish eval`, `chat`, `generate`, `check`, `merge`, `data view`
and `data profile`. Keyword arguments are the settings that the commands take as ``key=value``."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack

from transformers import PreTrainedTokenizerBase

from burnish.api.inputs import Data, ModelInput, model_name, plain_recipe, plain_settings
from burnish.api.settings_types import ChatKeywords, EvalKeywords, GenerateKeywords, SftKeywords
from burnish.checks.run import CheckLine, run_checks
from burnish.checks.subject import Subject
from burnish.evaluate.chat import Chat
from burnish.export.write import WrittenModel
from burnish.model.adapters.combine import Combination
from burnish.model.open import LoadedModel, open_model, with_template
from burnish.recipe.read import ResolvedRecipe, mapped_recipe, read_recipe, stage_recipe
from burnish.runs.named_model import resolve_model
from burnish.verbs import inspect
from burnish.verbs.evaluate import ChatSettings, read_settings
from burnish.verbs.evaluate_any import AnyReport, evaluate_any
from burnish.verbs.generate import GenerateResult, GenerateSettings
from burnish.verbs.generate import generate as generate_responses
from burnish.verbs.merge import merge as merge_adapters


def eval(
    model: ModelInput,
    data: Data,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    base: str | None = None,
    **settings: Unpack[EvalKeywords],
) -> AnyReport:
    """Evaluates a model (docs/verbs.md): with ``verifier=…``, pass@k; a reward model, its accuracy; on comparisons,
    preference accuracy; otherwise loss, perplexity and accuracy.

    Args:
        model: a hub name, a folder, the result of a run, or a model in memory.
        data: evaluation data: a path or rows in memory.
        tokenizer: the tokenizer of a transformers or peft model in memory.
        base: base model of an adapter, if it is not at the path in the adapter's config.
        settings: such as ``match="number"``, ``count=200``.

    Returns:
        A report: ``figures()`` is a mapping, ``samples()`` has every prompt with its response.

    Raises:
        UserError: a mistake that the user can correct, with the remedy.
    """
    return evaluate_any(model_name(model, tokenizer), plain_settings({"data": data, **settings}), base=base)


def generate(
    model: ModelInput,
    data: Data,
    *,
    output: str | Path | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    base: str | None = None,
    **settings: Unpack[GenerateKeywords],
) -> GenerateResult:
    """Generates responses to prompts.

    Args:
        model: see `eval`.
        data: prompts: a path or rows in memory.
        output: a .jsonl file, written as responses come; the same call resumes. None: responses are only returned.
        tokenizer: see `eval`.
        base: see `eval`.
        settings: such as ``responses_per_prompt=8``, ``temperature=0.7``.

    Returns:
        The responses: ``answers`` has a mapping for each prompt.

    Raises:
        UserError: see `eval`.
    """
    given = read_settings(GenerateSettings, plain_settings({"data": data, **settings}), [])
    return generate_responses(
        model_name(model, tokenizer), given, output=None if output is None else Path(output), base=base
    )


def chat(
    model: ModelInput,
    *,
    system: str | None = None,
    chat_template: str | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    base: str | None = None,
    **settings: Unpack[ChatKeywords],
) -> Chat:
    """Opens a conversation: ``chat("runs/sft").answer("Hello")`` returns the answer and keeps it as context.

    Args:
        model: see `eval`.
        system: the system prompt; None: none.
        chat_template: chat template, instead of the model's own.
        tokenizer: see `eval`.
        base: see `eval`.
        settings: ``temperature``, ``top_p``, ``top_k``, ``max_new_tokens``, ``seed``.

    Raises:
        UserError: see `eval`.
    """
    given = read_settings(ChatSettings, settings, [])
    opened = (
        model if isinstance(model, LoadedModel) else open_model(resolve_model(model_name(model, tokenizer)), base=base)
    )
    if chat_template is not None:
        opened = with_template(opened, chat_template)
    return Chat(opened, given.params_over(opened.causal_lm.generation_config), system)


def check(
    recipe: str | Path | Mapping[str, Any] | None = None,
    *overrides: str,
    model: ModelInput | None = None,
    data: Data | None = None,
    yes: bool = False,
    **settings: Unpack[SftKeywords],
) -> list[CheckLine]:
    """Checks a recipe's model and data before a run (docs/check.md): gradients, packing, saving, resuming, rewards.

    Args:
        recipe: a YAML file or its content; None: a stage sft with `model` and `data`.
        overrides: settings as ``"key=value"``.
        model: model, without a recipe.
        data: training data, without a recipe.
        yes: start even if it takes long or much memory.
        settings: settings of the stage sft, without a recipe.

    Returns:
        A line for each check, which is printed on standard error as it comes; ``passed`` is None where there was
        nothing to check.

    Raises:
        UserError: see `eval`.
    """
    resolved, lines = _recipe(recipe, overrides, model, {"data": data, **settings}), []
    with tempfile.TemporaryDirectory(prefix="burnish-check-") as folder:
        for line in run_checks(Subject(resolved, Path(folder)), yes=yes, say=_say):
            _say(str(line))
            lines.append(line)
    return lines


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _recipe(
    recipe: str | Path | Mapping[str, Any] | None,
    overrides: Sequence[str],
    model: ModelInput,
    settings: Mapping[str, Any],
) -> ResolvedRecipe:
    if isinstance(recipe, Mapping):
        return mapped_recipe(plain_recipe(recipe), overrides)
    if recipe is not None:
        return read_recipe(Path(recipe), overrides)
    return stage_recipe("sft", {**plain_settings(settings), "model": model_name(model)}, overrides)


def merge(
    *models: ModelInput,
    output: str | Path,
    weights: Sequence[float] | None = None,
    method: Literal["cat", "svd", "linear", "ties", "dare_linear", "dare_ties"] = "cat",
    rank: int | None = None,
    density: float = 0.5,
    seed: int = 0,
    form: Literal["merged", "adapter"] = "merged",
    base: str | None = None,
    chat_template: str | None = None,
) -> WrittenModel:
    """Merges one or several adapters into their base, and verifies the written model on prompts.

    Args:
        models: run folders or adapters.
        output: a new or empty folder.
        weights: weights of several adapters; None: equal, with the sum 1.
        method: method that combines several adapters; cat is exact (docs/adapters.md).
        rank: rank of svd; None: the largest rank of the adapters.
        density: share of values that ties and dare keep.
        seed: seed of the values that dare drops.
        form: merged weights, or one adapter of several.
        base: see `eval`.
        chat_template: a chat template to save instead of the model's own.

    Raises:
        UserError: see `eval`.
    """
    shares = None if weights is None else tuple(map(float, weights))
    combination = Combination(shares, method, rank, density, seed)
    names = [model_name(model) for model in models]
    written, _ = merge_adapters(
        names, Path(output), combination=combination, form=form, base=base, chat_template=chat_template
    )
    return written


def view(
    data: Data,
    model: ModelInput,
    *,
    stage: str = "sft",
    index: Sequence[int] = (),
    search: str | None = None,
    longest: int | None = None,
    count: int = 3,
    **settings: Any,
) -> inspect.DataView:
    """Shows rows as they are trained; renders in Jupyter. Arguments as in `burnish.verbs.inspect.view`."""
    return inspect.view(
        model_name(model),
        stage=stage,
        index=index,
        search=search,
        longest=longest,
        count=count,
        **_data_and_settings(data, settings),
    )


def profile(data: Data, model: ModelInput, *, stage: str = "sft", **settings: Any) -> inspect.DataProfile:
    """Statistics of a dataset: lengths in tokens, effect and cost of each max_length, turns, duplicates, scripts."""
    return inspect.profile(model_name(model), stage=stage, **_data_and_settings(data, settings))


def _data_and_settings(data: Data, settings: Mapping[str, Any]) -> dict[str, Any]:
    plain = plain_settings({"data": data, **settings})
    return {"data": plain.pop("data"), "settings": plain}
