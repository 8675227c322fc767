"""Runs contenders on rows with images in turn, each in a process of its own, and verifies that they train the same."""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import AutoConfig

from burnish.types import MediaRef
from burnish.vision.settings import VisionSettings
from peers.cases import Case, Contender
from peers.images import AGREEMENT, BURNISH, DEFAULTS, SEARCHED, Files, method_of
from peers.rl_cases import RESPONSES, is_exact
from peers.turns import OURS, Figures, Place, search, train_apart


def train_images_here(case: Case, contender: Contender, model: Path, rows: Path) -> Figures:
    """Trains in this process, which imports only what the contender needs."""
    with tempfile.TemporaryDirectory(dir=rows.parent) as output:
        run = Path(output) / "run"
        if contender.library != OURS:
            from peers.theirs_on_images import train
        elif method_of(case) == "sft":
            from peers.ours import train
        elif method_of(case) == "prefer":
            from peers.ours_on_pairs import train
        else:
            from peers.ours_on_prompts import train
        return train(case, contender, model, rows, run)


def compare_images(
    case: Case, place: Place, rounds: int, *, brief: bool = False, best: str | None = None
) -> dict[str, Any]:
    """Results of a case: seconds of a step and memory of Burnish, of TRL's fastest setting, and of its defaults.

    Args:
        case: what is trained.
        place: where its model and rows are.
        rounds: in which all train in turn.
        brief: leaves TRL's defaults out.
        best: name of TRL's fastest setting from an earlier search; None: it is searched.

    Raises:
        AssertionError: a contender in float32 does not compute what Burnish computes.
    """
    chosen = [each for each in SEARCHED if best in (None, each.name)]
    fastest, tried = search(case, chosen, place, lambda each: 1 / min(each["walls"][1:]), "steps/s")
    rivals = (BURNISH, fastest) if brief else (BURNISH, fastest, DEFAULTS)
    found: dict[str, list[Figures]] = {rival.name: [] for rival in rivals}
    for _ in range(rounds):
        for rival in rivals:
            if (figures := train_apart(case, rival, place)) is not None:
                found[rival.name].append(figures)
    ours = found[BURNISH.name][0]
    summaries = {}
    for rival in (rival for rival in rivals if found[rival.name]):
        summaries[rival.name] = _summary(found[rival.name])
        if rival.library != OURS:
            gap = _apart(case, place, ours, found[rival.name][0])
            assert not is_exact(rival) or gap < AGREEMENT, f"{method_of(case)}: {rival.name} is {gap:.0e} from burnish"
            summaries[rival.name]["apart"] = gap
    return {"method": method_of(case), "rows_per_step": case.rows_per_step, "contenders": summaries, "tried": tried}


def print_table(result: dict[str, Any]) -> None:
    """Prints the rows of docs/benchmarks.md."""
    print(f"\n**{result['method']}**, {result['rows_per_step']} rows a step\n")
    columns = ("", "s per step", "burnish is", "MiB above the model", "burnish needs", "s to step 1", "apart")
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    ours = result["contenders"][BURNISH.name]
    for name, each in result["contenders"].items():
        print(
            f"| {name} | {each['seconds_per_step']:.2f} | {each['seconds_per_step'] / ours['seconds_per_step']:.2f}× "
            f"| {each['beyond_mib']:,.0f} | {ours['beyond_mib'] / each['beyond_mib']:.2f}× "
            f"| {each['first_step_seconds']:.0f} | {each.get('apart', 0.0):.0e} |",
            flush=True,
        )


def _summary(found: Sequence[Figures]) -> dict[str, float]:
    """Medians over steps (without the first) and rounds."""
    return {
        "seconds_per_step": median(wall for each in found for wall in each["walls"][1:]),
        "beyond_mib": median(each["beyond"] for each in found) / 2**20,
        "first_step_seconds": median(each["first"] for each in found),
    }


def _apart(case: Case, place: Place, ours: Figures, theirs: Figures) -> float:
    """Largest relative difference of losses (and log-probabilities of chosen) of the first two steps; of GRPO, of
    advantages and the gradient's norm of TRL's first step, computed again."""
    if method_of(case) == "rl":
        from peers.rl_turns import gaps_of

        model = place.model(case.size)
        media = _media(model, Files(place.rows(case)), theirs["seen"]["prompts"])
        return max(gaps_of(model, theirs, media, VisionSettings(tower="trained", projector="trained")).values())
    names = ("losses", "chosen") if method_of(case) == "prefer" else ("losses",)
    return max(abs(a - b) / abs(b) for what in names for a, b in zip(theirs[what][:2], ours[what][:2], strict=True))


def _media(model: Path, files: Files, prompts: Sequence[Sequence[int]]) -> list[tuple[MediaRef, ...]]:
    """The image of each different prompt of TRL's first step, written beside the rows."""
    image_token, rows = AutoConfig.from_pretrained(model).image_token_id, files.theirs.read_text(encoding="utf-8")
    media = []
    for line, prompt in zip(rows.splitlines(), prompts[::RESPONSES], strict=False):
        [url] = json.loads(line)["images"]
        data = base64.b64decode(url.partition(",")[2])
        digest = hashlib.sha256(data).hexdigest()
        path = files.ours.with_name(f"{digest}.png")
        path.write_bytes(data)
        places = torch.nonzero(torch.tensor(prompt) == image_token).flatten().tolist()
        media.append((MediaRef("image", str(path), (places[0], places[-1] + 1), digest),))
    return media
