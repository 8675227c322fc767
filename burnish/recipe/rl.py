"""What a user may say of a stage that learns by trying. Beside `schema`."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from burnish.algorithms import ALGORITHMS, Algorithm, algorithm
from burnish.config.settings import Settings
from burnish.data.formats import Stage
from burnish.losses.policy import Clip
from burnish.recipe.numbers import Positive
from burnish.recipe.reading import Reading
from burnish.recipe.training import Training
from burnish.sampling import SamplingParams
from burnish.sources.rollouts import RolloutSettings
from burnish.tasks import Reward, read_rewards

KlRule = Literal["k1", "k1_response", "k2", "k3"]
TRUNCATIONS = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""Settings by which tokens are drawn from another distribution than the policy's, and what turns each off."""


class Writing(Reading):
    """How prompts are read and responses are written."""

    max_new_tokens: Positive = 256
    """Most tokens of a response."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Divisor of the logits, in writing and in learning."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Only the likeliest tokens that together have this probability; with updates: 1 alone. 1: all."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Only so many of the likeliest tokens; with updates: 1 alone. 0: all."""
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Only tokens that have this share of the likeliest one's probability; with updates: 1 alone. 0: all."""
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    """Divides the positive logits of tokens that were there; with updates: 1 alone. 1: none."""
    stop: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False)] = ()
    """Texts that end a response, beside the model's end tokens; they stay in it."""

    @model_validator(mode="after")
    def _prompts_are_read_whole(self) -> Writing:
        if self.overlong not in ("stop", "drop"):
            raise ValueError(f"overlong: {self.overlong} would change what is asked; a prompt is kept, or stop or drop")
        if self.train_on != "assistant":
            raise ValueError(
                f"train_on: {self.train_on} is of answers in rows, and here the policy writes them; remove it"
            )
        if self.control_text != "text":
            raise ValueError("control_text: what a prompt says stays text here; remove it")
        if self.max_length is not None and self.max_length <= self.max_new_tokens:
            raise ValueError(
                f"max_length: {self.max_length} is prompt and response together, and max_new_tokens: "
                f"{self.max_new_tokens} leaves no prompt; raise the one or lower the other"
            )
        return self


class ClipOptions(Settings):
    """Bounds of the ratio that several updates meet; null: the algorithm's own."""

    clip_low: Annotated[float, Field(gt=0)] | None = None
    """How far below 1 the ratio counts; of grpo, dr_grpo, dapo, gspo, gmpo, rloo, reinforce_pp."""
    clip_high: Annotated[float, Field(gt=0)] | None = None
    """How far above 1 the ratio counts; of the same."""
    clip_dual: Annotated[float, Field(gt=1)] | None = None
    """Bound of the ratio where the advantage is negative (dual clip); of the same."""
    clip_cap: Annotated[float, Field(ge=1)] | None = None
    """Largest weight of a token; of cispo."""
    clip_rising: Annotated[float, Field(gt=0)] | None = None
    """Sharpness of the gate where the advantage is positive; of sapo."""
    clip_falling: Annotated[float, Field(gt=0)] | None = None
    """Sharpness of the gate elsewhere; of sapo."""

    @property
    def bounds(self) -> dict[str, float]:
        """Those that are given, by the name of the clip's field."""
        found = {name.removeprefix("clip_"): getattr(self, name) for name in ClipOptions.model_fields}
        return {name: value for name, value in found.items() if value is not None}


class Rl(Writing, ClipOptions, Training):
    """Learning by trying: the policy writes responses, rewards judge them, the better ones become likelier."""

    serves: ClassVar[Stage] = "rl"

    algorithm: str = "grpo"
    """grpo, dr_grpo, dapo, gspo, cispo, sapo, gmpo, rloo, reinforce_pp (docs/methods/grpo.md)."""
    reward: str | dict[str, Any] | list[str | dict[str, Any]]
    """What judges responses: a name, file.py:function, a mapping, or a list of these (docs/rewards.md)."""
    workers: Positive | None = None
    """Processes that judge; null: one for each core, at most 8."""
    responses: Positive = 8
    """Responses to each prompt."""
    groups_per_step: Positive = 8
    """Prompts per optimiser step, each with its responses: the batch size that matters for the result."""
    updates: Positive = 1
    """Optimiser steps that learn from one batch of responses, each from its own groups_per_step."""
    most_draws: Positive = 4
    """Prompts that are tried for each one that is wanted: groups whose responses are all as good teach nothing, and are
    replaced. 1: they are left out."""
    curriculum: bool = False
    """Draws prompts oftener that are solved about half the time; otherwise every epoch has each once."""
    pass_at: float = 0.5
    """Reward from which on a response counts as right: in eval/accuracy, and for the curriculum."""
    beta: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the divergence from the policy as the stage began; 0: there is none, and no reference is computed."""
    kl: KlRule = "k3"
    """Where and how it is estimated: k2 or k3 in the loss, k1 in the advantage of each token, k1_response in the reward
    of the response."""
    entropy: Annotated[float, Field(ge=0)] = 0.0
    """Weight of an entropy bonus."""
    eval_prompts: Positive = 128
    """Held-out prompts, drawn by the seed, that are answered greedily at every evaluation: eval/reward, eval/accuracy,
    and samples.jsonl with the answers."""
    samples_every: Positive = 10
    """Steps between those of which the best, the worst and the most surprising response go to samples.jsonl."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; null: 1e-6 for full weights, 1e-5 for an adapter."""

    @model_validator(mode="after")
    def _algorithm_and_rewards_are_there(self) -> Rl:
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm: {self.algorithm} is none; choose from: {', '.join(ALGORITHMS)}")
        _ = self.rewards  # refuses names and options that do not exist
        if self.responses == 1 and self.compares:
            raise ValueError(
                f"responses: 1 has nothing to be compared with, and algorithm: {self.algorithm} compares the responses "
                "to a prompt; write at least 2, or choose algorithm: reinforce_pp"
            )
        return self

    @model_validator(mode="after")
    def _ratios_are_those_of_the_policy(self) -> Rl:
        cut = next((name for name, off in TRUNCATIONS.items() if getattr(self, name) != off), None)
        if cut is not None and self.updates > 1:
            raise ValueError(
                f"{cut} draws from another distribution than the policy's, and updates: {self.updates} learns by "
                f"ratios of the policy's probabilities; remove {cut}, or set updates: 1"
            )
        if self.bounds and self.updates == 1:
            name = f"clip_{next(iter(self.bounds))}"
            raise ValueError(f"{name} has no effect with updates: 1, where the ratio is exactly 1; remove it")
        if self.algorithm in ALGORITHMS:
            has = {entry.name for entry in fields(ALGORITHMS[self.algorithm].loss.clip)}  # type: ignore[arg-type]
            if wrong := next((name for name in self.bounds if name not in has), None):
                raise ValueError(f"algorithm: {self.algorithm} has no clip_{wrong}; remove it")
        return self

    @model_validator(mode="after")
    def _kl_has_a_weight(self) -> Rl:
        if self.beta == 0 and "kl" in self.model_fields_set and self.kl != "k3":
            raise ValueError(f"kl: {self.kl} has no effect with beta: 0; give beta, or remove kl")
        return self

    @property
    def rewards(self) -> tuple[Reward, ...]:
        """As `tasks.read_rewards` reads them.

        Raises:
            RecipeError: there is no such reward or option.
        """
        return read_rewards(self.reward)

    @property
    def compares(self) -> bool:
        """Whether responses to one prompt are compared with each other."""
        return ALGORITHMS[self.algorithm].credit.baseline != "none"

    @property
    def chosen(self) -> Algorithm:
        """The algorithm with everything that this stage says of it."""
        found = algorithm(self.algorithm, max_new_tokens=self.max_new_tokens, updates=self.updates)
        credit, loss = found.credit, replace(found.loss, clip=self._clip(found.loss.clip), entropy=self.entropy)
        match self.kl:
            case "k1":
                credit = replace(credit, token_beta=self.beta)
            case "k1_response":
                credit = replace(credit, sequence_beta=self.beta)
            case _:
                loss = replace(loss, beta=self.beta, kl=self.kl)
        return replace(found, credit=credit, loss=loss)

    def _clip(self, clip: Clip) -> Clip:
        return replace(clip, **self.bounds) if self.bounds else clip  # type: ignore[type-var]

    @property
    def draws_per_step(self) -> int:
        return self.groups_per_step

    @property
    def rollouts(self) -> RolloutSettings:
        """How a batch of responses is made."""
        return RolloutSettings(
            self.groups_per_step,
            self.responses,
            self.updates,
            self.most_draws,
            self.pass_at,
            drops=self.compares,
            samples_every=self.samples_every,
        )

    def params(self, seed: int) -> SamplingParams:
        """How tokens are chosen in training."""
        return SamplingParams(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            stop=self.stop,
            seed=seed,
            **{name: getattr(self, name) for name in TRUNCATIONS},
        )
