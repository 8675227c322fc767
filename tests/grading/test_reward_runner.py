"""Rewards in processes: deadlines, crashes, replacements; and results that do not depend on how many there are."""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
from pathlib import Path

import pytest

from burnish.errors import RecipeError
from burnish.grading.call import call
from burnish.grading.reward_runner import RewardRunner
from burnish.grading.verdict_cache import VerdictCache
from burnish.rewards.registry import read_rewards
from burnish.rewards.response_view import ResponseView
from burnish.rewards.reward import combine
from burnish.rewards.verdict import Failure, FailureKind, Outcome, Verdict

NURSERY = Path(__file__).parents[1] / "nursery.py"
SOON = 2.0
"""Timeout in seconds: long for a quick answer, short for a test."""


def own(name: str, **options: object) -> dict[str, object]:
    return {"name": f"{NURSERY}:{name}", **options}


def one_by_one(*texts: str) -> list[list[ResponseView]]:
    return [[ResponseView("Say it.", text, reference="yes")] for text in texts]


def kinds(verdicts: list[list[Verdict]], part: str) -> list[object]:
    outcomes = [verdict.parts[part] for group in verdicts for verdict in group]
    return [outcome.kind if isinstance(outcome, Failure) else outcome for outcome in outcomes]


@pytest.mark.parametrize("how", ["hang", "hang in C"])
def test_a_hanging_reward_is_killed_and_the_next_answer_graded(how: str) -> None:
    with RewardRunner(read_rewards(own("mischief", timeout=SOON)), workers=1) as grade:
        verdicts = grade(one_by_one("fine", how, "fine"))
        assert kinds(verdicts, "mischief") == [0.25, FailureKind.TIMEOUT, 0.25]
        assert kinds(grade(one_by_one("fine")), "mischief") == [0.25]


def test_a_process_that_ends_is_a_failure_and_the_next_answer_is_graded() -> None:
    with RewardRunner(read_rewards(own("mischief")), workers=1) as grade:
        verdicts = grade(one_by_one("fine", "exit", "crash", "fine", "exit 3", "fine"))
    crash = FailureKind.CRASH
    assert kinds(verdicts, "mischief") == [0.25, crash, crash, 0.25, crash, 0.25]
    details = [verdict.reward.detail for [verdict] in verdicts if isinstance(verdict.reward, Failure)]
    ends = ("with exit status 0", "by signal SIGSEGV", "with exit status 3")
    assert details == [f"mischief: its process ended {end}" for end in ends]


def test_what_a_reward_prints_is_no_verdict() -> None:
    with RewardRunner(read_rewards(own("mischief")), workers=1) as grade:
        assert kinds(grade(one_by_one("print")), "mischief") == [0.5]


def test_the_other_parts_of_a_killed_answer_are_graded() -> None:
    rewards = read_rewards([own("lengths"), own("mischief", timeout=SOON), "math"])
    with RewardRunner(rewards, workers=2) as grade:
        [[verdict], _] = grade(one_by_one("exit", "fine"))
    assert verdict.parts["lengths"] == 4.0
    assert verdict.parts["math"] == 0.0
    assert isinstance(verdict.reward, Failure)


def test_a_reward_that_takes_for_ever_to_compute_is_a_failure() -> None:
    nested = "(a+" * 9 + "a" + "+b)" * 9
    rewards = read_rewards({"name": "regex", "pattern": "(x+x+)+y", "timeout": SOON})
    with RewardRunner(rewards, workers=1) as grade:
        assert kinds(grade(one_by_one("x" * 64, nested)), "regex") == [FailureKind.TIMEOUT, 0.0]


def test_thousands_of_answers_are_graded_as_in_one_process() -> None:
    draw = random.Random(0)
    words = ["\\boxed{yes}", "\\boxed{5}", "#### yes", "yes, yes, yes, yes, yes", "<think>a</think> yes", "no"]
    answers = [
        [ResponseView("Say it.", " ".join(draw.choices(words, k=3)), reference="yes") for _ in range(4)]
        for _ in range(400)
    ]
    names = ["math", {"name": "format", "weight": 0.2}, {"name": "repetition"}]
    settings = [*names, own("lengths"), own("some", weight=0)]
    rewards = read_rewards(settings)
    with RewardRunner(rewards, workers=2) as grade:
        verdicts = grade(answers)
    rewards = read_rewards(settings)
    for reward in rewards:
        reward.prepare()
    in_process = [
        [combine(rewards, {reward.key: call(reward, [answer])[0] for reward in rewards}) for answer in group]
        for group in answers
    ]
    assert verdicts == in_process
    assert len({verdict.reward for group in verdicts for verdict in group}) > 10


def test_a_reward_that_draws_gives_the_same_in_any_worker() -> None:
    texts = [str(number) for number in range(40)]
    outcomes = []
    for workers in (1, 2):
        with RewardRunner(read_rewards(own("draws")), workers) as grade:
            outcomes.append(kinds(grade(one_by_one(*texts)), "draws"))
    assert outcomes[0] == outcomes[1]
    assert len(set(outcomes[0])) == 40


def test_a_group_is_graded_together_if_asked_for() -> None:
    groups = [[ResponseView("p", "a"), ResponseView("p", "abc")], [ResponseView("q", "ab"), ResponseView("q", "")], []]
    with RewardRunner(read_rewards([own("best", calls="group"), own("lengths", weight=0)]), workers=2) as grade:
        verdicts = grade(groups)
    assert [[verdict.reward for verdict in group] for group in verdicts] == [[0.0, 1.0], [1.0, 0.0], []]
    with RewardRunner(read_rewards(own("best")), workers=2) as grade:
        assert [[verdict.reward for verdict in group] for group in grade(groups)] == [[1.0, 1.0], [1.0, 1.0], []]


def test_a_condition_keeps_a_reward_from_being_called() -> None:
    rewards = read_rewards(
        [
            {"name": "exact", "weight": 1},
            own("mischief", timeout=SOON, when={"metric": "exact", "min": 1}),
            own("lengths", weight=2, when={"metric": "mischief", "min": 0.5}),
        ]
    )
    answers = [
        [
            ResponseView("p", "true", reference="true"),
            ResponseView("p", "exit", reference="true"),
            ResponseView("p", "true"),
        ]
    ]
    with RewardRunner(rewards, workers=2) as grade:
        [[met, unmet, unknown]] = grade(answers)
    assert met.parts == {"exact": 1.0, "mischief": 1.0, "lengths": 4.0}
    assert met.reward == 10.0
    assert unmet.parts == {"exact": 0.0, "mischief": 0.0, "lengths": 0.0}
    assert unmet.reward == 0.0
    assert all(isinstance(part, Failure) for part in unknown.parts.values())


@pytest.mark.parametrize("name", ["short_list", "absent"])
def test_a_broken_contract_stops(name: str) -> None:
    with RewardRunner(read_rewards(own(name)), workers=1) as grade, pytest.raises(RecipeError, match=name):
        grade(one_by_one("a"))


def test_a_file_that_ends_its_process_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ends.py"
    file.write_text("import os\nos._exit(7)\n")
    with (
        RewardRunner(read_rewards(f"{file}:reward"), workers=1) as grade,
        pytest.raises(RecipeError, match="exit status 7"),
    ):
        grade(one_by_one("a"))


def test_nothing_of_a_users_file_runs_here(tmp_path: Path) -> None:
    file = tmp_path / "marks.py"
    file.write_text(
        "import os, pathlib\npathlib.Path(__file__).with_name('pid').write_text(str(os.getpid()))\n"
        "def reward(answer):\n    return 1\n"
    )
    with RewardRunner(read_rewards(f"{file}:reward"), workers=1) as grade:
        assert not (tmp_path / "pid").exists()
        assert kinds(grade(one_by_one("a")), "reward") == [1.0]
    assert (tmp_path / "pid").read_text() != str(os.getpid())


def test_workers_start_without_torch() -> None:
    with RewardRunner(read_rewards(["math", own("has_torch")]), workers=1) as grade:
        assert kinds(grade(one_by_one("a")), "has_torch") == [0.0]


def test_workers_end_with_the_runner() -> None:
    runner = RewardRunner(read_rewards("exact"), workers=2)
    runner(one_by_one("a", "b"))
    processes = [worker.popen for worker in runner._pool._workers]
    assert len(processes) == 2
    runner.close()
    assert all(process.returncode is not None for process in processes)


@pytest.mark.skipif(sys.platform != "linux", reason="waits for a process that is no child")
def test_no_worker_outlives_a_trainer_that_is_killed(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    settings = own("Beacon", timeout=1e6, options={"pipe": str(pipe)})
    imports = (
        "from burnish.rewards.response_view import ResponseView; "
        "from burnish.grading.reward_runner import RewardRunner; "
        "from burnish.rewards.registry import read_rewards"
    )
    code = f"{imports}\nRewardRunner(read_rewards({settings!r}), 1)([[ResponseView('p', 'a')]])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as trainer:
        ended = os.pidfd_open(trainer.pid)
        assert reader in select.select([reader, ended], [], [])[0], "the worker writes its id before the trainer ends"
        worker = os.pidfd_open(int(os.read(reader, 20)))
        trainer.kill()
    os.close(reader)
    os.close(ended)
    try:
        assert select.select([worker], [], [], 60)[0], "the worker has ended"
    finally:
        os.close(worker)


def test_no_answer_takes_a_verifier_long() -> None:
    """Long runs of the characters that patterns search for would slow down patterns with backtracking."""
    many = 50_000
    runs = [
        " ",
        "\n",
        ".",
        "*",
        "<",
        "[",
        "1",
        "1,",
        "#",
        "{",
        "\\boxed{",
        "answer is ",
        "A: ",
        "(",
        '"',
        "- ",
        "a ",
        "\u200b",
    ]
    texts = [run * many for run in runs] + [f"1 {',' * many}x 2", f"answer is{' ' * many}", f"#### 5{' ' * many}x"]
    texts += [f"B. {retraction * many}" for retraction in ("no, ", "wait. ", "minus ", "= - ")]
    kinds_of = ["detectable_format:title", "length_constraints:number_sentences", "detectable_format:multiple_sections"]
    sections = {"section_spliter": "Section", "num_sections": 2}
    arguments = [{}, {"num_sentences": 3, "relation": "at least"}, sections, {"num_paragraphs": 3}]
    extra = {"instruction_id_list": [*kinds_of, "length_constraints:number_paragraphs"], "kwargs": arguments}
    names = ["math", "number", "exact", "normalized", "json_schema", "instructions", "format", "repetition"]
    settings = [{"name": name, **({"schema": {}} if name == "json_schema" else {})} for name in names]
    answers = [[ResponseView("How many?", text, reference="7", extra=extra)] for text in texts]
    with RewardRunner(read_rewards([*settings, {"name": "choice", "where": {"letter": True}}]), workers=1) as grade:
        verdicts = grade(answers)
    assert [verdict.failures for [verdict] in verdicts] == [()] * len(texts)


def test_a_cache_is_read_instead_of_grading(tmp_path: Path) -> None:
    """A resumed run grades nothing twice and gives the same verdicts; failures are graded again."""
    counts = tmp_path / "asked"
    file = tmp_path / "slow.py"
    file.write_text(
        "import pathlib\n"
        f"asked = pathlib.Path({str(counts)!r})\n"
        "def reward(answer):\n"
        "    with asked.open('a') as file: file.write(answer.text + '\\n')\n"
        "    if answer.text == 'bad': raise ValueError\n"
        "    return None if answer.text == 'none' else len(answer.text)\n"
    )
    settings = {"name": f"{file}:reward", "cache": True}
    texts = ("a", "bb", "a", "none", "bad")
    with VerdictCache.open(tmp_path / "j") as cache, RewardRunner(read_rewards(settings), 2, cache) as grade:
        first = grade(one_by_one(*texts))
    assert sorted(counts.read_text().split()) == ["a", "bad", "bb", "none"]
    counts.unlink()
    with VerdictCache.open(tmp_path / "j") as cache, RewardRunner(read_rewards(settings), 1, cache) as grade:
        assert len(cache) == 3
        again = grade(one_by_one(*texts))
    assert again == first
    assert counts.read_text().split() == ["bad"]
    # Another text of the function is another reward.
    file.write_text(file.read_text().replace("len(answer.text)", "2 * len(answer.text)"))
    with VerdictCache.open(tmp_path / "j") as cache, RewardRunner(read_rewards(settings), 1, cache) as grade:
        assert kinds(grade(one_by_one("bb")), "reward") == [4.0]


def _outcomes(verdicts: list[list[Verdict]]) -> list[Outcome]:
    return [verdict.reward for group in verdicts for verdict in group]


def test_parts_with_the_same_settings_share_a_cache(tmp_path: Path) -> None:
    settings = [own("lengths", cache=True), own("lengths", metric="again", weight=2, cache=True)]
    with VerdictCache.open(tmp_path / "j") as cache, RewardRunner(read_rewards(settings), 1, cache) as grade:
        assert _outcomes(grade(one_by_one("abc"))) == [9.0]
        assert len(cache) == 1
        assert _outcomes(grade(one_by_one("abc"))) == [9.0]
