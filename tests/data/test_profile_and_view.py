"""Profile and view: counts against hand values, and the output of the commands."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from burnish.builtin.tiny import write_untrained
from burnish.cli.main import app
from burnish.data.cache import samples_of
from burnish.data.profile import Profile, profile, scripts
from burnish.data.view import view_rows
from burnish.errors import DataError
from burnish.stages.supervised_data import OpenedData, open_for_inspection

Write = Callable[..., str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    write_untrained(folder, hidden_size=32, layers=1)
    return str(folder)


def ask(question: str, answer: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


@pytest.fixture
def path(write: Write) -> str:
    rows = [ask("What?", "x" * length) for length in (5, 5, 10, 20, 40, 80, 300)]
    return write(*rows, ask("broken", 3), ask("<b>& что", "ответ"))


def open_rows(model: str, path: str, *settings: str) -> OpenedData:
    return open_for_inspection(model, path, settings)


def profiled(model: str, path: str, max_positions: int = 1000) -> Profile:
    builder = open_rows(model, path).preparation.builder
    return profile(builder, samples_of(builder, workers=0), max_positions)


def test_tokens_that_a_run_adds_are_counted(model: str, path: str) -> None:
    store = open_rows(
        model, path, "chat_template=chatml", "add_tokens=template", "max_invalid_fraction=1"
    ).preparation.builder.make(0, 1)
    tokenizer = open_rows(model, path, "add_tokens=['<|im_start|>', '<|im_end|>']").preparation.builder.writer.tokenizer
    begin, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assert (begin, end) == (260, 261)
    assert [token for token in store.tokens.tolist() if token >= begin] == [begin, end, begin, end]


def test_numbers(model: str, path: str) -> None:
    result = profiled(model, path)
    overhead = 2 + 5 + 2 + 2  # two role tokens with newlines, the question, an end token and a newline; an end token
    sizes = [overhead + 1 + length for length in (5, 5, 10, 20, 40, 80, 300)]
    assert sorted(result.lengths.tolist())[:2] == sizes[:2]
    assert max(result.lengths) == sizes[-1]
    assert (result.rows, result.unusable, result.duplicates) == (9, 1, 1)
    assert result.whole.samples == 8
    assert result.whole.tokens == result.lengths.sum()
    assert result.whole.percentiles[-1] == sizes[-1]
    assert result.turns == {1: 8}
    assert result.roles == {"user": 8, "assistant": 8}
    assert set(result.scripts) == {"LATIN", "CYRILLIC"}
    assert sum(result.scripts.values()) == pytest.approx(1)


def test_limits(model: str, path: str) -> None:
    result = profiled(model, path)
    by_limit = {candidate.max_length: candidate for candidate in result.candidates}
    longest = int(result.lengths.max())
    assert by_limit[longest].longer == 0
    assert by_limit[longest].learned == by_limit[longest].learned_if_dropped == by_limit[longest].computed == 1
    some = by_limit[64]
    assert some.longer == np.count_nonzero(result.lengths > 64)
    assert some.computed == pytest.approx(np.minimum(result.lengths, 64).sum() / result.lengths.sum())
    assert some.learned_if_dropped < some.learned < 1
    assert max(candidate.max_length for candidate in profiled(model, path, max_positions=48).candidates) == 48
    assert "model takes no more" in profiled(model, path, max_positions=48).why


def test_scripts() -> None:
    assert scripts(iter(["abc д", "1 2 !"])) == {"LATIN": 0.75, "CYRILLIC": 0.25}
    assert scripts(iter([""])) == {}
    assert next(iter(scripts(iter(["日本語"])))) == "CJK"


def test_the_command_prints_tables_and_writes_a_page(model: str, path: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    result = CliRunner().invoke(app, ["data", "profile", path, "--model", model, "--output", str(output)])
    assert result.exit_code == 0, result.output
    for part in ("Lengths, in tokens", "What a limit keeps", "1 samples repeat an earlier one", "max_length="):
        assert part in result.output
    assert (output / "lengths.png").read_bytes().startswith(b"\x89PNG")
    page = (output / "profile.html").read_text()
    assert "data:image/png;base64," in page
    assert not re.search(r'(src|href)="http', page)


def test_nothing_usable(model: str, write: Write) -> None:
    with pytest.raises(DataError, match="and all other rows"):
        profiled(model, write(ask("broken", 3)))


def view(model: str, path: str, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["data", "view", path, "--model", model, *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_view_marks_what_is_learned(model: str, path: str) -> None:
    output = view(model, path, "--index", "2")
    assert f"{path} line 3: " in output
    assert "<|user|>\nWhat?<|end|>\n<|assistant|>\n⟦xxxxxxxxxx<|end|>⟧" in output
    assert "⟦<|user|>" not in output
    everything = view(model, path, "train_on=everything", "--index", "2")
    assert "⟦\nWhat?<|end|>" in everything


def test_view_by_search_length_and_order(model: str, path: str) -> None:
    assert "⟦ответ<|end|>⟧" in view(model, path, "--search", "что")
    assert f"{path} line 7: " in view(model, path, "--longest", "1")
    first = view(model, path)
    assert [f"line {line}: " in first for line in (1, 2, 3, 4)] == [True, True, True, False]
    assert "cannot be used: messages[1]" in view(model, path, "--index", "7")
    assert "stops the run if more than 2 %" in view(model, path, "max_length=50", "--index", "6")
    assert "it would stop the run" in view(model, path, "max_length=50", "overlong=error", "--index", "6")
    assert "50 tokens, " in view(model, path, "max_length=50", "overlong=truncate", "--index", "6")
    assert "dropped: longer than 50 tokens" in view(model, path, "max_length=50", "overlong=drop", "--index", "6")


def test_view_writes_a_page(model: str, path: str, tmp_path: Path) -> None:
    view(model, path, "--search", "что", "--html", str(tmp_path / "rows.html"))
    page = (tmp_path / "rows.html").read_text()
    assert "&lt;b&gt;&amp; что" in page
    assert "<mark>ответ&lt;|end|&gt;</mark>" in page


@pytest.mark.parametrize(
    ("arguments", "output"),
    [(["--index", "99"], "has 9 rows"), (["--search", "nowhere"], "no row of")],
)
def test_mistakes(model: str, path: str, arguments: list[str], output: str) -> None:
    result = CliRunner().invoke(app, ["data", "view", path, "--model", model, *arguments])
    assert isinstance(result.exception, DataError)
    assert output in str(result.exception)


COMPARED = {
    "pairs": ({"prompt": "2+2=", "chosen": " 4", "rejected": " 5"}, "prefer", ["chosen", "rejected"]),
    "scored pairs": (
        {"prompt": "2+2=", "responses": [" 5", " 4"], "scores": [1.5, 3]},
        "prefer",
        ["chosen (score 3)", "rejected (score 1.5)"],
    ),
    "rankings": (
        {"prompt": "2+2=", "responses": [" 5", " 4", " 3"], "scores": [2, 7, 2.5]},
        "prefer loss=plackett_luce",
        ["rank 1 (score 7)", "rank 2 (score 2.5)", "rank 3 (score 2)"],
    ),
}


@pytest.mark.parametrize("name", COMPARED)
def test_a_comparison_is_shown_as_its_prompt_and_each_response_under_its_verdict(
    model: str, write: Write, name: str
) -> None:
    row, stage, verdicts = COMPARED[name]
    stage, *settings = stage.split()
    output = view(model, write(row), "--stage", stage, *settings)
    titles = re.findall(r"^(.+): [\d,]+ tokens, [\d,]+ learned$", output, re.MULTILINE)
    assert titles == verdicts
    assert output.count("2+2=") == 1
    assert f"{len(verdicts)} responses to a prompt of" in output
    assert "⟦ 4<|end|>⟧" in output
    assert max(map(len, output.splitlines()[1:])) <= 80


@pytest.mark.parametrize(("label", "verdict"), [(True, "desirable"), (False, "undesirable")])
def test_a_label_is_shown_as_its_verdict(model: str, write: Write, label: bool, verdict: str) -> None:
    rows = [
        {"prompt": "2+2=", "completion": " 4", "label": label},
        {"prompt": "3+3=", "completion": " 6", "label": True},
    ]
    output = view(model, write(*rows), "--stage", "prefer", "loss=kto", "--index", "0")
    assert f"line 1, {verdict}: " in output


def test_a_rejected_response_has_another_color(model: str, write: Write, tmp_path: Path) -> None:
    path = write(*(row for row, _, _ in (COMPARED["pairs"],)))
    preparation = open_for_inspection(model, path, (), "prefer").preparation
    _, chosen, rejected = (row_view.text() for row_view in view_rows(preparation, 0))
    colors = [{str(span.style) for span in text.spans} for text in (chosen, rejected)]
    assert colors == [{"not bold green", "bold"}, {"not bold red", "bold"}]
    assert ("green" in str(chosen.style), "red" in str(rejected.style)) == (True, True)
    view(model, path, "--stage", "prefer", "--html", str(tmp_path / "rows.html"))
    assert "<mark class=bad>" in (tmp_path / "rows.html").read_text()


def test_a_terminal_breaks_lines_between_words(model: str, write: Write) -> None:
    """At 80 columns; what is written into a pipe is not broken."""
    words = " ".join(["word"] * 60)
    path = write({"prompt": "?", "chosen": f" {words}", "rejected": " no"})
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system=None, highlight=False)
    preparation = open_for_inspection(model, path, (), "prefer").preparation
    for row_view in view_rows(preparation, 0):
        console.print(row_view.text())
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if line.rstrip().endswith(("wo", "wor"))]
    assert words in view(model, path, "--stage", "prefer")
