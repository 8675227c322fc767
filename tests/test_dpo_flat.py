"""examples/dpo_flat.py needs only torch and transformers, and computes one response at a time: the same losses."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from burnish.builtin.sets import generate
from burnish.builtin.tiny import write_untrained
from burnish.losses.preference.build import preference_loss
from burnish.model.load import load_policy
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.train.step import Trainer
from burnish.types import Group, Response
from tests.preferences import with_reference

SCRIPT = Path(__file__).parents[1] / "examples" / "dpo_flat.py"
STEPS, PAIRS = 4, 3


def rows() -> list[dict[str, str]]:
    """Questions with the right answer and another question's."""
    said = generate(seed=1, count=STEPS * PAIRS + 1)
    return [
        {"question": row["question"], "chosen": row["answer"], "rejected": other["answer"]}
        for row, other in itertools.pairwise(said)
    ]


def to_group(row: dict[str, str], tokenizer: PreTrainedTokenizerBase) -> Group:
    """The pair: what the template writes for the question, and the tokens of both answers to the end of the turn."""
    turns = [{"role": "user", "content": row["question"]}]
    prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    size = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    responses = []
    for answer in (row["chosen"], row["rejected"]):
        whole = tokenizer.apply_chat_template([*turns, {"role": "assistant", "content": answer}], tokenize=False)
        tokens = tokenizer(whole, add_special_tokens=False)["input_ids"]
        end = len(tokens) - tokens[::-1].index(tokenizer.eos_token_id)
        own = torch.tensor(tokens[size:end])
        responses.append(Response(tokens=own, trainable=torch.ones(len(own), dtype=torch.bool)))
    return Group(prompt=torch.tensor(tokens[:size]), responses=tuple(responses))


def test_the_flat_twin_has_the_same_curve(tmp_path):
    write_untrained(tmp_path / "model", hidden_size=64, layers=2)
    lines = [json.dumps(row) for row in rows()]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    arguments = [str(tmp_path / "model"), str(tmp_path / "pairs.jsonl"), "--steps", str(STEPS)]
    options = ["--pairs-per-step", str(PAIRS), "--learning-rate", "1e-3", "--beta", "0.5"]
    command = [sys.executable, str(SCRIPT), *arguments, *options]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    flat = [json.loads(line) for line in output.splitlines()]

    policy = load_policy(str(tmp_path / "model"))
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings(learning_rate=1e-3)))
    groups = with_reference([to_group(row, policy.tokenizer) for row in rows()], policy)
    loss = preference_loss("dpo", beta=0.5).loss
    steps = [groups[start : start + PAIRS] for start in range(0, len(groups), PAIRS)]
    figures = [trainer.step(step, loss, budget=120, factor=1.0) for step in steps]
    assert [line["loss"] for line in flat] == pytest.approx([float(each["loss"]) for each in figures], rel=1e-4)
    margins = [float(each["reward_margin"]) for each in figures]
    assert [line["reward_margin"] for line in flat] == pytest.approx(margins, rel=1e-3, abs=1e-5)
    assert margins[-1] > 10 * abs(margins[0])


def test_the_flat_twin_needs_nothing_of_ours():
    text = SCRIPT.read_text()
    assert "import burnish" not in text
    assert "from burnish" not in text
