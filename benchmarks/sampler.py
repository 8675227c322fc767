"""Burnish's sampler compared with transformers' `generate` and `generate_batch` on the same model and prompts.

    python benchmarks/sampler.py
    python benchmarks/sampler.py --only 100M --new 32 --rounds 1

Llamas of 1, 15 and 100 million parameters with random weights in float32; eight prompts of 32 to 256 random tokens and
eight responses to each, drawn at temperature 1. *equal*: every response has as many new tokens. *mixed*: one token in
48 ends a response, so lengths vary. For each size the fastest setting of `generate` and of `generate_batch` is searched
first (`SETTINGS`), or named by `--best`. Then all run in turn, each in a process of its own with the same allocator.
Printed are medians over rounds: generated tokens per second (prompts are in the time), the same by processor time, and
the peak of memory above the loaded model.
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
"""In the mixed case, one token in 48 ends a response."""
SEARCH_NEW = 16
"""New tokens of each response in the search."""
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "generate": [{"rows": rows, "cache": cache} for rows in (8, 16, 64) for cache in (None, "static")],
    "generate_batch": [{"page_size": page, "max_batch_tokens": tokens} for page in (16, 64) for tokens in (64, 256)],
}
"""generate: rows of a forward (prompts of similar length together) and kind of cache. generate_batch: with its defaults
it fills the machine's memory on a CPU, so the size of its cache is set to the need of all rows."""

Write = Callable[[PreTrainedModel, list[list[int]], int, list[int], dict[str, Any]], int]


def prompts(vocabulary: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(vocabulary, (length,), generator=generator).tolist() for length in LENGTHS]


def ends(vocabulary: int, *, mixed: bool) -> list[int]:
    """End tokens: none, or every 48th token."""
    return list(range(1, vocabulary, ENDING)) if mixed else []


def by_burnish(
    model: PreTrainedModel, token_prompts: list[list[int]], new: int, end: list[int], _: dict[str, Any]
) -> int:
    from burnish.model.attention import install
    from burnish.model.policy import Model
    from burnish.sampling.base import SampleRequest
    from burnish.sampling.local import LocalSampler
    from burnish.sampling.params import SamplingParams

    if not model.config._attn_implementation.startswith("burnish"):
        install(model)
    sampler = LocalSampler(Model(model, tokenizer=None), end, model.config.max_position_embeddings)
    requests = [SampleRequest(torch.tensor(tokens), key) for key, tokens in enumerate(token_prompts)]
    groups = sampler.sample(requests, RESPONSES, SamplingParams(max_new_tokens=new))
    return sum(len(response.tokens) for group in groups for response in group.responses)


def by_generate(
    model: PreTrainedModel, token_prompts: list[list[int]], new: int, end: list[int], settings: dict[str, Any]
) -> int:
    rows = sorted((tokens for tokens in token_prompts for _ in range(RESPONSES)), key=len)
    config = GenerationConfig(
        max_new_tokens=new,
        do_sample=True,
        top_k=0,
        eos_token_id=end or None,
        pad_token_id=0,
        cache_implementation=settings["cache"],
    )
    num_tokens = 0
    for start in range(0, len(rows), settings["rows"]):
        part = rows[start : start + settings["rows"]]
        width = max(map(len, part))
        tokens = torch.tensor([[0] * (width - len(row)) + row for row in part])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in part])
        output = model.generate(input_ids=tokens, attention_mask=mask, generation_config=config)[:, width:]
        num_tokens += sum(_until_end(row, end) for row in output.tolist())
    return num_tokens


def by_generate_batch(
    model: PreTrainedModel, token_prompts: list[list[int]], new: int, end: list[int], settings: dict[str, Any]
) -> int:
    config = GenerationConfig(
        max_new_tokens=new, do_sample=True, top_k=0, temperature=1.0, eos_token_id=end or None, pad_token_id=0
    )
    rows = [tokens for tokens in token_prompts for _ in range(RESPONSES)]
    blocks = sum(-(-(len(row) + new) // settings["page_size"]) for row in rows)
    batching = ContinuousBatchingConfig(num_blocks=blocks, **settings)
    outputs = model.generate_batch(rows, config, batching, progress_bar=False, warmup=False)
    assert len(outputs) == len(rows), f"{len(outputs)} of {len(rows)} requests came back"
    return sum(_until_end(output.generated_tokens, end) for output in outputs.values())


def _until_end(tokens: Sequence[int], end: list[int]) -> int:
    """Number of tokens up to and including the first end token."""
    end_tokens = set(end)
    return next((place + 1 for place, token in enumerate(tokens) if token in end_tokens), len(tokens))


WRITERS: dict[str, Write] = {"burnish": by_burnish, "generate": by_generate, "generate_batch": by_generate_batch}


def measure_here(folder: str, name: str, new: int, mixed: bool, settings: dict[str, Any]) -> dict[str, float]:
    """Measures in this process: a small call to warm up, then time and memory of one full call."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    token_prompts, end = prompts(model.config.vocab_size), ends(model.config.vocab_size, mixed=mixed)
    write, meter = WRITERS[name], Meter()
    with torch.no_grad():
        write(model, token_prompts[:1], 2, end, settings)
        meter.loaded(model)
        written = write(model, token_prompts, new, end, settings)
        meter.step()
    figures = meter.figures()
    rates = {"rate": written / figures["walls"][0], "cpu_rate": written / figures["cpus"][0]}
    return {**rates, "beyond": figures["beyond"] / 2**20, "tokens": written}


def measure(folder: Path, name: str, new: int, mixed: bool, settings: dict[str, Any]) -> dict[str, float] | None:
    """Measures in a process of its own; None: it failed, and the end of its output was printed."""
    job = json.dumps([str(folder), name, new, mixed, settings])
    command = [sys.executable, sys.argv[0], "--contender", job]
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{name} {settings} failed: {done.stderr.strip().splitlines()[-1:]}", flush=True)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def search(folder: Path, name: str) -> dict[str, Any] | None:
    """Fastest setting, by one round of equal lengths; None: no setting works."""
    if name == "burnish":
        return {}
    rates = []
    for settings in SETTINGS[name]:
        if (result := measure(folder, name, SEARCH_NEW, False, settings)) is not None:
            rates.append((result["rate"], json.dumps(settings)))
            print(f"  {name} {settings}: {result['rate']:,.0f} tokens/s", flush=True)
    return json.loads(max(rates)[1]) if rates else None


def compare(folder: Path, best: dict[str, dict[str, Any]], new: int, mixed: bool, rounds: int) -> None:
    """Runs all contenders in turn and prints a table of medians."""
    results: dict[str, list[dict[str, float]]] = {name: [] for name in best}
    for _ in range(rounds):
        for name, settings in best.items():
            if (figures := measure(folder, name, new, mixed, settings)) is not None:
                results[name].append(figures)
    medians = {
        name: {key: median(values[key] for values in figures) for key in figures[0]}
        for name, figures in results.items()
        if figures
    }
    ours = medians["burnish"]
    columns = ("", "tokens/s", "burnish is", "by processor time", "MiB above the model", "tokens")
    print("\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for name, each in medians.items():
        settings_text = ", ".join(f"{key} {value}" for key, value in best[name].items())
        label = f"{name} ({settings_text})" if settings_text else name
        print(
            f"| {label} | {each['rate']:,.0f} | {ours['rate'] / each['rate']:.2f}× "
            f"| {ours['cpu_rate'] / each['cpu_rate']:.2f}× | {each['beyond']:,.0f} | {each['tokens']:,.0f} |",
            flush=True,
        )


def main() -> None:
    """Prints tables; or, in a contender's own process, generates and prints its measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="sizes or cases that contain this, such as 15M or 1M-mixed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--new", type=int, default=128, help="largest number of new tokens of a response")
    parser.add_argument("--without", nargs="*", default=[], help="contenders that do not take part")
    parser.add_argument("--best", type=json.loads, default={}, help="settings by an earlier search, JSON by contender")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        print(json.dumps(measure_here(*json.loads(options.contender))))
        return
    with tempfile.TemporaryDirectory() as place:
        for size in SIZES:
            cases = [case for case in ("equal", "mixed") if options.only in f"{size}-{case}"]
            if not cases:
                continue
            folder = Path(place) / size
            save_llama(folder, SIZES[size], HEADS[size])
            names = [name for name in WRITERS if name not in options.without]
            chosen = {name: options.best.get(name) or search(folder, name) for name in names}
            best = {name: settings for name, settings in chosen.items() if settings is not None}
            for case in cases:
                print(f"\n**{size}, {case}**, at most {options.new} new tokens", flush=True)
                compare(folder, best, options.new, case == "mixed", options.rounds)


if __name__ == "__main__":
    main()
