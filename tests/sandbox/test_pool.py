"""What befalls the processes of an engine: kills, leaks, many callers, machines that lack a level."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from burnish.errors import UserError
from burnish.sandbox import fork_server
from burnish.sandbox.base import Ending, Level, Limits, SandboxError
from burnish.sandbox.fork_server import best_level
from burnish.sandbox.local import LocalEngine
from burnish.sandbox.server import landlock, seccomp
from burnish.sandbox.tests import AssertTest, CallTest, TestSuite
from tests.sandbox.attacks.trial import HONEST, descendants, folders

ROOT = Path(__file__).parents[2]
BEST = best_level()
LONG = Limits(cpu_seconds=60, wall_seconds=60, total_seconds=60)
SHORT = Limits(cpu_seconds=0.5, wall_seconds=2.0, total_seconds=4.0)
SQUARES = TestSuite((CallTest("solve", (2,), expected=4), CallTest("solve", (3,), expected=9)))
WITH_CODE = TestSuite((AssertTest("for x in range(9):\n    assert solve(x) == x * x"),))
SLEEPS = "import time\ndef solve(x): time.sleep(60)\nif __name__ == '__main__': solve(0)"


@pytest.fixture(params=list(Level), ids=lambda level: level.label)
def engine(request: pytest.FixtureRequest) -> Iterator[LocalEngine]:
    if request.param > BEST:
        pytest.skip(f"this machine offers level {BEST.label}")
    with LocalEngine(request.param) as found:
        yield found


def server(engine: LocalEngine) -> int:
    assert engine._server is not None, "an engine that was entered has a server"
    return engine._server.popen.pid


def soon(condition: Callable[[], bool]) -> bool:
    """Whether something comes true; what is waited for here takes milliseconds."""
    due = time.monotonic() + 30
    while not condition():
        if time.monotonic() > due:
            return False
        time.sleep(0.01)
    return True


def alive(pids: set[int]) -> set[int]:
    """Processes that have not ended."""
    found = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            found.add(pid)
    return found


def passes(engine: LocalEngine) -> bool:
    return all(result.passed for suite in (SQUARES, WITH_CODE) for result in engine.test(HONEST, suite, SHORT))


def test_a_server_that_was_killed_between_programs_is_started_again(engine: LocalEngine) -> None:
    for _ in range(3):
        assert passes(engine)
        pid = server(engine)
        os.kill(pid, signal.SIGKILL)
        assert soon(lambda pid=pid: not alive({pid}))
    assert passes(engine)


def test_a_server_that_is_being_killed_is_started_again(engine: LocalEngine) -> None:
    for _ in range(3):
        os.kill(server(engine), signal.SIGKILL)
        assert engine.run("print(1)", b"", SHORT).stdout == b"1\n"


@pytest.mark.parametrize("suite", [None, SQUARES, WITH_CODE], ids=["script", "calls", "code"])
def test_a_program_whose_server_is_killed_is_not_wrong(engine: LocalEngine, suite: TestSuite | None) -> None:
    pid = server(engine)
    seen: list[object] = []

    def run() -> None:
        try:
            seen.append(engine.test(SLEEPS, suite, LONG) if suite else engine.run(SLEEPS, b"", LONG))
        except SandboxError as error:
            seen.append(error)

    caller = threading.Thread(target=run)
    caller.start()
    assert soon(lambda: len(descendants(pid)) >= (2 if suite else 1))
    started = descendants(pid)
    os.kill(pid, signal.SIGKILL)
    caller.join()
    assert isinstance(seen[0], SandboxError), seen
    assert soon(lambda: not alive(started))
    assert passes(engine)


def test_a_caller_that_is_killed_leaves_no_process(engine: LocalEngine) -> None:
    source = (
        "import sys, threading\nfrom burnish.sandbox.base import Level, Limits\n"
        "from burnish.sandbox.local import LocalEngine\n"
        "with LocalEngine(Level(int(sys.argv[1]))) as engine:\n"
        "    print(engine._server.popen.pid, flush=True)\n"
        "    limits = Limits(cpu_seconds=60, wall_seconds=60)\n"
        "    engine.run('import time\\ntime.sleep(60)', b'', limits)\n"
    )
    command = [sys.executable, "-c", source, str(int(engine.level))]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None, "its output is a pipe"
        pid = int(caller.stdout.readline())
        assert soon(lambda: bool(descendants(pid)))
        started = {pid, *descendants(pid)}
        caller.kill()
    assert soon(lambda: not alive(started))


def test_a_home_that_is_full_is_an_error_of_the_program_alone(engine: LocalEngine) -> None:
    limits = SHORT.model_copy(update={"file_mib": 4})
    many = engine.level is Level.ISOLATED  # below, each file has the limit
    program = (
        "import os\ntry:\n    for number in range(8):\n        with open(f'x{number * MANY}', 'ab') as file:\n"
        "            file.write(bytes(1 << 20))\nexcept OSError as error:\n    print(error.errno)"
    ).replace("MANY", str(int(many)))
    done = engine.run(program, b"", limits)
    assert done.stdout.decode().splitlines()[0] in ("28", "27") or done.ending is Ending.KILLED
    assert engine.run("import os\nprint(os.listdir())", b"", limits).stdout == b"[]\n"


@pytest.mark.parametrize(
    "program",
    [
        "import os\nos.makedirs('a/b')\nopen('a/x', 'w').close()\nfor name in ('a/b', 'a', '.'): os.chmod(name, 0)",
        "import os\nfor _ in range(2000):\n    os.mkdir('d')\n    os.chdir('d')",
        "import os\nos.symlink('/', 'a')\nos.symlink('loop', 'loop')\nopen('-rf', 'w').close()",
    ],
    ids=["modes", "depth", "links"],
)
def test_no_folder_is_left_whatever_is_in_it(engine: LocalEngine, program: str) -> None:
    done = engine.run(program, b"", SHORT)
    assert done.ending in (Ending.EXITED, Ending.TIMEOUT)
    assert soon(lambda: not folders(engine))


def leaks_nothing(engine: LocalEngine, num_programs: int) -> None:
    programs = (HONEST, "def solve(x): return 0", "import os\nos._exit(0)", "def solve(x): open('x', 'w').write('x')")
    assert passes(engine)
    idle, opened = len(descendants(server(engine))), len(os.listdir("/proc/self/fd"))
    mounts = Path("/proc/self/mountinfo").read_text()
    for number in range(num_programs):
        program = programs[number % len(programs)]
        if number % 3:
            engine.test(program, (SQUARES, WITH_CODE)[number % 2], SHORT)
        else:
            engine.run(program, b"", SHORT)
    assert passes(engine)
    assert soon(lambda: len(alive(descendants(server(engine)))) <= idle)
    assert len(os.listdir("/proc/self/fd")) <= opened
    assert len(Path("/proc/self/mountinfo").read_text().splitlines()) <= len(mounts.splitlines())
    assert soon(lambda: not folders(engine))


def test_five_hundred_programs_leave_nothing() -> None:
    with LocalEngine(BEST) as engine:
        leaks_nothing(engine, 500)


@pytest.mark.slow
def test_ten_thousand_programs_leave_nothing(engine: LocalEngine) -> None:
    leaks_nothing(engine, 10_000)


@pytest.mark.parametrize("killed", [False, True], ids=["closed", "killed"])
def test_an_engine_that_is_closed_leaves_nothing(engine: LocalEngine, killed: bool) -> None:
    passes(engine)
    pids = {server(engine), *descendants(server(engine))}
    opened = len(os.listdir("/proc/self/fd"))
    assert engine._server is not None, "an engine that was entered has a server"
    folder = engine._server.folder
    assert (folder is None) == (engine.level is Level.ISOLATED)
    if killed:
        os.kill(server(engine), signal.SIGKILL)
    engine.close()
    assert soon(lambda: not alive(pids))
    assert len(os.listdir("/proc/self/fd")) < opened
    assert folder is None or soon(lambda: not os.path.exists(folder))


def test_many_threads_share_an_engine(engine: LocalEngine) -> None:
    def verdicts(number: int) -> list[bool]:
        suite = TestSuite(tuple(CallTest("solve", (x,), expected=x + number) for x in range(3)))
        program = f"def solve(x): return x + {number if number % 2 else -1}"
        return [result.passed for result in engine.test(program, suite, Limits(), stop_early=False)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(verdicts, range(64)))
    assert found == [[bool(number % 2)] * 3 for number in range(64)]


def test_many_threads_run_scripts(engine: LocalEngine) -> None:
    def output(number: int) -> bytes:
        return engine.run("print(input())", str(number).encode(), Limits()).stdout

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(output, range(64))) == [f"{number}\n".encode() for number in range(64)]


def words(level: Level) -> str:
    with pytest.raises(UserError) as refused, LocalEngine(level):
        pass
    return str(refused.value)


@pytest.mark.parametrize("version", [0, 2])
def test_a_machine_without_landlock_is_refused(monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    monkeypatch.setattr(landlock, "version", lambda: version)
    said = words(Level.RESTRICTED)
    assert "isolation: restricted, and this machine lacks Landlock (a kernel of version 6.2 or later" in said
    assert "choose a lower level: process" in said


@pytest.mark.parametrize("level", [Level.RESTRICTED, Level.ISOLATED], ids=lambda level: level.label)
def test_a_machine_without_filters_is_refused(monkeypatch: pytest.MonkeyPatch, level: Level) -> None:
    monkeypatch.setattr(seccomp, "supported", lambda: False)
    assert (
        f"isolation: {level.label}, and this machine lacks seccomp filters (on this kernel, {os.uname().release}"
        in (words(level))
    )


def test_a_machine_without_namespaces_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    if not seccomp.supported():
        pytest.skip("this machine has no filters")
    broken = (
        "from burnish.sandbox.server import linux\n"
        "def no(*_): raise PermissionError(1, 'Operation not permitted')\nlinux.unshare = linux.clone = no\n"
    )
    source = fork_server._SOURCE.replace("from burnish", f"exec({broken!r}); from burnish", 1)
    monkeypatch.setattr(fork_server, "_SOURCE", source)
    monkeypatch.setattr(fork_server.shutil, "which", lambda _: None)
    said = words(Level.ISOLATED)
    assert "isolation: isolated, and this machine lacks namespaces: [Errno 1] Operation not permitted" in said
    assert "choose a lower level: restricted, process" in said
