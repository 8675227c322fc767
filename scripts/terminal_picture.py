"""Draws docs/pictures/terminal.svg: a terminal in which the first command of README.md was typed, with what it showed.

    python -m scripts.terminal_picture FOLDER

The command runs in the folder, whose path is shown as …, in a terminal of a fixed width. A line that is drawn over,
such as the bar of progress, is shown as it was last.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.cli.test_readme import BLOCKS, commands

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "terminal.svg"
WIDTH = 112
_OVER = re.compile(r"\r|\x1b\[(?:2K|1?A|1?G)")
"""Movements after which a line is drawn again."""
_OTHER = re.compile(r"\x1b\[\??[0-9;]*[A-LN-Za-lnz]")
"""Escape sequences that set no color, such as those that hide the cursor."""


def shown(output: str) -> Iterator[str]:
    """Lines of a terminal's output as they stand in the end, with colors."""
    for line in output.replace("\r\n", "\n").split("\n"):
        yield _OTHER.sub("", next((part for part in reversed(_OVER.split(line)) if part.strip()), ""))


def run(command: str, folder: Path) -> str:
    """What a command writes to a terminal."""
    size = {"COLUMNS": str(WIDTH), "LINES": "40", "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    reader, writer = pty.openpty()
    with subprocess.Popen(
        command, shell=True, cwd=folder, env={**os.environ, **size}, stdout=writer, stderr=writer, stdin=writer
    ) as process:
        os.close(writer)
        text = b"".join(iter(lambda: _read(reader), b"")).decode("utf-8", "replace")
    os.close(reader)
    assert process.returncode == 0, text
    return text


def _read(reader: int) -> bytes:
    try:
        return os.read(reader, 65536)
    except OSError:  # the other end is closed
        return b""


def picture(command: str, output: str) -> str:
    """The terminal as SVG, which loads nothing."""
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True)
    first, *more = command.split("\n")
    console.print(Text(f"$ {first}", style="bold"), *(Text(line, style="bold") for line in more), sep="\n")
    for line in shown(output):
        console.print(Text.from_ansi(line), soft_wrap=True)
    svg = console.export_svg(title="burnish sft", unique_id="burnish")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def main(arguments: list[str]) -> None:
    [folder] = arguments
    command = commands(next(block for kind, block in BLOCKS if kind == "console"))[0]
    PICTURE.write_text(
        picture(command, run(command, Path(folder)).replace(str(Path(folder).resolve()), "…")), encoding="utf-8"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
