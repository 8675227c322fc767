"""One row of `trees.py` as version 0.1.0 computes it: a checkout of it is first on the path of this process.

    git worktree add ../burnish-0.1.0 53b1b5f
    python benchmarks/trees.py --earlier ../burnish-0.1.0

Prints the seconds of each step and the tokens that it computes, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from burnish.step import Trainer  # type: ignore[import-not-found]
from transformers import LlamaConfig, LlamaForCausalLM

from burnish.losses import CrossEntropy  # type: ignore[attr-defined]  # of version 0.1.0
from burnish.losses.preference.registry import preference_loss  # type: ignore[import-not-found]
from burnish.model.attention import install
from burnish.model.policy import Policy  # type: ignore[attr-defined]
from burnish.optim import Optimizer, OptimizerSettings  # type: ignore[attr-defined]
from burnish.types import Group, Response


def groups_of(file: Path, *, pairs: bool) -> list[Group]:
    """The texts of each group, as this version has them: a text is a group, or the two of a pair are."""
    found = []
    for texts in json.loads(file.read_text(encoding="utf-8")):
        rows = [torch.tensor(text["tokens"]) for text in texts]
        trained = [torch.tensor(text["trainable"]) for text in texts]
        for members in [range(len(texts))] if pairs else [[index] for index in range(len(texts))]:
            own = [rows[index] for index in members]
            room = min(len(rows[index]) - len(trained[index]) for index in members)
            same = torch.stack([(row[:room] == own[0][:room]) for row in own]).all(0)
            shared = room if bool(same.all()) else int(same.int().argmin())
            found.append(_group(own, [trained[index] for index in members], shared))
    return found


def _group(rows: list[torch.Tensor], trained: list[torch.Tensor], shared: int) -> Group:
    def response(row: torch.Tensor, own: torch.Tensor) -> Response:
        before = torch.zeros(len(row) - shared - len(own), dtype=torch.bool)
        return Response(tokens=row[shared:], trainable=torch.cat([before, own]))

    responses = tuple(response(row, own) for row, own in zip(rows, trained, strict=True))
    return Group(prompt=rows[0][:shared], responses=responses)


def main() -> None:
    """Runs the steps."""
    settings, rows, rounds, pairs = json.loads(sys.argv[1])
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**settings))
    install(model)
    policy = Policy(model.train(), tokenizer=None)
    groups = groups_of(Path(rows), pairs=pairs)
    loss = preference_loss("simpo").loss if pairs else CrossEntropy()
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings()))
    seconds = []
    for _ in range(1 + rounds):
        began = time.perf_counter()
        trainer.step(groups, loss, 8192, 1.0)
        seconds.append(time.perf_counter() - began)
    tokens = sum(len(group.prompt) + sum(len(each.tokens) for each in group.responses) for group in groups)
    print(json.dumps({"seconds": seconds[1:], "tokens": tokens}))


if __name__ == "__main__":
    main()
