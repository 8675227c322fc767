"""Learning rates of single parameters: by hand, and as a law of what they change."""

import pytest
import torch
from torch import nn

from burnish.errors import RecipeError
from burnish.optim.optimizer import Optimizer
from burnish.optim.rates import combined, layer_factors, pattern_factors
from burnish.optim.settings import OptimizerSettings

NAMES = [
    "model.embed_tokens.weight",
    "model.layers.0.mlp.experts.7.up_proj.weight",
    "model.layers.1.self_attn.q_proj.lora_B.default.weight",
    "model.norm.weight",
    "lm_head.weight",
]


def test_layer_decay_by_hand():
    factors = layer_factors(NAMES, 0.5, num_layers=2, embeddings=["model.embed_tokens.weight"])
    assert list(factors) == NAMES
    assert list(factors.values()) == [0.125, 0.25, 0.5, 1, 1]


def test_patterns_multiply_where_several_match():
    assert pattern_factors(NAMES, {"embed": 0.1, r"layers\.": 0.5, "lora_B": 16.0}) == {
        NAMES[0]: 0.1,
        NAMES[1]: 0.5,
        NAMES[2]: 8.0,
    }


def test_factors_of_all_reasons_multiply():
    assert combined({"a": 0.5, "b": 2.0}, {}, {"b": 3.0, "c": 0.25}) == {"a": 0.5, "b": 6.0, "c": 0.25}


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(RecipeError, match=r"optimizer\.lr_multipliers names wte"):
        pattern_factors(NAMES, {"wte": 0.1})


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit", "muon"])
def test_a_factor_is_a_rate_of_its_own(name):
    """Weights with the factor f move as if f times the rate were everybody's; the others as if there were none."""

    def trained(rate: float, factors: dict[str, float] | None) -> nn.Sequential:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 80), nn.Linear(80, 4))
        settings = OptimizerSettings(kind=name, learning_rate=rate, weight_decay=0.1)
        optimizer = Optimizer(model.named_parameters(), settings, factors=factors)
        model(torch.ones(1, 64)).square().sum().backward()
        optimizer.step(0.5, max_grad_norm=None)
        return model

    plain, quarter = trained(0.02, None), trained(0.005, None)
    mixed = trained(0.02, {"1.weight": 0.25, "1.bias": 0.25})
    for parameter in ("0.weight", "0.bias"):
        assert torch.equal(mixed.get_parameter(parameter), plain.get_parameter(parameter))
    for parameter in ("1.weight", "1.bias"):
        assert torch.equal(mixed.get_parameter(parameter), quarter.get_parameter(parameter))
