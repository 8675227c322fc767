"""Chain of a stage: the earlier stages whose models it builds on, and the checks that these models exist.

A stage starts from the model of the stage before it, or of the earlier stage that `start_from` names; other keys name
the model of an earlier stage as ``stage:NAME``. Every function takes the stages of a recipe as `Recipe.named_stages`
gives them: name → settings, in order.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from burnish.errors import RecipeError
from burnish.model.settings import MODEL_KINDS, STAGE_PREFIX, ModelKind, NamedModel
from burnish.settings.stage import StageSettings
from burnish.similar import similar

Stages = Mapping[str, StageSettings]
"""Name of a stage → its settings, in order."""
_POLICIES: tuple[ModelKind, ...] = ("language_model",)


def numbered(methods: Sequence[str]) -> list[str]:
    """Names of stages: their methods, numbered from the second stage of a method on.

    Example: two stages of SFT are ``["sft", "sft-2"]``.
    """
    counts = [methods[: number + 1].count(method) for number, method in enumerate(methods)]
    return [method if count == 1 else f"{method}-{count}" for method, count in zip(methods, counts, strict=True)]


def starting_stage(stages: Stages, name: str) -> str | None:
    """Earlier stage whose model a stage starts from; None: the stage starts from the recipe's model.

    A stage that makes data leaves the model that it starts from to the next one.
    """
    start: str | None = name
    while start is not None and (start == name or stages[start].produces == "data"):
        start = stages[start].start_from or _before(stages, start)
    return start


def chain(stages: Stages, name: str) -> list[str]:
    """The stages whose training is in a stage's model, in order, itself the last one."""
    names = [name]
    while (start := starting_stage(stages, names[0])) is not None:
        names.insert(0, start)
    return names


def require_models(stages: Stages) -> None:
    """Refuses a stage that starts from, or names, the model of a stage that has none for it.

    Raises:
        RecipeError: `start_from` or a name ``stage:NAME`` is not that of an earlier stage with a model, or a model is
            of another kind than it has to be.
    """
    for name, settings in stages.items():
        if settings.start_from is not None:
            given = f"start_from: {settings.start_from} of the stage {name}"
            _require_earlier(stages, name, settings.start_from, given, "remove start_from")
        _require_policy(stages, name)
        for model in settings.named_models:
            if model.stage is not None:
                _require_named(stages, name, model, model.stage)


def _before(stages: Stages, name: str) -> str | None:
    names = list(stages)
    number = names.index(name)
    return names[number - 1] if number else None


def _earlier(stages: Stages, name: str, kinds: Collection[ModelKind]) -> list[str]:
    """Earlier stages that make a model of one of these kinds."""
    names = list(stages)
    return [other for other in names[: names.index(name)] if stages[other].model_kind in kinds]


def _require_earlier(stages: Stages, name: str, wanted: str, given: str, instead: str) -> None:
    """Refuses the name of a stage that makes no model before the stage `name` begins."""
    earlier = _earlier(stages, name, tuple(MODEL_KINDS))
    if wanted in earlier:
        return
    if len(stages) == 1:
        rule = "a stage is named whose model is made earlier in the same recipe, and this recipe has one stage"
    elif wanted not in stages:
        rule = f"the recipe has the stages {', '.join(stages)}"
    elif wanted == name or wanted not in list(stages)[: list(stages).index(name)]:
        rule = f"the stage {wanted} has no model when {name} begins: a stage uses the models of earlier ones"
    else:
        rule = f"the stage {wanted} makes data, and no model"
    near = similar(wanted, earlier)
    options = f"name an earlier stage with a model: {', '.join(earlier)}" if earlier else instead
    raise RecipeError(given, rule, f"did you mean {near[0]}?" if near else options)


def _require_policy(stages: Stages, name: str) -> None:
    """Refuses a language model that would be trained from a reward model."""
    start = starting_stage(stages, name)
    if start is None or stages[name].model_kind != "language_model" or stages[start].model_kind == "language_model":
        return
    policies = _earlier(stages, name, _POLICIES)
    raise RecipeError(
        given=f"the stage {name}, which starts from the model of the stage {start}, {_kind(stages, start)}",
        rule=f"a stage {name} trains a language model, and a reward model generates no responses",
        remedy=f"set start_from: {policies[-1]} in the stage {name}"
        if policies
        else "train the reward model in a recipe of its own, or as the last stage",
    )


def _require_named(stages: Stages, name: str, model: NamedModel, wanted: str) -> None:
    """Refuses ``stage:NAME`` without such a stage, or whose model is of another kind."""
    where = f" of the stage {name}" if len(stages) > 1 else ""
    given = f"{model.key}: {model.name}{where}"
    elsewhere = f"name a run, a folder or a hub name without {STAGE_PREFIX}, such as runs/NAME"
    _require_earlier(stages, name, wanted, given, elsewhere)
    if stages[wanted].model_kind in model.kinds:
        return
    needed = " or ".join(MODEL_KINDS[kind] for kind in model.kinds)
    fitting = _earlier(stages, name, model.kinds)
    raise RecipeError(
        given=f"{given}, which trains {_kind(stages, wanted)}",
        rule=f"{model.key} is {needed}",
        remedy=f"name {' or '.join(STAGE_PREFIX + other for other in fitting)}" if fitting else elsewhere,
    )


def _kind(stages: Stages, name: str) -> str:
    kind = stages[name].model_kind
    assert kind is not None, "only stages with a model are named"
    return MODEL_KINDS[kind]
