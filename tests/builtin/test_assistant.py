"""The base knows its world and cannot talk; a minute of fine-tuning makes it answer, and leaves room to improve."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import burnish
from burnish.builtin.places import tiny_folder
from burnish.builtin.sets import builtin_rows
from burnish.data.template import choose_template

pytestmark = pytest.mark.slow


def share_right(folder: Path, kind: str) -> tuple[float, float]:
    """Shares of the test questions of this kind that are answered exactly, and that are answered to an end."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    rows = [row["messages"] for row in builtin_rows("chat", "test") if row["kind"] == kind][:100]
    inputs = tokenizer.apply_chat_template(
        [messages[:1] for messages in rows],
        chat_template=choose_template(tokenizer, "chatml").source,
        add_generation_prompt=True,
        padding=True,
        return_tensors="pt",
        return_dict=True,
    )
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    output = model.generate(
        **inputs, max_new_tokens=40, do_sample=False, eos_token_id=end, pad_token_id=tokenizer.pad_token_id
    )
    said = output[:, inputs["input_ids"].shape[1] :].tolist()
    answers = [tokenizer.decode(tokens, skip_special_tokens=True) for tokens in said]
    right = [answer == messages[1]["content"] for answer, messages in zip(answers, rows, strict=True)]
    return sum(right) / len(rows), sum(end in tokens for tokens in said) / len(rows)


def test_fine_tuning_makes_an_assistant_of_the_base(tmp_path):
    kinds = ("fact", "arithmetic", "format")
    assert all(share_right(tiny_folder(), kind)[0] < 0.05 for kind in kinds)
    run = burnish.sft(
        model="builtin:tiny",
        data="builtin:chat",
        output=str(tmp_path / "run"),
        chat_template="chatml",
        learning_rate=3e-3,
        sequences_per_step=16,
    )
    shares = {kind: share_right(run.folder / "model", kind) for kind in kinds}
    assert all(ended > 0.95 for _, ended in shares.values())
    assert shares["fact"][0] > 0.6
    assert 0.1 < shares["arithmetic"][0] < 0.9, "practice has something to build on, and something to win"
