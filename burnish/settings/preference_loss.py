"""What a user may say of a preference loss: its name and its options. Beside `prefer` and `rl`, which have one."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from burnish.config.settings import Settings
from burnish.config.user_code import is_user_code
from burnish.credit.settings import Form, PairingSettings
from burnish.errors import RecipeError
from burnish.losses.preference.options import DataNeeds
from burnish.losses.preference.registry import PREFERENCE_LOSSES, Chosen, chosen_loss, chosen_sum, key_of
from burnish.settings.loss_options import UserOptions, read_loss_options


class PreferenceLossOptions(Settings):
    """Options of preference losses; one that is null has the loss's own value. In a sum, one is for all parts that
    have it."""

    label_smoothing: float | None = None
    """Share of the labels that are taken to be wrong; of cdpo, robust_dpo, exo, aot, simpo, alphapo, cpo, tpo."""
    margin: float | None = None
    """By how much chosen should exceed rejected, in the unit of rewards (γ); of simpo, alphapo, tpo_l."""
    nll_coef: float | None = None
    """Weight of the likelihood of the best response; of cpo, tpo, tpo_l."""
    weight: float | None = None
    """Weight of the odds ratio; of orpo."""
    per_token: bool | None = None
    """Means instead of sums over tokens; of ipo."""
    wpo: bool | None = None
    """Whether pairs count by how likely the policy would have written them (WPO)."""
    ld_alpha: float | None = None
    """What tokens beyond the shorter response's length count (LD-DPO)."""
    divergence: str | None = None
    """reverse_kl, forward_kl, js or alpha, in the place of the KL of DPO."""
    divergence_alpha: float | None = None
    """α of divergence: alpha."""
    alpha: float | None = None
    """Of alphapo, α; of beta_dpo, how strongly beta follows the margins."""
    temperature: float | None = None
    """τ of discopop."""
    m0: float | None = None
    """The margin at which beta is beta; of beta_dpo."""
    desirable_weight: float | None = None
    """What desirable responses count; of kto, apo_zero_unpaired."""
    undesirable_weight: float | None = None
    """What undesirable responses count; of kto, apo_zero_unpaired."""
    per: str | None = None
    """token or response: what the likelihood is a mean over; of sft."""


class PreferenceLoss(Settings):
    """A preference loss, or a sum of several."""

    loss: str | dict[str, float] = "dpo"
    """A loss (docs/prefer.md), a sum ({dpo: 1, sft: 0.1}), or one of your own: file.py:name."""
    beta: float | None = None
    """Reward per nat of log-probability (or log-ratio): how closely the policy is kept at its reference; null: the
    loss's own value."""
    loss_options: PreferenceLossOptions | UserOptions = Field(default_factory=dict, validate_default=True)
    """Further options of the loss, such as {label_smoothing: 0.1}; of your own loss, what its class is made with."""

    @field_validator("loss_options", mode="plain", json_schema_input_type=PreferenceLossOptions | UserOptions)
    @classmethod
    def _options_of_the_loss(cls, value: object, info: ValidationInfo) -> PreferenceLossOptions | UserOptions:
        return read_loss_options(PreferenceLossOptions, value, info.data.get("loss"))

    @property
    def is_own(self) -> bool:
        return isinstance(self.loss, str) and is_user_code(self.loss)

    @property
    def loss_name(self) -> str:
        return self.loss if isinstance(self.loss, str) else " + ".join(self.loss)

    @property
    def options(self) -> dict[str, object]:
        """Those of our losses that are given, beta among them."""
        found = {
            "beta": self.beta,
            **(dict(self.loss_options) if isinstance(self.loss_options, PreferenceLossOptions) else {}),
        }
        return {name: value for name, value in found.items() if value is not None}

    @property
    def preference(self) -> Chosen:
        """One of our losses, with what it needs; `losses.preference.build` makes it.

        Raises:
            RecipeError: there is no such loss, or an option is not the loss's.
        """
        assert not self.is_own, "asked of our losses"
        if isinstance(self.loss, str):
            return chosen_loss(self.loss, **self.options)
        return chosen_sum([(name, weight, self._options_of(name)) for name, weight in self.loss.items()])

    def _options_of(self, name: str) -> dict[str, object]:
        """Of the options of a sum, those of one part."""
        assert isinstance(self.loss, dict), "a sum has parts"
        have = {part: _options(part) for part in self.loss}
        for option in self.options:
            if not any(option in options for options in have.values()):
                raise RecipeError(
                    given=f"{key_of(option)} for the sum {self.loss_name}, which does not use it",
                    rule=f"the options of its parts are {', '.join(sorted(map(key_of, set().union(*have.values()))))}",
                    remedy=f"remove {key_of(option)}",
                )
        return {option: value for option, value in self.options.items() if option in have[name]}

    @property
    def resolved_options(self) -> dict[str, Any]:
        """Every option that the loss uses, by its key, with its value; of a sum, those that its parts have in common or
        alone."""
        if self.is_own:
            return {}
        names = [self.loss] if isinstance(self.loss, str) else list(self.loss)
        found = {name: value for part in names for name, value in _options(part).items()} | self.options
        return {key_of(name): value for name, value in found.items()}


class OnlinePreference(PreferenceLoss):
    """Learning from comparisons of the policy's own responses (docs/methods/grpo.md)."""

    loss: str | dict[str, float] = "dpo"
    """A loss of pairs, rankings or verdicts (docs/prefer.md), or a sum of such ({dpo: 1, sft: 0.1})."""
    pairs: Literal["best_worst", "all"] | None = None
    """Which responses to a prompt are compared, with a loss of pairs; null: best_worst."""

    @model_validator(mode="after")
    def _loss_learns_from_responses(self) -> OnlinePreference:
        if self.is_own:
            raise ValueError(
                f"preference.loss: {self.loss} is of your own; responses are compared by our losses (docs/prefer.md)"
            )
        if self.preference.measured:
            raise ValueError(
                f"preference.loss: {self.loss_name} measures prompts joined to other prompts' responses, which is of a "
                "stage prefer; apo_zero_unpaired learns from verdicts without"
            )
        if self.preference.data is DataNeeds.TRIPLE:
            raise ValueError(
                f"preference.loss: {self.loss_name} wants a gold answer beside both; here all are the policy's own"
            )
        if self.pairs is not None and self.preference.data not in (DataNeeds.PAIR, DataNeeds.ANY):
            raise ValueError(
                f"preference.pairs has no effect: preference.loss {self.loss_name} learns from all responses; remove it"
            )
        return self

    def pairing(self, success_threshold: float) -> PairingSettings:
        """How graded responses become what the loss learns from."""
        forms: dict[DataNeeds, Form] = {
            DataNeeds.RANKING: "ranking",
            DataNeeds.SCORED: "ranking",
            DataNeeds.VERDICT: "verdicts",
        }
        form = forms.get(self.preference.data, self.pairs or "best_worst")
        return PairingSettings(form, success_threshold, self.preference.reference)


def _options(name: str) -> dict[str, Any]:
    """The options of a loss with their defaults; none if there is no such loss."""
    if name not in PREFERENCE_LOSSES:
        return {}
    return {entry.name: entry.default for entry in fields(PREFERENCE_LOSSES[name])}
