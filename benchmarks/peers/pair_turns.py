"""Runs contenders on pairs in turn, each in a process of its own, and verifies that they compute the same losses."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from peers.cases import Case, Contender
from peers.pair_cases import AGREEMENT, COMPUTED, is_exact, peer_of
from peers.pairs import prompt_share, useful_tokens
from peers.turns import OURS, Figures, Found, Place, search, train_apart

COLUMNS = (
    *("", "useful tokens/s", "burnish is", "tokens per processor second", "burnish is"),
    *("MiB above the model", "burnish needs", "s to step 1", "apart"),
)


def train_pairs_here(case: Case, contender: Contender, model: Path, rows: Path) -> Figures:
    """Trains in this process, which imports only what the contender needs."""
    if contender.library == OURS:
        from peers.ours_on_pairs import train
    else:
        from peers.theirs_on_pairs import train
    with tempfile.TemporaryDirectory(dir=rows.parent) as output:
        return train(case, contender, model, rows, Path(output) / "run")


def train_rewards_here(case: Case, contender: Contender, model: Path, rows: Path) -> Figures:
    """As `train_pairs_here`, for reward models."""
    if contender.library == OURS:
        from peers.ours_on_rewards import train
    else:
        from peers.theirs_on_rewards import train
    with tempfile.TemporaryDirectory(dir=rows.parent) as output:
        return train(case, contender, model, rows, Path(output) / "run")


def search_pairs(case: Case, place: Place, tried: Sequence[Contender]) -> Found:
    """TRL's fastest setting among the candidates, by useful tokens per second without the first step."""
    tokens = sum(useful_tokens(place.rows(case, searching=True), case.rows_per_step)[1:])

    def rate(figures: Figures) -> float:
        return tokens / sum(figures["walls"][1:])

    rows = case.rows_per_step * (2 if case.loss == "kto" else 1)
    return search(case, [each for each in tried if each.batch <= rows], place, rate)


def compare_pairs(case: Case, rivals: Sequence[Contender], place: Place, rounds: int) -> dict[str, Any]:
    """Results of a case."""
    found: dict[str, list[Figures]] = {rival.name: [] for rival in rivals}
    for _ in range(rounds):
        for rival in rivals:
            if (figures := train_apart(case, rival, place)) is not None:
                found[rival.name].append(figures)
    first = {name: each[0] for name, each in found.items() if each}
    assert all(rival.name in first for rival in rivals if rival.library == OURS), f"{case.name}: burnish failed"
    trained = [rival for rival in rivals if rival.name in first]
    tokens = useful_tokens(place.rows(case), case.rows_per_step)
    summaries = {}
    for rival in trained:
        gap = _apart(first[rival.name], first[COMPUTED.name], case)
        assert not is_exact(rival) or gap < AGREEMENT, f"{case.name}: {rival.name} is {gap:.0e} from burnish"
        summary = _summary(found[rival.name], tokens)
        summaries[rival.name] = {**summary, "apart": gap, "against": peer_of(rival).name}
    return {
        "case": case.name,
        "pairs_per_step": case.rows_per_step,
        "prompt_share": prompt_share(place.rows(case)),
        "tokens": tokens,
        "losses": {name: each["losses"] for name, each in first.items()},
        "contenders": summaries,
        "rounds": found,
    }


def print_table(result: dict[str, Any]) -> None:
    """Prints the table of docs/benchmarks.md: speed and memory of Burnish relative to each contender."""
    print(f"\n**{result['case']}**, {result['pairs_per_step']} pairs a step, prompts {result['prompt_share']:.0%}\n")
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for name, each in result["contenders"].items():
        ours = result["contenders"][each["against"]]
        speed = ours["tokens_per_second"] / each["tokens_per_second"]
        cpu = ours["tokens_per_cpu_second"] / each["tokens_per_cpu_second"]
        print(
            f"| {name} | {each['tokens_per_second']:,.0f} | {speed:.2f}× | {each['tokens_per_cpu_second']:,.0f} "
            f"| {cpu:.2f}× | {each['beyond_mib']:,.0f} | {ours['beyond_mib'] / each['beyond_mib']:.2f}× "
            f"| {each['seconds_to_first_step']:.0f} | {each['apart']:.0e} |",
            flush=True,
        )


def _summary(found: list[Figures], tokens: list[int]) -> dict[str, Any]:
    """Medians over rounds. Rates leave the first step out, in whose time all preparation is."""
    return {
        "tokens_per_second": median(sum(tokens[1:]) / sum(each["walls"][1:]) for each in found),
        "tokens_per_cpu_second": median(sum(tokens[1:]) / sum(each["cpus"][1:]) for each in found),
        "beyond_mib": median(each["beyond"] for each in found) / 2**20,
        "seconds_to_first_step": median(each["first"] for each in found),
    }


def _apart(mine: Figures, other: Figures, case: Case) -> float:
    """Largest relative difference of losses and log-probabilities of chosen (of rewards), in the first two steps.

    The first loss is always ln 2; the log-probabilities are not, and the second loss depends on an update. Adapters
    and KTO's mismatched responses are drawn differently by the two libraries, so there only the first step can be
    compared.
    """
    steps = slice(2 if case.adapter == "full" and case.loss == "dpo" else 1)
    both = [(mine[what][steps], other[what][steps]) for what in ("losses", "chosen")]
    return max(abs(a - b) / abs(b) for ours, theirs in both for a, b in zip(ours, theirs, strict=True))
