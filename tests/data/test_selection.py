"""Overlong rules, documents in pieces, unusable rows, and learned parts of conversations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from burnish.data.dataset import DatasetSpec, TokenizedDataset
from burnish.data.read import read_rows
from burnish.data.records import Conversation, Message
from burnish.data.shortening import shortenings
from burnish.data.template import choose_template
from burnish.errors import DataError

Write = Callable[..., str]


def ready(path: str, tokenizer: PreTrainedTokenizerBase, max_length: int = 1000, **options: object) -> TokenizedDataset:
    return DatasetSpec.of(
        read_rows(path), tokenizer, choose_template(tokenizer), max_length=max_length, **options
    ).whole()


def row(*contents: str, system: str | None = None) -> dict[str, object]:
    messages = [{"role": "assistant" if i % 2 else "user", "content": c} for i, c in enumerate(contents)]
    return {"messages": [*([{"role": "system", "content": system}] if system else []), *messages]}


def text(prepared: TokenizedDataset, index: int, tokenizer: PreTrainedTokenizerBase) -> str:
    group = prepared[index]
    return tokenizer.decode([*group.prompt.tolist(), *group.responses[0].tokens.tolist()])


@given(words=st.lists(st.sampled_from(["the", "hello", "x", "日"]), min_size=1, max_size=40), limit=st.integers(2, 12))
def test_every_token_of_a_document_is_learned_once(
    byte_level: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory, words: list[str], limit: int
) -> None:
    content = " ".join(words)
    path = tmp_path_factory.mktemp("text") / "rows.jsonl"
    path.write_text(f'{{"text": "{content}"}}\n')
    whole = [*byte_level(content).input_ids, byte_level.eos_token_id]
    pieces = ready(str(path), byte_level, limit)
    learned = [token for piece in pieces for token in piece.responses[0].tokens.tolist()]
    assert learned == whole[1:]
    assert pieces[0].prompt.tolist() == whole[:1]
    for piece in pieces:
        assert len(piece.prompt) == 1
        assert piece.num_tokens <= limit
        assert piece.responses[0].trainable.all()
    assert pieces.report.trained_tokens == len(learned)
    assert pieces.report.end_tokens == {byte_level.eos_token_id}


def test_documents_are_never_too_long_and_never_joined(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    path = write({"text": "hello there"}, {"text": "big world " * 9})
    prepared = ready(path, byte_level, 8)  # the rule is to stop, which is about rows that cannot be cut into pieces
    assert prepared.picked.rows.tolist() == [0, *[1] * (len(prepared) - 1)]
    assert len(prepared) > 3
    assert text(prepared, 0, byte_level) == "hello there<|endoftext|>"


def test_drop_turns_keeps_the_system_and_the_last_turn(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    path = write(row("a" * 30, "b" * 30, "c" * 30, "d" * 30, "e", "f", system="S"), row("x", "y"))
    whole = ready(path, byte_level)
    size = int(whole.lengths[0])
    assert len(ready(path, byte_level, size, overlong="drop_turns")) == 2
    shorter = ready(path, byte_level, size - 1, overlong="drop_turns")
    content = text(shorter, 0, byte_level)
    assert "S" in content
    assert "a" * 30 not in content
    assert "c" * 30 in content
    assert content.endswith("f<|endoftext|>")
    assert (shorter.report.shortened, shorter.report.cut) == (1, 0)
    assert text(shorter, 1, byte_level) == text(whole, 1, byte_level)
    last = ready(path, byte_level, 60, overlong="drop_turns")
    assert "c" * 30 not in text(last, 0, byte_level)
    with pytest.raises(DataError, match="line 1: longer than 20 tokens even with its last turn alone"):
        ready(path, byte_level, 20, overlong="drop_turns")


def test_shortenings_always_have_something_to_learn() -> None:
    user, answer = Message("user", "a"), Message("assistant", "b", trained=True)
    tool = Message("tool", "t")
    conversation = Conversation((Message("system", "s"), user, answer, tool, answer, user, answer, user))
    shortened = list(shortenings(conversation))
    assert [len(example.messages) for example in shortened] == [4]
    assert shortened[0].messages[0].role == "system"
    assert shortened[0].turns == (2,)


def test_unusable_rows_within_the_allowed_share(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    path = write(row("a", "b"), row("a"), row("c", "d"), {"messages": []}, row("e", "f"))
    with pytest.raises(DataError, match="2 of 5 rows cannot be used"):
        ready(path, byte_level)
    prepared = ready(path, byte_level, max_invalid_fraction=0.4)
    assert prepared.picked.rows.tolist() == [0, 2, 4]
    assert [row.where for row in prepared.unusable] == [f"{path} line 2", f"{path} line 4"]
    assert "no message is the assistant's" in prepared.unusable[0].given
    assert prepared.unusable[1].given == "messages is empty"
    assert prepared.report.unusable == 2
    with pytest.raises(DataError, match=r"2 of 5 rows cannot be used, more than max_invalid_fraction=0\.3 allows"):
        ready(path, byte_level, max_invalid_fraction=0.3)


def test_a_cut_row_without_a_response_is_unusable(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    path = write(row("x" * 60, "y"), row("x", "y" * 60))
    prepared = ready(path, byte_level, 50, overlong="truncate", max_invalid_fraction=0.5)
    assert prepared.picked.rows.tolist() == [1]
    assert prepared.report.cut == 1
    assert "the prompt alone fills 50 tokens" in prepared.unusable[0].given
    for group in prepared:
        assert group.responses[0].trainable.any()


@pytest.mark.parametrize(
    ("train_on", "learned"),
    [
        ("assistant", ["b<|endoftext|>", "d<|endoftext|>"]),
        ("last", ["d<|endoftext|>"]),
        ("everything", None),
        ("answers", ["b<|endoftext|>", "d<|endoftext|>"]),
    ],
)
def test_what_is_learned(
    write: Write, byte_level: PreTrainedTokenizerBase, train_on: str, learned: list[str] | None
) -> None:
    prepared = ready(write(row("a", "b", "c", "d")), byte_level, train_on=train_on)
    marked = [part for part, is_learned in prepared.report.example if is_learned]
    if learned is None:
        tokens = prepared.samples.tokens
        assert np.count_nonzero(prepared.samples.trainable) == len(tokens) - 1
        assert prepared.report.end_tokens == {byte_level.eos_token_id}
    else:
        assert marked == learned


def test_flags_of_messages(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    flagged = row("a", "b", "c", "d")
    flagged["messages"][1]["weight"] = 0
    prepared = ready(write(flagged), byte_level)
    assert [part for part, is_learned in prepared.report.example if is_learned] == ["d<|endoftext|>"]
    everything = ready(write(flagged), byte_level, train_on="everything")
    assert np.count_nonzero(~everything.samples.trainable) == 1
