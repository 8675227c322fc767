"""Progress: lines where nobody looks, a bar where somebody does, and everything in the log."""

from __future__ import annotations

import io
import re
import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from burnish.errors import DataError, RunError
from burnish.watch.format import clock, shorten
from burnish.watch.notebook import NotebookLine
from burnish.watch.progress import Progress, State, open_progress
from burnish.watch.quiet import quiet_transformers

METRICS = {"grad_norm": 0.51234, "loss": 1.23456, "tokens_per_second": 12345.6, "mfu": 0.41234, "memory_gib": 3.21}


def tell(progress: Progress, error: Exception | None = None) -> None:
    with progress:
        progress.say("rows: 12")
        progress.start("sft", done=0, total=20)
        progress.update(10, 20, METRICS)
        progress.say("held-out loss 1.5")
        if error is not None:
            raise error


def test_in_a_pipe_every_update_is_one_line_of_80_columns(tmp_path):
    """What does not fit is left out; the log has all of it."""
    output = io.StringIO()
    tell(Progress(Console(file=output, width=20), (tmp_path / "log.txt").open("w")))
    lines = output.getvalue().splitlines()
    assert lines == [
        "rows: 12",
        "step 10/20 (50 %) · loss 1.235 · 0:00:00 elapsed · 0:00:00 left",
        "held-out loss 1.5",
    ]
    [logged] = [line for line in (tmp_path / "log.txt").read_text().splitlines() if "step 10" in line]
    assert "loss 1.235 · 12,346 tokens/s · 41.2 % of peak · grad 0.512 · 3.21 GiB · 0:00:00 elapsed" in logged


@pytest.mark.parametrize(("width", "seen"), [(40, "10/20"), (80, "loss 1.235"), (120, "41.2 % of peak")])
def test_on_a_terminal_there_is_a_bar_with_what_fits(tmp_path, width, seen):
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=width)
    tell(Progress(console, (tmp_path / "log.txt").open("w")))
    assert seen in output.getvalue()


def test_the_log_has_all_of_it_and_is_appended_to(tmp_path):
    for _ in range(2):
        tell(open_progress(tmp_path / "log.txt"))
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.split(" ", 2)[2][:8] for line in lines] == ["rows: 12", "step 10/", "held-out"] * 2


def shown(state: State, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(state)
    return capture.get().splitlines()


@given(st.integers(1, 200), st.integers(0, 10**7), st.integers(1, 10**7), st.floats(0, 1e7), st.floats(0, 1e7))
def test_the_bar_is_one_line_of_any_terminal(width, step, total, left, elapsed):
    """What does not fit is left out, and is never cut in the middle if there is room for the count."""
    metrics = ("loss 1.235", "12,346 tokens/s", "41.2 % of peak")
    state = State("sft", min(step, total), total, metrics, left, elapsed)
    lines = shown(state, width)
    assert len(lines) == 1
    assert len(lines[0]) <= width
    rest = re.sub(r"^sft *[━╺╸ ]*|[\d,]+/[\d,]+", "", lines[0]).strip(" ·")
    if width >= 30:
        shown_parts = rest.split(" · ") if rest else []
        assert shown_parts == state.parts[: len(shown_parts)]


@given(st.integers(80, 200), st.integers(1, 10**6), st.floats(0, 1e6), st.lists(st.floats(-1e9, 1e9), max_size=8))
def test_a_line_never_breaks_a_number(width, total, seconds, values):
    """Metrics that do not fit are left out as a whole."""
    metrics = tuple(f"metric {number} {value:.4g}" for number, value in enumerate(values))
    state = State("sft", total // 2, total, metrics, seconds, seconds)
    line, whole = state.line(width), state.line()
    assert len(line) <= width
    assert line.split(" · ") == [part for part in whole.split(" · ") if part in line.split(" · ")]
    assert [f"{clock(seconds)} elapsed", f"{clock(seconds)} left"] == line.split(" · ")[-2:]


def test_a_wider_terminal_never_shows_less():
    state = State("sft", 10, 20, ("loss 1.235", "12,346 tokens/s", "41.2 % of peak"), 61.0, 61.0)
    counts = [shown(state, width)[0].count(" · ") for width in range(30, 150)]
    assert counts == sorted(counts)
    assert counts[-1] == 6


def test_no_escape_codes_where_nobody_looks(tmp_path):
    """Neither from the bar, which a terminal sees, nor from the user's data."""
    output, terminal = io.StringIO(), io.StringIO()
    for number, console in enumerate([Console(file=output), Console(file=terminal, force_terminal=True, width=80)]):
        with Progress(console, (tmp_path / f"{number}.txt").open("w")) as progress:
            progress.say("row: \x1b[2J\x07 and \x9b31m\ttab", style="yellow")
            progress.start("sft", 0, 2)
            progress.update(1, 2, METRICS)
            progress.say("alert", style="yellow")
    texts = [output.getvalue(), (tmp_path / "0.txt").read_text(), (tmp_path / "1.txt").read_text()]
    assert not any(re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text) for text in texts)
    assert all(r"\x1b[2J" in text for text in texts)
    assert "\x1b[2J" not in terminal.getvalue()


def test_quiet_restores_what_was():
    from transformers.utils import logging

    logging.set_verbosity_info()
    try:
        with quiet_transformers():
            assert logging.get_verbosity() == logging.ERROR
        assert logging.get_verbosity() == logging.INFO
        assert logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity_warning()


def test_an_evaluation_is_one_line_of_80_columns_in_a_pipe(tmp_path):
    output, metrics = io.StringIO(), {f"metric {number}": 1 / 3 for number in range(20)} | {"loss": 0.6931}
    with Progress(Console(file=output), (tmp_path / "log.txt").open("w")) as progress:
        progress.measured(40, metrics)
    [line] = output.getvalue().splitlines()
    assert line.startswith("step 40: held-out loss 0.6931, metric 0 0.3333, ")
    assert 60 < len(line) <= 80
    assert (tmp_path / "log.txt").read_text().count("0.3333") == 20


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_percentage_elapsed_time_and_time_left(tmp_path):
    """The time left goes by the steps since the first one; what was before it does not count."""
    output, now = io.StringIO(), Clock()
    with Progress(Console(file=output), (tmp_path / "log.txt").open("w"), now) as progress:
        progress.start("sft", done=40, total=100)
        now.seconds = 30  # an evaluation before the first step
        progress.begin_clock()
        now.seconds = 50
        progress.update(50, 100, {})
    assert output.getvalue() == "step 50/100 (50 %) · 0:00:50 elapsed · 0:01:40 left\n"


def test_all_steps_are_a_hundred_per_cent_and_no_fewer_are():
    assert [State("sft", step, 1000).percent for step in (0, 999, 1000)] == ["0 %", "99 %", "100 %"]


def test_a_line_is_due_after_a_minute_of_silence(tmp_path):
    output, now = io.StringIO(), Clock()
    with Progress(Console(file=output), (tmp_path / "log.txt").open("w"), now) as progress:
        progress.start("rl", 0, 10)
        progress.say("a line")
        assert not progress.is_due
        now.seconds = 61
        assert progress.is_due
        for done in range(1, 4):
            progress.part("prompts answered", done, 8)
        progress.advance(1)
        now.seconds = 122
        progress.part("prompts answered", 5, 8)
    lines = ["a line", "before step 1: prompts answered, 1 of 8", "after step 1: prompts answered, 5 of 8"]
    assert output.getvalue().splitlines() == lines
    assert [line.split(" ", 2)[2] for line in (tmp_path / "log.txt").read_text().splitlines()] == lines


def test_an_error_that_ends_the_run_is_in_the_log(tmp_path):
    """Also one of the user's own code, with its class."""
    errors = [RunError(given="the reward failed", rule="r", remedy="t"), ValueError("no such column")]
    for error in errors:
        with pytest.raises(type(error)), open_progress(tmp_path / "log.txt"):
            raise error
    text = (tmp_path / "log.txt").read_text()
    assert "the reward failed\n  rule: r\n  to do: t\n" in text
    assert "ValueError: no such column\n" in text


@given(st.text(min_size=1), st.integers(1, 40))
def test_a_path_gives_way_in_its_middle(text, width):
    short = shorten(text, width)
    assert len(short) <= width
    if short != text:
        start, end = short.split("…", 1) if short.count("…") == 1 else (text[: width - 1 - width // 2], None)
        assert text.startswith(start)
        assert end is None or text.endswith(end)


class Display:
    """IPython's display: outputs, each with its versions."""

    def __init__(self) -> None:
        self.outputs: list[list[dict[str, str]]] = []

    def __call__(self, data: object, *, raw: bool = False, display_id: bool = False) -> Display | None:
        if not raw:  # rich prints
            self.outputs.append([{"text/plain": str(data)}])
            return None
        self.outputs.append([data])
        return self

    def update(self, data: dict[str, str], *, raw: bool) -> None:
        self.outputs[-1].append(data)


@pytest.fixture
def display(monkeypatch) -> Display:
    """A notebook's IPython, which need not be installed."""
    shown = Display()
    package, module = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    module.display = package.display = shown
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return shown


def test_in_a_notebook_the_progress_is_one_output(tmp_path, display):
    """Hundreds of steps rewrite it in place; it needs no widgets, and the log has its lines."""
    now = Clock()
    with Progress(Console(force_jupyter=True), (tmp_path / "log.txt").open("w"), now) as progress:
        progress.start("sft", 0, 300)
        for step in range(1, 301):
            now.seconds = step
            progress.advance(step)
            if step % 10 == 0:
                progress.update(step, 300, METRICS)
    assert len(display.outputs) == 1
    last = display.outputs[0][-1]
    assert last["text/plain"].startswith("sft: step 300/300 (100 %) · loss 1.235")
    assert '<progress value="300" max="300"' in last["text/html"]
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 30


def test_a_notebook_gets_at_most_two_updates_a_second_and_the_last_one(display):
    now = Clock()
    line = NotebookLine(now)
    for step in range(1, 1001):
        now.seconds = step / 100
        line.show(f"<step {step}>", step, 1000)
    versions = display.outputs[0]
    assert len(versions) <= 22
    assert versions[-1]["text/plain"] == "<step 1000>"
    assert "&lt;step 1000&gt;" in versions[-1]["text/html"]


def test_an_error_that_ends_the_run_is_in_the_log_and_printed_by_the_command_alone(tmp_path):
    output = io.StringIO()
    error = DataError("rows.jsonl line 3: own.py:convert raised \x1b[31mno", "the rule", "the remedy")
    with pytest.raises(DataError):
        tell(Progress(Console(file=output), (tmp_path / "log.txt").open("w")), error)
    assert "rows.jsonl" not in output.getvalue()
    assert (tmp_path / "log.txt").read_text().splitlines()[3].endswith(" raised \\x1b[31mno")
    assert "  to do: the remedy" in (tmp_path / "log.txt").read_text()
