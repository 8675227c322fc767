"""Gain of sharing prompts for pairs: Burnish's step with shared prompts and with every prompt computed twice."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import matplotlib as mpl

mpl.use("agg")
import numpy as np
import torch
from matplotlib import pyplot as plt
from transformers import LlamaConfig, LlamaForCausalLM

from burnish.losses.preference.build import preference_loss
from burnish.model.attention import install
from burnish.model.policy import Model
from burnish.model.route import Route
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.stages.reader import TOKENS_PER_MICROBATCH
from burnish.train.step import Trainer
from burnish.types import Group, Response
from peers.cases import HEADS, POSITIONS, SIZES
from peers.pair_cases import LEARNING_RATE, PAIRS_PER_STEP

LENGTH = 480
"""Tokens of a prompt with one answer, P + R."""
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Shares of the prompt, P / (P + R)."""


@dataclass(frozen=True, slots=True)
class Gain:
    """Speed of the shared step relative to the other."""

    share: float
    measured: float
    """By wall time, the median over rounds."""
    by_cost: float
    """Predicted by the cost model: decoder, head on responses alone, attention."""
    decoder: float
    """2(P + R) / (P + 2R): the part that is computed for every token."""


def gains(size: str, rounds: int) -> Iterator[Gain]:
    """Measures DPO on random tokens for every share of the prompt, with given reference log-probabilities."""
    policy, loss = _policy(size), preference_loss("dpo").loss
    routes = [policy, replace(policy, route=Route.EXPANDED)]
    trainers = [Trainer(model, Optimizer(model.trained_parameters(), _optimizer_settings())) for model in routes]
    vocabulary = SIZES[size]["vocab_size"]
    for share in SHARES:
        prompt = round(share * LENGTH)
        groups = [_pair(vocabulary, prompt, LENGTH - prompt, seed) for seed in range(PAIRS_PER_STEP[size])]
        ratios = []
        for _ in range(rounds + 1):
            times = []
            for trainer in trainers:
                began = time.perf_counter()
                trainer.step(groups, loss, TOKENS_PER_MICROBATCH["cpu"], 1.0)
                times.append(time.perf_counter() - began)
            ratios.append(times[1] / times[0])
        shared, unshared = (model.num_flops(groups) for model in routes)
        decoder = 2 * LENGTH / (prompt + 2 * (LENGTH - prompt))
        yield Gain(share, median(ratios[1:]), unshared / shared, decoder)


def print_gains(size: str, rounds: int, picture: Path | None) -> None:
    """Prints a table line by line; plots it if a file is named."""
    print("| prompt's share | sharing gains | predicted by cost | 2(P+R)/(P+2R) |\n|---|---|---|---|")
    measured = []
    for gain in gains(size, rounds):
        print(f"| {gain.share:.0%} | {gain.measured:.2f}× | {gain.by_cost:.2f}× | {gain.decoder:.2f}× |", flush=True)
        measured.append(gain)
    if picture is not None:
        _draw(measured, size, picture)


def _draw(results: Sequence[Gain], size: str, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(6.0, 3.6), layout="constrained")
    shares = [gain.share for gain in results]
    axes.plot(shares, [gain.decoder for gain in results], ":", color="0.6", label="2(P + R) / (P + 2R): every token")
    axes.plot(
        shares, [gain.by_cost for gain in results], "--", color="tab:blue", label="predicted: head on answers alone"
    )
    axes.plot(shares, [gain.measured for gain in results], "o-", color="tab:orange", label="measured")
    axes.axhline(1.0, color="0.85", linewidth=0.8)
    axes.set(
        xlabel="prompt's share of prompt and answer", ylabel="times as fast", title=f"DPO at {size}, prompts shared"
    )
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130)


def _policy(size: str) -> Model:
    torch.manual_seed(0)
    config = LlamaConfig(**SIZES[size], num_attention_heads=HEADS[size], max_position_embeddings=POSITIONS)
    model = LlamaForCausalLM(config)
    install(model)
    return Model(model.train(), tokenizer=None)


def _optimizer_settings() -> OptimizerSettings:
    return OptimizerSettings(learning_rate=LEARNING_RATE)


def _pair(vocabulary: int, prompt: int, answer: int, seed: int) -> Group:
    draw = np.random.default_rng(seed)

    def tokens(count: int) -> torch.Tensor:
        return torch.from_numpy(draw.integers(3, vocabulary, size=count))

    def response() -> Response:
        trainable = torch.ones(answer, dtype=torch.bool)
        return Response(tokens=tokens(answer), trainable=trainable, reference_logprobs=torch.full((answer,), -10.0))

    return Group(prompt=tokens(prompt), responses=(response(), response()))
