"""Freezes weights by patterns of their names, without an adapter. Runs between loading and training."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from transformers import PreTrainedModel

from burnish.errors import ModelError
from burnish.model.settings import EXCEPT
from burnish.model.value_head import output_layer


def freeze(model: PreTrainedModel, patterns: Sequence[str], new_rows: Collection[int] = ()) -> list[str]:
    """Freezes every parameter in whose name a pattern is found; a later pattern overrides an earlier one.

    Args:
        model: a model whose parameters all train.
        patterns: regular expressions; after the prefix `EXCEPT`, matches train. A tied parameter has all its names.
        new_rows: rows of added tokens in embedding and head, which have to train.

    Returns:
        Log lines.

    Raises:
        ModelError: a pattern matches nothing, nothing is left to train, or rows of added tokens would not train.
    """
    if not patterns:
        return []
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    frozen = dict.fromkeys(names, False)
    for pattern in patterns:
        sought = re.compile(pattern.removeprefix(EXCEPT))
        matches = [key for key, aliases in names.items() if any(map(sought.search, aliases))]
        if not matches:
            raise _matches_nothing(pattern, [aliases[0] for aliases in names.values()])
        frozen |= dict.fromkeys(matches, not pattern.startswith(EXCEPT))
    parameters = list(model.parameters())
    trained = [p for p in parameters if not frozen[id(p)]]
    if not trained:
        raise ModelError(
            given=f"adapter.freeze: {', '.join(patterns)}",
            rule="something is left to train",
            remedy=f"freeze less, or add a pattern that begins with {EXCEPT} for weights that train after all",
        )
    ends = [model.get_input_embeddings().weight, output_layer(model).weight]
    if new_rows and any(frozen[id(weight)] for weight in ends):
        raise ModelError(
            given="add_tokens, and adapter.freeze matches the embedding or the head",
            rule="rows of added tokens start as the mean of all others and have to train",
            remedy="do not freeze embedding and head, or use a template whose tokens the model has",
        )
    for parameter in parameters:
        parameter.requires_grad_(not frozen[id(parameter)])
    num_trained = sum(p.numel() for p in trained)
    return [f"{num_trained:,} of {sum(p.numel() for p in parameters):,} parameters train, the others are frozen"]


def _matches_nothing(pattern: str, names: list[str]) -> ModelError:
    return ModelError(
        given=f"adapter.freeze: {pattern} matches no parameter",
        rule="a pattern is a regular expression that is found in the name of some parameter",
        remedy=f"use a part of a name; there are {len(names)}, such as {', '.join(names[:3])}",
    )
