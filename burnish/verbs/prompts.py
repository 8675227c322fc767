"""Settings of prompts and sampling in `burnish generate` and `burnish eval` with a verifier. Prompts are read as in the
stage `rl`."""

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
    """Settings of prompts and sampling."""

    serves: ClassVar[Stage] = "rl"

    data: str
    """Prompts, in the forms of `burnish rl`; #500 at the end draws 500 rows."""
    split: str | None = None
    """Split of a hub dataset or a folder; null: train, or the only one."""
    count: Positive | None = None
    """Number of rows to draw by the seed; null: all rows."""
    dtype: DtypeName = "auto"
    """Data type of the weights; auto: that of the checkpoint."""
    stop_ids: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False)] = ()
    """Ids of tokens that end a response, in addition to the model's end tokens."""
    seed: Seed = 0
    """Seed of sampling, and of the rows that count draws."""

    @property
    def params(self) -> SamplingParams:
        """Sampling parameters."""
        names = ("max_new_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty")
        rest = {name: getattr(self, name) for name in ("stop", "stop_ids", "seed")}
        return SamplingParams(**{name: getattr(self, name) for name in names}, **rest)

    def reader(self, opened: LoadedModel) -> Reader:
        """The reader of rows for the model.

        Raises:
            RecipeError: the model has no token of one of the `stop_ids`.
        """
        num_tokens = opened.causal_lm.get_input_embeddings().weight.shape[0]
        if outside := [token for token in self.stop_ids if token >= num_tokens]:
            raise RecipeError(
                given=f"stop_ids: {outside[0]}, and the model has {num_tokens:,} tokens",
                rule="a response ends with a token of the model",
                remedy="name a token of the model, or a text: stop=[…]",
            )
        return Reader.of_opened(self, opened, self.seed)

    def prompts(self, reader: Reader, *, system: str | None = None, prefix: str = "") -> Prompts:
        """The prompts of the data; see `data.prompts.prompts`."""
        source = DatasetSettings(path=self.data, count=self.count, split=self.split)
        return prompts(reader.open(source).preparation, self.max_new_tokens, system=system, prefix=prefix)
