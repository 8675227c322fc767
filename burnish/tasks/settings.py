"""What a recipe may say of rewards, read into records that judge. What `burnish.recipe` is to call.

Over all rewards. ``reward: math``, ``reward: my_reward.py:short``, one mapping, or a list of these::

    reward:
      - math
      - {name: format, tags: [think], weight: 0.2}
      - {name: overlong, max_length: 512, buffer: 128, when: {metric: math, min: 1}}
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from burnish.config.settings import parse
from burnish.config.user_code import is_user_code
from burnish.errors import RecipeError
from burnish.tasks.exact import (
    ChoiceReward,
    ExactReward,
    NormalizedReward,
    NumberReward,
    RegexReward,
)
from burnish.tasks.instructions.reward import InstructionsReward
from burnish.tasks.mathematics import MathReward
from burnish.tasks.reward import Reward
from burnish.tasks.reward_model import RewardModelReward
from burnish.tasks.structure import JsonSchemaReward
from burnish.tasks.style import FormatReward, LengthReward, OverlongReward, RepetitionReward
from burnish.tasks.user_code import UserReward

BUILTIN: Mapping[str, type[Reward]] = MappingProxyType(
    {
        "math": MathReward,
        "exact": ExactReward,
        "normalized": NormalizedReward,
        "regex": RegexReward,
        "choice": ChoiceReward,
        "number": NumberReward,
        "json_schema": JsonSchemaReward,
        "instructions": InstructionsReward,
        "format": FormatReward,
        "overlong": OverlongReward,
        "length": LengthReward,
        "repetition": RepetitionReward,
        "reward_model": RewardModelReward,
    }
)
"""The built-in rewards by name."""

KNOWN_ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "reward_weights": "weight, of each reward",
        "coefficient": "weight",
        "type": "name",
        "function": "name: file.py:function",
        "reward_func": "name: file.py:function",
        "reward_funcs": "a list of rewards, each with its name: file.py:function",
        "max_completion_length": "max_length",
        "overlong_buffer": "buffer",
        "opened": "known from the prompt: what its template opens is a part of the response; remove it",
    }
)
"""Names that other tools use for the same thing, and one that is needed no more."""

RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "part": "metric",
        "deadline": "timeout",
        "only": "where",
        "journal": "cache",
        "at_least": "min",
        "against": "schema",
        "most": "max_length",
        "slack": "tolerance",
        "of": "output",
    }
)
"""Names of 0.1.0 for the same thing."""


def read_rewards(written: object) -> tuple[Reward, ...]:
    """The rewards that a recipe names, in its order.

    Args:
        written: a name, a mapping with a name, or a list of these, as YAML gives them.

    Raises:
        RecipeError: an unknown name or option, a wrong value, a file that cannot be read, two rewards of one name, a
            condition on what does not stand before it, or weights that are all 0.
    """
    entries = list(written) if isinstance(written, Sequence) and not isinstance(written, str) else [written]
    if not entries:
        raise RecipeError(given="reward: []", rule="there is at least one reward", remedy="add one, such as math")
    rewards = tuple(
        _read(entry, f"reward.{place}" if len(entries) > 1 else "reward") for place, entry in enumerate(entries)
    )
    _check_parts(rewards)
    _check_conditions(rewards)
    if all(reward.weight == 0 for reward in rewards):
        raise RecipeError(
            given=f"the weights of all rewards ({', '.join(reward.key for reward in rewards)}) are 0",
            rule="a reward of weight 0 is only watched, and something must be learned",
            remedy="give one of them a weight",
        )
    return rewards


def _read(entry: object, place: str) -> Reward:
    options = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(options, Mapping) or not isinstance(options.get("name"), str):
        raise RecipeError(
            given=f"{place}: {entry!r:.80}",
            rule="a reward is a name, or a mapping that has a name",
            remedy="write reward: math, or reward: {name: math, weight: 1}",
        )
    kind = UserReward if is_user_code(options["name"]) else BUILTIN.get(options["name"])
    if kind is None:
        raise _unknown(options["name"], place)
    try:
        return parse(kind, options, {**KNOWN_ELSEWHERE, **RENAMED})
    except RecipeError as error:
        raise RecipeError(f"{place} ({options['name']}): {error.given}", error.rule, error.remedy) from None


def _unknown(name: str, place: str) -> RecipeError:
    near = difflib.get_close_matches(name, BUILTIN, n=1, cutoff=0.5)
    return RecipeError(
        given=f"{place}: {name}",
        rule="a reward is a built-in one, or a function of one's own, file.py:function",
        remedy=f"did you mean {near[0]}?" if near else f"choose from: {', '.join(BUILTIN)}",
    )


def _check_parts(rewards: Sequence[Reward]) -> None:
    parts = [reward.key for reward in rewards]
    twice = next((part for part in parts if parts.count(part) > 1), None)
    if twice is not None:
        raise RecipeError(
            given=f"two rewards are called {twice}",
            rule="verdicts are kept by name, and each reward has its own",
            remedy="give one of them another name: metric: …",
        )


def _check_conditions(rewards: Sequence[Reward]) -> None:
    for place, reward in enumerate(rewards):
        before = [each.key for each in rewards[:place]]
        if reward.when is not None and reward.when.metric not in before:
            raise RecipeError(
                given=f"reward {reward.key}: when.metric: {reward.when.metric}",
                rule="a condition is on a reward that stands before it",
                remedy=f"before it stand: {', '.join(before) or 'none; move it behind another one'}",
            )
