"""Three hundred attacks: each works without a sandbox, and none at a level that promises to stop it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from burnish.sandbox.base import Level
from burnish.sandbox.fork_server import best_level
from tests.sandbox.attacks import ATTACKS
from tests.sandbox.attacks.arena import Arena
from tests.sandbox.attacks.naive import works
from tests.sandbox.attacks.record import Attack
from tests.sandbox.attacks.trial import Seen, Trials

ROOT = Path(__file__).parents[2]
BEST = best_level()
HERE = [attack for attack in ATTACKS if attack.machine in ("", platform.machine())]
PROMISED = [(level, attack) for level in Level for attack in HERE if attack.expected.at(level) is not None]
OTHERS = [(level, attack) for level in Level for attack in HERE if attack.expected.at(level) is None]
OF_USERS = ("other processes", "left for the next program")
"""Categories in which it matters whose the program is."""
_FITS = (
    "import os, sys, burnish.sandbox.local\nassert sys.version_info >= (3, 11), 'it is too old'\n"
    "assert os.access(os.path.realpath(sys.executable), os.X_OK), 'it cannot start another interpreter'"
)
_SETPRIV = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")


def pairs(chosen: list[tuple[Level, Attack]]) -> list[Any]:
    return [
        pytest.param(level, attack, id=f"{level.label}: {attack.category}: {attack.name}") for level, attack in chosen
    ]


def checked(attack: Attack, level: Level, seen: Seen) -> None:
    assert not seen.succeeded, seen.said
    assert seen.verdict in (attack.expected.at(level) or ()), seen.said
    assert seen.left == []
    assert seen.honest


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    with Arena() as found:
        yield found


@pytest.fixture(scope="module")
def trials() -> Iterator[dict[Level, Trials]]:
    """One engine of each level."""
    found: dict[Level, Trials] = {}
    yield found
    for each in found.values():
        each.__exit__()


def of_level(trials: dict[Level, Trials], level: Level) -> Trials:
    if level > BEST:
        pytest.skip(f"this machine offers level {BEST.label}")
    if level not in trials:
        trials[level] = Trials(level).__enter__()
    return trials[level]


def test_the_table_is_large_and_each_attack_has_one_place() -> None:
    assert len(ATTACKS) >= 80
    assert len({(attack.category, attack.name) for attack in ATTACKS}) == len(ATTACKS)
    without = [attack for attack in ATTACKS if attack.no_canary]
    assert len(without) < len(ATTACKS) / 10
    assert not [attack.name for attack in ATTACKS if attack.expected.process and attack.expected.restricted is None]


@pytest.mark.parametrize("attack", HERE, ids=lambda attack: f"{attack.category}: {attack.name}")
def test_it_works_without_a_sandbox(attack: Attack, arena: Arena) -> None:
    if attack.no_canary:
        pytest.skip(attack.no_canary)
    if attack.by_root and os.geteuid() != 0:
        pytest.skip("it works for root alone")
    if not works(attack, arena):
        assert attack.perhaps, "it does not work without a sandbox, so the sandbox proves nothing by stopping it"
        pytest.skip(attack.perhaps)


@pytest.mark.parametrize(("level", "attack"), pairs(PROMISED))
def test_a_level_stops_what_it_promises_to_stop(level: Level, attack: Attack, trials: dict[Level, Trials]) -> None:
    checked(attack, level, of_level(trials, level).attack(attack))


@pytest.mark.slow
@pytest.mark.parametrize(("level", "attack"), pairs(OTHERS))
def test_what_a_level_does_not_promise_harms_no_later_program(
    level: Level, attack: Attack, trials: dict[Level, Trials]
) -> None:
    assert of_level(trials, level).attack(attack).honest


class OfNobody:
    """Trials of a level in a process of the user nobody."""

    def __init__(self, level: Level) -> None:
        python, environment = interpreter()
        command = [*_SETPRIV, python, "-m", "tests.sandbox.attacks.remote", level.label]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        answer = self._answer()
        if "ready" not in answer:
            self.close()
            assert "refused" in answer, answer
            pytest.skip(answer["refused"])

    def attack(self, attack: Attack) -> Seen:
        assert self._process.stdin is not None, "its input is a pipe"
        print(ATTACKS.index(attack), file=self._process.stdin, flush=True)
        answer = self._answer()
        assert "failed" not in answer, answer["failed"]
        return Seen(**answer)

    def close(self) -> None:
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None, "its output is a pipe"
        line = self._process.stdout.readline()
        return dict(json.loads(line)) if line else {"ended": self._process.wait()}


def interpreter() -> tuple[str, dict[str, str]]:
    """An interpreter that nobody can run and that has what the package needs, and its environment; else skips."""
    if os.geteuid() != 0:
        pytest.skip("only root becomes another user")
    if shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv")
    path = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(ROOT)}
    said = []
    for python, added in ((sys.executable, {}), ("/usr/bin/python3", {"PYTHONPATH": path})):
        command = [*_SETPRIV, python, "-c", _FITS]
        try:
            ended = subprocess.run(
                command, check=False, cwd=ROOT, env=environment | added, capture_output=True, text=True
            )
        except OSError as error:
            said.append(str(error))
            continue
        if ended.returncode == 0:
            return python, environment | added
        said.append(ended.stderr.strip().rpartition("\n")[2])
    pytest.skip(f"the user nobody cannot run an interpreter with the package: {'; '.join(said)}")


@pytest.fixture(scope="module")
def of_nobody() -> Iterator[dict[Level, OfNobody]]:
    found: dict[Level, OfNobody] = {}
    yield found
    for each in found.values():
        each.close()


def _of_nobody(level: Level, attack: Attack, of_nobody: dict[Level, OfNobody]) -> None:
    if level not in of_nobody:
        of_nobody[level] = OfNobody(level)
    checked(attack, level, of_nobody[level].attack(attack))


@pytest.mark.parametrize(("level", "attack"), pairs([pair for pair in PROMISED if pair[1].category in OF_USERS]))
def test_it_does_so_for_another_user(level: Level, attack: Attack, of_nobody: dict[Level, OfNobody]) -> None:
    _of_nobody(level, attack, of_nobody)


@pytest.mark.slow
@pytest.mark.parametrize(("level", "attack"), pairs([pair for pair in PROMISED if pair[1].category not in OF_USERS]))
def test_it_does_so_for_another_user_with_all(level: Level, attack: Attack, of_nobody: dict[Level, OfNobody]) -> None:
    _of_nobody(level, attack, of_nobody)


_THROUGH_BUBBLEWRAP = """
from burnish.sandbox import fork_server
from burnish.sandbox.base import Level, Limits
from burnish.sandbox.local import LocalEngine

direct = fork_server.ForkServer._try

def refused(level, seed, prefix):  # as a policy does that lets bubblewrap alone make user namespaces
    return direct(level, seed, prefix) if prefix else "Operation not permitted"

fork_server.ForkServer._try = refused
with LocalEngine(Level.ISOLATED) as engine:
    done = engine.run("import os; print(os.getpid(), os.listdir(), os.path.exists('/home'))", b"", Limits())
    print(done.stdout.decode(), engine._server.popen.args[0])
"""


def test_bubblewrap_makes_the_namespaces_where_a_user_may_not() -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("there is no bubblewrap")
    python, environment = interpreter()
    done = subprocess.run(
        [*_SETPRIV, python, "-c", _THROUGH_BUBBLEWRAP],
        check=False,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["1", "[]", "False", "bwrap"], done.stderr
