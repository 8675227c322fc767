"""Reads the rewards of a recipe into their settings records. Called by the stage `rl`.

Accepted forms: ``reward: math``, ``reward: my_reward.py:short``, one mapping, or a list of these::

    reward:
      - math
      - {name: format, tags: [think], weight: 0.2}
      - {name: overlong, max_length: 512, buffer: 128, when: {metric: math, min: 1}}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from burnish.config.settings import parse
from burnish.config.user_code import is_user_code
from burnish.errors import RecipeError
from burnish.rewards.choice import ChoiceReward
from burnish.rewards.code.reward import CodeReward
from burnish.rewards.exact import (
    ExactReward,
    NormalizedReward,
    NumberReward,
    RegexReward,
)
from burnish.rewards.instructions.reward import InstructionsReward
from burnish.rewards.mathematics import MathReward
from burnish.rewards.process_reward import ProcessReward
from burnish.rewards.reward import Reward
from burnish.rewards.reward_model import RewardModelReward
from burnish.rewards.structure import JsonSchemaReward
from burnish.rewards.style import FormatReward, LengthReward, OverlongReward, RepetitionReward
from burnish.rewards.user_code import UserReward
from burnish.similar import similar

BUILTIN: Mapping[str, type[Reward]] = MappingProxyType(
    {
        "math": MathReward,
        "exact": ExactReward,
        "normalized": NormalizedReward,
        "regex": RegexReward,
        "choice": ChoiceReward,
        "number": NumberReward,
        "code": CodeReward,
        "json_schema": JsonSchemaReward,
        "instructions": InstructionsReward,
        "format": FormatReward,
        "overlong": OverlongReward,
        "length": LengthReward,
        "repetition": RepetitionReward,
        "reward_model": RewardModelReward,
        "process_reward_model": ProcessReward,
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
        "opened": "not needed: a thought that the template opens is recognized and is part of the response; remove it",
    }
)
"""Keys of other tools with the same meaning, and a removed key."""

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
"""Keys of version 0.1.0 with the same meaning."""


def read_rewards(value: object) -> tuple[Reward, ...]:
    """Rewards of a recipe, in its order.

    Args:
        value: a name, a mapping with a name, or a list of these, as YAML gives them.

    Raises:
        RecipeError: an unknown name or option, a wrong value, a file that cannot be read, two rewards of one name, a
            condition on a reward that is not earlier in the list, or weights that are all 0.
    """
    entries = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not entries:
        raise RecipeError(given="reward: []", rule="there is at least one reward", remedy="add one, such as math")
    rewards = tuple(
        _read(entry, f"reward.{index}" if len(entries) > 1 else "reward") for index, entry in enumerate(entries)
    )
    _check_names(rewards)
    _check_conditions(rewards)
    if all(reward.weight == 0 for reward in rewards):
        raise RecipeError(
            given=f"the weights of all rewards ({', '.join(reward.key for reward in rewards)}) are 0",
            rule="a reward of weight 0 is measured only, and at least one reward is trained on",
            remedy="give one of them a weight",
        )
    return rewards


def _read(entry: object, key: str) -> Reward:
    options = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(options, Mapping) or not isinstance(options.get("name"), str):
        raise RecipeError(
            given=f"{key}: {entry!r:.80}",
            rule="a reward is a name, or a mapping that has a name",
            remedy="write reward: math, or reward: {name: math, weight: 1}",
        )
    kind = UserReward if is_user_code(options["name"]) else BUILTIN.get(options["name"])
    if kind is None:
        raise _unknown(options["name"], key)
    try:
        return parse(kind, options, {**KNOWN_ELSEWHERE, **RENAMED})
    except RecipeError as error:
        raise RecipeError(f"{key} ({options['name']}): {error.given}", error.rule, error.remedy) from None


def _unknown(name: str, key: str) -> RecipeError:
    near = similar(name, BUILTIN)
    return RecipeError(
        given=f"{key}: {name}",
        rule="a reward is a built-in one, or a function of your own, file.py:function",
        remedy=f"did you mean {near[0]}?" if near else f"choose from: {', '.join(BUILTIN)}",
    )


def _check_names(rewards: Sequence[Reward]) -> None:
    names = [reward.key for reward in rewards]
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate is not None:
        raise RecipeError(
            given=f"two rewards are called {duplicate}",
            rule="outcomes are logged by name, so each reward has a name of its own",
            remedy="give one of them another name with metric: …",
        )


def _check_conditions(rewards: Sequence[Reward]) -> None:
    for index, reward in enumerate(rewards):
        earlier = [other.key for other in rewards[:index]]
        if reward.when is not None and reward.when.metric not in earlier:
            raise RecipeError(
                given=f"reward {reward.key}: when.metric: {reward.when.metric}",
                rule="a condition names a reward that is earlier in the list",
                remedy=f"earlier rewards: {', '.join(earlier) or 'none; move this reward behind the one it names'}",
            )
