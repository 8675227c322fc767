"""The suite that every registered reward must pass: settings, identity, processes, independence, range, failures.

``pytest tests/suites/test_rewards.py -k NAME`` runs it for one reward. A new reward needs an entry in `reward_cases`.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoTokenizer

from burnish.builtin.tiny import write_untrained
from burnish.errors import RecipeError
from burnish.export.export import export
from burnish.grading.call import call
from burnish.grading.reward_runner import RewardRunner
from burnish.model.load import load_policy
from burnish.model.settings import ValueHeadConfig
from burnish.recipe.read import stage_recipe
from burnish.rewards.registry import BUILTIN, read_rewards
from burnish.rewards.response_view import ResponseView
from burnish.rewards.reward import Reward
from burnish.rewards.verdict import Failure, FailureKind, Outcome
from burnish.stages.rl.settings import RlSettings
from tests.suites.reward_cases import CASES, STRANGE

TABLE = "tests/suites/reward_cases.py"
REWARDS = pytest.mark.parametrize("name", [name for name in BUILTIN if name in CASES])
COMMON = set(Reward.model_fields)
"""Options that all rewards have."""
VIEWS = [view for case in CASES.values() for view in (*(view for view, _ in case.answers), *case.unusable)] + list(
    STRANGE
)
"""Answers of all cases: every reward grades those of the others too."""


def test_every_registered_reward_has_a_case() -> None:
    assert not (missing := set(BUILTIN) - set(CASES)), f"add to CASES of {TABLE}: {', '.join(sorted(missing))}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with two reward models of responses, and two of steps."""
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "base", hidden_size=32, layers=1)
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    tokenizer.pad_token = "<|system|>"  # that of the tiny model ends turns
    tokenizer.save_pretrained(folder / "base")
    steps = ValueHeadConfig(judged="step", problem="multi_label_classification")
    for seed, (name, head) in enumerate(
        {"one": ValueHeadConfig(), "two": ValueHeadConfig(), "steps": steps, "steps-two": steps}.items()
    ):
        (folder / name).mkdir()
        policy = load_policy(str(folder / "base"), head_config=replace(head, seed=seed))
        export(policy, folder / name, template=None, end_tokens=[tokenizer.eos_token_id])
    return folder


def written(name: str, world: Path, **changed: object) -> dict[str, Any]:
    """A reward as a recipe has it; models are in the world's folder."""
    case = CASES[name]
    left_out = {case.excluded[option] for option in changed if option in case.excluded}
    kept = {option: value for option, value in case.options.items() if option not in left_out}
    options = {"name": name, **kept, **changed}
    return {key: str(world / str(value)) if key == "model" else value for key, value in options.items()}


def read(name: str, world: Path, **changed: object) -> Reward:
    [reward] = read_rewards(written(name, world, **changed))
    return reward


def options_of(name: str) -> set[str]:
    """Its own options, as a recipe writes them."""
    fields = BUILTIN[name].model_fields
    return {entry.alias or field for field, entry in fields.items() if field not in COMMON}


def graded_here(reward: Reward, groups: Sequence[Sequence[ResponseView]]) -> list[list[Outcome]]:
    """Outcomes without worker processes, each answer on its own where the reward grades single answers."""
    if reward.in_process:
        return reward.load("cpu", str)(groups)
    reward.prepare()
    return [[call(reward, [view])[0] for view in group] for group in groups]


@pytest.fixture(scope="module")
def outcomes(world: Path) -> dict[str, list[Outcome]]:
    """Outcomes of every reward for all answers, by a runner: workers for some, the process of the run for others."""
    rewards = tuple(read(name, world) for name in CASES)
    with RewardRunner(rewards, workers=1, device="cpu") as runner:
        [verdicts] = runner([VIEWS])
        # Answers before and behind are others, each has its own prompt, and the worker has graded all before.
        again = runner([[view] for view in reversed(VIEWS)])[::-1]
    for first, [second] in zip(verdicts, again, strict=True):
        for reward in rewards:
            assert_equal(first.parts[reward.key], second.parts[reward.key], rounded=reward.in_process)
    return {reward.key: [verdict.parts[reward.key] for verdict in verdicts] for reward in rewards}


def assert_equal(one: Outcome, other: Outcome, *, rounded: bool) -> None:
    """Equal outcomes; up to rounding for a reward that scores all answers of a batch together."""
    if rounded and isinstance(one, float):
        assert other == pytest.approx(one, abs=1e-6)
    else:
        assert one == other


@REWARDS
def test_it_is_read_from_a_recipe_and_back(name: str, world: Path) -> None:
    reward = read(name, world)
    plain = reward.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert read_rewards(yaml.safe_load(yaml.safe_dump(plain))) == (reward,)
    settings = stage_recipe("rl", {"model": "m", "data": "d", "reward": written(name, world)}).recipe.stages[0].settings
    assert isinstance(settings, RlSettings)
    assert settings.rewards == (reward,)


@REWARDS
def test_an_unknown_option_is_refused_with_a_suggestion(name: str, world: Path) -> None:
    for option in (*options_of(name), "weight"):
        with pytest.raises(RecipeError) as caught:
            read(name, world, **{f"{option}_": 1})
        assert f"did you mean {option}?" in str(caught.value)


@REWARDS
def test_its_identity_is_that_of_what_determines_an_outcome(name: str, world: Path) -> None:
    others, reward = CASES[name].others, read(name, world)
    assert set(others) == options_of(name), f"others of {name} in {TABLE} has another value for each of its options"
    changed = [read(name, world, **{option: value}) for option, value in {**others, "where": {"level": 1}}.items()]
    identities = {reward.identity, *(each.identity for each in changed)}
    assert len(identities) == 1 + len(changed)
    for key, value in {"weight": 2.0, "metric": "another", "timeout": 3.0, "cache": True}.items():
        assert reward.model_copy(update={key: value}).identity == reward.identity, key


@REWARDS
def test_it_travels_to_another_process_and_grades_there_as_here(
    name: str, world: Path, outcomes: dict[str, list[Outcome]]
) -> None:
    reward = read(name, world)
    sent: Reward = pickle.loads(pickle.dumps(reward))
    assert (sent, sent.identity) == (reward, reward.identity)
    [here] = graded_here(sent, [VIEWS])
    for one, other in zip(outcomes[name], here, strict=True):
        assert_equal(one, other, rounded=reward.in_process)


@REWARDS
def test_an_outcome_is_a_number_in_its_range_or_says_that_the_row_is_unusable(
    name: str, outcomes: dict[str, list[Outcome]]
) -> None:
    """Whatever the answer, and also for rows of other rewards."""
    low, high = CASES[name].range
    for view, outcome in zip(VIEWS, outcomes[name], strict=True):
        if isinstance(outcome, Failure):
            assert outcome.kind is FailureKind.UNUSABLE_ROW, (view, outcome)
        else:
            assert isinstance(outcome, float)
            assert math.isfinite(outcome)
            assert low <= outcome <= high, view


@REWARDS
def test_known_answers_have_their_outcome(name: str, outcomes: dict[str, list[Outcome]]) -> None:
    case = CASES[name]
    assert case.answers, f"answers of {name} in {TABLE} are empty"
    for view, expected in case.answers:
        outcome = outcomes[name][VIEWS.index(view)]
        assert isinstance(outcome, float)
        assert expected is None or outcome == pytest.approx(expected, abs=1e-12)


@REWARDS
def test_a_row_without_what_it_needs_has_no_number(name: str, outcomes: dict[str, list[Outcome]]) -> None:
    for view in CASES[name].unusable:
        outcome = outcomes[name][VIEWS.index(view)]
        assert isinstance(outcome, Failure), view
        assert outcome.kind is FailureKind.UNUSABLE_ROW


@REWARDS
def test_a_right_answer_that_it_knows_is_right_and_nothing_is_not(name: str, world: Path) -> None:
    """The self-test before a run relies on both."""
    reward = read(name, world)
    if not reward.grades_correctness:
        return
    reward.prepare()
    for row, _ in CASES[name].answers:
        texts = {"": False, **({} if (good := reward.known_good(row)) is None else {good: True})}
        for text, right in texts.items():
            outcome = reward.score(ResponseView(row.prompt, text, row.reference, row.extra))
            assert outcome is not None
            assert (outcome > 0) == right, (row, text)
