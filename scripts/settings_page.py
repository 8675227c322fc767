"""Writes docs/settings.md: all settings of recipes, with types, defaults and help.

    python scripts/settings_page.py

The page and `burnish keys` have the same source, the declarations of the settings. A test holds the page to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from burnish.recipe.settings_list import SettingEntry, recipe_settings, stage_settings
from burnish.stages.registry import BUILTIN

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
HEAD = """\
# Settings

All settings of recipes. `burnish keys` prints the same list, and `burnish keys sft warmup` searches it. On the command line a
setting is written `key=value` after the flags; in a recipe, dots become levels; in Python, groups are mappings:

```
burnish sft --model … --data … schedule.warmup_ratio=0.1
```

```yaml
stages:
  - sft: {data: …, schedule: {warmup_ratio: 0.1}}
```

```python
burnish.sft(model=…, data=…, schedule={"warmup_ratio": 0.1})
```

A default of null depends on other settings; the table shows the beginning of the rule, the help all of it. This page is written by
`python scripts/settings_page.py`.
"""


def page() -> str:
    """The page."""
    stages = {name: stage_settings(entry) for name, entry in BUILTIN.items()}
    first, *others = stages.values()
    shared = [entry for entry in first if all(entry in other for other in others)]
    sections = [("Every recipe", recipe_settings()), ("Every stage", shared)]
    sections += [
        (f"Stage {name}", [entry for entry in entries if entry not in shared]) for name, entries in stages.items()
    ]
    return HEAD + "".join(f"\n## {title}\n\n{_table(entries)}" for title, entries in sections)


def _table(entries: Iterable[SettingEntry]) -> str:
    lines = ["| key | values | default | |", "| --- | --- | --- | --- |"]
    for entry in entries:
        default = "**required**" if not entry.default and not entry.is_group else _cell(entry.default)
        lines.append(f"| `{entry.key}` | {_cell(entry.kind)} | {default} | {_cell(entry.help)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
