"""Training step: tokens per second, share of the machine's matrix-multiply peak, and memory.

    python benchmarks/sft_step.py

For models with random weights and rows of random tokens (lengths 30 to 600, a third of them prompt): the time of a
step, the share of the peak that it reaches, and the peak of memory beyond the loaded model. Each size runs in a process
of its own. Then the gain from sharing prompts: eight responses a prompt, shared and repeated in turn, with the
prediction of the cost model (the head is applied to responses alone, so sharing saves nothing there).
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from burnish.losses.cross_entropy import CrossEntropy
from burnish.microbatch import Part
from burnish.model.attention import install
from burnish.model.policy import Model
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.train.step import Trainer
from burnish.types import Group, Response

SIZES = {
    "1M": {"hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 4, "vocab_size": 2048},
    "15M": {"hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 6, "vocab_size": 32000},
    "100M": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "vocab_size": 32000},
}
HEAD_SIZE = 48
STEPS = 5


def matmul_peak() -> float:
    """Float32 FLOP/s of the best of several large square products."""
    size, best = 2048, 0.0
    a, b = torch.randn(size, size), torch.randn(size, size)
    for _ in range(8):
        began = time.perf_counter()
        a @ b
        best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best


def make_policy(size: str) -> Model:
    settings = SIZES[size]
    heads = max(2, settings["hidden_size"] // HEAD_SIZE)
    config = LlamaConfig(**settings, num_attention_heads=heads, head_dim=settings["hidden_size"] // heads)
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    install(model)
    return Model(model.train(), tokenizer=None)


def make_group(draw: np.random.Generator, vocabulary: int, prompt: int, lengths: list[int]) -> Group:
    def tokens(count: int) -> torch.Tensor:
        return torch.from_numpy(draw.integers(vocabulary, size=count))

    responses = [Response(tokens=tokens(n), trainable=torch.ones(n, dtype=torch.bool)) for n in lengths]
    return Group(prompt=tokens(prompt), responses=tuple(responses))


def flops(policy: Model, groups: list[Group]) -> float:
    """Forward and backward: the decoder for all tokens, the head for the scored ones; attention is left out."""
    tokens = sum(group.num_tokens for group in groups)
    scored = sum(len(response.tokens) for group in groups for response in group.responses)
    return 3 * (policy.cost.per_token * tokens + 2 * policy.head.weight.numel() * scored)


def peak_memory() -> int:
    """Largest resident size of this process so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(size: str, rows: int) -> dict[str, float]:
    """Median step of one size, in this process."""
    policy = make_policy(size)
    draw = np.random.default_rng(0)
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings()))
    batches = []
    for _ in range(STEPS + 1):
        lengths = draw.integers(30, 601, size=rows)
        vocabulary = SIZES[size]["vocab_size"]
        batches.append([make_group(draw, vocabulary, int(n) // 3, [int(n) - int(n) // 3]) for n in lengths])
    torch.randn(2048, 2048) @ torch.randn(2048, 2048)  # memory that libraries allocate once is not the step's
    loaded = peak_memory()
    seconds = []
    for groups in batches:
        began = time.perf_counter()
        trainer.step(groups, CrossEntropy(), 4096, 1.0)
        seconds.append((time.perf_counter() - began, groups))
    rates = [sum(g.num_tokens for g in groups) / s for s, groups in seconds[1:]]
    work = [flops(policy, groups) / s for s, groups in seconds[1:]]
    return {
        "tokens_per_second": statistics.median(rates),
        "flops": statistics.median(work),
        "weights": sum(p.numel() * 4 for _, p in policy.trained_parameters()),
        "beyond": peak_memory() - loaded,
    }


def sharing(prompt: int, response: int, count: int = 8) -> tuple[float, float, float]:
    """Gain of sharing at 15M: measured; predicted by the cost model; and n(P+R)/(P+nR), which is the body alone."""
    policy = make_policy("15M")
    draw = np.random.default_rng(1)
    groups = [make_group(draw, 32000, prompt, [response] * count) for _ in range(2)]
    expanded = [part for group in groups for part in group.expanded()]
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings()))
    ratios = []
    for _ in range(STEPS):
        times = []
        for batch in (groups, expanded):
            began = time.perf_counter()
            trainer.step(batch, CrossEntropy(), 4096, 1.0)
            times.append(time.perf_counter() - began)
        ratios.append(times[1] / times[0])
    costs = [sum(Part(group, 0).cost(policy.cost) for group in batch) for batch in (groups, expanded)]
    body = count * (prompt + response) / (prompt + count * response)
    return statistics.median(ratios[1:]), costs[1] / costs[0], body


def main() -> None:
    """Prints the tables of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, help="measure one size in this process and print JSON")
    parser.add_argument("--rows", type=int, default=32, help="rows per step")
    arguments = parser.parse_args()
    if arguments.size:
        print(json.dumps(measure(arguments.size, arguments.rows)))
        return
    peak = matmul_peak()
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"matrix-multiply peak: {peak / 1e9:.0f} GFLOP/s (float32)\n")
    print("| model | tokens/s | GFLOP/s | of the peak | weights | beyond the loaded model |\n|---|---|---|---|---|---|")
    for size in SIZES:
        rows = ["--rows", "8"] if size == "100M" else []
        command = [sys.executable, __file__, "--size", size, *rows]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            f"| {size} | {found['tokens_per_second']:,.0f} | {found['flops'] / 1e9:.0f} | {found['flops'] / peak:.0%} "
            f"| {found['weights'] / 2**20:.0f} MiB | {found['beyond'] / 2**20:.0f} MiB |",
            flush=True,
        )
    print("\n| prompt | response | sharing gains | predicted | body alone |\n|---|---|---|---|---|")
    for prompt, response in ((64, 64), (200, 60), (400, 50)):
        measured, predicted, body = sharing(prompt, response)
        print(f"| {prompt} | {response} | {measured:.2f}× | {predicted:.2f}× | {body:.2f}× |", flush=True)


if __name__ == "__main__":
    main()
