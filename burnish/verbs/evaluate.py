"""Measuring a model on a file: what a user may set, and how the pieces are put together. Behind `burnish eval`.

Beside `run`: the same reading, formats, templates, masks and scoring as supervised fine-tuning, so the loss here is the
`eval/loss` of a run on the same data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field
from transformers import GenerationConfig

from burnish.config.settings import Settings, parse
from burnish.config.text import parse_overrides, put
from burnish.data.dataset import TokenizedDataset
from burnish.data.sample_builder import SampleBuilder
from burnish.errors import ModelError
from burnish.evaluate.accuracy import Accuracy, accuracy, questions, require_comparable
from burnish.evaluate.held_out import held_out_loss
from burnish.evaluate.unpacked_loss import unpacked_loss
from burnish.losses.cross_entropy import CrossEntropy
from burnish.model.attention import plain_attention
from burnish.model.open import LoadedModel, open_model, policy_of
from burnish.model.policy import Model
from burnish.model.settings import DtypeName
from burnish.model.stop_tokens import stop_tokens_of
from burnish.sampling.open import plain_sampler, sampler_of
from burnish.sampling.params import SamplingParams
from burnish.settings.aliases import OTHER_TOOLS, RENAMED
from burnish.settings.data import DatasetSettings
from burnish.settings.data_settings import DataSettings
from burnish.stages.determinism import out_of_memory_explained
from burnish.stages.reader import Reader
from burnish.tasks.match import MatchRule
from burnish.watch.counter import count_on_terminal

Seed = Annotated[int, Field(ge=0, lt=2**32)]
S = TypeVar("S", bound=Settings)


class SamplingSettings(Settings):
    """How answers are written."""

    max_new_tokens: Annotated[int, Field(gt=0)] = 256
    """Most tokens of an answer."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """Divisor of the logits; 0: always the likeliest token."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Only the likeliest tokens that together have this probability."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Only so many of the likeliest tokens; 0: all."""
    seed: Seed = 0
    """Of the choice, and of the rows that count draws."""

    @property
    def params(self) -> SamplingParams:
        """How tokens are chosen."""
        names = ("max_new_tokens", "temperature", "top_p", "top_k", "seed")
        return SamplingParams(**{name: getattr(self, name) for name in names})


class ChatSettings(SamplingSettings):
    """What `burnish chat` takes as key=value."""

    def params_over(self, model: GenerationConfig) -> SamplingParams:
        """What is not given is as the model's generation settings say."""
        if not model.do_sample:
            return self.params
        given = self.model_fields_set
        return replace(
            self.params,
            temperature=self.temperature if "temperature" in given else float(model.temperature or 1.0),
            top_p=self.top_p if "top_p" in given else float(model.top_p or 1.0),
            top_k=self.top_k if "top_k" in given else int(model.top_k or 0),
        )


class EvalSettings(SamplingSettings, DataSettings):
    """What `burnish eval` takes as key=value."""

    data: str
    """As `burnish sft` takes it, also with #500."""
    split: str | None = None
    """Of a hub set or a folder; null: as the data says."""
    count: Annotated[int, Field(gt=0)] | None = None
    """Rows to draw by the seed; null: all."""
    dtype: DtypeName = "auto"
    """Type of the weights; auto: the checkpoint's own."""
    match: MatchRule | None = "exact"
    """When an answer is right: exact, contains, number; null: nothing is generated, only the loss is taken."""
    reward: Literal["mean", "sum"] = "mean"
    """Of pairs, what an answer is worth to the model: the mean or the sum of its tokens' log-probabilities."""
    reference: str | None = None
    """Of pairs, a model to compare with: an answer is worth the sum of log-ratios; null: none."""


@dataclass(frozen=True, eq=False, slots=True)
class EvalReport:
    """What a model is worth on a file."""

    model: str
    data: str
    rows: int
    """Rows read."""
    left_out: int
    """Rows that were dropped or cannot be used."""
    tokens: int
    """Tokens of all rows, prompts included."""
    trained_tokens: int
    """Tokens of which the loss is the mean."""
    loss: float
    """Mean negative log-probability of the trained tokens, nats."""
    match: MatchRule | None
    """When an answer counts as right; None: nothing was asked."""
    accuracy: Accuracy | None
    """None: nothing was asked."""
    notes: tuple[str, ...] = ()
    """What was changed about the model, or done in another way, in lines for people."""

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where that is more than a float can hold."""
        return math.exp(self.loss) if self.loss < math.log(1.7e308) else math.inf

    def figures(self) -> dict[str, Any]:
        """As JSON has it."""
        asked = self.accuracy
        return {
            "model": self.model,
            "data": self.data,
            "rows": self.rows,
            "left_out": self.left_out,
            "tokens": self.tokens,
            "trained_tokens": self.trained_tokens,
            "loss": self.loss,
            "perplexity": self.perplexity if math.isfinite(self.perplexity) else None,
            "match": self.match,
            "accuracy": None if asked is None else asked.share,
            "correct": None if asked is None else asked.correct,
            "questions": None if asked is None else asked.total,
            "cut_answers": None if asked is None else sum(not sample.ended for sample in asked.samples),
        }

    def samples(self) -> list[dict[str, Any]]:
        """Every question with its answer."""
        return [] if self.accuracy is None else [asdict(sample) for sample in self.accuracy.samples]


def read_settings(kind: type[S], given: Mapping[str, object], overrides: Sequence[str]) -> S:
    """Settings of a verb, from flags and ``key=value``.

    Raises:
        RecipeError: an unknown key, or a wrong value.
    """
    data: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    for key, value in parse_overrides(overrides).items():
        put(data, key, value)
    return parse(kind, data, OTHER_TOOLS, RENAMED)


def evaluate(model: str, settings: EvalSettings, *, base: str | None = None) -> EvalReport:
    """Measures a model.

    Args:
        model: a hub name, or a folder: a model's, an adapter's or a run's.
        settings: the data, and how it is read and asked.
        base: the adapter's base, where it is no longer where the adapter remembers it.

    Raises:
        UserError: anything that the user can mend, with the remedy.
    """
    opened = open_model(model, base=base, dtype=settings.dtype)
    reader = Reader.of(settings, opened.named.given, opened.causal_lm.config, opened.tokenizer, settings.seed)
    source = DatasetSettings(path=settings.data, count=settings.count, split=settings.split)
    preparation = reader.open(source).preparation
    prepared = preparation.whole(told=count_on_terminal("rows made into tokens"))
    with out_of_memory_explained(reader.tokens_per_microbatch):
        policy, note = _policy(opened)
        asked = None if settings.match is None else _ask(opened, policy, preparation.maker, prepared, settings)
        loss = _loss(opened, policy, prepared, reader.tokens_per_microbatch)
    report = prepared.report
    return EvalReport(
        model=model,
        data=settings.data,
        rows=report.rows,
        left_out=report.rows - len(set(prepared.picked.rows.tolist())),
        tokens=report.tokens,
        trained_tokens=report.trained_tokens,
        loss=loss,
        match=None if asked is None else settings.match,
        accuracy=asked,
        notes=(*opened.notes, *note),
    )


def _policy(opened: LoadedModel) -> tuple[Model | None, list[str]]:
    """What computes packed rows; None: nothing does, and a line says so."""
    try:
        return policy_of(opened), []
    except ModelError as error:
        return None, [f"rows are computed one at a time: {error.given}"]


def _loss(opened: LoadedModel, policy: Model | None, prepared: TokenizedDataset, budget: int) -> float:
    """The loss as a run computes it, by packed rows; where that cannot be, by plain ones."""
    if policy is None:
        with plain_attention(opened.causal_lm):
            return unpacked_loss(opened.model, prepared)
    return float(held_out_loss(policy, prepared, CrossEntropy(), budget)["loss"])


def _ask(
    opened: LoadedModel, policy: Model | None, maker: SampleBuilder, prepared: TokenizedDataset, settings: EvalSettings
) -> Accuracy | None:
    """The questions of the rows that are measured; None: they ask nothing."""
    rows = sorted(set(prepared.picked.rows.tolist()))
    asked = questions(maker, rows)
    if not asked:
        return None
    match = settings.match or "exact"
    require_comparable(asked, match, "match")
    generation, learned = opened.causal_lm.generation_config, prepared.report.end_tokens
    ends = stop_tokens_of(generation, opened.tokenizer, maker.writer.template, learned)
    sampler = plain_sampler(opened, ends) if policy is None else sampler_of(policy, ends)
    return accuracy(sampler, opened.tokenizer, asked, match=match, params=settings.params)
