"""The table of docs/optimizers.md is that of the code."""

from pathlib import Path

from burnish.optim.settings import KINDS

PAGE = Path(__file__).parents[2] / "docs" / "optimizers.md"


def table() -> str:
    """Table of optimizers in Markdown."""
    lines = ["| optimizer | from | state, bytes a weight | options and their defaults | rate, of AdamW's | for |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for name, kind in KINDS.items():
        options = ", ".join(f"{key}: {_written(value)}" for key, value in kind.options.items())
        state, rate = f"{kind.state_bytes:g}", "none" if kind.rate is None else f"{kind.rate:g} ×"
        lines.append(f"| `{name}` | {kind.library} | {state} | {options} | {rate} | {kind.purpose} |")
    return "\n".join(lines)


def _written(value: object) -> str:
    """A value as written in a recipe."""
    return str(list(value)) if isinstance(value, tuple) else str(value).lower()


def test_the_page_has_the_current_table():
    assert table() in PAGE.read_text(encoding="utf-8"), f"put this into {PAGE.name}:\n{table()}"
