"""Progress: lines where nobody looks, a bar where somebody does, and everything in the log."""

from __future__ import annotations

import io

from rich.console import Console

from burnish.watch import Progress, open_progress, quiet_transformers


def tell(progress: Progress) -> None:
    with progress:
        progress.say("rows: 12")
        progress.start("sft", done=0, total=20)
        progress.update(10, 20, {"loss": 1.23456, "tokens_per_second": 12345.6})
        progress.say("held-out loss 1.5")


def test_in_a_pipe_every_update_is_one_line(tmp_path):
    output = io.StringIO()
    tell(Progress(Console(file=output, width=20), (tmp_path / "log.txt").open("w")))
    lines = output.getvalue().splitlines()
    assert lines[0] == "rows: 12"
    assert lines[1].startswith("step 10/20 · loss 1.235 · tokens_per_second 12,346 · 0:00:0")
    assert lines[2] == "held-out loss 1.5"


def test_on_a_terminal_there_is_a_bar(tmp_path):
    output = io.StringIO()
    tell(Progress(Console(file=output, force_terminal=True, width=120), (tmp_path / "log.txt").open("w")))
    assert "10/20" in output.getvalue()
    assert "loss 1.235" in output.getvalue()


def test_the_log_has_all_of_it_and_is_appended_to(tmp_path):
    for _ in range(2):
        tell(open_progress(tmp_path / "log.txt"))
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.split(" ", 2)[2][:8] for line in lines] == ["rows: 12", "step 10/", "held-out"] * 2


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
