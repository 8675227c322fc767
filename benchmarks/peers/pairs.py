"""Pairs of all contenders, in the same order: HH-RLHF, and a mixture of long prompts made of its text.

Burnish reads chosen and rejected conversations; TRL gets Burnish's tokens of them, in Burnish's order
and with its border between prompt and response, so the preparation of neither is measured.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from burnish.sources.epoch_order import epoch_order
from burnish.stages.supervised_data import open_for_inspection
from burnish.types import Group
from peers.cases import Case
from peers.pair_cases import ANSWER, LONGEST, PROMPT, SHORTEST

FILE = "data/hh_rlhf/helpful-base-test.jsonl.gz"
"""Anthropic's HH-RLHF, helpful-base, the split `test`."""
HUMAN, ASSISTANT = "\n\nHuman: ", "\n\nAssistant: "


def write_pairs(path: Path, case: Case, model: Path, steps: int, shared: Path) -> None:
    """Writes pairs for a number of steps, drawn by a seed of the data's name, and a second file with their tokens in
    the order of training."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
    texts = list(_hh(shared))
    draw = random.Random(case.data)
    draw.shuffle(texts)
    pairs = _long(texts, tokenizer, draw) if case.data == "long" else _fitting(texts, tokenizer)
    chosen = list(islice(pairs, steps * case.rows_per_step))
    assert len(chosen) == steps * case.rows_per_step, f"{FILE} gives {len(chosen)} pairs of these lengths"
    path.write_text("".join(f"{json.dumps(pair)}\n" for pair in chosen), encoding="utf-8")
    draws = open_for_inspection(str(model), str(path), [], "prefer").preparation.whole().draws
    assert len(draws) == len(chosen), "every pair is usable"
    ordered = [draws[int(index)] for index in epoch_order(0, 0, len(draws))]
    path.with_suffix(".tokens").write_text("".join(_tokens(groups) for groups in ordered), encoding="utf-8")


def useful_tokens(rows: Path, per_step: int) -> list[int]:
    """Tokens of each step: those of both conversations, so a prompt counts twice, and no padding."""
    with rows.with_suffix(".tokens").open(encoding="utf-8") as file:
        pairs = [json.loads(line) for line in file]
    sizes = [2 * len(pair["prompt_ids"]) + len(pair["chosen_ids"]) + len(pair["rejected_ids"]) for pair in pairs]
    return [sum(sizes[start : start + per_step]) for start in range(0, len(sizes), per_step)]


def prompt_share(rows: Path) -> float:
    """Share of prompts among those tokens."""
    with rows.with_suffix(".tokens").open(encoding="utf-8") as file:
        prompts = sum(2 * len(json.loads(line)["prompt_ids"]) for line in file)
    return prompts / sum(useful_tokens(rows, 1))


def _hh(shared: Path) -> Iterator[dict[str, str]]:
    with gzip.open(shared / FILE, "rt", encoding="utf-8") as file:
        yield from (json.loads(line) for line in file)


def _fitting(texts: Sequence[dict[str, str]], tokenizer: PreTrainedTokenizerFast) -> Iterator[dict[str, str]]:
    """Original pairs of 30 to 1 000 tokens each that differ in their last response only."""
    for pair in texts:
        (before, chosen), (other, rejected) = (pair[which].rsplit(ASSISTANT, 1) for which in ("chosen", "rejected"))
        sizes = [len(tokenizer(pair[which])["input_ids"]) for which in ("chosen", "rejected")]
        answered = chosen.strip() and rejected.strip() and chosen != rejected
        if before == other and answered and all(SHORTEST <= size <= LONGEST for size in sizes):
            yield pair


def _long(
    texts: Sequence[dict[str, str]], tokenizer: PreTrainedTokenizerFast, draw: random.Random
) -> Iterator[dict[str, str]]:
    """Pairs of one turn from HH-RLHF's words in their order: prompts of 200 to 600 tokens, responses of 40 to 120."""
    words = chain.from_iterable(
        tokenizer(pair["chosen"].replace(HUMAN, " ").replace(ASSISTANT, " "))["input_ids"] for pair in texts
    )

    def cut(bounds: tuple[int, int]) -> str:
        return tokenizer.decode(list(islice(words, draw.randint(*bounds)))).strip()

    while True:
        before = f"{HUMAN}{cut(PROMPT)}{ASSISTANT}"
        yield {"chosen": before + cut(ANSWER), "rejected": before + cut(ANSWER)}


def _tokens(groups: Sequence[Group]) -> str:
    """A JSON line, as TRL's DataCollatorForPreference takes them."""
    [group] = groups
    chosen, rejected = group.responses
    assert all(response.trainable.all() for response in group.responses), "all tokens of responses are trained"
    assert group.prompt_weights is None, "no token of a prompt is trained"
    line: dict[str, Any] = {"prompt_ids": group.prompt, "chosen_ids": chosen.tokens, "rejected_ids": rejected.tokens}
    return json.dumps({name: tokens.tolist() for name, tokens in line.items()}) + "\n"
