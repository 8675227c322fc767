"""A user's loss, ``my_loss.py:loss``: a function, or a class with the members of `burnish.losses.base.Loss`.

It replaces the loss of the method. The shortest one::

    from burnish.types import VALUE_SCORES, Denominator, LossOutput, LossTerm

    def loss(scores, microbatch):
        surprise = -(microbatch.weights * scores.logprob).sum()
        return LossOutput({"surprise": LossTerm(surprise, Denominator.WEIGHT)})

Its attribute ``needs`` lists the scores that it reads (default: log-probabilities). ``scope`` is the part of the step
that it must see at once (default: all responses of a group).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from burnish.config.user_code import UserCode
from burnish.errors import RecipeError
from burnish.losses.base import Loss
from burnish.types import VALUE_SCORES, Denominator, LossOutput, LossTerm, Microbatch, Scope, Score, TokenScores


@dataclass(frozen=True, eq=False, slots=True)
class UserLoss:
    """A user's function or object as a loss, whose errors are explained."""

    code: UserCode
    own: Any
    """The function, or an object of the class."""
    needs: Collection[Score]
    scope: Scope

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        output = self._called("", self.own, scores, microbatch)
        if not _is_output(output):
            raise RecipeError(
                given=f"loss {self.code.name} returned {_described(output)}",
                rule="a loss returns a LossOutput: terms of scalar sums with gradients, each with its Denominator",
                remedy='return LossOutput({"name": LossTerm(total, Denominator.WEIGHT)})',
            )
        return output

    def score_gradients(
        self, microbatch: Microbatch, denominators: Mapping[Denominator, float]
    ) -> Mapping[Score, Tensor] | None:
        gradients = getattr(self.own, "score_gradients", None)
        if gradients is None:
            return None
        values: Mapping[Score, Tensor] | None = self._called(".score_gradients", gradients, microbatch, denominators)
        return values

    def with_measurements(self, scores: TokenScores, microbatch: Microbatch) -> UserLoss:
        measured = getattr(self.own, "with_measurements", None)
        if measured is None:
            return self
        return replace(self, own=self._called(".with_measurements", measured, scores, microbatch))

    def _called(self, member: str, function: Callable[..., Any], *arguments: object) -> Any:
        """Result of the user's code; an exception of it is explained."""
        try:
            return function(*arguments)
        except Exception as error:
            cause = self.code.raised(error)
            raise RecipeError(
                given=f"loss {self.code.name}{member} raised {cause}",
                rule="a loss takes the scores that it declares in needs, and a microbatch (burnish.types)",
                remedy="correct the loss",
            ) from error


def user_loss(written: str, options: Mapping[str, object]) -> UserLoss:
    """Loads the loss ``file.py:name``.

    Args:
        written: its name in the recipe.
        options: arguments of a class; a function takes none.

    Raises:
        RecipeError: there is no such file or name, or the options, ``needs`` or ``scope`` are invalid.
    """
    code = UserCode.read(written, "a loss", RecipeError)
    own = code.load()
    if isinstance(own, type):
        try:
            own = own(**options)
        except Exception as error:
            raise RecipeError(
                given=f"loss_options: {dict(options)}; {code.raised(error)}",
                rule=f"loss_options are the arguments of {code.name}",
                remedy="give the options that it takes, or correct the loss",
            ) from error
    elif options:
        raise RecipeError(
            given=f"loss_options: {dict(options)}",
            rule=f"{code.name} is a function, and only a class takes options",
            remedy="remove loss_options, or write a class",
        )
    needs = getattr(own, "needs", (Score.LOGPROB,))
    if not isinstance(needs, Collection) or not needs or not all(need in set(Score) for need in needs):
        raise RecipeError(
            given=f"needs of the loss {code.name}: {needs!r}",
            rule=f"a loss needs scores: {', '.join(Score)}",
            remedy="name some of them",
        )
    scope = getattr(own, "scope", Scope.GROUP)
    if scope not in list(Scope):
        raise RecipeError(
            given=f"scope of the loss {code.name}: {scope!r}",
            rule=f"the scope of a loss is one of {', '.join(Scope)}",
            remedy="name one of them",
        )
    return UserLoss(code, own, tuple(Score(need) for need in needs), Scope(scope))


def language_model_loss(written: str, options: Mapping[str, object]) -> UserLoss:
    """As `user_loss`, for a language model.

    Raises:
        RecipeError: also if the loss needs a value.
    """
    loss = user_loss(written, options)
    if not VALUE_SCORES.isdisjoint(loss.needs):
        raise RecipeError(
            given=f"loss: {written}, which needs {', '.join(loss.needs)}",
            rule="values come from the head of a reward model; a language model has none",
            remedy="leave them out of needs, or use the loss in a stage reward",
        )
    return loss


def reward_model_loss(written: str, options: Mapping[str, object]) -> UserLoss:
    """As `user_loss`, for a reward model.

    Raises:
        RecipeError: also if the loss needs anything but values.
    """
    loss = user_loss(written, options)
    if not VALUE_SCORES.issuperset(loss.needs):
        raise RecipeError(
            given=f"loss: {written}, which needs {', '.join(loss.needs)}",
            rule="a reward model gives values, and no log-probabilities",
            remedy="give it the attribute needs = [Score.VALUE] (burnish.types)",
        )
    return loss


def loss_identity(loss: Loss) -> str:
    """sha256 of a user's loss; "" for built-in losses, which the recipe describes."""
    return loss.code.identity if isinstance(loss, UserLoss) else ""


def _is_output(output: object) -> bool:
    if not isinstance(output, LossOutput) or not output.terms:
        return False
    terms = [*output.terms.values(), *output.metrics.values()]
    return all(isinstance(term, LossTerm) and isinstance(term.total, Tensor) and not term.total.dim() for term in terms)


def _described(output: object) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    return f"a LossOutput of {output.terms}" if isinstance(output, LossOutput) else f"a {type(output).__name__}"
