"""Judges without a sandbox, as public tools have them: an attack must be seen to work there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox.attacks.arena import Arena
from tests.sandbox.attacks.record import Attack, Judge

_SECONDS = 20.0
_EXECUTES = """\
import sys
space = {"__name__": "candidate"}
exec(PROGRAM, space)
for text in TEXTS:
    exec(text, space if SAME else {"__name__": "next"})
print("passed" if SAME else "")
"""
_PICKLES = """\
import pickle
space = {"__name__": "candidate"}
exec(PROGRAM, space)
print(pickle.dumps(space["solve"](2)).hex())
"""
_READS = """\
import pickle, sys
assert pickle.loads(bytes.fromhex(sys.argv[1])) == 4
"""


@dataclass(frozen=True, slots=True)
class _Ended:
    code: int | None
    """None: it ran when its time was over."""
    output: str


def works(attack: Attack, arena: Arena) -> bool:
    """Whether an attack succeeds without a sandbox."""
    arena.reset()
    program = f"HOST = {arena.host()!r}\n{attack.program}\n"
    whole = program + "\n".join(attack.tests)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        place = _Place(Path(folder), arena.secret)
        match attack.judge:
            case Judge.STATUS:
                return place.run(whole).code == 0
            case Judge.OUTLASTS:
                return place.run(whole, seconds=attack.limits.wall_seconds + 0.2).code is None
            case Judge.CRASH:
                return (place.run(whole).code or 0) < 0
            case Judge.MARKER:
                return "passed" in place.run(_with(_EXECUTES, program, attack.tests, same=True)).output
            case Judge.PICKLE:
                text = place.run(_with(_PICKLES, program, (), same=True)).output.strip()
                return place.run(_READS, text).code == 0
            case Judge.TWO:
                after = (f"HOST = {arena.host()!r}\n{attack.after}",)
                return arena.word in place.run(_with(_EXECUTES, program, after, same=False)).output
            case Judge.EFFECT:
                output = place.run(program).output
                if attack.after:
                    output += place.run(f"HOST = {arena.host()!r}\n{attack.after}").output
                return arena.word in output or arena.secret in output or bool(arena.effects())


def _with(judge: str, program: str, texts: tuple[str, ...], *, same: bool) -> str:
    return f"PROGRAM = {program!r}\nTEXTS = {texts!r}\nSAME = {same}\n{judge}"


@dataclass(frozen=True, slots=True)
class _Place:
    folder: Path
    secret: str

    def run(self, program: str, *arguments: str, seconds: float = _SECONDS) -> _Ended:
        """Runs a program in a plain subprocess."""
        path = self.folder / "main.py"
        path.write_text(program)
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "BURNISH_SECRET": self.secret}
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                [sys.executable, path, *arguments],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                code: int | None = process.wait(seconds)
            except subprocess.TimeoutExpired:
                code = None
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            output.seek(0)
            return _Ended(code, output.read().decode(errors="replace"))
