"""Conversations of many turns: the samples of whole renderings, at a cost that does not grow as the square."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.data import long_script
from burnish.data.dataset import DatasetSpec
from burnish.data.read import read_rows
from burnish.data.records import Conversation, Message
from burnish.data.rendering import render
from burnish.data.shortening import longest_fitting, shortenings
from burnish.data.template import Template
from burnish.data.tokenize import Encoder, Sample
from burnish.data.turn_text import common_prefix
from burnish.data.writer import Writer
from burnish.errors import DataError
from tests.data import template_stock

NAMES = template_stock.names()
CALL = {"id": "call00000", "type": "function", "function": {"name": "look", "arguments": {"where": "up"}}}


def said(role: str, content: str, **extra: object) -> Message:
    return Message(role, content, extra, trained=role == "assistant")


def turns(count: int, *, thinking: bool = False) -> Conversation:
    thought = {"reasoning_content": "a thought"} if thinking else {}
    return Conversation(
        tuple(
            message
            for number in range(count)
            for message in (said("user", f"Step {number}: go"), said("assistant", f"did {number} of it", **thought))
        )
    )


def calling(count: int) -> Conversation:
    """One question, and many calls."""
    steps = [
        message
        for number in range(count)
        for message in (said("assistant", f"step {number}", tool_calls=[CALL]), said("tool", f"result {number}"))
    ]
    return Conversation((said("user", "Work."), *steps, said("assistant", "Done.")))


def writer_of(name: str) -> Writer:
    return Writer(template_stock.tokenizer(name), Template(template_stock.source(name)))


@pytest.mark.skipif(not NAMES, reason="trl is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_windows_give_the_texts_of_whole_renderings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for conversation in (turns(24), turns(20, thinking=True), calling(20)):
        texts = []
        for short in (10, 10_000):
            monkeypatch.setattr(long_script, "SHORT", short)
            try:
                texts.append([(r.text, r.spans, r.skipped) for r in render(conversation, writer_of(name), "answers")])
            except DataError as error:
                texts.append([(str(error), (), ())])
        assert texts[0] == texts[1]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Length of every rendering."""
    sizes: list[int] = []
    original = Writer.rendered

    def counted(self: Writer, *given: object, **named: object) -> str:
        text = original(self, *given, **named)  # type: ignore[arg-type]
        sizes.append(len(text))
        return text

    monkeypatch.setattr(Writer, "rendered", counted)
    return sizes


@pytest.mark.skipif(not NAMES, reason="trl is not installed")
@pytest.mark.parametrize("name", ["qwen2_5", "qwen3", "llama3"])
@pytest.mark.parametrize("train_on", ["assistant", "answers"])
def test_the_characters_of_renderings_do_not_grow_as_the_square(name: str, train_on: str, written: list[int]) -> None:
    sizes = []
    for count in (200, 800):
        writer = writer_of(name)
        written.clear()
        render(turns(count), writer, train_on)  # type: ignore[arg-type]
        sizes.append(sum(written))
    assert sizes[1] < 9 * sizes[0]  # the square is 16, the power 1.5 is 8


@pytest.mark.skipif(not NAMES, reason="trl is not installed")
def test_samples_too_long_for_the_model_are_tokenized_no_further(write: Callable[..., str]) -> None:
    name, positions = "qwen3", 300
    tokenizer, template = template_stock.tokenizer(name), Template(template_stock.source(name))
    path = write({"messages": [message.as_mapping() for message in turns(60).messages]})

    def made(max_positions: int | None) -> DatasetSpec:
        return DatasetSpec.of(
            read_rows(path), tokenizer, template, max_length=250, overlong="drop", max_positions=max_positions
        )

    cut, whole = (made(limit).builder.make(0, 1) for limit in (positions, None))
    assert cut.lengths.tolist() == np.minimum(whole.lengths, positions + 1).tolist()
    assert made(positions).whole()[0].prompt.tolist() == made(None).whole()[0].prompt.tolist()
    assert len(made(positions).whole()) == len(made(None).whole())
    assert made(positions).whole().report.dropped[0].count == made(None).whole().report.dropped[0].count


@given(st.text("ab\ud800", min_size=0, max_size=30), st.text("ab", max_size=30))
def test_common_prefix(one: str, other: str) -> None:
    size = common_prefix(one, other)
    assert one[:size] == other[:size]
    assert one[: size + 1] != other[: size + 1] or size == min(len(one), len(other))


@settings(max_examples=60)
@given(st.integers(2, 60), st.integers(0, 80), st.sets(st.integers(0, 60), max_size=3))
def test_the_longest_that_fits_is_that_of_a_search_of_all(count: int, room: int, refused: set[int]) -> None:
    tried: list[int] = []

    def built(example: object) -> int | None:
        assert isinstance(example, Conversation)
        size = len(example.messages) // 2
        tried.append(size)
        if size in refused:
            raise DataError("", "", "")
        return size if size <= room else None

    shorter = shortenings(turns(count))
    expected = next((size for size in range(count - 1, 0, -1) if size <= room and size not in refused), None)
    assert longest_fitting(shorter, built) == expected
    if not refused:
        assert sum(tried) <= 6 * max(1, min(room, count)) * max(1, count.bit_length())


def test_a_long_conversation_is_tokenized_once_and_alike() -> None:
    """Each learned turn has the tokens that it has in a conversation of its own length."""
    if not NAMES:
        pytest.skip("trl is not installed")
    tokenizer = template_stock.tokenizer("qwen2_5")
    writer = Writer(tokenizer, Template(template_stock.source("qwen2_5")))
    conversation = turns(200)
    (rendering,) = render(conversation, writer)
    (sample,) = Encoder(tokenizer).samples([rendering])
    assert isinstance(sample, Sample)
    for turn in (1, 101, 399):
        alone = replace(conversation, messages=tuple(replace(m, trained=False) for m in conversation.messages[:turn]))
        alone = replace(alone, messages=(*alone.messages, conversation.messages[turn]))
        (short,) = Encoder(tokenizer).samples(render(alone, writer))
        assert isinstance(short, Sample)
        size = len(short.tokens)
        assert sample.tokens[:size].tolist() == short.tokens.tolist()
        assert sample.trainable[short.prompt_length : size].all()
