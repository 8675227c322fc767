"""Freezing a part of the weights by patterns, where no adapter does it. Stands between loading and training."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from transformers import PreTrainedModel

from burnish.errors import ModelError
from burnish.model.settings import EXCEPT
from burnish.model.value_head import output_layer


def freeze(model: PreTrainedModel, patterns: Sequence[str], new_rows: Collection[int] = ()) -> list[str]:
    """Freezes every parameter whose name a pattern is found in; later patterns count more.

    Args:
        model: all of whose parameters train.
        patterns: regular expressions; after `EXCEPT`, what they match trains. A tied parameter has all its names.
        new_rows: rows of embedding and head that have to train, since they are of added tokens.

    Returns:
        Lines for people.

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
        found = [key for key, each in names.items() if any(re.search(_expression(pattern), name) for name in each)]
        if not found:
            raise _matches_nothing(pattern, [each[0] for each in names.values()])
        frozen |= dict.fromkeys(found, not pattern.startswith(EXCEPT))
    parameters = list(model.parameters())
    trained = [p for p in parameters if not frozen[id(p)]]
    if not trained:
        raise ModelError(
            given=f"adapter.freeze: {', '.join(patterns)}",
            rule="something is left to train",
            remedy=f"freeze less, or say what trains all the same by a pattern that begins with {EXCEPT}",
        )
    ends = [model.get_input_embeddings().weight, output_layer(model).weight]
    if new_rows and any(frozen[id(weight)] for weight in ends):
        raise ModelError(
            given="add_tokens, and adapter.freeze matches the embedding or the head",
            rule="rows of added tokens begin as the mean of all others and have to learn what they are",
            remedy="let embedding and head train, or use a template whose tokens the model has",
        )
    for parameter in parameters:
        parameter.requires_grad_(not frozen[id(parameter)])
    share = sum(p.numel() for p in trained)
    return [f"adapter.freeze: {share:,} of {sum(p.numel() for p in parameters):,} parameters train"]


def _expression(pattern: str) -> str:
    return pattern.removeprefix(EXCEPT)


def _matches_nothing(pattern: str, names: list[str]) -> ModelError:
    return ModelError(
        given=f"adapter.freeze names {pattern}",
        rule="a pattern is a regular expression that is found in the name of some parameter",
        remedy=f"write a part of a name; there are {len(names)}, such as {', '.join(names[:3])}",
    )
