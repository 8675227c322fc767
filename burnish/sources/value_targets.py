"""Value targets: the tokens at which a reward model's values are read, set in the groups of a policy's data.

A reward model is read at the last token of each response, which attends to all others; a process reward model at the
last token of each step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from burnish.types import Group, Response


def value_target_at_end(group: Group) -> Group:
    """The group with one scored token for each response, the last one, of weight 1."""
    return replace(group, responses=tuple(map(_at_end, group.responses)), prompt_weights=None)


def _at_end(response: Response) -> Response:
    last = torch.zeros(len(response.tokens), dtype=torch.bool)
    last[-1] = True
    return replace(response, trainable=last, weights=None)


def value_targets_at_steps(group: Group) -> Group:
    """The group with one scored token for each step that has a label, of weight 1."""
    return replace(group, responses=tuple(map(_at_steps, group.responses)), prompt_weights=None)


def _at_steps(response: Response) -> Response:
    assert response.step_labels is not None, "responses with process rewards have step labels"
    return replace(response, trainable=~response.step_labels.isnan(), weights=None)


JudgedAt = Callable[[Group], Group]
"""Function that sets a group's value targets."""
