"""Writes the table of attacks into docs/sandbox.md: what each tries, and how it ends at each level.

    python scripts/attack_table.py

Every attack is run as `tests/sandbox/test_attacks.py` runs it. Ends with an error if one succeeds at a level that
promises to stop it.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from burnish.sandbox.base import Level  # noqa: E402
from tests.sandbox.attacks import ATTACKS  # noqa: E402
from tests.sandbox.attacks.arena import Arena  # noqa: E402
from tests.sandbox.attacks.naive import works  # noqa: E402
from tests.sandbox.attacks.record import Attack  # noqa: E402
from tests.sandbox.attacks.trial import Seen, Trials  # noqa: E402

PAGE = ROOT / "docs" / "sandbox.md"
BEGIN, END = "<!-- attacks: begin -->", "<!-- attacks: end -->"
NOT_PROMISED = "not promised"
HEAD = (
    "| Attack | What it tries | Without a sandbox | Process | Restricted | Isolated |",
    "| --- | --- | --- | --- | --- | --- |",
)


def without_sandbox(attack: Attack, arena: Arena) -> str:
    """Whether an attack works without a sandbox, or why that is not tried."""
    if attack.no_canary:
        return f"not tried: {attack.no_canary}"
    if attack.by_root and os.geteuid() != 0:
        return "not tried: it works for root alone"
    if works(attack, arena):
        return "works"
    assert attack.perhaps, f"{attack.name} does not work without a sandbox"
    return f"does not work here: {attack.perhaps}"


def at_level(attack: Attack, level: Level, seen: Seen | None) -> str:
    """The end of an attack at a level, in words.

    Raises:
        SystemExit: it succeeded, or left something.
    """
    if seen is None:
        return NOT_PROMISED
    expected = attack.expected.at(level) or ()
    if seen.succeeded or seen.left or not seen.honest or seen.verdict not in expected:
        raise SystemExit(f"{attack.category}: {attack.name}, {level.label}: {seen}")
    return seen.verdict.replace("_", " ") if attack.on_tests or seen.verdict != "exited" else "no effect"


def rows(canaries: Mapping[str, str], ends: Mapping[tuple[str, Level], str], attacks: Iterable[Attack]) -> list[str]:
    """Lines of the table, a heading before each category."""
    lines: list[str] = []
    category = ""
    for attack in attacks:
        if attack.category != category:
            category = attack.category
            lines += ["", f"### {category[0].upper()}{category[1:]}", "", *HEAD]
        cells = [attack.name, attack.tries, canaries[key(attack)], *(ends[key(attack), level] for level in Level)]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def key(attack: Attack) -> str:
    """The name of an attack among all."""
    return f"{attack.category}: {attack.name}"


def page(text: str, table: list[str]) -> str:
    """A page with the table between its marks; a new page if it has none."""
    if BEGIN not in text:
        text = (text or "# The sandbox\n").rstrip("\n") + f"\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    return before + "\n".join([BEGIN, *table, "", END]) + rest.partition(END)[2]


def main() -> None:
    """Runs the table and writes the page."""
    attacks = [attack for attack in ATTACKS if attack.machine in ("", platform.machine())]
    with Arena() as arena:
        canaries = {key(attack): without_sandbox(attack, arena) for attack in attacks}
    ends = {}
    for level in Level:
        with Trials(level) as trials:
            for attack in attacks:
                seen = None if attack.expected.at(level) is None else trials.attack(attack)
                ends[key(attack), level] = at_level(attack, level, seen)
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    machine = f"{platform.system()} {platform.machine()} with Python {platform.python_version()}"
    summary = [
        "",
        f"{len(attacks)} attacks, as `python scripts/attack_table.py` saw them on {machine}. Not promised: the level "
        "does not stop it, and it is not run. No effect: the program ended by itself, and nothing came of it.",
    ]
    PAGE.write_text(page(text, [*summary, *rows(canaries, ends, attacks)]), encoding="utf-8")


if __name__ == "__main__":
    main()
