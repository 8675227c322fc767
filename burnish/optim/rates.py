"""Learning-rate factors of single parameters, by name. Factors for the same parameter multiply.

The optimizer takes the result: ``Mapping[str, float]``, name of a trained parameter → factor of the learning rate; a
name that is not in it has the factor 1. Decoupled weight decay has the factor too, since it is multiplied by the
learning rate.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping

from burnish.errors import RecipeError

_LAYER = re.compile(r"\.(\d+)\.")
"""The first number in a parameter's name is its layer: ``model.layers.3.mlp.experts.7.up_proj.weight`` is in layer
3."""


def layer_of(name: str) -> int | None:
    """The layer of a parameter, counted from 0; None: it is before or after the layers."""
    match = _LAYER.search(name)
    return int(match[1]) if match else None


def layer_factors(
    names: Iterable[str], decay: float, *, num_layers: int, embeddings: Collection[str] = ()
) -> dict[str, float]:
    """Layer-wise decay (arXiv 2003.10555, section 3.2): lower learning rates nearer to the input.

    Layer k of n gets decay^(n - k), embeddings decay^(n + 1), and what follows the layers (last norm, head) 1.

    Args:
        names: trained parameters.
        decay: factor between neighbouring layers, in (0, 1].
        num_layers: n, of the whole model.
        embeddings: names of parameters before the first layer (a tied head has the embedding's factor).
    """
    factors = {}
    for name in names:
        layer = layer_of(name)
        depth = num_layers + 1 if name in embeddings else 0 if layer is None else num_layers - layer
        factors[name] = decay**depth
    return factors


def loraplus_factors(names: Iterable[str], ratio: float) -> dict[str, float]:
    """Factors of the learning rate: `ratio` for every B.

    LoRA+ (arXiv 2402.12354, section 4) keeps A's rate and multiplies B's: with one rate for both, B's updates vanish
    against A's as the width grows. The paper finds ratios about 2⁴ good.

    Args:
        names: names of trained parameters.
        ratio: 1 is plain LoRA.
    """
    return {name: ratio for name in names if ".lora_B." in name or ".lora_embedding_B." in name}


def pattern_factors(names: Collection[str], patterns: Mapping[str, float]) -> dict[str, float]:
    """Factors by regular expressions that are searched for in the names; where several match, they multiply.

    Raises:
        RecipeError: a pattern matches no trained parameter.
    """
    matched = {pattern: matching(names, pattern, "optimizer.lr_multipliers") for pattern in patterns}
    return combined(*(dict.fromkeys(matched[pattern], factor) for pattern, factor in patterns.items()))


def matching(names: Collection[str], pattern: str, setting: str) -> list[str]:
    """The names in which a regular expression is found.

    Raises:
        RecipeError: there is none; `setting` is the recipe key of the pattern.
    """
    matches = [name for name in names if re.search(pattern, name)]
    if not matches:
        raise RecipeError(
            given=f"{setting} names {pattern}",
            rule="a pattern is a regular expression that is found in the name of some trained parameter",
            remedy=f"use a part of a name; the {len(names)} trained ones are such as {', '.join(sorted(names)[:3])}",
        )
    return matches


def combined(*factors: Mapping[str, float]) -> dict[str, float]:
    """The product of factors for the same parameter."""
    names = dict.fromkeys(name for mapping in factors for name in mapping)
    return {name: math.prod(mapping.get(name, 1.0) for mapping in factors) for name in names}
