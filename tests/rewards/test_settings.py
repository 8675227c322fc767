"""What a recipe may say of rewards, and what it is told when it says something else."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from burnish.errors import RecipeError
from burnish.rewards.mathematics import MathReward
from burnish.rewards.registry import BUILTIN, RENAMED, read_rewards
from burnish.rewards.user_code import UserReward

NURSERY = Path(__file__).parents[1] / "nursery.py"


def test_a_name_a_mapping_and_a_list() -> None:
    [math] = read_rewards("math")
    assert math == MathReward(name="math")
    assert read_rewards({"name": "math"}) == read_rewards(["math"]) == (math,)
    several = read_rewards(["math", {"name": "format", "tags": "think", "weight": 0.2}, f"{NURSERY}:lengths"])
    assert [reward.key for reward in several] == ["math", "format", "lengths"]
    assert [reward.weight for reward in several] == [1.0, 0.2, 1.0]
    assert isinstance(several[2], UserReward)


def test_names_are_those_of_their_records() -> None:
    assert {kind.model_fields["name"].default for kind in BUILTIN.values()} == set(BUILTIN)


def test_they_travel() -> None:
    written = ["math", {"name": "regex", "pattern": "a"}, f"{NURSERY}:lengths"]
    for reward in read_rewards(written):
        again = pickle.loads(pickle.dumps(reward))
        assert again == reward
        assert again.identity == reward.identity
        again.prepare()


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("maths", "did you mean math"),
        ("xyz", "choose from: math"),
        ([], "at least one reward"),
        (3, "a reward is a name"),
        ({"weight": 1}, "a reward is a name"),
        ({"name": "math", "weigth": 1}, "did you mean weight"),
        ({"name": "math", "weight": "1"}, "weight"),
        ({"name": "math", "weight": float("nan")}, "finite"),
        ({"name": "math", "timeout": 0}, "greater than 0"),
        ({"name": "math", "forms": ["box"]}, "boxed"),
        ({"name": "math", "tags": ["think"]}, "unknown key tags"),
        ({"name": "overlong", "max_length": 4}, "buffer must be given"),
        ({"name": "overlong", "max_length": 4, "buffer": 5}, "at most the limit"),
        ({"name": "number", "relative": 1.0}, "always right"),
        ({"name": "format", "tags": ["<think>"]}, "without < and >"),
        ({"name": "format", "opened": True}, "not needed: a thought that the template opens"),
        ({"name": "format", "tags": []}, "name of a tag"),
        ({"name": "format", "tags": ["a", "a"]}, "once"),
        ({"name": "regex", "pattern": "("}, "regular expression"),
        ({"name": "choice", "letters": "abc"}, "letters"),
        (["math", "math"], "two rewards are called math"),
        (["math", {"name": "exact", "when": {"metric": "format", "min": 1}}], "earlier rewards: math"),
        (["math", {"name": "exact", "when": {"metric": "math"}}], "when.min must be given"),
        ({"name": "math", "weight": 0}, "at least one reward is trained on"),
        ("normalised", "did you mean normalized"),
        ({"name": "regex", "pattern": "a", "where": "anywhere"}, "the way of matching responses is match"),
        (["math", {"name": "format", "tag": "think"}], r"reward.1 \(format\): unknown key tag"),
        ("absent.py:reward", "does not exist"),
    ],
)
def test_refused(written: object, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        read_rewards(written)


RENAMED_IN: dict[str, object] = {
    "min": {"name": "exact", "when": {"metric": "math", "at_least": 1}},
    "schema": {"name": "json_schema", "against": {}},
    "max_length": {"name": "overlong", "most": 4, "buffer": 2},
    "tolerance": {"name": "length", "target": 4, "slack": 2},
    "output": {"name": "reward_model", "model": "m", "of": "taste"},
    "metric": {"name": "math", "part": "right"},
    "timeout": {"name": "math", "deadline": 3},
    "where": {"name": "math", "only": {"level": 2}},
    "cache": {"name": "math", "journal": True},
}


@pytest.mark.parametrize("ours", RENAMED_IN)
def test_earlier_names_of_options_are_refused_with_their_new_one(ours: str) -> None:
    assert set(RENAMED_IN) == set(RENAMED.values())
    with pytest.raises(RecipeError, match=f"here it is {ours}$"):
        read_rewards(["math", RENAMED_IN[ours]])


def test_the_text_of_a_function_is_part_of_its_identity(tmp_path: Path) -> None:
    file = tmp_path / "r.py"
    file.write_text("def reward(answer):\n    return 1\n")
    [one] = read_rewards(f"{file}:reward")
    file.write_text("def reward(answer):\n    return 2\n")
    [other] = read_rewards(f"{file}:reward")
    assert one.identity != other.identity
