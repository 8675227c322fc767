"""What the recipes for safety and for a persona teach, in answers: how many are refusals, how many are courteous.

    python benchmarks/manners.py safety [--seeds 0 1 2] [--output runs/manners] [prefer.key=value ...]
    python benchmarks/manners.py persona

Runs the recipe by seed. The model after fine-tuning and the one after the comparisons answer the prompts of the
held-out pairs greedily; they are counted by the pairs' tags, where they have any. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import burnish
from burnish.builtin.manner import is_courteous
from burnish.builtin.safety import is_refusal
from burnish.builtin.sets import builtin_rows

RECIPES = Path(__file__).parents[1] / "recipes"
COUNTED: dict[str, tuple[str, Callable[[str], bool]]] = {
    "safety": ("safety", is_refusal),
    "persona": ("preferences", is_courteous),
}
"""Recipe -> its set of the built-in world, and what is counted."""


def counts(model: Path, prompts: Path, counted: Callable[[str], bool]) -> dict[str, str]:
    """Tag -> how many of its answers are counted."""
    answers = burnish.generate(model=str(model), data=str(prompts), temperature=0.0, max_new_tokens=48).answers
    found: dict[str, list[bool]] = {}
    for answer in answers:
        [said], tags = answer["responses"], answer.get("extra", {}).get("tags", ["all"])
        found.setdefault(" and ".join(tags), []).append(counted(said))
    return {tag: f"{sum(each)} of {len(each)}" for tag, each in sorted(found.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=COUNTED)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("runs/manners"))
    parser.add_argument("settings", nargs="*", help="stage.key=value")
    given = parser.parse_intermixed_args()
    given.output.mkdir(parents=True, exist_ok=True)
    (name, counted), prompts = COUNTED[given.recipe], given.output / f"{given.recipe}.jsonl"
    kept = ({key: row[key] for key in ("prompt", "tags") if key in row} for row in builtin_rows(name, "test"))
    prompts.write_text("".join(f"{json.dumps(row)}\n" for row in kept), encoding="utf-8")
    print("| seed | prompts | after SFT | after preferences |\n| --- | --- | --- | --- |", flush=True)
    for seed in given.seeds:
        folder = given.output / f"{given.recipe}-{seed}"
        burnish.run(RECIPES / f"{given.recipe}.yaml", f"seed={seed}", f"output={folder}", *given.settings)
        before = counts(folder / "stages" / "sft" / "model", prompts, counted)
        for tag, after in counts(folder, prompts, counted).items():
            print(f"| {seed} | {tag} | {before[tag]} | {after} |", flush=True)


if __name__ == "__main__":
    main()
