"""Options of a loss: those of ours have types, those of a user's own class are whatever it is made with.

Beside the stages, each of which says which options its losses have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import TypeAdapter

from burnish.config.settings import Settings
from burnish.config.user_code import is_user_code

UserOptions = dict[str, bool | int | float | str | None]
"""What a class of the user's own is made with."""
S = TypeVar("S", bound=Settings)


def read_loss_options(ours: type[S], value: object, loss: object) -> S | UserOptions:
    """Options as the loss has them; to be called by a validator of pydantic.

    Args:
        ours: the options of our losses.
        value: what was written.
        loss: the stage's loss, which comes before its options; file.py:name for a user's own.

    Raises:
        pydantic.ValidationError: an unknown option of our losses, or a wrong type.
    """
    if isinstance(loss, str) and is_user_code(loss):
        return TypeAdapter(UserOptions).validate_python(value, strict=True)
    return ours.model_validate(value)


def user_options(options: Settings | UserOptions) -> Mapping[str, object]:
    """Those of a user's own class; empty: they are of our losses."""
    return options if isinstance(options, dict) else {}
