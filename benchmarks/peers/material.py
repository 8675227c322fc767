"""Material of all contenders: a model with random weights and its tokenizer, and the same rows in the same order.

Burnish reads chat rows; TRL gets Burnish's tokens and labels of them, in Burnish's order, so that both train
the same tokens in the same steps, and the preparation of neither is measured.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from burnish.model.settings import ValueHeadConfig
from burnish.model.value_head import with_value_head
from burnish.sources.epoch_order import epoch_order
from burnish.stages.supervised_data import open_for_inspection
from burnish.types import Group
from peers.cases import HEADS, LONGEST, POSITIONS, SHORTEST, SIZES, Case, DataName

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TURN = re.compile(r"\n\n(Human|Assistant): ")
Row = list[dict[str, str]]
"""The messages of a conversation."""


def save_model(folder: Path, size: str, shared: Path) -> None:
    """A Llama of this size with random weights, and a byte-level tokenizer of its vocabulary trained on the rows."""
    make_tokenizer(SIZES[size]["vocab_size"], shared).save_pretrained(folder)
    save_llama(folder, SIZES[size], HEADS[size])


def save_llama(folder: Path, shape: dict[str, int], heads: int) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(**shape, num_attention_heads=heads, max_position_embeddings=POSITIONS, pad_token_id=0)
    LlamaForCausalLM(config).save_pretrained(folder)


def save_reward_model(folder: Path) -> None:
    """Replaces the language model in the folder by a reward model with a random value head."""
    model = with_value_head(LlamaForCausalLM.from_pretrained(folder), ValueHeadConfig(seed=0))
    model.save_pretrained(folder)


def make_tokenizer(vocabulary: int, shared: Path) -> PreTrainedTokenizerBase:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        show_progress=False,
    )
    core.train_from_iterator((turn["content"] for row in rows_of("mixture", shared) for turn in row), trainer)
    assert core.get_vocab_size() == vocabulary, f"the rows give {core.get_vocab_size()} pieces, not {vocabulary}"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@cache
def rows_of(data: DataName, shared: Path) -> list[Row]:
    """GSM8K's train file, or a mixture of it with mathematics, programs, and conversations of several turns."""
    grade_school = [_question_row(row["question"], row["answer"]) for row in _read(shared / "data/gsm8k/train.jsonl")]
    if data == "gsm8k":
        return grade_school
    olympiad = [
        _question_row(row["problem"], row["solution"]) for row in _read(shared / "data/math500/math_test.jsonl")
    ]
    programs = [_question_row(row["text"], row["code"]) for row in _read(shared / "data/mbpp/mbpp.jsonl")]
    helpful = [_conversation(row["chosen"]) for row in _read(shared / "data/hh_rlhf/helpful-base-test.jsonl.gz")]
    return [*grade_school[:2000], *olympiad, *programs, *(row for row in helpful if row[-1]["content"])]


def _question_row(question: str, answer: str) -> Row:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _conversation(text: str) -> Row:
    roles = {"Human": "user", "Assistant": "assistant"}
    _, *parts = TURN.split(text)
    return [{"role": roles[who], "content": text} for who, text in zip(parts[::2], parts[1::2], strict=True)]


def _read(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file)


def write_rows(path: Path, case: Case, model: Path, steps: int, shared: Path) -> None:
    """Writes random chat rows of 30 to 600 tokens for a number of steps, and a second file with their tokens and labels
    in the order of training."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
    draw, chosen = random.Random(case.data), []
    candidates = list(rows_of(case.data, shared))
    draw.shuffle(candidates)
    while len(chosen) < steps * case.rows_per_step:
        row = candidates.pop()
        if SHORTEST <= len(tokenizer.apply_chat_template(row, tokenize=True)["input_ids"]) <= LONGEST:
            chosen.append(row)
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in chosen), encoding="utf-8")
    draws = open_for_inspection(str(model), str(path), []).preparation.whole().draws
    ordered = [draws[int(index)] for index in epoch_order(0, 0, len(draws))]
    path.with_suffix(".tokens").write_text("".join(_labeled(groups) for groups in ordered), encoding="utf-8")


def _labeled(groups: Sequence[Group]) -> str:
    """A JSON line of input_ids and labels."""
    [group] = groups
    [response] = group.responses
    tokens = torch.cat([group.prompt, response.tokens])
    trained = torch.cat([torch.zeros(len(group.prompt), dtype=torch.bool), response.trainable])
    labels = torch.where(trained, tokens, -100)
    return json.dumps({"input_ids": tokens.tolist(), "labels": labels.tolist()}) + "\n"
