"""What sharing prompts alone gives to pairs: Burnish's step beside itself with every prompt computed twice."""

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
from burnish.step import Trainer
from burnish.types import Group, Response
from peers.cases import HEADS, POSITIONS, SIZES
from peers.pair_cases import LEARNING_RATE, PAIRS_PER_STEP

LENGTH = 480
"""Tokens of a prompt with one answer, P + R."""
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Of the prompt, P / (P + R)."""


@dataclass(frozen=True, slots=True)
class Gain:
    """How many times as fast the shared step is."""

    share: float
    measured: float
    """By wall time, the median over rounds."""
    by_cost: float
    """Predicted by the cost model: decoder, head on answers alone, attention."""
    decoder: float
    """2(P + R) / (P + 2R): what is done for every token."""


def gains(size: str, rounds: int) -> Iterator[Gain]:
    """For every share of the prompt: DPO on random tokens, the reference's log-probabilities given."""
    policy, loss = _policy(size), preference_loss("dpo").loss
    routes = [policy, replace(policy, route=Route.EXPANDED)]
    trainers = [Trainer(each, Optimizer(each.trained_parameters(), _optimisation())) for each in routes]
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
        shared, unshared = (each.num_flops(groups) for each in routes)
        decoder = 2 * LENGTH / (prompt + 2 * (LENGTH - prompt))
        yield Gain(share, median(ratios[1:]), unshared / shared, decoder)


def tell_gains(size: str, rounds: int, picture: Path | None) -> None:
    """A table, line by line; and drawn, if a file is named for it."""
    print("| prompt's share | sharing gains | predicted by cost | 2(P+R)/(P+2R) |\n|---|---|---|---|")
    found = []
    for gain in gains(size, rounds):
        print(f"| {gain.share:.0%} | {gain.measured:.2f}× | {gain.by_cost:.2f}× | {gain.decoder:.2f}× |", flush=True)
        found.append(gain)
    if picture is not None:
        _draw(found, size, picture)


def _draw(found: Sequence[Gain], size: str, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(6.0, 3.6), layout="constrained")
    shares = [gain.share for gain in found]
    axes.plot(shares, [gain.decoder for gain in found], ":", color="0.6", label="2(P + R) / (P + 2R): every token")
    axes.plot(
        shares, [gain.by_cost for gain in found], "--", color="tab:blue", label="predicted: head on answers alone"
    )
    axes.plot(shares, [gain.measured for gain in found], "o-", color="tab:orange", label="measured")
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


def _optimisation() -> OptimizerSettings:
    return OptimizerSettings(learning_rate=LEARNING_RATE)


def _pair(vocabulary: int, prompt: int, answer: int, seed: int) -> Group:
    draw = np.random.default_rng(seed)

    def tokens(count: int) -> torch.Tensor:
        return torch.from_numpy(draw.integers(3, vocabulary, size=count))

    def response() -> Response:
        trainable = torch.ones(answer, dtype=torch.bool)
        return Response(tokens=tokens(answer), trainable=trainable, reference_logprobs=torch.full((answer,), -10.0))

    return Group(prompt=tokens(prompt), responses=(response(), response()))
