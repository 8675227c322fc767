"""What a user may say of a stage that learns from preferences. Under `recipe`; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from burnish.data.filter_rules import FilterRules
from burnish.data.formats.format import Stage
from burnish.data.settings import Comparison
from burnish.losses.preference.options import DataNeeds
from burnish.settings.aliases import REFERENCE_RENAMED, named_here
from burnish.settings.numbers import Positive
from burnish.settings.preference_loss import PreferenceLoss
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
"""What rows must have for a loss."""


class PreferSettings(PreferenceLoss, SupervisedSettings):
    """Learning from better and worse: chosen and rejected, rankings, or verdicts."""

    serves: ClassVar[Stage] = "prefer"

    reference: Annotated[ReferenceRule | None, BeforeValidator(named_here(REFERENCE_RENAMED))] = None
    """Log-probabilities of the policy as the stage began: precomputed (once, kept in the cache), precomputed_in_memory
    (once), online (anew for each step), none; null: precomputed, online if it moves, none if the loss has none."""
    reference_model: str | None = None
    """Another model as the reference, with the same tokenizer; null: the policy as the stage began."""
    reference_sync_steps: Positive | None = None
    """Steps after which the reference moves towards the policy (TR-DPO); null: it stays."""
    reference_sync_alpha: Annotated[float, Field(gt=0, le=1)] = 1.0
    """How far it moves: 1 makes it the policy."""
    filters: FilterRules = FilterRules()
    """What happens to flawed rows."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; null: 1e-6 for full weights, 1e-5 for an adapter."""

    @model_validator(mode="after")
    def _loss_can_be_made(self) -> PreferSettings:
        if self.is_own:
            if self.beta is not None:
                raise ValueError("beta is an option of our losses; give your own loss_options instead")
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
            raise ValueError("a reference that moves is computed anew for each step: reference: online, or leave out")
        if moves and self.reference_model is not None:
            raise ValueError("reference_model stays as it is; reference_sync_steps moves the policy's own beginning")
        if self.reference_sync_alpha != 1 and not moves:
            raise ValueError("reference_sync_alpha needs reference_sync_steps")
        return self

    @model_validator(mode="after")
    def _answers_are_learned(self) -> PreferSettings:
        if self.train_on == "everything":
            raise ValueError("train_on: everything learns prompts too; of preferences only answers are compared")
        if self.evaluation.generations and self.evaluation.prompts_data is None:
            raise ValueError(
                "evaluation.generations compares responses with the right one, and preferences have none; remove it, "
                "or name evaluation.prompts_data that have"
            )
        return self

    @property
    def has_reference(self) -> bool:
        """Whether rows are annotated with a reference; a loss of the user's own sees one unless told otherwise."""
        return self.reference != "none" if self.is_own else self.preference.reference

    @property
    def reference_rule(self) -> ReferenceRule:
        """`reference`, resolved."""
        if not self.has_reference:
            return "none"
        return self.reference or ("precomputed" if self.reference_sync_steps is None else "online")

    @property
    def comparison(self) -> Comparison:
        """What rows must have."""
        return "any" if self.is_own else COMPARISONS[self.preference.data]

    @property
    def gate_rules(self) -> FilterRules:
        return self.filters

    @property
    def measures_mismatches(self) -> bool:
        """Whether each step measures prompts joined to other prompts' responses."""
        return not self.is_own and self.preference.measured
