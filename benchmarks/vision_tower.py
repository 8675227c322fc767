"""Share of a step that the vision tower takes, with the image of a prompt encoded once, and once for each response.

    python benchmarks/vision_tower.py --json docs/pictures/vision_tower.json

The built-in vision-language model, all weights or all but the tower's trained, on questions about drawn shapes with 1,
2 and 8 answers of 16 tokens. Three ways of computing the same update are run in turn: the prompt once with its image
once (Burnish), the prompt for every response with its image once, and the prompt and its image for every response, as
trainers without groups do. The tower's seconds are those of its own forward, and of its backward if it is trained,
alone on the same images. Medians of rounds; gradients of the three ways agree to four digits.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peers.images import MODEL
from torch import Tensor
from transformers import PreTrainedModel

from burnish.builtin.sets import builtin_rows
from burnish.data.dataset import DatasetSpec
from burnish.data.read import read_rows
from burnish.data.template import choose_template
from burnish.losses.cross_entropy import CrossEntropy
from burnish.model.load import load_policy
from burnish.model.policy import Model
from burnish.model.route import Route
from burnish.model.vision import Vision
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.stages.reader import TOKENS_PER_MICROBATCH
from burnish.train.step import Trainer
from burnish.types import Group, PlacedImage, Response
from burnish.vision.settings import Trained, VisionSettings

PROMPTS, WRITTEN = 16, 16
ANSWERS = (1, 2, 8)
COLUMNS = ("tower", "answers", "shared, s", "tower's share", "prompt each, s", "image each, s", "tower's share", "gain")


@dataclass(frozen=True, eq=False, slots=True)
class ForEveryResponse(Vision):
    """Vision that computes the image of every packed prompt, also where prompts repeat."""

    def embeddings(self, model: PreTrainedModel, tokens: Tensor, media: Sequence[PlacedImage]) -> Tensor:
        embedded: Tensor = model.get_input_embeddings()(tokens[None])[0]
        pixels = [self.processing.pixels_of(image.medium) for image in media]
        features = self.family.features(model, pixels)
        places = torch.cat([image.positions for image in media])
        return embedded.index_copy(0, places, torch.cat(features).to(embedded.dtype))


def groups_of(policy: Model, answers: int) -> list[Group]:
    """Questions with pictures, each with random answers."""
    assert policy.vision is not None
    draw = torch.Generator().manual_seed(answers)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        rows = builtin_rows("shapes", count=PROMPTS)
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        spec = DatasetSpec.of(
            read_rows(str(path)),
            policy.tokenizer,
            choose_template(policy.tokenizer, "chatml"),
            max_length=512,
            images=policy.vision.processing.within([folder]),
        )
        groups = [group for row in range(PROMPTS) for group in spec.row(row)]
        for group in groups:
            for medium in group.media:
                policy.vision.processing.pixels_of(medium)  # kept by content
    size = policy.causal_lm.config.get_text_config().vocab_size

    def response() -> Response:
        tokens = torch.randint(8, size, (WRITTEN,), generator=draw)
        return Response(tokens=tokens, trainable=torch.ones(WRITTEN, dtype=torch.bool))

    return [replace(group, responses=tuple(response() for _ in range(answers))) for group in groups]


def tower_seconds(policy: Model, groups: Sequence[Group], copies: int, *, backward: bool) -> float:
    """Seconds of the tower and projector alone, forward and backward, on this many copies of each image."""
    assert policy.vision is not None
    processing, model = policy.vision.processing, policy.causal_lm
    pixels = [processing.pixels_of(medium) for group in groups for medium in group.media] * copies
    began = time.perf_counter()
    features = torch.cat(policy.vision.family.features(model, pixels))
    if backward:
        features.sum().backward()
    seconds = time.perf_counter() - began
    policy.causal_lm.zero_grad()
    return seconds


def compare(tower: Trained, answers: int, rounds: int) -> dict[str, Any]:
    """Medians of seconds of a step in three ways, and of the tower alone."""
    policy = load_policy(str(MODEL), vision=VisionSettings(tower=tower, projector="trained"))
    assert policy.vision is not None
    groups = groups_of(policy, answers)
    each = replace(policy, route=Route.EXPANDED)
    ways = {
        "shared": policy,
        "prompt each": each,
        "image each": replace(each, vision=ForEveryResponse(policy.vision.processing)),
    }
    settings = OptimizerSettings(learning_rate=0.0)  # all rounds compute the same gradients
    trainers = {name: Trainer(model, Optimizer(model.trained_parameters(), settings)) for name, model in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in (*ways, "tower once", "tower each")}
    for _ in range(rounds + 1):
        norms = []
        for name, trainer in trainers.items():
            began = time.perf_counter()
            sums = trainer.step(groups, CrossEntropy(), TOKENS_PER_MICROBATCH["cpu"], 1.0)
            seconds[name].append(time.perf_counter() - began)
            norms.append(float(sums["grad_norm"]))
        assert max(norms) / min(norms) - 1 < 1e-4, f"the three ways compute one gradient: {norms}"
        for name, copies in (("tower once", 1), ("tower each", answers)):
            seconds[name].append(tower_seconds(policy, groups, copies, backward=True))
    return {"tower": tower, "answers": answers} | {name: median(times[1:]) for name, times in seconds.items()}


def main() -> None:
    """Prints a table line by line, and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="file of results")
    given = parser.parse_args()
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    towers: tuple[Trained, ...] = ("frozen", "trained")
    results = []
    for tower in towers:
        for answers in ANSWERS:
            found = compare(tower, answers, given.rounds)
            results.append(found)
            shares = found["tower once"] / found["shared"], found["tower each"] / found["image each"]
            print(
                f"| {tower} | {answers} | {found['shared']:.3f} | {shares[0]:.0%} | {found['prompt each']:.3f} "
                f"| {found['image each']:.3f} | {shares[1]:.0%} | {found['image each'] / found['shared']:.2f}× |",
                flush=True,
            )
    if given.json is not None:
        given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
