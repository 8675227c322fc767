"""Runs contenders on prompts in turn, each in a process of its own, and computes TRL's first step again by Burnish."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from burnish.credit.credit import credit
from burnish.losses.policy.gradient import PolicyGradient
from burnish.model.load import load_policy
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.stages.rl.algorithms import algorithm
from burnish.train.step import Trainer
from burnish.types import Group, MediaRef, Response
from burnish.vision.settings import VisionSettings
from peers.cases import BURNISH_BFLOAT16, Case, Contender
from peers.rl_cases import AGREEMENT, BURNISH, PARTS, RESPONSES, SEARCHED, WRITTEN, is_exact
from peers.turns import OURS, Figures, Found, Place, search, train_apart


def train_prompts_here(case: Case, contender: Contender, model: Path, rows: Path) -> Figures:
    """Trains in this process, which imports only what the contender needs."""
    if contender.library == OURS:
        from peers.ours_on_prompts import train
    else:
        from peers.theirs_on_prompts import train
    with tempfile.TemporaryDirectory(dir=rows.parent) as output:
        return train(case, contender, model, rows, Path(output) / "run")


def search_prompts(case: Case, place: Place) -> Found:
    """TRL's fastest setting, by generated tokens per second of its only step."""

    def rate(figures: Figures) -> float:
        return case.rows_per_step * RESPONSES * WRITTEN / figures["walls"][-1]

    tried = [each for each in SEARCHED if each.batch <= case.rows_per_step * RESPONSES]
    return search(case, tried, place, rate, "generated tokens/s")


def compare_prompts(case: Case, rivals: Sequence[Contender], place: Place, rounds: int) -> dict[str, Any]:
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
        twin = BURNISH_BFLOAT16 if rival.narrow and found.get(BURNISH_BFLOAT16.name) else BURNISH
        summaries[rival.name] = {**summary(found[rival.name], PARTS), "beside": twin.name}
        if rival.library != OURS:
            gaps = gaps_of(place.model(case.size), found[rival.name][0])
            assert not is_exact(rival) or max(gaps.values()) < AGREEMENT, f"{case.name}: {rival.name}: {gaps}"
            summaries[rival.name] |= gaps
    return {
        "case": case.name,
        "prompts_per_step": case.rows_per_step,
        "prompt_tokens": place.tokens(case),
        "contenders": summaries,
    }


def gaps_of(
    model: Path,
    theirs: Figures,
    media: Sequence[tuple[MediaRef, ...]] | None = None,
    vision: VisionSettings | None = None,
) -> dict[str, float]:
    """Differences of Burnish from TRL's first step, from the same responses and rewards.

    Args:
        model: where both began.
        theirs: measurements of TRL.
        media: images of each prompt; None: there are none.
        vision: which parts of a vision-language model are trained.

    Returns:
        advantages_apart: the largest difference of an advantage, relative to the largest advantage; norms_apart: the
        relative difference of the gradient's norm before clipping. (The loss itself is the mean of advantages, 0.)
    """
    rule, groups = algorithm("grpo", max_new_tokens=WRITTEN), groups_of(theirs["seen"], media)
    credited = credit(groups, rule.credit).groups
    mine = torch.tensor([float(response.advantages[0]) for group in credited for response in group.responses])
    other = torch.tensor(theirs["seen"]["advantages"])
    policy = load_policy(str(model), vision=vision)
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings()))
    norm = float(trainer.step(credited, PolicyGradient.of(rule.loss), budget=4096, factor=0.0)["grad_norm"])
    return {
        "advantages_apart": float((mine - other).abs().max() / other.abs().max()),
        "norms_apart": abs(norm - theirs["norms"][0]) / theirs["norms"][0],
    }


def groups_of(seen: dict[str, Any], media: Sequence[tuple[MediaRef, ...]] | None = None) -> list[Group]:
    """Groups of TRL's rows: prompts with responses and rewards. `media`: images of each prompt."""
    responses = [
        Response(tokens=torch.tensor(tokens), trainable=torch.ones(len(tokens), dtype=torch.bool), reward=reward)
        for tokens, reward in zip(seen["responses"], seen["rewards"], strict=True)
    ]
    starts = range(0, len(responses), RESPONSES)
    return [
        Group(
            prompt=torch.tensor(seen["prompts"][at]),
            responses=tuple(responses[at : at + RESPONSES]),
            media=media[at // RESPONSES] if media else (),
        )
        for at in starts
    ]


def summary(found: list[Figures], names: Sequence[str]) -> dict[str, Any]:
    """Medians over rounds, without the first step: seconds of a step, of its named parts and of the rest, memory."""
    steps = [(wall, parts) for each in found for wall, parts in zip(each["walls"][1:], each["parts"][1:], strict=True)]
    seconds = {part: median(parts.get(part, 0.0) for _, parts in steps) for part in names}
    whole = median(wall for wall, _ in steps)
    return {
        "seconds_per_step": whole,
        **seconds,
        "rest": whole - sum(seconds.values()),
        "beyond_mib": median(each["beyond"] for each in found) / 2**20,
        "beside_mib": median(each["beside"] for each in found) / 2**20,
        "rounds": len(found),
    }
