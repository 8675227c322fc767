"""Prefix trees: tokens, time and memory of a step, shared and with sequences alone, beside what operations predict.

    python benchmarks/trees.py                     models of 1M, 15M and 100M, about a quarter of an hour on two cores
    python benchmarks/trees.py --sizes 1M          one size
    python benchmarks/trees.py --sizes 1M --cases pairs
    python benchmarks/trees.py --earlier ../burnish-0.1.0    beside a checkout of version 0.1.0 (`earlier_trees.py`)

Conversations of 6, 12 and 20 turns under a template that strips earlier thoughts, as Qwen 3's does: questions of 30
tokens, thoughts of 200, answers of 50, so every turn is a sample of its own. And pairs of HH-RLHF that fork late, from
the folder with real data beside the checkout (left out where it is absent). A row of the table is a group in one step
of full fine-tuning in float32, computed shared and alone in turn, in a process of its own; the memory of each way is
measured in one more process. *Predicted* is the ratio of the floating-point operations of `Model.num_flops`: the
decoder for every token, attention for every pair, the head for trained tokens.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from sft_step import HEAD_SIZE, SIZES, peak_memory
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from burnish.builtin.tiny import make_tokenizer
from burnish.data.dataset import DatasetSpec
from burnish.data.formats.known import FORMATS
from burnish.data.read import read_rows
from burnish.data.template import Template
from burnish.losses.base import Loss
from burnish.losses.cross_entropy import CrossEntropy
from burnish.losses.preference.build import preference_loss
from burnish.model.attention import install
from burnish.model.policy import Model
from burnish.model.route import Route
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.train.step import Trainer
from burnish.types import Group

POSITIONS = 4096
BUDGET = 8192
ROUNDS = {"1M": 7, "15M": 5, "100M": 2}
CASES = ("6 turns", "12 turns", "20 turns", "pairs")
PAIRS = 8
HH = Path(__file__).parents[2] / "shared" / "data" / "hh_rlhf" / "helpful-base-test.jsonl.gz"
THOUGHT, ANSWER, QUESTION = 200, 50, 30
TEMPLATE = (
    "{% set last = namespace(at=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set last.at = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}{{ '<|' + m.role + '|>' }}"
    "{% if m.role == 'assistant' and loop.index0 < last.at %}{{ m.content.split('</think>')[-1].lstrip('\\n') }}"
    "{% else %}{{ m.content }}{% endif %}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""Writes the thoughts of the answers after the last question alone."""


def conversation(turns: int) -> list[dict[str, str]]:
    """Messages whose questions, thoughts and answers have about the tokens of the module's docstring."""
    messages = []
    for number in range(turns):
        thought = f"<think>{number % 10}{'t' * (THOUGHT - 16)}</think>"
        answer = f"{number % 10}{'a' * (ANSWER - 3)}"
        messages += [
            {"role": "user", "content": f"{number % 10}{'q' * (QUESTION - 4)}"},
            {"role": "assistant", "content": thought + answer},
        ]
    return messages


def late_pairs(count: int) -> list[dict[str, object]]:
    """Pairs of HH-RLHF with the most turns before the answers, of those that the model's positions hold."""
    with gzip.open(HH, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rows = [row for row in rows if max(len(row["chosen"]), len(row["rejected"])) < 2000]
    return sorted(rows, key=lambda row: -row["chosen"].count("\n\nHuman:"))[:count]


def groups_of(case: str, tokenizer: PreTrainedTokenizerBase) -> list[Group]:
    """The groups of a step, by the package's own data preparation."""
    pairs = case == "pairs"
    rows = late_pairs(PAIRS) if pairs else [{"messages": conversation(int(case.split(maxsplit=1)[0]))}]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        spec = DatasetSpec.of(
            read_rows(str(path)),
            tokenizer,
            Template(TEMPLATE),
            format=FORMATS["preference"] if pairs else None,
            comparison="pairs" if pairs else None,
            max_length=POSITIONS,
            overlong="drop",
        )
        data = spec.whole()
        return [data[index] for index in range(len(data))]


def config_of(size: str) -> dict[str, int]:
    """Configuration of a Llama."""
    settings = SIZES[size]
    heads = max(2, settings["hidden_size"] // HEAD_SIZE)
    sizes = {"num_attention_heads": heads, "head_dim": settings["hidden_size"] // heads}
    return {**settings, **sizes, "max_position_embeddings": POSITIONS}


def make_policy(size: str) -> Model:
    """A model with random weights."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**config_of(size)))
    install(model)
    return Model(model.train(), tokenizer=None)


def measure(size: str, case: str, way: str) -> dict[str, float]:
    """One row of the table, in this process.

    Args:
        size: name of a model.
        case: name of the groups.
        way: "time" runs both ways in turn, "steps" the shared one; "shared" and "alone" measure the memory of one.
    """
    policy, groups = make_policy(size), groups_of(case, make_tokenizer())
    loss: Loss = preference_loss("simpo").loss if case == "pairs" else CrossEntropy()
    alone = replace(policy, route=Route.EXPANDED)
    found: dict[str, float] = {
        "tokens_shared": policy.num_tokens(groups),
        "tokens_alone": alone.num_tokens(groups),
        "predicted": alone.num_flops(groups) / policy.num_flops(groups),
    }
    models = {"shared": policy, "alone": alone}
    optimizer = Optimizer(policy.trained_parameters(), OptimizerSettings())
    torch.randn(2048, 2048) @ torch.randn(2048, 2048)  # memory that libraries allocate once is not the step's
    loaded = peak_memory()
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(1 + ROUNDS[size] if way in ("time", "steps") else 2):
        for name, model in models.items():
            if way in ("time", name) or (way, name) == ("steps", "shared"):
                began = time.perf_counter()
                Trainer(model, optimizer).step(groups, loss, BUDGET, 1.0)
                seconds[name].append(time.perf_counter() - began)
    found |= {f"seconds_{name}": statistics.median(each[1:]) for name, each in seconds.items() if each}
    return found | {"memory": peak_memory() - loaded}


def child(size: str, case: str, way: str) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--measure", size, case, way]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def texts_of(groups: Sequence[Group]) -> list[list[dict[str, list[int]]]]:
    """The texts of each group as plain sequences: tokens, and which of the last ones are trained."""
    return [
        [
            {"tokens": row.tolist(), "trainable": response.trainable[own].tolist()}
            for response in group.responses
            for row, own in response.rows(group.prompt)
        ]
        for group in groups
    ]


def beside_earlier(checkout: Path, sizes: Sequence[str], cases: Sequence[str]) -> None:
    """Prints seconds of a step of an earlier version and of this one, run in turn."""
    print("| model | rows | tokens, earlier | tokens | s, earlier | s | burnish is |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            for case in cases:
                file = Path(folder, "texts.json")
                file.write_text(json.dumps(texts_of(groups_of(case, make_tokenizer()))), encoding="utf-8")
                given = json.dumps([config_of(size), str(file), ROUNDS[size], case == "pairs"])
                command = [sys.executable, str(Path(__file__).with_name("earlier_trees.py")), given]
                environment = {**os.environ, "PYTHONPATH": str(checkout)}
                done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
                earlier, found = json.loads(done.stdout.splitlines()[-1]), child(size, case, "steps")
                seconds = statistics.median(earlier["seconds"])
                print(
                    f"| {size} | {case} | {earlier['tokens']:,.0f} | {found['tokens_shared']:,.0f} | {seconds:.2f} "
                    f"| {found['seconds_shared']:.2f} | {seconds / found['seconds_shared']:.2f}× |",
                    flush=True,
                )


def table(sizes: Sequence[str], cases: Sequence[str]) -> None:
    """Prints the rows."""
    print(
        "| model | rows | tokens alone | shared | predicted | measured | s alone | s shared | MiB alone | MiB shared |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for size in sizes:
        for case in cases:
            found = child(size, case, "time")
            memory = {way: child(size, case, way)["memory"] / 2**20 for way in ("alone", "shared")}
            gain = found["seconds_alone"] / found["seconds_shared"]
            print(
                f"| {size} | {case} | {found['tokens_alone']:,.0f} | {found['tokens_shared']:,.0f} "
                f"| {found['predicted']:.2f}× | {gain:.2f}× | {found['seconds_alone']:.2f} "
                f"| {found['seconds_shared']:.2f} | {memory['alone']:,.0f} | {memory['shared']:,.0f} |",
                flush=True,
            )


def main() -> None:
    """Prints the tables of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--earlier", type=Path, help="a checkout of version 0.1.0, with which this one is compared")
    parser.add_argument("--measure", nargs=3, metavar=("SIZE", "CASE", "WAY"), help="one row, in this process, as JSON")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}\n"
    )
    cases = [case for case in arguments.cases if case != "pairs" or HH.is_file()]
    if arguments.earlier:
        beside_earlier(arguments.earlier.absolute(), arguments.sizes, cases)
        return
    table(arguments.sizes, cases)


if __name__ == "__main__":
    main()
