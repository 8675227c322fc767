"""A user's own reward: a Python function or class, ``my_reward.py:name``. TRL's signature is accepted.

Beside the built-in rewards, with the same contract. Two forms::

    def short(answer):                                   # one answer: a burnish.tasks.answer.Answer
        return 1.0 if len(answer.text) < 100 else 0.0

    def short(completions, **columns):                   # lists, as TRL calls it; one entry for each answer
        return [1.0 if len(each) < 100 else 0.0 for each in completions]

Of a class, an object is made once in each worker, with ``options``. Nothing of the file runs in the trainer's process.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, PrivateAttr

from burnish.config.own_code import OwnCode
from burnish.errors import RecipeError
from burnish.tasks.answer import Answer
from burnish.tasks.reward import Reward

REFERENCE_COLUMNS = ("reference", "answer", "ground_truth", "solution")
"""The names under which functions of lists find the reference, where the row has no such column of its own."""


class OwnReward(Reward):
    """A function of one's own."""

    calls: Literal["answer", "group"] = "answer"
    """answer: one answer at a time. group: all answers to a prompt at once, for rewards that compare them; a failure is
    then everyone's, and the deadline is that of one answer times their number."""
    options: dict[str, Any] = Field(default_factory=dict)
    """What a class is made with."""
    _code: OwnCode = PrivateAttr()
    _made: Callable[..., object] | None = PrivateAttr(None)
    _parameters: Mapping[str, inspect.Parameter] = PrivateAttr(default_factory=dict)

    def model_post_init(self, context: Any, /) -> None:
        """Reads the file; raises RecipeError if it cannot be read."""
        self._code = OwnCode.unrun(self.name, "a reward", RecipeError)

    @property
    def key(self) -> str:
        return self.part or self._code.name

    @property
    def bounded(self) -> bool:
        return False

    @property
    def by_group(self) -> bool:
        return self.calls == "group"

    def known_good(self, answer: Answer) -> str | None:
        """The reference as it stands in the row, if it is text."""
        return answer.reference if isinstance(answer.reference, str) else None

    @property
    def identity(self) -> str:
        return super().identity + self._code.identity

    def prepare(self) -> None:
        """Runs the file, and makes the object if it is a class."""
        found = self._code.load()
        if isinstance(found, type):
            found = self._object(found)
        elif self.options:
            raise RecipeError(
                given=f"options of reward {self.name}: {self.options}",
                rule=f"{self._code.name} is a function, and only a class takes options",
                remedy="remove options, or write a class",
            )
        self._parameters = inspect.signature(found).parameters
        if not {"completions", "answer"} & set(self._parameters):
            raise RecipeError(
                given=f"reward {self.name} takes ({', '.join(self._parameters)})",
                rule="a reward takes answer (one burnish.tasks.answer.Answer), "
                "or completions and columns (lists, as TRL's)",
                remedy="name its first parameter answer or completions",
            )
        self._made = found

    def judge(self, answers: Sequence[Answer]) -> Sequence[object]:
        assert self._made is not None, "a reward is prepared before its first answer"
        if "completions" not in self._parameters:
            return [_awaited(self._made(answer)) for answer in answers]
        given: Sequence[object] = _awaited(self._made(**self._arguments(columns(answers))))
        return given

    def _object(self, kind: type) -> Callable[..., object]:
        try:
            made = kind(**self.options)
        except TypeError as error:
            raise RecipeError(
                given=f"options of reward {self.name}: {self.options}; {error}",
                rule=f"{self._code.name} is made with options",
                remedy="give the options that it takes",
            ) from error
        if callable(made):
            return made
        raise RecipeError(
            given=f"an object of {self.name} cannot be called",
            rule="a reward is a function, or a class with __call__",
            remedy="name its method __call__",
        )

    def _arguments(self, given: Mapping[str, list[object]]) -> dict[str, list[object]]:
        """The columns that the function takes.

        Raises:
            RecipeError: it needs one that the rows lack.
        """
        if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in self._parameters.values()):
            taken = dict(given)
        else:
            taken = {name: column for name, column in given.items() if name in self._parameters}
        needed = [name for name, each in self._parameters.items() if _must_be_given(each) and name not in given]
        if needed:
            raise RecipeError(
                given=f"reward {self.name} needs {', '.join(needed)}; the rows have {', '.join(given)}",
                rule="a reward is given prompts, completions, completion_ids and the columns of the rows",
                remedy="rename its parameter, give it a default, or add the column to the data",
            )
        return taken


def columns(answers: Sequence[Answer]) -> dict[str, list[object]]:
    """The lists that TRL's signature is called with. A row without a column that another row has is None in it."""
    messages = answers[0].is_conversational
    names = {name: None for answer in answers for name in answer.extra}
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


def _must_be_given(parameter: inspect.Parameter) -> bool:
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return parameter.default is inspect.Parameter.empty and parameter.kind not in variable


def _awaited(given: Any) -> Any:
    """The result of a coroutine; anything else as it is."""
    return asyncio.run(given) if inspect.iscoroutine(given) else given
