"""Reward for programs: runs the program of a response on the row's tests in a sandbox.

``suites`` reads the tests of a row, ``program`` finds the program in the response, an `Engine` gives a verdict on each
test. A failure of the sandbox is a failure of the reward (`FailureKind.SANDBOX`), never a wrong answer.
"""

from __future__ import annotations

import atexit
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from burnish.rewards.code.program import Extract, program_of, stub_of
from burnish.rewards.code.suites import first_tests, for_program, last_request, row_suite, used_names
from burnish.rewards.code.usual_imports import with_usual_imports
from burnish.rewards.response_view import ResponseView
from burnish.rewards.reward import Reward, Seconds
from burnish.rewards.verdict import LabelledOutcome, UnusableRow
from burnish.sandbox.base import Engine, Level, Limits, TestResult, TestStatus

NO_CODE = "no_code"
"""Label of a response without a program."""
MARGIN_SECONDS = 15.0
"""Seconds by which `timeout` must exceed the seconds of all tests: for starting processes and reading results."""
_END_SECONDS = 5.0
"""Seconds between the failure of a server and the timeout."""
_LIMITS_OF_SERVERS = frozenset({"wall_seconds", "total_seconds", "memory_mib", "output_kib"})
"""Limits that hold with an engine on a server."""
_MAX_BOUNDED_MIB = 2048
"""Memory of a program from which its worker has no memory limit of its own."""
_GOLD = ("gold", "canonical_solution", "code", "solution", "solutions", "gold_standard_solution")
"""Columns with a right program, the first that a row has counts."""


class CodeReward(Reward):
    """1 if the program of the response passes all tests of its row, or the share of tests that it passes.

    The program is run in a sandbox and never reads the tests (docs/sandbox.md). A response without a program is 0.
    """

    name: Literal["code"] = "code"
    timeout: Seconds = 60.0
    score_by: Literal["all", "share"] = "all"
    """all: 1 only if every test passes; tests after the first that fails are not run. share: the share that passes."""
    extract: Extract = "auto"
    """Place of the program: last_block, the last fenced block; named_block, the last one that defines a function that
    the tests call; answer, all of the answer; auto, the named block, else a completion of the prompt's code, else the
    last block, else all of the answer if it is Python."""
    isolation: Literal["isolated", "restricted", "process"] = "isolated"
    """Level of isolation that is needed; a machine that offers less refuses the run. Not for an engine on a server."""
    limits: Limits = Field(default_factory=Limits)
    """Limits of time, memory and output of a program. A server takes wall_seconds, total_seconds, memory_mib and
    output_kib only."""
    engine: str = "local"
    """Where programs run: local, on this machine; or the URL of a SandboxFusion server."""
    max_tests: Annotated[int, Field(ge=1)] | None = None
    """Number of tests that are run, spread evenly over all of a row; null: all."""
    challenge_tests: bool = False
    """Whether the harder tests of MBPP (column challenge_test_list) are tests too."""

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, engine: str) -> str:
        if engine != "local" and not re.match(r"https?://[^/]", engine):
            raise ValueError("an engine is local, or the URL of a SandboxFusion server, such as http://localhost:8080")
        return engine

    @model_validator(mode="after")
    def _ends_before_its_process_does(self) -> CodeReward:
        needed = self.limits.total_seconds + MARGIN_SECONDS
        if self.timeout < needed:
            raise ValueError(
                f"timeout: {self.timeout:g} s ends the process that grades, and all tests of a program may take "
                f"limits.total_seconds: {self.limits.total_seconds:g} s; write timeout: {needed:g} or more"
            )
        return self

    @model_validator(mode="after")
    def _the_engine_takes_them(self) -> CodeReward:
        if self.engine == "local":
            return self
        if "isolation" in self.model_fields_set:
            raise ValueError(
                f"isolation: {self.isolation} is of this machine, and the server of engine isolates programs as it is "
                "set up; remove isolation, or write engine: local"
            )
        if unknown := sorted(self.limits.model_fields_set - _LIMITS_OF_SERVERS):
            raise ValueError(
                f"a server takes the limits {', '.join(sorted(_LIMITS_OF_SERVERS))}, and not {', '.join(unknown)}; "
                "remove them, or write engine: local"
            )
        return self

    @model_validator(mode="after")
    def _can_limit_processes(self) -> CodeReward:
        if self.limits.processes > 1 and self.isolation == "restricted":
            raise ValueError(
                f"limits.processes: {self.limits.processes}, and at isolation: restricted a program has one process; "
                "set isolation: isolated, or processes: 1"
            )
        return self

    @property
    def bounded(self) -> bool:
        return self.limits.memory_mib <= _MAX_BOUNDED_MIB

    @property
    def labels(self) -> tuple[str, ...]:
        return (*(str(status) for status in TestStatus), NO_CODE)

    def prepare(self) -> None:
        """Starts the sandbox.

        Raises:
            UserError: this machine offers less isolation, or the server cannot be reached.
        """
        _engine(self.engine, self.isolation, self._wait_seconds)

    @property
    def _wait_seconds(self) -> float:
        """Seconds that a server has for one program, so that its failure is told before this process is killed."""
        return self.timeout - self.limits.total_seconds - _END_SECONDS

    def score(self, answer: ResponseView) -> LabelledOutcome:
        suite = row_suite(answer, challenge=self.challenge_tests)
        names = used_names(suite)
        program = program_of(answer.text, self.extract, names, stub_of(last_request(answer), names))
        if program is None:
            return LabelledOutcome(0.0, NO_CODE)
        chosen = first_tests(for_program(suite, program), self.max_tests)
        engine = _engine(self.engine, self.isolation, self._wait_seconds)
        program = with_usual_imports(program, suite)
        results = engine.test(program, chosen, self.limits, stop_early=self.score_by == "all")
        return LabelledOutcome(_score(results, self.score_by), _label(results))

    def known_good(self, answer: ResponseView) -> str | None:
        """The row's right program (column gold, canonical_solution, code, solution or solutions) as a fenced block."""
        program = gold_program(answer.extra)
        return None if program is None else fenced(program)

    def same_reference(self, one: ResponseView, other: ResponseView) -> bool:
        """Whether two rows have the same tests."""
        try:
            return row_suite(one, challenge=self.challenge_tests) == row_suite(other, challenge=self.challenge_tests)
        except UnusableRow:
            return super().same_reference(one, other)


def _score(results: Sequence[TestResult], score_by: str) -> float:
    passed = [result.passed for result in results]
    return float(all(passed)) if score_by == "all" else sum(passed) / len(passed)


def _label(results: Sequence[TestResult]) -> str:
    """Status of the first test that does not pass."""
    return str(next((result.status for result in results if not result.passed), TestStatus.PASSED))


def gold_program(extra: Mapping[str, object]) -> str | None:
    """The right program of a row, or the first of several; None: it has none."""
    given = next((extra[name] for name in _GOLD if extra.get(name)), None)
    if isinstance(given, str) and given.lstrip().startswith("["):
        given = _listed(given)
    if isinstance(given, Mapping):
        given = _in_python(given)
    if isinstance(given, list | tuple):
        given = next((each for each in given if isinstance(each, str) and each.strip()), None)
    return given if isinstance(given, str) and given.strip() else None


def _listed(text: str) -> object:
    """List of a JSON text (APPS); a program that begins with a bracket stays text."""
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    return value


def _in_python(solutions: Mapping[Any, Any]) -> list[object]:
    """Programs in Python 3 of CodeContests' columns ``language`` (3) and ``solution``."""
    languages, programs = solutions.get("language"), solutions.get("solution")
    if not isinstance(languages, list) or not isinstance(programs, list):
        return []
    return [program for language, program in zip(languages, programs, strict=False) if language in (3, "PYTHON3")]


def fenced(program: str) -> str:
    """Program as a fenced block; one that has a fence already stays as it is."""
    return program if re.search(r"^\s*```", program, re.MULTILINE) else f"```python\n{program}\n```"


@lru_cache(maxsize=8)
def _engine(engine: str, isolation: str, wait_seconds: float) -> Engine:
    """The engine of this process, started at the first call and closed when the process ends."""
    # Recipes name the reward where no program is run: neither processes nor a network client is needed there.
    opened: Engine
    if engine == "local":
        from burnish.sandbox.local import LocalEngine

        opened = LocalEngine(level=Level.named(isolation))
    else:
        from burnish.sandbox.sandbox_fusion import SandboxFusion

        opened = SandboxFusion(engine, wait_seconds=wait_seconds)
    started = opened.__enter__()
    atexit.register(opened.__exit__, None, None, None)
    return started
