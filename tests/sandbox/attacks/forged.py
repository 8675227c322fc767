"""Attacks by forged output: markers, replies and values in the name of the tests."""

from __future__ import annotations

from tests.sandbox.attacks.record import SQUARES, Attack, Expected, Judge, everywhere

_FRAME = """\
import json, os, struct, time
def frame(message):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    return struct.pack("!I", len(data)) + data
def everywhere(data):
    for number in range(1, 256):
        try:
            os.write(number, data)
        except OSError:
            pass
"""


def _forged(name: str, tries: str, program: str, expected: Expected, tests: tuple[str, ...] = SQUARES) -> Attack:
    return Attack(name, "forged verdict", tries, _FRAME + program, expected, Judge.MARKER, tests)


FORGED = (
    _forged(
        "marker in all descriptors",
        "writes what a grader looks for into descriptors 1 to 255, and ends",
        "everywhere(b'passed\\n')\nos._exit(0)",
        everywhere("exited", "runtime_error"),
    ),
    _forged(
        "verdict in all descriptors",
        "writes verdicts of tests into all descriptors, and ends",
        "everywhere(b''.join(frame({'end': number, 'status': 'passed', 'detail': ''}) for number in (0, "
        "1)))\n"
        "os._exit(0)",
        everywhere("exited", "runtime_error"),
    ),
    _forged(
        "report of a supervisor",
        "writes the report of a good end into all descriptors, and ends",
        'everywhere(b\'{"status": 0, "timeout": false, "cpu": 0, "wall": 0} passed\\n\')\nos._exit(1)',
        everywhere("exited", "runtime_error"),
    ),
    _forged(
        "replies ahead of the questions",
        "sends replies from a thread before it is asked",
        "import threading\ndef send():\n    while True:\n"
        "        everywhere(frame({'value': ['tuple', ['object', 0], None], 'said': 'passed'}))\n"
        "        time.sleep(0.001)\n"
        "threading.Thread(target=send, daemon=True).start()\ndef solve(x):\n    time.sleep(0.2)\n    return 0",
        everywhere("wrong_answer", "runtime_error"),
    ),
    _forged(
        "reply that is no value",
        "sends objects with false tags",
        "def solve(x):\n    everywhere(frame({'value': ['tuple', ['passed', {}], ['object', 'passed']]}))",
        everywhere("runtime_error"),
    ),
    _forged(
        "reply with a verdict as an error",
        "sends an error whose status is a pass",
        "def solve(x):\n    everywhere(frame({'error': ['AssertionError', 'passed', 'passed']}))\n    time.sleep(1)",
        everywhere("runtime_error"),
    ),
    _forged(
        "reply with an exception that is a success",
        "sends an error that is a warning, a group, or nothing",
        "def solve(x):\n    for kind in ('BaseExceptionGroup', 'UserWarning', 'passed', 'type', '__import__'):\n"
        "        everywhere(frame({'error': [kind, 'passed', '']}))\n    time.sleep(1)",
        everywhere("runtime_error"),
    ),
    _forged(
        "gigantic frame",
        "announces a reply of four gibibytes",
        "def solve(x):\n    everywhere(b'\\xff\\xff\\xff\\xff' + b'passed\\n' * 64)\n    time.sleep(1)",
        everywhere("runtime_error"),
    ),
    _forged(
        "nested frame",
        "sends a reply of lists that are nested 100 000 times",
        "def solve(x):\n    everywhere(b'passed\\n' if not hasattr(os, 'x') else b'')\n"
        "    everywhere(frame(b'[' * 100000))\n    time.sleep(1)",
        everywhere("runtime_error", "exited"),
    ),
    _forged(
        "nested value",
        "sends a value of tags that are nested 400 times",
        "def solve(x):\n    value = 4\n    for _ in range(400): value = ['scalar', value]\n"
        "    everywhere(frame({'value': value, 'said': 'passed'}))\n    time.sleep(1)",
        everywhere("runtime_error"),
    ),
    _forged(
        "half a frame",
        "sends half a reply, and waits",
        "def solve(x):\n    everywhere(struct.pack('!I', 1000) + b'passed\\n')\n    time.sleep(3)",
        everywhere("timeout"),
    ),
    _forged(
        "closed channel",
        "prints a marker, closes all descriptors, and goes on",
        "def solve(x):\n    everywhere(b'passed\\n')\n    os.closerange(0, 256)\n    time.sleep(3)",
        everywhere("exited", "runtime_error"),
    ),
    _forged(
        "reply of types",
        "sends types and records with false parts",
        "def solve(x):\n    everywhere(frame({'value': ['tuple', ['type', 'passed'], ['Fraction', '0x1', '0x0']]}))",
        everywhere("runtime_error"),
    ),
    _forged(
        "exec is patched",
        "replaces exec and compile, by which a grader runs the tests",
        "import builtins\n"
        "builtins.exec = builtins.eval = builtins.compile = lambda *_, **__: None\n"
        "def solve(x): return 0",
        everywhere("wrong_answer"),
    ),
    Attack(
        "pickle that runs code",
        "forged verdict",
        "returns an object that ends the process of the grader with status 0 when it is read",
        "import os\nclass Read:\n    def __reduce__(self): return os._exit, (0,)\ndef solve(x): return Read()",
        everywhere("wrong_answer"),
        Judge.PICKLE,
    ),
    Attack(
        "pickle of an object that equals everything",
        "forged verdict",
        "returns an object that becomes one with a method of its own when it is read",
        "class Read:\n    def __reduce__(self):\n"
        "        return eval, (\"type('Equal', (), {'__eq__': lambda *_: True})()\",)\ndef solve(x): return Read()",
        everywhere("wrong_answer"),
        Judge.PICKLE,
    ),
)
