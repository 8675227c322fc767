"""Benchmark of one GPU: training steps, shared prompts, the sampler, memory. Models have random weights.

    python benchmarks/gpu_step.py --output runs/gpu
    python benchmarks/gpu_step.py --device cpu --small --output trial

Every part runs in a process of its own with a timeout of its own, so that one that fails or hangs is reported and the
others run. The output folder gets ``benchmark.json``, and ``benchmark.md``, a table. Tokens are packed tokens (a shared
prompt counts once); seconds are wall time without the first step (which compiles); of the peak: FLOPs that the model
needs over those of the fastest matrix product measured in the same process; GiB: the largest memory that torch
allocated in the part.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from burnish.losses.base import Loss
from burnish.losses.cross_entropy import CrossEntropy
from burnish.losses.preference.build import preference_loss
from burnish.model.attention import install
from burnish.model.policy import Model
from burnish.model.probe import probe
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.sampling.base import SampleRequest
from burnish.sampling.local import LocalSampler
from burnish.sampling.params import SamplingParams
from burnish.train.step import Trainer
from burnish.types import Group, Response
from burnish.watch.meter import peak_memory_gib
from burnish.watch.peak import measured_peak

SIZES: dict[str, dict[str, Any]] = {
    "1M": {"hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 4, "vocab_size": 2048},
    "15M": {"hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 6, "vocab_size": 32000},
    "0.5B": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "vocab_size": 64000},
}
"""Llamas by the number of their weights."""
HEAD_SIZE = {"1M": 64, "15M": 48, "0.5B": 64}
STEPS = 4
"""Measured steps, after one to warm up."""
ROWS = {"1M": 8, "15M": 64, "0.5B": 32}
"""Sequences of a step of SFT."""


@dataclass(frozen=True, slots=True)
class Case:
    """Part of the benchmark."""

    kind: str
    """Of KINDS."""
    size: str
    seconds: int
    """Its timeout, start and compilation included."""

    @property
    def name(self) -> str:
        return f"{self.kind} {self.size}"


CASES = [
    Case("sft", "15M", 40),
    Case("sft", "0.5B", 45),
    Case("lora", "0.5B", 40),
    Case("dpo shared", "0.5B", 40),
    Case("dpo expanded", "0.5B", 40),
    Case("sampler", "15M", 30),
    Case("sampler", "0.5B", 40),
]
SMALL = [Case(kind, "1M", 120) for kind in ("sft", "lora", "dpo shared", "dpo expanded", "sampler")]
"""Parts of a test of the script on a CPU."""


def make_policy(size: str, device: torch.device, *, adapter: bool) -> Model:
    """A Llama of random weights in bfloat16 (float32 on a CPU), probed as `load_policy` does."""
    settings = SIZES[size]
    heads = settings["hidden_size"] // HEAD_SIZE[size]
    config = LlamaConfig(
        **settings,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2 if heads % 2 == 0 else heads,
        head_dim=HEAD_SIZE[size],
        max_position_embeddings=4096,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    with device:
        model = LlamaForCausalLM(config).to(torch.bfloat16 if device.type == "cuda" else torch.float32)
    install(model)
    probed = probe(model.train())
    if not adapter:
        return Model(model, tokenizer=None, route=probed.route)
    from burnish.model.adapters.add import add_adapter
    from burnish.model.adapters.settings import AdapterSettings

    return Model(add_adapter(model, AdapterSettings(rank=32)).train(), tokenizer=None, route=probed.route)


def group(draw: torch.Generator, vocabulary: int, prompt: int, lengths: list[int]) -> Group:
    def response(count: int) -> Response:
        return Response(
            tokens=tokens(count),
            trainable=torch.ones(count, dtype=torch.bool),
            reference_logprobs=torch.full((count,), -10.0),
        )

    def tokens(count: int) -> torch.Tensor:
        return torch.randint(vocabulary, (count,), generator=draw)

    return Group(prompt=tokens(prompt), responses=tuple(response(n) for n in lengths))


def steps_of(kind: str, size: str) -> list[list[Group]]:
    """SFT: rows of 30 to 600 tokens, a third of them prompt. DPO: pairs of 128 tokens after a prompt of 512."""
    draw, vocabulary = torch.Generator().manual_seed(0), SIZES[size]["vocab_size"]
    if kind.startswith("dpo"):
        return [[group(draw, vocabulary, 512, [128, 128]) for _ in range(ROWS[size] // 2)] for _ in range(STEPS + 1)]
    lengths = torch.randint(30, 601, (STEPS + 1, ROWS[size]), generator=draw).tolist()
    return [[group(draw, vocabulary, n // 3, [n - n // 3]) for n in row] for row in lengths]


def wait(device: torch.device) -> float:
    """Clock after all work of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def measure_training(kind: str, size: str, device: torch.device) -> dict[str, float | str]:
    """Measures the median step in this process. Expanded: every prompt is computed once per response."""
    policy = make_policy(size, device, adapter=kind == "lora")
    if kind == "dpo expanded":
        policy = Model(policy.model, tokenizer=None, route=type(policy.route).EXPANDED)
    loss: Loss = preference_loss("dpo").loss if kind.startswith("dpo") else CrossEntropy()
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings(learning_rate=1e-5)))
    peak = measured_peak(device, policy.causal_lm.dtype)
    budget = 8192 if device.type == "cuda" else 1024
    times, rates, work = [], [], []
    for groups in steps_of(kind, size):
        began = wait(device)
        trainer.step(groups, loss, budget, 1.0)
        times.append(wait(device) - began)
        rates.append(sum(one.num_tokens for one in groups) / times[-1])
        work.append(policy.num_flops(groups) / times[-1])
    return {
        "tokens_per_second": median(rates[1:]),
        "seconds_per_step": median(times[1:]),
        "first_step_seconds": times[0],
        "of_the_peak": median(work[1:]) / peak,
        "peak_tflops": peak / 1e12,
        "gib": peak_memory_gib(device),
        "route": policy.route.value,
    }


def measure_sampler(size: str, device: torch.device) -> dict[str, float | str]:
    """Eight prompts of 32 to 256 tokens, eight responses of 128 to each (of 16, on a CPU), twice; the second counts."""
    policy = make_policy(size, device, adapter=False)
    sampler = LocalSampler(policy, [], 4096)
    draw, new = torch.Generator().manual_seed(0), 128 if device.type == "cuda" else 16
    lengths = [32 + 32 * k for k in range(8)]
    prompts = [
        SampleRequest(torch.randint(SIZES[size]["vocab_size"], (n,), generator=draw), key)
        for key, n in enumerate(lengths)
    ]
    times = []
    for _ in range(2):
        began = wait(device)
        groups = sampler.sample(prompts, 8, SamplingParams(max_new_tokens=new))
        times.append(wait(device) - began)
    written = sum(len(response.tokens) for one in groups for response in one.responses)
    return {
        "tokens_per_second": written / times[1],
        "seconds_per_step": times[1] / new,
        "first_step_seconds": times[0],
        "gib": peak_memory_gib(device),
        "route": policy.route.value,
    }


def measure(kind: str, size: str, device: torch.device) -> dict[str, float | str]:
    return measure_sampler(size, device) if kind == "sampler" else measure_training(kind, size, device)


def run_part(case: Case, device: str, seconds: float) -> dict[str, Any]:
    """Runs a part in a process of its own: its measurement, or the reason of its failure."""
    command = [sys.executable, __file__, "--device", device, "--case", case.kind, case.size]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done within {seconds:.0f} s"}
    if done.returncode != 0:
        last = [line for line in done.stderr.splitlines() if line.strip()] or [f"status {done.returncode}"]
        return {"failed": last[-1][:300]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def machine(device: str) -> dict[str, Any]:
    cuda = device == "cuda"
    return {
        "device": torch.cuda.get_device_name(0) if cuda else platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if cuda else None,
        "python": platform.python_version(),
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown table, one line per part, and the gain of sharing prompts."""
    head = "| part | tokens/s | s/step | first step, s | of the peak | GiB | route |\n|---|---|---|---|---|---|---|"
    lines = [head]
    for name, result in results.items():
        if "failed" in result:
            lines.append(f"| {name} | failed: {result['failed'].replace('|', ' ')} | | | | | |")
            continue
        share = f"{result['of_the_peak']:.0%}" if "of_the_peak" in result else ""
        lines.append(
            f"| {name} | {result['tokens_per_second']:,.0f} | {result['seconds_per_step']:.4f} "
            f"| {result['first_step_seconds']:.1f} | {share} | {result['gib']:.2f} | {result['route']} |"
        )
    for size in SIZES:
        shared, expanded = results.get(f"dpo shared {size}", {}), results.get(f"dpo expanded {size}", {})
        if "seconds_per_step" in shared and "seconds_per_step" in expanded:
            gain = expanded["seconds_per_step"] / shared["seconds_per_step"]
            lines.append(
                f"\nDPO at {size}, prompts shared: a step is {gain:.2f} times as fast as with prompts repeated."
            )
    return "\n".join(lines)


def measured_parts(cases: Sequence[Case], device: str, seconds: float, output: Path) -> dict[str, dict[str, Any]]:
    """Runs the parts in turn, and writes the results so far after each. A part without time has that reason.

    Args:
        cases: the parts.
        device: cuda or cpu.
        seconds: for all parts together.
        output: folder of benchmark.json and benchmark.md.
    """
    output.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, Any]] = {}
    end = time.monotonic() + seconds
    for case in cases:
        left = end - time.monotonic()
        allowed = min(case.seconds, left)
        results[case.name] = run_part(case, device, allowed) if left > 5 else {"failed": "no time was left for it"}
        print(f"{case.name}: {results[case.name]}", flush=True)
        text = json.dumps({"machine": machine(device), "parts": results}, indent=1)
        (output / "benchmark.json").write_text(text + "\n", encoding="utf-8")
        (output / "benchmark.md").write_text(table(results) + "\n", encoding="utf-8")
    return results


def main() -> int:
    """Status 0 if every part was measured, 1 if one was not, 3 if there is no device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/gpu"), help="folder of the results")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="one tiny size, to test the script")
    parser.add_argument("--seconds", type=float, default=200.0, help="for all parts together")
    parser.add_argument("--case", nargs=2, metavar=("KIND", "SIZE"), help="measure one part in this process")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device: nothing was measured", file=sys.stderr)
        return 3
    if arguments.case:
        kind, size = arguments.case
        print(json.dumps(measure(kind, size, torch.device(arguments.device))))
        return 0
    cases = SMALL if arguments.small else CASES
    results = measured_parts(cases, arguments.device, arguments.seconds, arguments.output)
    print("\n" + table(results))
    return int(any("failed" in result for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
