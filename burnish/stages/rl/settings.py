"""What a user may say of a stage that learns by trying. Under `recipe`; needs no torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from burnish.algorithms import Algorithm
from burnish.credit.settings import CreditSettings, PairingSettings
from burnish.data.formats.format import Stage
from burnish.sampling.params import SamplingParams
from burnish.settings.generation import TRUNCATIONS, Writing
from burnish.settings.numbers import Positive
from burnish.settings.preference_loss import OnlinePreference
from burnish.settings.stage import Checkpoints, Training
from burnish.sources.settings import Replaying, RolloutSettings
from burnish.stages.rl.policy_gradient import Composition
from burnish.stop_rule import StopRule
from burnish.tasks.reward import Reward
from burnish.tasks.settings import read_rewards
from burnish.watch.settings import AlarmName

KlRule = Literal["k1", "k1_response", "k2", "k3"]


class RlCheckpoints(Checkpoints):
    """Which checkpoints stay, and which weights a stage hands on."""

    best_metric: Literal["reward", "accuracy"] = "reward"
    """What early_stopping and keep_best go by: the mean reward of the held-out answers, or the share of right ones."""


class Rl(Writing, Composition, Training):
    """Learning by trying: the policy writes responses, rewards judge them, the better ones become likelier."""

    serves: ClassVar[Stage] = "rl"

    reward: str | dict[str, Any] | list[str | dict[str, Any]]
    """What judges responses: a name, file.py:function, a mapping, or a list of these (docs/rewards.md)."""
    workers: Positive | None = None
    """Processes that judge; null: one for each core, at most 8."""
    responses: Positive = 8
    """Responses to each prompt."""
    groups_per_step: Positive = 8
    """Prompts per optimiser step, each with its responses: the batch size that matters for the result."""
    preference: OnlinePreference | None = None
    """With algorithm: online_dpo, the loss and what it compares, such as {loss: ipo, beta: 0.2}; null: dpo, of the best
    and the worst response."""
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
    """Weight of an entropy bonus; with entropy_target the first one."""
    entropy_target: Annotated[float, Field(gt=0)] | None = None
    """Nats per token that the policy's entropy is held at: the weight of the bonus rises where it is lower, and falls
    where it is higher; null: the weight is constant."""
    entropy_rate: Annotated[float, Field(gt=0)] | None = None
    """By how much the weight moves for each nat that is missing, at each step; null: 0.001."""
    entropy_most: Annotated[float, Field(gt=0)] | None = None
    """Largest weight that entropy_target may reach; null: 0.1."""
    mask_cut: bool = False
    """Responses that were cut at max_new_tokens are compared with their siblings, and not learned from (overlong
    filtering)."""
    eval_prompts: Positive = 128
    """Held-out prompts, drawn by the seed, that are answered greedily at every evaluation: eval/reward, eval/accuracy,
    and samples.jsonl with the answers."""
    checkpoints: RlCheckpoints = RlCheckpoints()
    """Which checkpoints stay, and which weights the stage hands on."""
    stop_on: Annotated[tuple[AlarmName, ...], Field(strict=False)] = ()
    """Alerts that end the stage: collapse, no_reward, length_drift, unjudged, repetition, distance, tricks
    (docs/watch.md)."""
    samples_every: Positive = 10
    """Steps between those of which the best, the worst and the most surprising response go to samples.jsonl."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; null: 1e-6 for full weights, 1e-5 for an adapter."""

    @model_validator(mode="after")
    def _rewards_are_there(self) -> Rl:
        weighted = [reward for reward in self.rewards if reward.weight]  # refuses names and options that do not exist
        if self.combination == "normalised_sum" and len(weighted) == 1:
            raise ValueError(f"combination: normalised_sum is of several rewards, and here {weighted[0].key} is alone")
        if self.responses == 1 and self.compares:
            raise ValueError(
                f"responses: 1 has nothing to be compared with, and algorithm: {self.algorithm} compares the responses "
                "to a prompt; write at least 2, or choose algorithm: reinforce_pp"
            )
        return self

    @model_validator(mode="after")
    def _ratios_are_those_of_the_policy(self) -> Rl:
        if cut := self.truncation if self.is_gradient else "":
            drawn = f"{cut} draws from another distribution than the policy's, and "
            if self.correction is not None:
                raise ValueError(f"{drawn}correction weighs by the probabilities before it; remove one of them")
            if self.resolved_old != "own":
                why = (
                    f"updates: {self.updates}" if self.updates > 1 else "replay" if self.replay else f"old: {self.old}"
                )
                raise ValueError(
                    f"{drawn}{why} learns by ratios of the policy's probabilities; remove {cut}, or set updates: 1"
                )
        return self

    @model_validator(mode="after")
    def _comparisons_have_a_loss(self) -> Rl:
        if self.is_gradient:
            if self.preference is not None:
                raise ValueError(f"preference is of algorithm: online_dpo, and here it is {self.algorithm}; remove one")
            return self
        for key, off in (("beta", 0), ("entropy", 0), ("entropy_target", None), ("kl", "k3"), ("mask_cut", False)):
            if getattr(self, key) != off:
                remedy = "; its own beta is preference.beta" if key == "beta" else ""
                raise ValueError(f"{key} has no effect with algorithm: online_dpo; remove it{remedy}")
        if self.combination is not None and not self.compares:
            raise ValueError("combination compares rewards within a prompt, and this loss takes each verdict by itself")
        return self

    @model_validator(mode="after")
    def _endings_have_figures(self) -> Rl:
        by = self.checkpoints.best_metric
        if by != "reward" and not (self.checkpoints.keep_best or self.early_stopping):
            raise ValueError(
                f"checkpoints.best_metric: {by} needs checkpoints.keep_best or early_stopping, which go by it"
            )
        if "distance" in self.stop_on and not self.needs_reference:
            raise ValueError("stop_on: distance is from a reference, and none is computed; give beta, or remove it")
        if self.replay is not None and not Replaying(self.replay.groups, self.replay.share).count(self._batch):
            raise ValueError(
                f"replay.share: {self.replay.share:g} of {self._batch} groups is not one; raise it, or groups_per_step"
            )
        return self

    @model_validator(mode="after")
    def _entropy_is_controlled(self) -> Rl:
        given = next((key for key in ("entropy_rate", "entropy_most") if getattr(self, key) is not None), None)
        if self.entropy_target is None and given is not None:
            raise ValueError(f"{given} needs entropy_target: without it the weight is constant")
        if self.entropy_target is not None and self.entropy > (most := self.entropy_most or 0.1):
            raise ValueError(f"entropy: {self.entropy:g}, the first weight, is above entropy_most: {most:g}")
        return self

    @model_validator(mode="after")
    def _kl_has_a_weight(self) -> Rl:
        if self.beta == 0 and "kl" in self.model_fields_set and self.kl != "k3":
            raise ValueError(f"kl: {self.kl} has no effect with beta: 0; give beta, or remove kl")
        return self

    @property
    def rewards(self) -> tuple[Reward, ...]:
        """As `tasks.settings.read_rewards` reads them.

        Raises:
            RecipeError: there is no such reward or option.
        """
        return read_rewards(self.reward)

    @property
    def compares(self) -> bool:
        """Whether responses to one prompt are compared with each other."""
        return self.rule.compares

    @property
    def chosen(self) -> Algorithm:
        """The policy gradient with everything that this stage says of it."""
        found = self.composed(self.max_new_tokens)
        credit, loss = found.credit, replace(found.loss, entropy=self.entropy)
        match self.kl:
            case "k1":
                credit = replace(credit, token_beta=self.beta)
            case "k1_response":
                credit = replace(credit, sequence_beta=self.beta)
            case _:
                loss = replace(loss, beta=self.beta, kl=self.kl)
        return replace(found, credit=credit, loss=loss)

    @property
    def rule(self) -> CreditSettings | PairingSettings:
        """What becomes of graded groups."""
        if self.is_gradient:
            return self.chosen.credit
        return replace(self.compared.pairing(self.pass_at), combination=self.combination or "sum")

    @property
    def compared(self) -> OnlinePreference:
        """The loss of comparisons, where the algorithm has one."""
        return self.preference or OnlinePreference()

    @property
    def needs_reference(self) -> bool:
        """Whether responses are annotated with a reference."""
        if not self.is_gradient:
            return self.compared.preference.reference
        found = self.chosen
        return found.credit.needs_reference or found.loss.needs_reference

    @property
    def entropy_control(self) -> tuple[float, float, float] | None:
        """Target, rate and largest weight of the entropy; None: its weight is constant."""
        if self.entropy_target is None:
            return None
        return self.entropy_target, self.entropy_rate or 1e-3, self.entropy_most or 0.1

    @property
    def stop_rule(self) -> StopRule:
        """What ends the stage early, and which weights it hands on."""
        return replace(
            super().stop_rule, best_metric=self.checkpoints.best_metric, rises=True, alerts=frozenset(self.stop_on)
        )

    @property
    def _batch(self) -> int:
        """Groups of one batch of responses."""
        return self.groups_per_step * self.updates

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
            mask_cut=self.mask_cut,
            replayed=None if self.replay is None else Replaying(self.replay.groups, self.replay.share),
        )

    @property
    def recomputes(self) -> bool:
        """Whether the trainer computes the log-probabilities of a batch before its first update."""
        return self.is_gradient and self.resolved_old == "computed"

    def params(self, seed: int) -> SamplingParams:
        """How tokens are chosen in training."""
        return SamplingParams(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            stop=self.stop,
            seed=seed,
            **{name: getattr(self, name) for name in TRUNCATIONS},
        )
