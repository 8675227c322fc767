"""Options of a loss: typed for built-in losses; for a user's class, the arguments of its constructor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import TypeAdapter

from burnish.config.settings import Settings
from burnish.config.user_code import is_user_code

UserOptions = dict[str, bool | int | float | str | None]
"""Arguments of a user's loss class."""
S = TypeVar("S", bound=Settings)


def read_loss_options(ours: type[S], value: object, loss: object) -> S | UserOptions:
    """Reads the options of a loss; to be called by a validator of pydantic.

    Args:
        ours: the options of built-in losses.
        value: the value in the recipe.
        loss: the stage's loss, a field that stands before its options; file.py:name for a user's loss.

    Raises:
        pydantic.ValidationError: an unknown option of the built-in losses, or a wrong type.
    """
    if isinstance(loss, str) and is_user_code(loss):
        return TypeAdapter(UserOptions).validate_python(value, strict=True)
    return ours.model_validate(value)


def user_options(options: Settings | UserOptions) -> Mapping[str, object]:
    """Options of a user's loss class; empty for built-in losses."""
    return options if isinstance(options, dict) else {}
