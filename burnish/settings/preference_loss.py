"""Settings of a preference loss: its name and its options. Part of the stages `prefer` and `rl`."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from burnish.config.settings import Settings
from burnish.config.user_code import is_user_code
from burnish.credit.settings import Form, PairingSettings
from burnish.errors import RecipeError
from burnish.losses.preference.options import DataNeeds
from burnish.losses.preference.registry import PREFERENCE_LOSSES, Chosen, chosen_loss, chosen_sum, key_of
from burnish.settings.aliases import named_here
from burnish.settings.loss_options import UserOptions, read_loss_options
from burnish.settings.other_names import LOSSES

LossField = Annotated[str | dict[str, float], BeforeValidator(named_here(LOSSES))]


class PreferenceLossOptions(Settings):
    """Options of preference losses; null: the loss's own default. In a weighted sum an option applies to all parts that
    have it."""

    label_smoothing: float | None = None
    """Assumed share of wrong labels; of cdpo, robust_dpo, exo, aot, simpo, alphapo, cpo, tpo."""
    margin: float | None = None
    """Target margin of the chosen over the rejected reward (γ), in the unit of rewards; of simpo, alphapo, tpo_l."""
    nll_coef: float | None = None
    """Weight of the negative log-likelihood of the best response; of cpo, tpo, tpo_l."""
    weight: float | None = None
    """Weight of the odds-ratio term (λ); of orpo."""
    per_token: bool | None = None
    """Means instead of sums of log-ratios over tokens; of ipo."""
    wpo: bool | None = None
    """Weights pairs by their probability under the policy (WPO)."""
    ld_alpha: float | None = None
    """Weight of tokens beyond the length of the shorter response (LD-DPO)."""
    divergence: str | None = None
    """f-divergence instead of DPO's reverse KL: reverse_kl, forward_kl, js or alpha."""
    divergence_alpha: float | None = None
    """α of divergence: alpha, from 0 to 1."""
    alpha: float | None = None
    """For alphapo its α; for beta_dpo the sensitivity of beta to the margins."""
    temperature: float | None = None
    """Temperature τ of discopop."""
    m0: float | None = None
    """Margin at which beta has its nominal value; of beta_dpo."""
    desirable_weight: float | None = None
    """Weight of desirable responses; of kto, apo_zero_unpaired."""
    undesirable_weight: float | None = None
    """Weight of undesirable responses; of kto, apo_zero_unpaired."""
    per: str | None = None
    """Mean of the log-likelihood over tokens or over responses: token or response; of sft."""


class PreferenceLoss(Settings):
    """A preference loss, or a weighted sum of several."""

    loss: LossField = "dpo"
    """Loss: a name (docs/prefer.md), a weighted sum ({dpo: 1, sft: 0.1}), or your own file.py:name."""
    beta: float | None = None
    """Implicit reward per nat of log-probability or log-ratio: higher values keep the policy closer to its reference;
    null: the loss's own default."""
    loss_options: PreferenceLossOptions | UserOptions = Field(default_factory=dict, validate_default=True)
    """Further options of the loss, such as {label_smoothing: 0.1}; for your own loss, arguments of its class."""

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
        """Options of built-in losses that are not null, beta among them."""
        options = {
            "beta": self.beta,
            **(dict(self.loss_options) if isinstance(self.loss_options, PreferenceLossOptions) else {}),
        }
        return {name: value for name, value in options.items() if value is not None}

    @property
    def preference(self) -> Chosen:
        """The built-in loss and the data that it needs; `losses.preference.build` makes it.

        Raises:
            RecipeError: there is no such loss, or the loss has no such option.
        """
        assert not self.is_own, "a user's loss has no entry in the registry"
        if isinstance(self.loss, str):
            return chosen_loss(self.loss, **self.options)
        return chosen_sum([(name, weight, self._options_of(name)) for name, weight in self.loss.items()])

    def _options_of(self, name: str) -> dict[str, object]:
        """Options of a weighted sum that one part has."""
        assert isinstance(self.loss, dict), "a sum has parts"
        by_part = {part: _options(part) for part in self.loss}
        for option in self.options:
            if not any(option in options for options in by_part.values()):
                raise RecipeError(
                    given=f"{key_of(option)} for the sum {self.loss_name}, which does not use it",
                    rule="the options of its parts are "
                    + ", ".join(sorted(map(key_of, set().union(*by_part.values())))),
                    remedy=f"remove {key_of(option)}",
                )
        return {option: value for option, value in self.options.items() if option in by_part[name]}

    @property
    def resolved_options(self) -> dict[str, Any]:
        """Key → value of every option that the loss, or a part of the sum, uses."""
        if self.is_own:
            return {}
        names = [self.loss] if isinstance(self.loss, str) else list(self.loss)
        options = {name: value for part in names for name, value in _options(part).items()} | self.options
        return {key_of(name): value for name, value in options.items()}


class OnlinePreference(PreferenceLoss):
    """Preference learning from comparisons of the policy's own responses (docs/methods/grpo.md)."""

    loss: LossField = "dpo"
    """Loss of pairs, rankings or verdicts (docs/prefer.md), or a weighted sum ({dpo: 1, sft: 0.1})."""
    pairs: Literal["best_worst", "all"] | None = None
    """Pairs of responses to a prompt, for a loss of pairs: best_worst, or all pairs of different reward; null:
    best_worst."""

    @model_validator(mode="after")
    def _loss_learns_from_responses(self) -> OnlinePreference:
        if self.is_own:
            raise ValueError(
                f"preference.loss: {self.loss} is a user's loss; here only built-in losses are possible "
                "(docs/prefer.md)"
            )
        if self.preference.measured:
            raise ValueError(
                f"preference.loss: {self.loss_name} measures prompts joined to other prompts' responses, which only a "
                "stage prefer does; apo_zero_unpaired learns from verdicts without them"
            )
        if self.preference.data is DataNeeds.TRIPLE:
            raise ValueError(
                f"preference.loss: {self.loss_name} needs a gold response as well; here all are the policy's own"
            )
        if self.pairs is not None and self.preference.data not in (DataNeeds.PAIR, DataNeeds.ANY):
            raise ValueError(
                f"preference.pairs has no effect: preference.loss {self.loss_name} learns from all responses; remove it"
            )
        return self

    def pairing(self, success_threshold: float) -> PairingSettings:
        """Settings that turn graded responses into the groups of the loss."""
        forms: dict[DataNeeds, Form] = {
            DataNeeds.RANKING: "ranking",
            DataNeeds.SCORED: "ranking",
            DataNeeds.VERDICT: "verdicts",
        }
        form = forms.get(self.preference.data, self.pairs or "best_worst")
        return PairingSettings(form, success_threshold, self.preference.reference)


def _options(name: str) -> dict[str, Any]:
    """Options of a loss with their defaults; empty if there is no such loss."""
    if name not in PREFERENCE_LOSSES:
        return {}
    return {entry.name: entry.default for entry in fields(PREFERENCE_LOSSES[name])}
