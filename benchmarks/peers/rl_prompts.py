"""Prompts of all contenders, in the same order: real text, cut to 32 to 256 tokens.

Both tokenize the same text by the same tokenizer; TRL's file is in the order in which Burnish draws.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from burnish.rollouts.prompt_order import PromptOrder
from peers.cases import Case
from peers.material import rows_of
from peers.rl_cases import LONGEST, SHORTEST


def write_prompts(path: Path, case: Case, model: Path, steps: int, shared: Path) -> None:
    """Writes prompts for a number of steps, and a second file, with the suffix .tokens, in the order of training."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
    texts = list(islice(_texts(tokenizer, shared), steps * case.rows_per_step))
    path.write_text("".join(f"{json.dumps({'prompt': text})}\n" for text in texts), encoding="utf-8")
    ordered = [texts[row] for row in PromptOrder(len(texts), seed=0).take(len(texts))]
    path.with_suffix(".tokens").write_text(
        "".join(json.dumps({"prompt": text, "input_ids": tokenizer(text)["input_ids"]}) + "\n" for text in ordered),
        encoding="utf-8",
    )


def _texts(tokenizer: PreTrainedTokenizerBase, shared: Path) -> Iterator[str]:
    """Real text cut to lengths that are drawn uniformly."""
    draw = random.Random("prompts")
    rows = list(rows_of("mixture", shared))
    draw.shuffle(rows)
    for row in rows:
        tokens = tokenizer("\n".join(turn["content"] for turn in row))["input_ids"]
        text = tokenizer.decode(tokens[: draw.randint(SHORTEST, LONGEST)]).strip()
        if SHORTEST <= len(tokenizer(text)["input_ids"]) <= LONGEST:
            yield text
