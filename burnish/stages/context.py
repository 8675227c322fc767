"""Context of a stage: its settings in the recipe, its kind, and the reader of its rows for the model it starts from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Self, TypeVar

from burnish.model.load import check_tokens, load_config, load_images, load_tokenizer
from burnish.model.settings import stage_named
from burnish.parallel.world import ONE_PROCESS, World
from burnish.recipe.chain import chain
from burnish.recipe.recipe import Recipe
from burnish.run_files import MODEL, STAGES
from burnish.runs.named_model import resolve_model
from burnish.settings.stage import StageSettings
from burnish.stages.reader import Reader

S_co = TypeVar("S_co", bound=StageSettings, covariant=True)


@dataclass(frozen=True, eq=False, slots=True)
class StageContext(Generic[S_co]):
    """A stage of a recipe before its data are opened."""

    recipe: Recipe
    settings: S_co
    reader: Reader
    world: World = ONE_PROCESS
    """Processes that do its work together."""

    @classmethod
    def of(cls, recipe: Recipe, number: int = 0, model: str | None = None, world: World = ONE_PROCESS) -> Self:
        """Reads the model's configuration and tokenizer, not its weights.

        Args:
            recipe: the recipe.
            number: index of the stage, from 0.
            model: the model that the stage starts from; None: the recipe's model, with the tokens and the template
                that the earlier stages of its chain set.
            world: processes that do its work together.
        """
        stages = recipe.named_stages
        name = list(stages)[number]
        settings = stages[name]
        so_far = [stages[each] for each in ([name] if model else chain(stages, name))]
        tokens = dict.fromkeys(token for stage in so_far for token in stage.tokens_to_add)
        templates = (stage.chat_template for stage in reversed(so_far) if stage.chat_template is not None)
        begins = model or resolve_model(recipe.model)
        tokenizer = load_tokenizer(begins, tuple(tokens))
        if not tokens:  # new tokens get rows
            check_tokens(begins, tokenizer)
        reading = settings.model_copy(update={"chat_template": next(templates, None)})
        config = load_config(begins)
        images = load_images(begins, config, tokenizer, recipe.vision.settings) if settings.takes_images else None
        reader = Reader.of(reading, begins, config, tokenizer, recipe.seed, images)
        reader = replace(reader, named_template=settings.chat_template)
        return cls(recipe, settings, reader, world)  # type: ignore[arg-type]  # the caller's kind has these settings

    def resolve_model(self, name: str) -> str:
        """The folder of a model that the recipe names: of a run, its model; of ``stage:NAME``, the model that the stage
        writes, which need not exist yet; any other name unchanged.

        Raises:
            ModelError: the run is not finished.
        """
        if (stage := stage_named(name)) is None:
            return resolve_model(name)
        assert self.recipe.output is not None, "reading a recipe gives it an output"
        return str(Path(self.recipe.output).absolute() / STAGES / stage / MODEL)
