"""Generated responses of the recipes safety and persona: how many are refusals, how many are polite.

    python benchmarks/safety_persona.py safety [--seeds 0 1 2] [--output runs/safety-persona] [prefer.key=value ...]
    python benchmarks/safety_persona.py persona

Runs the recipe for each seed. The model after fine-tuning and the one after preference optimization answer the prompts
of the held-out pairs greedily; responses are counted by the tags of the pairs. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import burnish
from burnish.builtin.safety import is_refusal
from burnish.builtin.sets import builtin_rows
from burnish.builtin.style import is_polite

RECIPES = Path(__file__).parents[1] / "recipes"
COUNTED: dict[str, tuple[str, Callable[[str], bool]]] = {
    "safety": ("safety", is_refusal),
    "persona": ("preferences", is_polite),
}
"""Recipe -> its built-in data set, and the test of a response that is counted."""


def counts(model: Path, prompts: Path, counted: Callable[[str], bool]) -> dict[str, str]:
    """Tag -> how many of its responses pass the test."""
    lines = burnish.generate(model=str(model), data=str(prompts), temperature=0.0, max_new_tokens=48).answers
    passed: dict[str, list[bool]] = {}
    for line in lines:
        [response], tags = line["responses"], line.get("extra", {}).get("tags", ["all"])
        passed.setdefault(" and ".join(tags), []).append(counted(response))
    return {tag: f"{sum(values)} of {len(values)}" for tag, values in sorted(passed.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=COUNTED)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("runs/safety-persona"))
    parser.add_argument("settings", nargs="*", help="stage.key=value")
    options = parser.parse_intermixed_args()
    options.output.mkdir(parents=True, exist_ok=True)
    (name, counted), prompts = COUNTED[options.recipe], options.output / f"{options.recipe}.jsonl"
    rows = ({key: row[key] for key in ("prompt", "tags") if key in row} for row in builtin_rows(name, "test"))
    prompts.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    print("| seed | prompts | after SFT | after preferences |\n| --- | --- | --- | --- |", flush=True)
    for seed in options.seeds:
        folder = options.output / f"{options.recipe}-{seed}"
        burnish.run(RECIPES / f"{options.recipe}.yaml", f"seed={seed}", f"output={folder}", *options.settings)
        before = counts(folder / "stages" / "sft" / "model", prompts, counted)
        for tag, after in counts(folder, prompts, counted).items():
            print(f"| {seed} | {tag} | {before[tag]} | {after} |", flush=True)


if __name__ == "__main__":
    main()
