"""Runs contenders of distillation in turn, each in a process of its own, and computes TRL's first step again."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from peers.cases import Case, Contender
from peers.distill_cases import AGREEMENT, PARTS, RESPONSES, SEARCHED, TEACHERS, WRITTEN, diverging
from peers.rl_turns import summary
from peers.turns import OURS, Figures, Found, Place, search, train_apart


def train_distill_here(case: Case, contender: Contender, student: Path, rows: Path) -> Figures:
    """Trains in this process, which imports only what the contender needs."""
    if contender.library == OURS:
        from peers.ours_on_distill import burnish_turn as train
    else:
        from peers.theirs_on_distill import train
    teacher = student.parent / TEACHERS[case.size]
    with tempfile.TemporaryDirectory(dir=rows.parent) as output:
        return train(case, contender, student, teacher, rows, Path(output) / "run")


def search_distill(case: Case, place: Place) -> Found:
    """TRL's fastest setting for its default divergence, by generated tokens per second of its only step."""

    def rate(figures: Figures) -> float:
        return case.rows_per_step * RESPONSES * WRITTEN / float(figures["walls"][-1])

    tried = [diverging(each, 1.0) for each in SEARCHED if each.batch <= case.rows_per_step * RESPONSES]
    return search(case, tried, place, rate, "generated tokens/s")


def compare_distill(
    case: Case, rivals: Sequence[Contender], beta: float, place: Place, rounds: int
) -> dict[str, Any] | None:
    """Results of a case with a divergence; None: nobody trained."""
    rivals = [diverging(rival, beta) for rival in rivals]
    found: dict[str, list[Figures]] = {rival.name: [] for rival in rivals}
    for _ in range(rounds):
        for rival in rivals:
            if (figures := train_apart(case, rival, place)) is not None:
                found[rival.name].append(figures)
    summaries = {}
    for rival in (rival for rival in rivals if found[rival.name]):
        summaries[rival.name] = _summary(case, found[rival.name])
        if rival.library != OURS:
            gaps = gaps_of(place, case, found[rival.name][0], beta)
            assert max(gaps.values()) < AGREEMENT, f"{case.name}: {rival.name} trains something else: {gaps}"
            summaries[rival.name] |= gaps
    if not summaries:
        return None
    return {
        "case": case.name,
        "beta": beta,
        "responses_per_step": case.rows_per_step * RESPONSES,
        "prompt_tokens": place.tokens(case),
        "contenders": summaries,
    }


def _summary(case: Case, found: list[Figures]) -> dict[str, Any]:
    """Medians over rounds: seconds of a step, of its parts, and of training, which is all but sampling; tokens of
    responses per second of both; memory."""
    figures, written = summary(found, PARTS), case.rows_per_step * RESPONSES * WRITTEN
    pairs = [
        (wall, wall - parts.get("sampling", 0.0))
        for each in found
        for wall, parts in zip(each["walls"][1:], each["parts"][1:], strict=True)
    ]
    training = median(train for _, train in pairs)
    rates = {"tokens_per_second": written / figures["seconds_per_step"], "trained_per_second": written / training}
    return figures | {"training": training} | rates


def gaps_of(place: Place, case: Case, theirs: Figures, beta: float) -> dict[str, float]:
    """Relative differences of TRL's first step from plain forwards with full logits, of the same responses: of the
    loss, a mean over all tokens of the step, and of the gradient's norm before clipping."""
    student, teacher = (
        AutoModelForCausalLM.from_pretrained(place.model(size), dtype=torch.float32)
        for size in (case.size, TEACHERS[case.size])
    )
    total, loss = sum(map(len, theirs["seen"]["responses"])), 0.0
    for prompt, response in zip(theirs["seen"]["prompts"], theirs["seen"]["responses"], strict=True):
        tokens = torch.tensor([prompt + response])
        with torch.no_grad():
            other = _logprobs(teacher(tokens).logits, len(response))
        share = divergence(_logprobs(student(tokens).logits, len(response)), other, beta).sum() / total
        share.backward()
        loss += float(share.detach())
    norm = float(torch.stack([each.grad.norm() for each in student.parameters() if each.grad is not None]).norm())
    return {
        "losses_apart": abs(loss - theirs["losses"][0]) / loss,
        "norms_apart": abs(norm - theirs["norms"][0]) / norm,
    }


def _logprobs(logits: Tensor, count: int) -> Tensor:
    """[R, V] where the last `count` tokens are predicted."""
    return logits[0, -count - 1 : -1].log_softmax(-1)


def divergence(own: Tensor, other: Tensor, beta: float) -> Tensor:
    """[R] KL of the student's distribution from the teacher's (β = 1), the other way (β = 0), or the generalized JSD
    (Agarwal et al. 2024, arXiv 2306.13649, equation 1)."""

    def kl(first: Tensor, second: Tensor) -> Tensor:
        return (first.exp() * (first - second)).sum(-1)

    if beta in (0.0, 1.0):
        return kl(own, other) if beta else kl(other, own)
    mixture = ((1 - beta) * own.exp() + beta * other.exp()).log()
    return beta * kl(other, mixture) + (1 - beta) * kl(own, mixture)
