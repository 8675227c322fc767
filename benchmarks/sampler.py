"""Burnish's sampler beside transformers' `generate` and `generate_batch`: the same model, prompts and number of tokens.

    python benchmarks/sampler.py
    python benchmarks/sampler.py --only 100M --new 32 --rounds 1

Llamas of 1, 15 and 100 million parameters with random weights in float32; eight prompts of 32 to 256 random tokens and
eight responses to each, drawn at temperature 1. *equal*: every response has as many new tokens. *mixed*: one token in
48 ends a response, so lengths are spread and whoever leaves makes room. For each size the fastest setting of `generate`
and of `generate_batch` is sought first (`SETTINGS`), or named by `--best`. Then all take turns, each in a process of
its own with the same allocator; medians over rounds are told: tokens that were written per second, prompts included in
the time, the same by processor time, and the peak of memory above the loaded model.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peers.cases import ENVIRONMENT, HEADS, SIZES
from peers.material import save_llama
from peers.meter import Meter
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel
from transformers.generation.configuration_utils import ContinuousBatchingConfig

PROMPTS, RESPONSES = 8, 8
LENGTHS = [32 + 224 * k // (PROMPTS - 1) for k in range(PROMPTS)]
"""Tokens of the prompts: 32 to 256."""
ENDING = 48
"""In the mixed case, one token of so many ends a response."""
SEARCH_NEW = 16
"""New tokens of each response in the search."""
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "generate": [{"rows": rows, "cache": cache} for rows in (8, 16, 64) for cache in (None, "static")],
    "generate_batch": [{"page_size": page, "max_batch_tokens": tokens} for page in (16, 64) for tokens in (64, 256)],
}
"""generate: rows of a forward (prompts of similar length together) and kind of cache. generate_batch: with its defaults
it fills the machine's memory on a CPU, so the size of its cache is given: what all rows need."""

Write = Callable[[PreTrainedModel, list[list[int]], int, list[int], dict[str, Any]], int]


def prompts(vocabulary: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(vocabulary, (length,), generator=generator).tolist() for length in LENGTHS]


def ends(vocabulary: int, *, mixed: bool) -> list[int]:
    """End tokens: none, or every 48th token."""
    return list(range(1, vocabulary, ENDING)) if mixed else []


def by_burnish(model: PreTrainedModel, asked: list[list[int]], new: int, end: list[int], _: dict[str, Any]) -> int:
    from burnish.model.attention import install
    from burnish.model.policy import Model
    from burnish.sampling.base import Prompt
    from burnish.sampling.local import LocalSampler
    from burnish.sampling.params import SamplingParams

    if not model.config._attn_implementation.startswith("burnish"):
        install(model)
    sampler = LocalSampler(Model(model, tokenizer=None), end, model.config.max_position_embeddings)
    given = [Prompt(torch.tensor(tokens), key) for key, tokens in enumerate(asked)]
    groups = sampler.sample(given, RESPONSES, SamplingParams(max_new_tokens=new))
    return sum(len(response.tokens) for group in groups for response in group.responses)


def by_generate(
    model: PreTrainedModel, asked: list[list[int]], new: int, end: list[int], settings: dict[str, Any]
) -> int:
    rows = sorted((tokens for tokens in asked for _ in range(RESPONSES)), key=len)
    config = GenerationConfig(
        max_new_tokens=new,
        do_sample=True,
        top_k=0,
        eos_token_id=end or None,
        pad_token_id=0,
        cache_implementation=settings["cache"],
    )
    written = 0
    for start in range(0, len(rows), settings["rows"]):
        part = rows[start : start + settings["rows"]]
        width = max(map(len, part))
        tokens = torch.tensor([[0] * (width - len(row)) + row for row in part])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in part])
        output = model.generate(input_ids=tokens, attention_mask=mask, generation_config=config)[:, width:]
        written += sum(_until_end(row, end) for row in output.tolist())
    return written


def by_generate_batch(
    model: PreTrainedModel, asked: list[list[int]], new: int, end: list[int], settings: dict[str, Any]
) -> int:
    config = GenerationConfig(
        max_new_tokens=new, do_sample=True, top_k=0, temperature=1.0, eos_token_id=end or None, pad_token_id=0
    )
    rows = [tokens for tokens in asked for _ in range(RESPONSES)]
    blocks = sum(-(-(len(row) + new) // settings["page_size"]) for row in rows)
    batching = ContinuousBatchingConfig(num_blocks=blocks, **settings)
    found = model.generate_batch(rows, config, batching, progress_bar=False, warmup=False)
    assert len(found) == len(rows), f"{len(found)} of {len(rows)} requests came back"
    return sum(_until_end(each.generated_tokens, end) for each in found.values())


def _until_end(tokens: Sequence[int], end: list[int]) -> int:
    """How many there are up to the first end token, which counts."""
    known = set(end)
    return next((place + 1 for place, token in enumerate(tokens) if token in known), len(tokens))


WRITERS: dict[str, Write] = {"burnish": by_burnish, "generate": by_generate, "generate_batch": by_generate_batch}


def measure_here(folder: str, name: str, new: int, mixed: bool, settings: dict[str, Any]) -> dict[str, float]:
    """In this process: a small call warms up, then the time and memory of one whole call."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    asked, end = prompts(model.config.vocab_size), ends(model.config.vocab_size, mixed=mixed)
    write, meter = WRITERS[name], Meter()
    with torch.no_grad():
        write(model, asked[:1], 2, end, settings)
        meter.loaded(model)
        written = write(model, asked, new, end, settings)
        meter.step()
    figures = meter.figures()
    rates = {"rate": written / figures["walls"][0], "cpu_rate": written / figures["cpus"][0]}
    return {**rates, "beyond": figures["beyond"] / 2**20, "tokens": written}


def measure(folder: Path, name: str, new: int, mixed: bool, settings: dict[str, Any]) -> dict[str, float] | None:
    """In a process of its own; None: it failed, and its last words are told."""
    job = json.dumps([str(folder), name, new, mixed, settings])
    command = [sys.executable, sys.argv[0], "--contender", job]
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{name} {settings} failed: {done.stderr.strip().splitlines()[-1:]}", flush=True)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def search(folder: Path, name: str) -> dict[str, Any] | None:
    """The fastest setting, by one round of equal lengths; None: none works."""
    if name == "burnish":
        return {}
    rates = []
    for settings in SETTINGS[name]:
        if (found := measure(folder, name, SEARCH_NEW, False, settings)) is not None:
            rates.append((found["rate"], json.dumps(settings)))
            print(f"  {name} {settings}: {found['rate']:,.0f} tokens/s", flush=True)
    return json.loads(max(rates)[1]) if rates else None


def compare(folder: Path, best: dict[str, dict[str, Any]], new: int, mixed: bool, rounds: int) -> None:
    """A table of medians, all contenders in turn."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in best}
    for _ in range(rounds):
        for name, settings in best.items():
            if (figures := measure(folder, name, new, mixed, settings)) is not None:
                found[name].append(figures)
    medians = {
        name: {key: median(each[key] for each in figures) for key in figures[0]}
        for name, figures in found.items()
        if figures
    }
    ours = medians["burnish"]
    columns = ("", "tokens/s", "burnish is", "by processor time", "MiB above the model", "tokens")
    print("\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for name, each in medians.items():
        told = ", ".join(f"{key} {value}" for key, value in best[name].items())
        label = f"{name} ({told})" if told else name
        print(
            f"| {label} | {each['rate']:,.0f} | {ours['rate'] / each['rate']:.2f}× "
            f"| {ours['cpu_rate'] / each['cpu_rate']:.2f}× | {each['beyond']:,.0f} | {each['tokens']:,.0f} |",
            flush=True,
        )


def main() -> None:
    """Prints tables; or, in a contender's own process, writes and prints what it measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="sizes or cases that contain this, such as 15M or 1M-mixed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--new", type=int, default=128, help="most new tokens of a response")
    parser.add_argument("--without", nargs="*", default=[], help="contenders that do not take part")
    parser.add_argument("--best", type=json.loads, default={}, help="settings by an earlier search, JSON by contender")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contender:
        print(json.dumps(measure_here(*json.loads(given.contender))))
        return
    with tempfile.TemporaryDirectory() as place:
        for size in SIZES:
            cases = [case for case in ("equal", "mixed") if given.only in f"{size}-{case}"]
            if not cases:
                continue
            folder = Path(place) / size
            save_llama(folder, SIZES[size], HEADS[size])
            names = [name for name in WRITERS if name not in given.without]
            chosen = {name: given.best.get(name) or search(folder, name) for name in names}
            best = {name: settings for name, settings in chosen.items() if settings is not None}
            for case in cases:
                print(f"\n**{size}, {case}**, at most {given.new} new tokens", flush=True)
                compare(folder, best, given.new, case == "mixed", given.rounds)


if __name__ == "__main__":
    main()
