"""Optimizer of a stage, with its learning rate and the factors of parameters."""

from __future__ import annotations

from burnish.model.adapters.kinds import KINDS as ADAPTERS
from burnish.model.policy import Model
from burnish.model.value_head import output_layer
from burnish.optim.optimizer import Optimizer
from burnish.optim.rates import combined, layer_factors, loraplus_factors, matching, pattern_factors
from burnish.optim.settings import KINDS, OptimizerSettings
from burnish.recipe.recipe import Recipe
from burnish.settings.optimizer import OptimizationSettings


def optimizer_of(recipe: Recipe, settings: OptimizationSettings, policy: Model) -> Optimizer:
    """Makes the optimizer of the policy's trained parameters.

    Raises:
        RecipeError: its library is not installed, or a pattern matches nothing.
    """
    options = settings.optimizer
    chosen = OptimizerSettings(
        kind=options.kind,
        learning_rate=learning_rate(recipe, settings),
        weight_decay=options.weight_decay,
        betas=options.betas,
        eps=options.eps,
        momentum=options.momentum,
        nesterov=options.nesterov,
        beta2_decay=options.beta2_decay,
        stochastic_rounding=options.stochastic_rounding,
        seed=recipe.seed,
        ema_decay=options.ema_decay,
    )
    ends = policy.causal_lm.get_input_embeddings(), output_layer(policy.causal_lm)
    embedding_like = [parameter for end in ends for parameter in end.parameters()]
    names = [name for name, _ in policy.trained_parameters()]
    setting = "optimizer.no_weight_decay"
    undecayed = {name for pattern in options.no_weight_decay for name in matching(names, pattern, setting)}
    factors = learning_rate_factors(recipe, settings, policy)
    return Optimizer(
        policy.trained_parameters(), chosen, embedding_like, factors, undecayed, placement=policy.placement
    )


def learning_rate(recipe: Recipe, settings: OptimizationSettings) -> float:
    """The peak learning rate, with its default resolved. LoRA's matrices need about ten times the rate of full weights
    (Schulman et al. 2025, LoRA without regret); stages that stay near a reference, a share of it, see
    `default_rate_share`."""
    if settings.learning_rate is not None:
        return settings.learning_rate
    relative = KINDS[settings.optimizer.kind].rate
    assert relative is not None, "reading a recipe refuses an optimizer without a default rate"
    relative *= settings.default_rate_share
    rate = relative * (2e-5 if recipe.adapter.kind == "full" else ADAPTERS[recipe.adapter.method].learning_rate)
    return float(f"{rate:.6g}")  # 2e-5 · 0.05 is 1.0000000000000002e-06 in floats


def learning_rate_factors(recipe: Recipe, settings: OptimizationSettings, policy: Model) -> dict[str, float]:
    """Factors of the learning rate by name of a trained parameter; factors of several rules multiply.

    Raises:
        RecipeError: a pattern matches nothing.
    """
    names = [name for name, _ in policy.trained_parameters()]
    by_pattern = pattern_factors(names, settings.optimizer.lr_multipliers)
    return combined(by_pattern, _by_layer(settings, policy), loraplus_factors(names, recipe.adapter.loraplus_ratio))


def _by_layer(settings: OptimizationSettings, policy: Model) -> dict[str, float]:
    """Factors of optimizer.layerwise_lr_decay."""
    decay = settings.optimizer.layerwise_lr_decay
    if decay is None:
        return {}
    first = {id(parameter) for parameter in policy.causal_lm.get_input_embeddings().parameters()}
    embeddings = {name for name, parameter in policy.trained_parameters() if id(parameter) in first}
    num_layers = policy.causal_lm.config.get_text_config(decoder=True).num_hidden_layers
    names = [name for name, _ in policy.trained_parameters()]
    return layer_factors(names, decay, num_layers=num_layers, embeddings=embeddings)
