"""Measuring how often a model solves prompts that a verifier can judge: pass@k. Behind `burnish eval … verifier=…`.

Beside `evaluation`. The prompts, the sampler and the rewards are those of the stage `rl`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field, model_validator

from burnish.data.prompts import Prompts
from burnish.evaluate.detokenize import response_decoder
from burnish.evaluate.pass_at_k import mean_pass_at_k
from burnish.evaluate.preference_eval import Proportion
from burnish.model.open import open_model
from burnish.model.stop_tokens import stop_tokens_of
from burnish.sampling.base import Prompt
from burnish.sampling.open import InProcess, open_sampler
from burnish.settings.numbers import Positive
from burnish.stages.determinism import out_of_memory_explained
from burnish.tasks.response_view import ResponseView
from burnish.tasks.response_views import Decode, response_views
from burnish.tasks.reward import Reward
from burnish.tasks.reward_runner import RewardRunner
from burnish.tasks.settings import read_rewards
from burnish.tasks.verdict import Verdict
from burnish.verbs.prompts import PromptSettings


class RewardEvalSettings(PromptSettings):
    """What `burnish eval` takes with a verifier."""

    verifier: str | dict[str, Any] | list[str | dict[str, Any]]
    """What judges responses, as `reward` of a stage rl."""
    responses_per_prompt: Positive = 8
    """Responses to each prompt."""
    k: Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)] = (1,)
    """Of which k responses one is to be right: [1, 8]."""
    success_threshold: float = 0.5
    """Reward from which on a response is right."""

    @model_validator(mode="after")
    def _enough_is_written(self) -> RewardEvalSettings:
        if max(self.k) > self.responses_per_prompt:
            raise ValueError(
                f"k: {max(self.k)} of responses_per_prompt: {self.responses_per_prompt} cannot be drawn; write more"
            )
        _ = self.rewards
        return self

    @property
    def rewards(self) -> tuple[Reward, ...]:
        """As `tasks.settings.read_rewards` reads them."""
        return read_rewards(self.verifier)


@dataclass(frozen=True, eq=False, slots=True)
class RewardEvalReport:
    """How often a model solves prompts."""

    model: str
    data: str
    rows: int
    """Rows read."""
    left_out: int
    """Rows that are too long or cannot be used."""
    settings: RewardEvalSettings
    answers: list[list[ResponseView]]
    """To each prompt."""
    verdicts: list[list[Verdict]]
    notes: tuple[str, ...] = ()
    """For people."""

    @property
    def passes(self) -> dict[int, Proportion | None]:
        """By k; None: no prompt has so many responses that could be judged."""
        judged = [[each.reward for each in group if isinstance(each.reward, float)] for group in self.verdicts]
        counts = [(sum(reward >= self.settings.success_threshold for reward in group), len(group)) for group in judged]
        return {k: mean_pass_at_k(k, counts) for k in self.settings.k}

    @property
    def unjudged(self) -> int:
        """Responses without a verdict: they count neither as right nor as wrong."""
        return sum(not isinstance(each.reward, float) for group in self.verdicts for each in group)

    def figures(self) -> dict[str, Any]:
        """As JSON has it."""
        head = {"model": self.model, "data": self.data, "rows": self.rows, "left_out": self.left_out}
        found: dict[str, Any] = {
            "prompts": len(self.answers),
            "responses_per_prompt": self.settings.responses_per_prompt,
        }
        for k, share in self.passes.items():
            value, low, high = (None, None, None) if share is None else (share.value, share.low, share.high)
            found |= {f"pass_at_{k}": value, f"pass_at_{k}_low": low, f"pass_at_{k}_high": high}
        return {**head, **found, "unjudged": self.unjudged}

    def samples(self) -> list[dict[str, Any]]:
        """Every response with its verdict; a failure is null."""
        pairs = (pair for group in zip(self.answers, self.verdicts, strict=True) for pair in zip(*group, strict=True))
        return [
            {
                "prompt": answer.asked,
                "response": answer.text,
                "reference": answer.reference,
                "reward": verdict.reward if isinstance(verdict.reward, float) else None,
            }
            for answer, verdict in pairs
        ]

    def table(self) -> list[tuple[str, str]]:
        """For people: figure and value."""
        rows = [("prompts", f"{len(self.answers):,}, {self.settings.responses_per_prompt} responses to each")]
        for k, share in self.passes.items():
            if share is not None:
                rows.append((f"pass@{k}", f"{share.value:.1%} (95 %: {share.low:.1%} to {share.high:.1%})"))
        return rows + ([("unjudged", f"{self.unjudged:,} responses")] if self.unjudged else [])


def evaluate_rewards(model: str, settings: RewardEvalSettings, *, base: str | None = None) -> RewardEvalReport:
    """Measures how often a model solves prompts.

    Args:
        model: a hub name, or a folder: a model's, an adapter's or a run's.
        settings: the prompts, how responses are written, and who judges.
        base: the adapter's base, where it is no longer where the adapter remembers it.

    Raises:
        UserError: anything that the user can mend, with the remedy.
    """
    opened = open_model(model, base=base, dtype=settings.dtype)
    reader = settings.reader(opened)
    found = settings.prompts(reader)
    ends = stop_tokens_of(opened.causal_lm.generation_config, opened.tokenizer, reader.template)
    with out_of_memory_explained(reader.tokens_per_microbatch), RewardRunner(settings.rewards) as judge:
        sampler, notes = open_sampler(opened, ends, reader.max_length)
        answers = _answers(found, sampler, response_decoder(opened.tokenizer, ends), settings)
        verdicts = judge(answers)
    rows = len(found.preparation.maker.rows)
    return RewardEvalReport(
        model, settings.data, rows, rows - len(answers), settings, answers, verdicts, (*opened.notes, *notes)
    )


def _answers(
    found: Prompts, sampler: InProcess, decode: Decode, settings: RewardEvalSettings
) -> list[list[ResponseView]]:
    asked = [Prompt(torch.tensor(each.tokens), each.row) for each in found.waiting]
    groups = sampler.sample(asked, settings.responses_per_prompt, settings.params)
    return [response_views(each.task, group, decode) for each, group in zip(found.waiting, groups, strict=True)]
