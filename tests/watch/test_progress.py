"""Progress: lines where nobody looks, a bar where somebody does, and everything in the log."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from burnish.errors import DataError
from burnish.watch.format import clock
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


def test_in_a_pipe_every_update_is_one_line(tmp_path):
    output = io.StringIO()
    tell(Progress(Console(file=output, width=20), (tmp_path / "log.txt").open("w")))
    lines = output.getvalue().splitlines()
    assert lines[0] == "rows: 12"
    texts = "step 10/20 · loss 1.235 · 12,346 tokens/s · 41.2 % of peak · grad 0.512 · 3.21 GiB · 0:00:0"
    assert lines[1].startswith(texts)
    assert lines[2] == "held-out loss 1.5"
    assert len(lines) == 3


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


@given(st.integers(1, 200), st.integers(0, 10**7), st.integers(1, 10**7), st.floats(0, 1e7))
def test_the_bar_is_one_line_of_any_terminal(width, step, total, left):
    """What does not fit is left out, and is never cut in the middle if there is room for the count."""
    metrics = ("loss 1.235", "12,346 tokens/s", "41.2 % of peak")
    lines = shown(State("sft", min(step, total), total, metrics, left), width)
    assert len(lines) == 1
    assert len(lines[0]) <= width
    texts = [piece for piece in (*metrics, f"{clock(left)} left") if piece in lines[0]]
    rest = re.sub(r"^sft *[━╺╸ ]*|[\d,]+/[\d,]+", "", lines[0])
    if width >= 30:
        assert rest.strip(" ·") == " · ".join(sorted(texts, key=[f"{clock(left)} left", *metrics].index))


def test_a_wider_terminal_never_shows_less():
    state = State("sft", 10, 20, ("loss 1.235", "12,346 tokens/s", "41.2 % of peak"), 61.0)
    counts = [shown(state, width)[0].count(" · ") for width in range(30, 150)]
    assert counts == sorted(counts)
    assert counts[-1] == 4


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


def test_an_error_that_ends_the_run_is_in_the_log_and_printed_by_the_command_alone(tmp_path):
    output = io.StringIO()
    error = DataError("rows.jsonl line 3: own.py:convert raised \x1b[31mno", "the rule", "the remedy")
    with pytest.raises(DataError):
        tell(Progress(Console(file=output), (tmp_path / "log.txt").open("w")), error)
    assert "rows.jsonl" not in output.getvalue()
    assert (tmp_path / "log.txt").read_text().splitlines()[3].endswith(" raised \\x1b[31mno")
    assert "  to do: the remedy" in (tmp_path / "log.txt").read_text()
