"""What a user may say of a stage that learns from preferences. Beside `schema`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from burnish.config.own_code import is_own
from burnish.config.settings import Settings
from burnish.data.formats import Stage
from burnish.data.gate_rules import Rules
from burnish.data.siblings import Comparison
from burnish.errors import RecipeError
from burnish.losses.preference import PREFERENCE_LOSSES, Data, Preference, preference_loss, weighted_losses
from burnish.recipe.numbers import Positive
from burnish.recipe.training import FromAnswers

ReferenceRule = Literal["stored", "memory", "computed", "none"]

COMPARISONS: Mapping[Data, Comparison] = {
    Data.PAIR: "pairs",
    Data.TRIPLE: "triples",
    Data.RANKING: "rankings",
    Data.SCORED: "rankings",
    Data.VERDICT: "verdicts",
    Data.ANY: "rankings",
}
"""What rows must have for a loss."""


class LossOptions(Settings):
    """Options of preference losses; one that is null has the loss's own value. In a sum, one is for all parts that
    have it."""

    beta: float | None = None
    """Reward per nat of log-probability (or log-ratio): how closely the policy is kept at its reference."""
    label_smoothing: float | None = None
    """Share of the labels that are taken to be wrong; of cdpo, robust_dpo, exo, aot, simpo, alphapo, cpo, tpo."""
    margin: float | None = None
    """By how much chosen should exceed rejected, in the unit of rewards (γ); of simpo, alphapo, tpo_l."""
    likelihood: float | None = None
    """Weight of the likelihood of the best response; of cpo, tpo, tpo_l."""
    weight: float | None = None
    """Weight of the odds ratio; of orpo."""
    per_token: bool | None = None
    """Means instead of sums over tokens; of ipo."""
    weighted: bool | None = None
    """Whether pairs count by how likely the policy would have written them (WPO)."""
    ld_alpha: float | None = None
    """What tokens beyond the shorter response's length count (LD-DPO)."""
    divergence: str | None = None
    """reverse_kl, forward_kl, js or alpha, in the place of the KL of DPO."""
    divergence_alpha: float | None = None
    """α of divergence: alpha."""
    alpha: float | None = None
    """α of alphapo."""
    temperature: float | None = None
    """τ of discopop."""
    sensitivity: float | None = None
    """How strongly beta follows the margins; of beta_dpo."""
    usual_margin: float | None = None
    """The margin at which beta is beta; of beta_dpo."""
    wanted_weight: float | None = None
    """What wanted responses count; of kto, apo_zero_unpaired."""
    unwanted_weight: float | None = None
    """What unwanted responses count; of kto, apo_zero_unpaired."""
    per: str | None = None
    """token or response: what the likelihood is a mean over; of sft."""

    @property
    def options(self) -> dict[str, object]:
        """Those that are given."""
        found = {name: getattr(self, name) for name in LossOptions.model_fields}
        return {name: value for name, value in found.items() if value is not None}


class Prefer(LossOptions, FromAnswers):
    """Learning from better and worse: chosen and rejected, rankings, or verdicts."""

    serves: ClassVar[Stage] = "prefer"

    loss: str | dict[str, float] = "dpo"
    """A loss (docs/prefer.md), a sum ({dpo: 1, sft: 0.1}), or one of your own: file.py:name."""
    loss_options: dict[str, bool | int | float | str | None] = Field(default_factory=dict)
    """What a class of your own is made with."""
    reference: ReferenceRule | None = None
    """Log-probabilities of the policy as the stage began: stored (computed once, kept in the cache), memory (computed
    once), computed (anew for each step), none; null: stored, computed if it moves, none if the loss has none."""
    reference_model: str | None = None
    """Another model as the reference, with the same tokenizer; null: the policy as the stage began."""
    reference_update_every: Positive | None = None
    """Steps after which the reference moves towards the policy (TR-DPO); null: it stays."""
    reference_update_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """How far it moves: 1 makes it the policy."""
    gate: Rules = Rules()
    """What happens to flawed rows."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; null: 1e-6 for full weights, 1e-5 for an adapter."""

    @model_validator(mode="after")
    def _loss_can_be_made(self) -> Prefer:
        if self.is_own:
            if self.options:
                raise ValueError(
                    f"{next(iter(self.options))} is an option of our losses; give your own loss_options instead"
                )
            return self
        if self.loss_options:
            raise ValueError("loss_options are for a loss of your own (loss: file.py:name)")
        _ = self.preference  # refuses names and options that do not exist
        return self

    @model_validator(mode="after")
    def _reference_is_possible(self) -> Prefer:
        moves = self.reference_update_every is not None
        if not self.has_reference:
            given = [name for name in ("reference_model", "reference_update_every") if getattr(self, name) is not None]
            if given or self.reference not in (None, "none"):
                name = given[0] if given else "reference"
                raise ValueError(f"{name} has no effect: loss {self.loss_name} has no reference; remove it")
        elif self.reference == "none" and not self.is_own:
            raise ValueError(f"loss {self.loss_name} compares with a reference; remove reference: none")
        if moves and self.reference not in (None, "computed"):
            raise ValueError("a reference that moves is computed anew for each step: reference: computed, or leave out")
        if moves and self.reference_model is not None:
            raise ValueError("reference_model stays as it is; reference_update_every moves the policy's own beginning")
        if self.reference_update_share != 1 and not moves:
            raise ValueError("reference_update_share needs reference_update_every")
        return self

    @model_validator(mode="after")
    def _answers_are_learned(self) -> Prefer:
        if self.train_on == "everything":
            raise ValueError("train_on: everything learns prompts too; of preferences only answers are compared")
        if self.eval_answers and self.eval_questions is None:
            raise ValueError(
                "eval_answers compares answers with the right one, and preferences have none; remove it, or name "
                "eval_questions that have"
            )
        return self

    @property
    def is_own(self) -> bool:
        return isinstance(self.loss, str) and is_own(self.loss)

    @property
    def loss_name(self) -> str:
        return self.loss if isinstance(self.loss, str) else " + ".join(self.loss)

    @property
    def preference(self) -> Preference:
        """One of our losses, with what it needs.

        Raises:
            RecipeError: there is no such loss, or an option is not the loss's.
        """
        assert not self.is_own, "asked of our losses"
        if isinstance(self.loss, str):
            return preference_loss(self.loss, **self.options)
        return weighted_losses([(name, weight, self._options_of(name)) for name, weight in self.loss.items()])

    def _options_of(self, name: str) -> dict[str, object]:
        """Of the options of a sum, those of one part."""
        assert isinstance(self.loss, dict), "a sum has parts"
        have = {part: _options(part) for part in self.loss}
        for option in self.options:
            if not any(option in options for options in have.values()):
                raise RecipeError(
                    given=f"{option} for the sum {self.loss_name}, which does not use it",
                    rule=f"the options of its parts are {', '.join(sorted(set().union(*have.values())))}",
                    remedy=f"remove {option}",
                )
        return {option: value for option, value in self.options.items() if option in have[name]}

    @property
    def has_reference(self) -> bool:
        """Whether rows are annotated with a reference; a loss of the user's own sees one unless told otherwise."""
        return self.reference != "none" if self.is_own else self.preference.reference

    @property
    def reference_rule(self) -> ReferenceRule:
        """`reference`, resolved."""
        if not self.has_reference:
            return "none"
        return self.reference or ("stored" if self.reference_update_every is None else "computed")

    @property
    def comparison(self) -> Comparison:
        """What rows must have."""
        return "any" if self.is_own else COMPARISONS[self.preference.data]

    @property
    def gate_rules(self) -> Rules:
        return self.gate

    @property
    def measures_mismatches(self) -> bool:
        """Whether each step measures prompts joined to other prompts' responses."""
        return not self.is_own and self.preference.measured

    @property
    def resolved_options(self) -> dict[str, Any]:
        """Every option that the loss uses, with its value; of a sum, those that its parts have in common or alone."""
        if self.is_own:
            return {}
        names = [self.loss] if isinstance(self.loss, str) else list(self.loss)
        return {name: value for part in names for name, value in _options(part).items()} | self.options


def _options(name: str) -> dict[str, Any]:
    """The options of a loss with their defaults; none if there is no such loss."""
    if name not in PREFERENCE_LOSSES:
        return {}
    return {entry.name: entry.default for entry in fields(PREFERENCE_LOSSES[name])}
