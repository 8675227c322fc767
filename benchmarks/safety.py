"""What the recipe for safety teaches, in answers: how many harmful requests are refused, and how many harmless ones.

    python benchmarks/safety.py [--seeds 0 1 2] [--output runs/safety] [prefer.key=value ...]

Runs recipes/safety.yaml by seed. The model after fine-tuning and the one after the comparisons answer the requests of
``builtin:safety/test`` greedily; a refusal is an answer with one of the built-in world's refusals in it. Prints a
Markdown table.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import burnish
from burnish.builtin import builtin_rows, is_refusal

RECIPE = Path(__file__).parents[1] / "recipes" / "safety.yaml"
HEAD = ("seed", "harmful, refused after SFT", "after preferences", "harmless, refused after SFT", "after preferences")
TAGS = ("harmful", "harmless")


def refused(model: Path, requests: Path) -> dict[str, str]:
    """Of each tag, refusals of requests."""
    answers = burnish.generate(model=str(model), data=str(requests), temperature=0.0, max_new_tokens=32).answers
    counts: dict[str, list[bool]] = {tag: [] for tag in TAGS}
    for answer in answers:
        [tag], [said] = answer["extra"]["tags"], answer["responses"]
        counts[tag].append(is_refusal(said))
    return {tag: f"{sum(found)} of {len(found)}" for tag, found in counts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("runs/safety"))
    parser.add_argument("settings", nargs="*", help="stage.key=value")
    given = parser.parse_intermixed_args()
    given.output.mkdir(parents=True, exist_ok=True)
    requests = given.output / "requests.jsonl"
    rows = builtin_rows("safety", "test")
    lines = (json.dumps({"prompt": row["prompt"], "tags": row["tags"]}) for row in rows)
    requests.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}", flush=True)
    for seed in given.seeds:
        folder = given.output / f"seed-{seed}"
        burnish.run(RECIPE, f"seed={seed}", f"output={folder}", *given.settings)
        before, after = refused(folder / "stages" / "sft" / "model", requests), refused(folder, requests)
        cells = [seed, *(found[tag] for tag in TAGS for found in (before, after))]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
