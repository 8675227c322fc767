"""User-defined reward: a Python function or class, ``my_reward.py:name``. TRL's signature is accepted.

Two forms::

    def short(answer):                                   # a burnish.rewards.response_view.ResponseView
        return 1.0 if len(answer.text) < 100 else 0.0

    def short(completions, **columns):                   # lists, as TRL calls it; one entry for each answer
        return [1.0 if len(text) < 100 else 0.0 for text in completions]

A class is instantiated once in each worker, with ``options``. No code of the file runs in the trainer's process.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, PrivateAttr

from burnish.config.user_code import UserCode
from burnish.errors import RecipeError
from burnish.rewards.response_view import ResponseView
from burnish.rewards.reward import Reward

RESERVED_COLUMNS = ("prompts", "completions", "completion_ids")
"""Names under which functions of lists get what the program knows, in place of a column of such a name."""
REFERENCE_COLUMNS = ("reference", "answer", "ground_truth", "solution")
"""Names under which functions of lists get the reference, where the row has no such column."""


class UserReward(Reward):
    """Reward computed by a user's function."""

    calls: Literal["answer", "group"] = "answer"
    """answer: one response at a time. group: all responses to a prompt at once, for rewards that compare them; a
    failure then counts for all of them, and the timeout is multiplied by their number."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of a class."""
    _code: UserCode = PrivateAttr()
    _function: Callable[..., object] | None = PrivateAttr(None)
    _parameters: Mapping[str, inspect.Parameter] = PrivateAttr(default_factory=dict)

    def model_post_init(self, context: Any, /) -> None:
        """Reads the file; raises RecipeError if it cannot be read."""
        self._code = UserCode.unrun(self.name, "a reward", RecipeError)

    @property
    def key(self) -> str:
        return self.metric or self._code.name

    @property
    def bounded(self) -> bool:
        return False

    @property
    def by_group(self) -> bool:
        return self.calls == "group"

    def known_good(self, answer: ResponseView) -> str | None:
        """The reference of the row, if it is text."""
        return answer.reference if isinstance(answer.reference, str) else None

    @property
    def identity(self) -> str:
        return super().identity + self._code.identity

    def raised_at(self, error: BaseException) -> str:
        return self._code.where(error)

    def prepare(self) -> None:
        """Runs the file, and instantiates a class."""
        function = self._code.load()
        if isinstance(function, type):
            function = self._instance(function)
        elif self.options:
            raise RecipeError(
                given=f"options of reward {self.name}: {self.options}",
                rule=f"{self._code.name} is a function, and only a class takes options",
                remedy="remove options, or write a class",
            )
        self._parameters = inspect.signature(function).parameters
        is_lambda = self._code.name == "lambda" and len(self._parameters) == 1
        if not {"completions", "answer"} & set(self._parameters) and not is_lambda:
            raise RecipeError(
                given=f"reward {self.name} takes ({', '.join(self._parameters)})",
                rule="a reward takes answer (one burnish.rewards.response_view.ResponseView), or completions and "
                "columns (lists, as in TRL)",
                remedy="name its first parameter answer or completions",
            )
        self._function = function

    def grade(self, answers: Sequence[ResponseView]) -> Sequence[object]:
        assert self._function is not None, "a reward is prepared before its first answer"
        if "completions" not in self._parameters:
            return [_awaited(self._function(answer)) for answer in answers]
        numbers: Sequence[object] = _awaited(self._function(**self._arguments(columns(answers))))
        return numbers

    def _instance(self, kind: type) -> Callable[..., object]:
        try:
            instance = kind(**self.options)
        except Exception as error:
            raise RecipeError(
                given=f"options of reward {self.name}: {self.options}; {type(error).__name__}: {error}"
                f"{self._code.where(error)}",
                rule=f"{self._code.name} is called with options",
                remedy="give the options that its __init__ takes, or correct it",
            ) from error
        if callable(instance):
            return instance
        raise RecipeError(
            given=f"an object of {self.name} cannot be called",
            rule="a reward is a function, or a class with __call__",
            remedy="name its method __call__",
        )

    def _arguments(self, available: Mapping[str, list[object]]) -> dict[str, list[object]]:
        """Columns that the function takes.

        Raises:
            RecipeError: it needs one that the rows lack.
        """
        if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in self._parameters.values()):
            taken = dict(available)
        else:
            taken = {name: column for name, column in available.items() if name in self._parameters}
        required = [name for name, parameter in self._parameters.items() if _is_required(parameter)]
        missing = [name for name in required if name not in available]
        if missing:
            raise RecipeError(
                given=f"reward {self.name} needs {', '.join(missing)}; the rows have {', '.join(available)}",
                rule="a reward gets prompts, completions, completion_ids and the columns of the rows",
                remedy="rename its parameter, give it a default, or add the column to the data",
            )
        return taken


def columns(answers: Sequence[ResponseView]) -> dict[str, list[object]]:
    """Arguments for TRL's signature: lists by name, with None for a row that lacks a column of another row."""
    messages = answers[0].is_conversational
    names = {name: None for answer in answers for name in answer.extra if name not in RESERVED_COLUMNS}
    lists: dict[str, list[object]] = {
        "prompts": [list(answer.prompt) if messages else answer.prompt for answer in answers],
        "completions": [
            [{"role": "assistant", "content": answer.text}] if messages else answer.text for answer in answers
        ],
    }
    if all(answer.token_ids is not None for answer in answers):
        lists["completion_ids"] = [list(answer.token_ids or ()) for answer in answers]
    lists |= {name: [answer.extra.get(name) for answer in answers] for name in names}
    missing = (name for name in REFERENCE_COLUMNS if name not in lists)
    return lists | {name: [answer.reference for answer in answers] for name in missing}


def _is_required(parameter: inspect.Parameter) -> bool:
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return parameter.default is inspect.Parameter.empty and parameter.kind not in variable


def _awaited(result: Any) -> Any:
    """Result of a coroutine; any other value unchanged."""
    return asyncio.run(result) if inspect.iscoroutine(result) else result
