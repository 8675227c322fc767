"""Settings of preference learning. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from burnish.data.filter_rules import FilterRules
from burnish.data.formats.format import Stage
from burnish.data.settings import Comparison
from burnish.losses.preference.options import DataNeeds
from burnish.model.settings import NamedModel
from burnish.settings.aliases import REFERENCE_RENAMED, named_here
from burnish.settings.numbers import Positive
from burnish.settings.optimizer import NEAR_REFERENCE
from burnish.settings.preference_loss import PreferenceLoss
from burnish.settings.resolved import Resolved, resolved
from burnish.settings.stage import SupervisedSettings

ReferenceRule = Literal["precomputed", "precomputed_in_memory", "online", "none"]

COMPARISONS: Mapping[DataNeeds, Comparison] = {
    DataNeeds.PAIR: "pairs",
    DataNeeds.TRIPLE: "triples",
    DataNeeds.RANKING: "rankings",
    DataNeeds.SCORED: "rankings",
    DataNeeds.VERDICT: "verdicts",
    DataNeeds.ANY: "rankings",
}
"""Data that a loss needs → kind of comparison that rows must have."""


class PreferSettings(PreferenceLoss, SupervisedSettings):
    """Preference learning: from pairs (chosen and rejected), rankings, or labels of single responses."""

    serves: ClassVar[Stage] = "prefer"
    default_rate_share: ClassVar[float] = NEAR_REFERENCE
    usual: ClassVar[tuple[str, ...]] = (
        "loss",
        "beta",
        "epochs",
        "learning_rate",
        "sequences_per_step",
        "tokens_per_microbatch",
        "max_length",
        "chat_template",
        "reference",
        "eval_share",
        "eval_every",
        "adapter.kind",
        "adapter.rank",
        "gradient_checkpointing",
        "dtype",
    )

    reference: Annotated[ReferenceRule | None, BeforeValidator(named_here(REFERENCE_RENAMED))] = None
    """How the reference's log-probabilities are computed: precomputed (once, kept in the cache), precomputed_in_memory
    (once), online (in each step), none; null: precomputed, or online with reference_sync_steps, or none if the loss has
    no reference."""
    reference_model: str | None = None
    """Reference model, with the policy's tokenizer; also stage:NAME, an earlier stage of the recipe; null: the policy
    at the start of the stage."""
    reference_sync_steps: Positive | None = None
    """Steps between updates of the reference towards the policy (TR-DPO); null: the reference is fixed."""
    reference_sync_alpha: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the policy in the updated reference; 1: the reference becomes the policy."""
    filters: FilterRules = FilterRules()
    """Treatment of flawed comparisons."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; null: 1e-6 for full weights, 1e-5 for an adapter."""

    @model_validator(mode="after")
    def _loss_can_be_made(self) -> PreferSettings:
        if self.is_own:
            if self.beta is not None:
                raise ValueError("beta is an option of built-in losses; set loss_options of your own loss instead")
            return self
        _ = self.preference  # refuses names and options that do not exist
        return self

    @model_validator(mode="after")
    def _reference_is_possible(self) -> PreferSettings:
        moves = self.reference_sync_steps is not None
        if not self.has_reference:
            given = [name for name in ("reference_model", "reference_sync_steps") if getattr(self, name) is not None]
            if given or self.reference not in (None, "none"):
                name = given[0] if given else "reference"
                raise ValueError(f"{name} has no effect: loss {self.loss_name} has no reference; remove it")
        elif self.reference == "none" and not self.is_own:
            raise ValueError(f"loss {self.loss_name} compares with a reference; remove reference: none")
        if moves and self.reference not in (None, "online"):
            raise ValueError(
                "a reference that is updated is computed in each step: write reference: online, or leave it out"
            )
        if moves and self.reference_model is not None:
            raise ValueError(
                "reference_model is fixed; reference_sync_steps updates a copy of the policy at the start of the stage"
            )
        if self.reference_sync_alpha != 1 and not moves:
            raise ValueError("reference_sync_alpha needs reference_sync_steps")
        return self

    @model_validator(mode="after")
    def _answers_are_learned(self) -> PreferSettings:
        if self.train_on == "everything":
            raise ValueError("train_on: everything also trains prompts, and preference losses compare only responses")
        if self.evaluation.generations and self.evaluation.prompts_data is None:
            raise ValueError(
                "evaluation.generations compares responses with a reference answer, and preference data have none; "
                "remove it, or set evaluation.prompts_data to data that have"
            )
        return self

    @property
    def named_models(self) -> Sequence[NamedModel]:
        if self.reference_model is None:
            return ()
        return (NamedModel("reference_model", self.reference_model, ("language_model",)),)

    @property
    def has_reference(self) -> bool:
        """Whether rows get log-probabilities of a reference; for a user's loss they do unless reference is none."""
        return self.reference != "none" if self.is_own else self.preference.reference

    @property
    def resolved_defaults(self) -> Mapping[str, Resolved]:
        options = resolved(self.resolved_options, f"loss: {self.loss_name}")
        return {**super().resolved_defaults, **options, **resolved({"reference": self.reference_rule}, "default")}

    @property
    def reference_rule(self) -> ReferenceRule:
        """`reference` with its default resolved."""
        if not self.has_reference:
            return "none"
        return self.reference or ("precomputed" if self.reference_sync_steps is None else "online")

    @property
    def comparison(self) -> Comparison:
        """Kind of comparison that rows must have."""
        return "any" if self.is_own else COMPARISONS[self.preference.data]

    @property
    def filter_rules(self) -> FilterRules:
        return self.filters

    @property
    def measures_mismatches(self) -> bool:
        """Whether each step measures prompts joined to other prompts' responses."""
        return not self.is_own and self.preference.measured
