"""Cost of a training step by length of rows and by size of the vocabulary, compared with TRL's SFTTrainer.

    python benchmarks/sft_scaling.py --json docs/pictures/sft_scaling.json

The 15M Llama with random weights, steps of 8 192 random tokens of which the last two thirds of each row are trained:
rows of 128 to 8 192 tokens at a vocabulary of 32 000, and vocabularies of 8 000 to 256 000 at rows of 256. Burnish's
trainer with its default tokens_per_microbatch, and TRL in float32 with one unpadded row at a time (no mask, no padding,
no recomputation), each in a process of its own, in turn. Medians over rounds of the second step: milliseconds of
processor time a token, and the peak of memory above the loaded model.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from peers import theirs
from peers.cases import ENVIRONMENT, HEADS, LEARNING_RATE, PADDING_FREE, POSITIONS, SIZES, Case, Contender
from peers.meter import Meter
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from burnish.losses.cross_entropy import CrossEntropy
from burnish.model.attention import install
from burnish.model.policy import Model
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.stages.reader import TOKENS_PER_MICROBATCH
from burnish.train.step import Trainer
from burnish.types import Group, Response

SIZE = "15M"
STEPS = 2
"""The second is measured."""
LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192)
VOCABULARIES = (8_000, 32_000, 64_000, 128_000, 256_000)
USUAL_LENGTH, USUAL_VOCABULARY = 256, 32_000
TRL = Contender("TRL", "trl", 1, {**PADDING_FREE, "padding_free": False})


def make_model(vocabulary: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {**SIZES[SIZE], "vocab_size": vocabulary}
    config = LlamaConfig(**shape, num_attention_heads=HEADS[SIZE], max_position_embeddings=POSITIONS, pad_token_id=0)
    return LlamaForCausalLM(config)


@dataclass(frozen=True, slots=True)
class Point:
    """Length and vocabulary of one measurement."""

    length: int
    """Tokens of a row."""
    vocabulary: int
    tokens: int
    """Tokens of a step."""

    def rows(self) -> list[list[int]]:
        """Rows of all steps."""
        draw = np.random.default_rng(0)
        return draw.integers(3, self.vocabulary, size=(STEPS * self.tokens // self.length, self.length)).tolist()


def with_burnish(point: Point) -> dict[str, Any]:
    """Trains with the parts of a custom loop (docs/design.md)."""
    model, meter = make_model(point.vocabulary), Meter()
    install(model)
    policy = Model(model.train(), tokenizer=None)
    settings = OptimizerSettings(learning_rate=LEARNING_RATE)
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), settings))
    groups = []
    for row in point.rows():
        prompt, answer = torch.tensor(row).tensor_split([point.length // 3])
        response = Response(tokens=answer, trainable=torch.ones(len(answer), dtype=torch.bool))
        groups.append(Group(prompt=prompt, responses=(response,)))
    meter.loaded(model)
    for batch in (groups[: len(groups) // STEPS], groups[len(groups) // STEPS :]):
        meter.losses.append(float(trainer.step(batch, CrossEntropy(), TOKENS_PER_MICROBATCH["cpu"], 1.0)["loss"]))
        meter.step()
    return meter.figures()


def with_trl(point: Point, folder: Path) -> dict[str, Any]:
    small_tokenizer().save_pretrained(folder / "model")
    make_model(point.vocabulary).save_pretrained(folder / "model")
    with (folder / "rows.tokens").open("w", encoding="utf-8") as file:
        for row in point.rows():
            labels = [-100] * (point.length // 3) + row[point.length // 3 :]
            file.write(json.dumps({"input_ids": row, "labels": labels}) + "\n")
    case = Case(SIZE, "random", per_step=point.tokens // point.length)
    return theirs.train(case, TRL, folder / "model", folder / "rows.jsonl", folder / "out")


def in_own_process(library: str, point: Point) -> dict[str, Any]:
    """Measures in a process of its own."""
    command = [sys.executable, __file__, "--one", json.dumps([library, *astuple(point)])]
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{library}, {point}:\n{done.stderr[-2000:]}"
    return json.loads(done.stdout.splitlines()[-1])


def in_this_process(library: str, point: Point) -> dict[str, Any]:
    """Measures in this process."""
    if library == "burnish":
        return with_burnish(point)
    with tempfile.TemporaryDirectory() as folder:
        return with_trl(point, Path(folder))


def small_tokenizer() -> PreTrainedTokenizerFast:
    """Tokenizer that TRL requires; the rows are tokens already."""
    core = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1, "<unk>": 2}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def compare(point: Point, rounds: int) -> dict[str, Any]:
    """Medians of both libraries; prints a row of the table."""
    results_of: dict[str, list[dict[str, Any]]] = {"burnish": [], "trl": []}
    for _ in range(rounds):
        for library, results in results_of.items():
            results.append(in_own_process(library, point))
    result: dict[str, Any] = asdict(point)
    for library, results in results_of.items():
        result[library] = {
            "cpu_ms_per_token": 1000 * median(values["cpus"][-1] for values in results) / point.tokens,
            "beyond_mib": median(values["beyond"] for values in results) / 2**20,
            "loss": results[0]["losses"][-1],
        }
    ours, other = result["burnish"], result["trl"]
    print(
        f"| {point.length:,} | {point.vocabulary:,} | {ours['cpu_ms_per_token']:.2f} | {other['cpu_ms_per_token']:.2f} "
        f"| {other['cpu_ms_per_token'] / ours['cpu_ms_per_token']:.2f}× | {ours['beyond_mib']:,.0f} "
        f"| {other['beyond_mib']:,.0f} | {abs(ours['loss'] - other['loss']):.0e} |",
        flush=True,
    )
    return result


def main() -> None:
    """Prints the table and writes the figures; or, in a process of its own, measures one point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file of results")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=8192, help="of a step")
    parser.add_argument("--longest", type=int, default=LENGTHS[-1])
    parser.add_argument("--largest", type=int, default=VOCABULARIES[-1])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        library, *point = json.loads(options.one)
        print(json.dumps(in_this_process(library, Point(*point))))
        return
    print(
        "| tokens a row | vocabulary | burnish, CPU ms a token | TRL | burnish is | burnish, MiB | TRL, MiB "
        "| loss apart |"
    )
    print("|---|---|---|---|---|---|---|---|")
    points = [(length, USUAL_VOCABULARY) for length in LENGTHS if length <= options.longest]
    points += [(USUAL_LENGTH, vocabulary) for vocabulary in VOCABULARIES if vocabulary <= options.largest]
    results = []
    for length, vocabulary in dict.fromkeys(points):
        results.append(compare(Point(length, vocabulary, options.tokens), options.rounds))
        if options.json:
            options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
