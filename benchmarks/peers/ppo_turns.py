"""Runs contenders of PPO in turn, each in a process of its own, and computes TRL's first update again by Burnish."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from burnish.credit.gae import Gae
from burnish.credit.settings import GaeSettings
from burnish.losses.policy.gradient import PolicyGradient
from burnish.losses.policy.settings import PpoClip
from burnish.losses.value import ValueLoss
from burnish.model.load import load_policy
from burnish.model.policy import Model
from burnish.model.settings import ValueHeadConfig
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.roles.filler import StreamFiller
from burnish.roles.scorer import LiveScorer
from burnish.train.step import Trainer
from burnish.types import Group, Response, Score
from peers.cases import Case, Contender
from peers.ppo_cases import AGREEMENT, BURNISH, CLIP, KL_COEF, LAMBDA, PARTS, WRITTEN, Shape, candidates
from peers.rl_turns import summary
from peers.turns import OURS, Figures, Found, Place, train_apart

BUDGET = 4096
"""Tokens of a microbatch."""


def train_ppo_here(case: Case, contender: Contender, models: Path, rows: Path) -> Figures:
    """Trains in this process, which imports only what the contender needs."""
    if contender.library == OURS:
        from peers.ours_on_ppo import train
    else:
        from peers.theirs_on_ppo import train
    with rows.with_suffix(".tokens").open(encoding="utf-8") as file:
        batches = sum(1 for _ in file) // case.rows_per_step - 1
    with tempfile.TemporaryDirectory(dir=rows.parent) as output:
        return train(case, contender, models, rows, Path(output) / "run", batches)


def search_ppo(case: Case, place: Place, shape: Shape) -> Found:
    """TRL's fastest setting, by batches per minute of its last batch; the memory of each is told too."""
    tried: dict[str, float] = {}
    rates: dict[str, float] = {}
    possible = candidates(case, shape)
    for contender in possible:
        if (figures := train_apart(case, contender, place, searching=True)) is not None:
            rates[contender.name] = 60 / figures["walls"][-1]
            memory = figures["beyond"] / 2**20
            tried |= {contender.name: rates[contender.name], f"{contender.name}: MiB above the models": memory}
            print(
                f"{case.name}: {contender.name}: {rates[contender.name]:.2f} batches/minute, {memory:,.0f} MiB",
                flush=True,
            )
    assert rates, "TRL trains with one of the settings"
    return max((each for each in possible if each.name in rates), key=lambda each: rates[each.name]), tried


def compare_ppo(case: Case, rivals: Sequence[Contender], place: Place, rounds: int) -> dict[str, Any]:
    """Results of a case."""
    found: dict[str, list[Figures]] = {rival.name: [] for rival in rivals}
    for _ in range(rounds):
        for rival in rivals:
            if (figures := train_apart(case, rival, place)) is not None:
                found[rival.name].append(figures)
    assert found[BURNISH.name], f"{case.name}: burnish failed"
    summaries = {}
    for rival in rivals:
        if not found[rival.name]:
            continue
        summaries[rival.name] = summary(found[rival.name], PARTS)
        if rival.library != OURS:
            gaps = gaps_of(place.model(case.size), found[rival.name][0])
            assert max(gaps.values()) < AGREEMENT, f"{case.name}: {rival.name} trains something else: {gaps}"
            summaries[rival.name]["apart"] = gaps
    return {"case": case.name, "responses_per_batch": case.rows_per_step, "tokens": WRITTEN, "contenders": summaries}


def gaps_of(models: Path, theirs: Figures) -> dict[str, float]:
    """Relative differences of Burnish from TRL, from the same responses of its first batch: scores of the policy, the
    value model and the reward model, advantages and returns; and the loss of values and both gradient norms of the
    first update."""
    batch, update, head = theirs["batch"], theirs["update"], ValueHeadConfig()
    policy = load_policy(str(models / "policy"))
    value, judge = (load_policy(str(models / name), head_config=head) for name in ("value", "reward"))
    filled = _filled(_groups_of(batch), policy, value)
    scores = _scores(filled, judge)
    rule = Gae(GaeSettings(kl_coef=KL_COEF, gae_lambda=LAMBDA, critic_lambda=LAMBDA))
    credited = [item[0] for item in rule.assign(filled, list(scores[:, None]))]
    streams = {"sampler_logprobs": "logprobs", "values": "values", "advantages": "advantages", "returns": "returns"}
    mine = {name: torch.stack([getattr(each.responses[0], own) for each in credited]) for own, name in streams.items()}
    gaps = {name: _gap(own, torch.tensor(batch[name])) for name, own in {**mine, "scores": scores}.items()}
    chosen = [credited[row] for row in update["rows"]]
    ratio = PolicyGradient(clip=PpoClip(CLIP, CLIP), old_logprobs="sampler")
    norm = float(_trainer(policy).step(chosen, ratio, BUDGET, 0.0)["grad_norm"])
    critic = _trainer(value).step(chosen, ValueLoss(CLIP), BUDGET, 0.0)
    losses = update["value_losses"]
    pairs = {
        "value_loss": (float(critic["loss"]), sum(losses) / len(losses)),
        "norm": (norm, update["norm"]),
        "value_norm": (float(critic["grad_norm"]), update["value_norm"]),
    }
    return gaps | {name: abs(own - other) / other for name, (own, other) in pairs.items()}


def _groups_of(batch: dict[str, Any]) -> list[Group]:
    return [
        Group(
            prompt=torch.tensor(prompt),
            responses=(Response(tokens=torch.tensor(tokens), trainable=torch.ones(len(tokens), dtype=torch.bool)),),
        )
        for prompt, tokens in zip(batch["prompts"], batch["responses"], strict=True)
    ]


def _filled(groups: list[Group], policy: Model, value: Model) -> list[Group]:
    """With log-probabilities of the policy, which is the reference too, and values."""
    for stream in ("sampler_logprobs", "reference_logprobs"):
        groups = StreamFiller(LiveScorer(policy), stream, BUDGET)(groups)
    return StreamFiller(LiveScorer(value), "values", BUDGET, Score.STATE_VALUE)(groups)


def _scores(groups: list[Group], judge: Model) -> Tensor:
    """[B] scores of the reward model at the last tokens."""
    ends = []
    for group in groups:
        [own] = group.responses
        last = torch.arange(len(own.tokens)) == len(own.tokens) - 1
        ends.append(replace(group, responses=(replace(own, trainable=last),)))
    return torch.cat([value for [value] in LiveScorer(judge).score(ends, Score.VALUE, BUDGET)])


def _trainer(model: Model) -> Trainer:
    return Trainer(model, Optimizer(model.trained_parameters(), OptimizerSettings()), None)


def _gap(mine: Tensor, theirs: Tensor) -> float:
    """Largest difference relative to the largest number."""
    return float((mine - theirs).abs().max() / theirs.abs().max())
