"""Positions of a model: the longest sequence that packing computes exactly."""

from __future__ import annotations

from transformers import PretrainedConfig

NO_LIMIT = 2**31
"""Number of positions of a model without a limit."""


def exact_positions(config: PretrainedConfig) -> int:
    """The longest sequence, in tokens, for which packing computes what the plain model computes; `NO_LIMIT`: any.

    A configuration without a limit belongs to a model without a table of positions: a recurrent one, or with ALiBi.
    Dynamic and long rotary scaling change the frequencies of *all* positions once the longest sequence of the batch
    exceeds the original length, so up to that length all sequences of a packed row have the same frequencies.
    """
    config = config.get_text_config(decoder=True)
    text = config.to_dict()
    positions = text.get(config.attribute_map.get("max_position_embeddings", "max_position_embeddings"))
    if not isinstance(positions, int):
        return NO_LIMIT
    limits = [positions]
    parameters = text.get("rope_parameters") or {}
    for rope in [parameters, *(value for value in parameters.values() if isinstance(value, dict))]:
        if rope.get("rope_type") in {"dynamic", "longrope"}:
            limits.append(int(rope.get("original_max_position_embeddings") or positions))
    return min(limits)
