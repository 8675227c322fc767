"""What a user may say where prompts of a file are answered by a model that is there: in `burnish generate`, and in
`burnish eval` with a verifier. Prompts are read as the stage `rl` reads them."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from burnish.data.formats.format import Stage
from burnish.data.prompts import Prompts, prompts
from burnish.errors import RecipeError
from burnish.model.open import LoadedModel
from burnish.model.settings import DtypeName
from burnish.sampling.params import SamplingParams
from burnish.settings.data import DatasetSettings
from burnish.settings.generation import GenerationSettings, SamplingSettings
from burnish.settings.numbers import Positive
from burnish.stages.reader import Reader
from burnish.verbs.evaluate import Seed


class PromptSettings(GenerationSettings, SamplingSettings):
    """Prompts, and how they are answered."""

    serves: ClassVar[Stage] = "rl"

    data: str
    """Prompts, as `burnish rl` takes them, also with #500."""
    split: str | None = None
    """Of a hub set or a folder; null: as the data says."""
    count: Positive | None = None
    """Rows to draw by the seed; null: all."""
    dtype: DtypeName = "auto"
    """Type of the weights; auto: the checkpoint's own."""
    stop_ids: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False)] = ()
    """Further tokens that end a response, beside the model's end tokens."""
    seed: Seed = 0
    """Of the choice, and of the rows that count draws."""

    @property
    def params(self) -> SamplingParams:
        """How tokens are chosen."""
        names = ("max_new_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty")
        rest = {name: getattr(self, name) for name in ("stop", "stop_ids", "seed")}
        return SamplingParams(**{name: getattr(self, name) for name in names}, **rest)

    def reader(self, opened: LoadedModel) -> Reader:
        """Reads rows for the model.

        Raises:
            RecipeError: it has no such token as one of `stop_ids`.
        """
        rows = opened.causal_lm.get_input_embeddings().weight.shape[0]
        if outside := [token for token in self.stop_ids if token >= rows]:
            raise RecipeError(
                given=f"stop_ids: {outside[0]}, and the model has {rows:,} tokens",
                rule="a response ends with a token that can be written",
                remedy="name a token of the model, or a text: stop=[…]",
            )
        return Reader.of(self, opened.named.given, opened.causal_lm.config, opened.tokenizer, self.seed)

    def prompts(self, reader: Reader, *, system: str | None = None, prefix: str = "") -> Prompts:
        """The prompts of the data; see `data.prompts.prompts`."""
        source = DatasetSettings(path=self.data, count=self.count, split=self.split)
        return prompts(reader.open(source).preparation, self.max_new_tokens, system=system, prefix=prefix)
