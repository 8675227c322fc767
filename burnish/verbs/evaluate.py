"""Evaluation of a model on a dataset (`burnish eval`): loss, perplexity, accuracy.

It uses the same reading, formats, templates, masks and scoring as supervised fine-tuning, so the loss is the
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
from burnish.evaluate.accuracy import Accuracy, answerable_prompts, require_comparable, sample_answers
from burnish.evaluate.held_out import held_out_loss
from burnish.evaluate.unpacked_loss import unpacked_loss
from burnish.losses.cross_entropy import CrossEntropy
from burnish.model.attention import plain_attention
from burnish.model.integrity import require_finite
from burnish.model.open import LoadedModel, open_model, policy_of
from burnish.model.policy import Model
from burnish.model.settings import DtypeName
from burnish.model.stop_tokens import stop_tokens_of
from burnish.rewards.match import MatchRule
from burnish.runs.named_model import resolve_model
from burnish.sampling.open import plain_sampler, sampler_of
from burnish.sampling.params import SamplingParams
from burnish.settings.aliases import OTHER_TOOLS, RENAMED
from burnish.settings.data import DatasetSettings
from burnish.settings.data_settings import DataSettings
from burnish.stages.determinism import out_of_memory_explained
from burnish.stages.reader import Reader
from burnish.watch.counter import count_on_terminal

Seed = Annotated[int, Field(ge=0, lt=2**32)]
S = TypeVar("S", bound=Settings)


class SamplingSettings(Settings):
    """Settings of sampling in chat and evaluation."""

    max_new_tokens: Annotated[int, Field(gt=0)] = 256
    """Maximum number of tokens of a response."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """Sampling temperature: divides the logits; 0: greedy decoding."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling: samples among the most probable tokens whose probabilities add up to top_p; 1: all tokens."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Samples among the top_k most probable tokens; 0: all tokens."""
    seed: Seed = 0
    """Seed of sampling, and of the rows that count draws."""

    @property
    def params(self) -> SamplingParams:
        """Sampling parameters."""
        names = ("max_new_tokens", "temperature", "top_p", "top_k", "seed")
        return SamplingParams(**{name: getattr(self, name) for name in names})


class ChatSettings(SamplingSettings):
    """Settings of `burnish chat`, given as key=value."""

    def params_over(self, model: GenerationConfig) -> SamplingParams:
        """Sampling parameters; settings that are not given are those of the model's generation config."""
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
    """Settings of `burnish eval`, given as key=value."""

    data: str
    """Evaluation data, in the forms of `burnish sft`; #500 at the end draws 500 rows."""
    split: str | None = None
    """Split of a hub dataset or a folder; null: train, or the only one."""
    count: Annotated[int, Field(gt=0)] | None = None
    """Number of rows to draw by the seed; null: all rows."""
    dtype: DtypeName = "auto"
    """Data type of the weights; auto: that of the checkpoint."""
    match: MatchRule | None = "exact"
    """Rule by which a response is right: exact, contains, number; null: no generation, only the loss."""
    reward: Literal["mean", "sum"] = "mean"
    """For pairs, implicit reward of a response: the mean or the sum of its tokens' log-probabilities."""
    reference: str | None = None
    """For pairs, a reference model: the implicit reward is the sum of log-ratios to it; null: none."""


@dataclass(frozen=True, eq=False, slots=True)
class EvalReport:
    """Results of an evaluation: loss, perplexity, accuracy."""

    model: str
    data: str
    rows: int
    """Number of rows read."""
    left_out: int
    """Number of rows that were dropped or are invalid."""
    tokens: int
    """Number of tokens of all rows, prompts included."""
    trained_tokens: int
    """Number of tokens over which the loss is the mean."""
    loss: float
    """Mean negative log-probability of the trained tokens, nats."""
    match: MatchRule | None
    """Rule by which a response is right; None: no generation."""
    accuracy: Accuracy | None
    """None: no generation."""
    notes: tuple[str, ...] = ()
    """Lines about changes to the model, or other ways of computing."""

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite on overflow."""
        return math.exp(self.loss) if self.loss < math.log(1.7e308) else math.inf

    def figures(self) -> dict[str, Any]:
        """Metrics for the JSON output."""
        accuracy = self.accuracy
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
            "accuracy": None if accuracy is None else accuracy.share,
            "correct": None if accuracy is None else accuracy.correct,
            "questions": None if accuracy is None else accuracy.total,
            "cut_answers": None if accuracy is None else sum(not sample.ended for sample in accuracy.samples),
        }

    def samples(self) -> list[dict[str, Any]]:
        """Every prompt with its response."""
        return [] if self.accuracy is None else [asdict(sample) for sample in self.accuracy.samples]


def read_settings(kind: type[S], given: Mapping[str, object], overrides: Sequence[str]) -> S:
    """Reads the settings of a command from flags and ``key=value``.

    Raises:
        RecipeError: an unknown key, or a wrong value.
    """
    data: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    for key, value in parse_overrides(overrides).items():
        put(data, key, value)
    return parse(kind, data, OTHER_TOOLS, RENAMED)


def evaluate(model: str, settings: EvalSettings, *, base: str | None = None) -> EvalReport:
    """Evaluates a model on a dataset.

    Args:
        model: a hub name, or a folder of a model, an adapter or a run.
        settings: the data, its reading, and generation.
        base: base model of an adapter, if it is not at the path in the adapter's config.

    Raises:
        UserError: a mistake that the user can correct, with the remedy.
    """
    opened = open_model(resolve_model(model), base=base, dtype=settings.dtype)
    reader = Reader.of_opened(settings, opened, settings.seed)
    source = DatasetSettings(path=settings.data, count=settings.count, split=settings.split)
    preparation = reader.open(source).preparation
    prepared = preparation.whole(told=count_on_terminal("rows made into tokens"))
    with out_of_memory_explained(reader.tokens_per_microbatch):
        policy, note = _policy(opened)
        loss = _loss(opened, policy, prepared, reader.tokens_per_microbatch)
        require_finite("loss", model, loss)
        accuracy = (
            None if settings.match is None else _accuracy(opened, policy, preparation.builder, prepared, settings)
        )
    report = prepared.report
    return EvalReport(
        model=model,
        data=settings.data,
        rows=report.rows,
        left_out=report.rows - len(set(prepared.picked.rows.tolist())),
        tokens=report.tokens,
        trained_tokens=report.trained_tokens,
        loss=loss,
        match=None if accuracy is None else settings.match,
        accuracy=accuracy,
        notes=(*opened.notes, *note),
    )


def _policy(opened: LoadedModel) -> tuple[Model | None, list[str]]:
    """The model for packed rows; None with a note: it cannot compute packed rows."""
    try:
        return policy_of(opened), []
    except ModelError as error:
        return None, [f"rows are computed one at a time: {error.given}"]


def _loss(opened: LoadedModel, policy: Model | None, prepared: TokenizedDataset, budget: int) -> float:
    """The loss by packed rows, as a run computes it; by unpacked rows if packing is impossible."""
    if policy is None:
        with plain_attention(opened.causal_lm):
            return unpacked_loss(opened.model, prepared)
    return float(held_out_loss(policy, prepared, CrossEntropy(), budget)["loss"])


def _accuracy(
    opened: LoadedModel,
    policy: Model | None,
    builder: SampleBuilder,
    prepared: TokenizedDataset,
    settings: EvalSettings,
) -> Accuracy | None:
    """Accuracy on the prompts of the usable rows; None: they have no prompts."""
    rows = sorted(set(prepared.picked.rows.tolist()))
    prompts = answerable_prompts(builder, rows)
    if not prompts:
        return None
    match = settings.match or "exact"
    require_comparable(prompts, match, "match")
    generation, learned = opened.causal_lm.generation_config, prepared.report.end_tokens
    ends = stop_tokens_of(generation, opened.tokenizer, builder.writer.template, learned)
    sampler = plain_sampler(opened, ends) if policy is None else sampler_of(policy, ends)
    return Accuracy.of(sample_answers(sampler, opened.tokenizer, prompts, match=match, params=settings.params))
