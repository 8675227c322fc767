"""Evaluation of a model by a verifier: pass@k (`burnish eval … verifier=…`).

The prompts, the sampler and the rewards are those of the stage `rl`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, model_validator

from burnish.data.prompts import Prompts
from burnish.evaluate.detokenize import response_decoder
from burnish.evaluate.pass_at_k import mean_pass_at_k
from burnish.evaluate.preference_eval import Proportion
from burnish.grading.reward_runner import RewardRunner
from burnish.model.integrity import require_finite
from burnish.model.open import open_model
from burnish.model.stop_tokens import stop_tokens_of
from burnish.rewards.registry import read_rewards
from burnish.rewards.response_view import ResponseView
from burnish.rewards.response_views import Decode, response_views
from burnish.rewards.reward import Reward
from burnish.rewards.verdict import Verdict, label_shares
from burnish.runs.named_model import resolve_model
from burnish.sampling.base import Sampler, SampleRequest
from burnish.sampling.open import open_sampler
from burnish.settings.numbers import Positive
from burnish.stages.determinism import out_of_memory_explained
from burnish.stages.named_models import require_named_model
from burnish.verbs.prompts import PromptSettings


class RewardEvalSettings(PromptSettings):
    """Settings of `burnish eval` with a verifier."""

    verifier: str | dict[str, Any] | list[str | dict[str, Any]]
    """Reward that grades responses, in the forms of `reward` in a stage rl."""
    responses_per_prompt: Positive = 8
    """Number of responses to each prompt."""
    k: Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)] = (1,)
    """Values of k in pass@k, the probability that one of k responses is right, such as [1, 8]."""
    success_threshold: float = 0.5
    """Smallest reward of a right response."""

    @model_validator(mode="after")
    def _enough_is_written(self) -> RewardEvalSettings:
        if max(self.k) > self.responses_per_prompt:
            raise ValueError(
                f"k: {max(self.k)} is more than responses_per_prompt: {self.responses_per_prompt}; sample more"
            )
        _ = self.rewards
        return self

    @property
    def rewards(self) -> tuple[Reward, ...]:
        """The rewards; see `rewards.registry.read_rewards`."""
        return read_rewards(self.verifier)


@dataclass(frozen=True, eq=False, slots=True)
class RewardEvalReport:
    """Results of an evaluation by a verifier."""

    model: str
    data: str
    rows: int
    """Number of rows read."""
    left_out: int
    """Number of rows that are too long or invalid."""
    settings: RewardEvalSettings
    answers: list[list[ResponseView]]
    """Responses to each prompt."""
    verdicts: list[list[Verdict]]
    notes: tuple[str, ...] = ()
    """Lines for the user."""

    @property
    def passes(self) -> dict[int, Proportion | None]:
        """k → pass@k; None: no prompt has k graded responses."""
        graded = [[v.reward for v in group if isinstance(v.reward, float)] for group in self.verdicts]
        counts = [(sum(reward >= self.settings.success_threshold for reward in group), len(group)) for group in graded]
        return {k: mean_pass_at_k(k, counts) for k in self.settings.k}

    @property
    def ungraded(self) -> int:
        """Number of ungraded responses: they count neither as right nor as wrong."""
        return sum(not isinstance(verdict.reward, float) for group in self.verdicts for verdict in group)

    @property
    def failures(self) -> list[tuple[str, int, str]]:
        """(Reward and kind, number of responses, detail of the first one) of failures: ``code/sandbox``."""
        parts = [part for group in self.verdicts for verdict in group for part in verdict.failures]
        counts = Counter(f"{name}/{failure.kind}" for name, failure in parts)
        details = {f"{name}/{failure.kind}": failure.detail for name, failure in reversed(parts)}
        return [(name, count, details[name]) for name, count in counts.items()]

    @property
    def label_shares(self) -> dict[str, float]:
        """Share of each label of an outcome, as ``code/timeout``; {}: no reward gives labels."""
        return label_shares(verdict for group in self.verdicts for verdict in group)

    def figures(self) -> dict[str, Any]:
        """Metrics for the JSON output."""
        head = {"model": self.model, "data": self.data, "rows": self.rows, "left_out": self.left_out}
        metrics: dict[str, Any] = {
            "prompts": len(self.answers),
            "responses_per_prompt": self.settings.responses_per_prompt,
        }
        for k, share in self.passes.items():
            value, low, high = (None, None, None) if share is None else (share.value, share.low, share.high)
            metrics |= {f"pass_at_{k}": value, f"pass_at_{k}_low": low, f"pass_at_{k}_high": high}
        labels = {"labels": shares} if (shares := self.label_shares) else {}
        failures = {"failures": {name: count for name, count, _ in found}} if (found := self.failures) else {}
        return {**head, **metrics, "ungraded": self.ungraded, **failures, **labels}

    def samples(self) -> list[dict[str, Any]]:
        """Every response with its verdict; a failure is null."""
        pairs = (pair for group in zip(self.answers, self.verdicts, strict=True) for pair in zip(*group, strict=True))
        return [
            {
                "prompt": answer.asked,
                "response": answer.text,
                "reference": answer.reference,
                "reward": verdict.reward if isinstance(verdict.reward, float) else None,
                **({"labels": {name: label.name for name, label in verdict.labels.items()}} if verdict.labels else {}),
            }
            for answer, verdict in pairs
        ]

    def table(self) -> list[tuple[str, str]]:
        """Rows of the table in the terminal: metric and value."""
        rows = [("prompts", f"{len(self.answers):,}, {self.settings.responses_per_prompt} responses to each")]
        for k, share in self.passes.items():
            if share is not None:
                rows.append((f"pass@{k}", f"{share.value:.1%} (95 %: {share.low:.1%} to {share.high:.1%})"))
        rows += [(name, f"{share:.1%} of the responses") for name, share in self.label_shares.items() if share]
        rows += [("ungraded", f"{self.ungraded:,} responses")] if self.ungraded else []
        return rows + [(name, f"{count:,} responses, such as: {detail:.200}") for name, count, detail in self.failures]


def evaluate_rewards(model: str, settings: RewardEvalSettings, *, base: str | None = None) -> RewardEvalReport:
    """Evaluates a model by a verifier.

    Args:
        model: a hub name, or a folder of a model, an adapter or a run.
        settings: the prompts, sampling, and the verifier.
        base: base model of an adapter, if it is not at the path in the adapter's config.

    Raises:
        UserError: a mistake that the user can correct, with the remedy.
    """
    opened = open_model(resolve_model(model), base=base, dtype=settings.dtype)
    reader = settings.reader(opened)
    for named in (named for reward in settings.rewards for named in reward.named_models):
        require_named_model(named, reader)
    prompts = settings.prompts(reader)
    ends = stop_tokens_of(opened.causal_lm.generation_config, opened.tokenizer, reader.template)
    grader = RewardRunner(settings.rewards, resolve_model=resolve_model)
    with out_of_memory_explained(reader.tokens_per_microbatch), grader as grade:
        sampler, notes = open_sampler(opened, ends, reader.max_length)
        answers = _answers(model, prompts, sampler, response_decoder(opened.tokenizer, ends), settings)
        verdicts = grade(answers)
    rows = len(prompts.preparation.builder.rows)
    return RewardEvalReport(
        model, settings.data, rows, rows - len(answers), settings, answers, verdicts, (*opened.notes, *notes)
    )


def _answers(
    model: str, prompts: Prompts, sampler: Sampler, decode: Decode, settings: RewardEvalSettings
) -> list[list[ResponseView]]:
    requests = [SampleRequest(prompt.tokens, prompt.row, prompt.media) for prompt in prompts.tokenized]
    groups = sampler.sample(requests, settings.responses_per_prompt, settings.params)
    for response in (response for group in groups for response in group.responses):
        assert response.sampler_logprobs is not None, "sampled responses have log-probabilities"
        require_finite("log-probability of a token", model, response.sampler_logprobs)
    return [response_views(prompt.task, group, decode) for prompt, group in zip(prompts.tokenized, groups, strict=True)]
