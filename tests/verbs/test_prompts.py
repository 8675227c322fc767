"""A model that keeps a state and shares no prompts: it answers, is examined, and learns by trying all the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import MambaConfig, MambaForCausalLM

import burnish
from burnish.builtin.sets import builtin_rows, write_rows
from burnish.builtin.tiny import make_tokenizer
from burnish.verbs.evaluate import EvalSettings, evaluate, read_settings
from burnish.verbs.evaluate_rewards import RewardEvalSettings, evaluate_rewards
from burnish.watch.quiet import quiet_transformers

LENGTH = {"name": "length", "target": 8, "tolerance": 20, "unit": "characters"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model/ and math.jsonl."""
    folder = tmp_path_factory.mktemp("alone")
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    sizes = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 1, "state_size": 8}
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.eos_token_id}
    with quiet_transformers():
        MambaForCausalLM(MambaConfig(**sizes, **ends)).save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
    write_rows(folder / "math.jsonl", builtin_rows("math", count=8))
    return folder


def test_it_learns_by_trying(place, tmp_path):
    sizes = {
        "groups_per_step": 2,
        "responses_per_prompt": 3,
        "max_new_tokens": 5,
        "learning_rate": 1e-2,
        "max_steps": 2,
    }
    files = {"model": str(place / "model"), "data": str(place / "math.jsonl"), "output": str(tmp_path / "run")}
    done = burnish.rl(**files, **sizes, reward=LENGTH, reward_workers=1, log_every=1)
    lines = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "rollout/reward" in line] == [1, 2]
    assert all(line["train/clip_fraction"] == 0 for line in lines if "train/clip_fraction" in line)


def test_it_answers_and_is_examined(place):
    written = burnish.generate(
        model=str(place / "model"), data=str(place / "math.jsonl"), responses_per_prompt=2, max_new_tokens=5
    )
    assert [len(line["responses"]) for line in written.answers] == [2] * 8
    given = {"data": str(place / "math.jsonl"), "verifier": LENGTH, "responses_per_prompt": 2, "max_new_tokens": 5}
    passes = evaluate_rewards(str(place / "model"), read_settings(RewardEvalSettings, given, []))
    assert [[answer.text for answer in group] for group in passes.answers] == [
        line["responses"] for line in written.answers
    ]
    rows = place / "asked.jsonl"
    rows.write_text('{"question": "a?", "answer": "b"}\n')
    found = evaluate(str(place / "model"), read_settings(EvalSettings, {"data": str(rows), "max_new_tokens": 4}, []))
    assert found.accuracy is not None
    assert found.accuracy.total == 1
