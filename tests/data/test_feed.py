"""Rows made on the spot are those of the whole set, whenever that becomes ready, and whoever makes it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerBase

import burnish.data.feed
from burnish.builtin.tiny import make_tokenizer
from burnish.data import Feed, Preparation, Prepared, Template, choose_template, read_rows
from burnish.data.cache import cache_folder
from burnish.data.maker import Maker
from burnish.errors import DataError
from burnish.sources import RowSource
from burnish.types import Group

Write = Callable[..., str]
FORGETFUL = (
    "{% for m in messages %}{% if m.role == 'user' %}[{{ m.content }}]"
    "{% elif loop.last %}{{ m.content }}<|endoftext|>{% else %}{{ m.content[:1] }};{% endif %}{% endfor %}"
)
"""Writes earlier answers otherwise than the last one: every answer is a sample of its own."""


def talk(*said: str) -> dict[str, object]:
    roles = itertools.cycle(["user", "assistant"])
    return {"messages": [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def path(write: Write) -> str:
    rows = [talk("why", "x" * (i % 50 + 1), "and", "y" * (i % 3)) for i in range(60)]
    rows[7] = rows[31] = {"messages": []}
    return write(*rows)


def preparation(path: str, tokenizer: PreTrainedTokenizerBase, **rules: object) -> Preparation:
    template = Template(FORGETFUL) if rules.pop("forgetful", False) else choose_template(tokenizer)
    return Preparation.of(
        read_rows(path), tokenizer, template, **{"max_length": 200, "max_invalid_fraction": 0.1, **rules}
    )


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty rows count as many, so they are made ready beside the caller."""
    monkeypatch.setattr(burnish.data.feed, "AT_ONCE", 10)


@pytest.fixture
def never_ready(beside: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Waiting:
        ended = False

        def stop(self) -> None:
            pass

    monkeypatch.setattr(burnish.data.feed, "make_beside", lambda maker: Waiting())


def same(one: Sequence[Group], other: Sequence[Group]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.prompt, b.prompt)
        and torch.equal(a.responses[0].tokens, b.responses[0].tokens)
        and torch.equal(a.responses[0].trainable, b.responses[0].trainable)
        and a.metadata == b.metadata
        for a, b in zip(one, other, strict=True)
    )


RULES = {
    "as they are": {},
    "several samples a row": {"forgetful": True, "max_length": 200},
    "drop": {"max_length": 40, "overlong": "drop"},
    "cut": {"max_length": 30, "overlong": "truncate", "max_invalid_fraction": 1.0},
    "drop_turns": {"max_length": 45, "overlong": "drop_turns", "max_invalid_fraction": 1.0},
    "last": {"train_on": "last"},
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_a_row_on_the_spot_is_that_of_the_whole_set(path: str, rules: dict[str, object]) -> None:
    prepared = (made := preparation(path, make_tokenizer(), **rules)).whole()
    counts = [len(groups) for groups in prepared.draws]
    assert len(counts) == 60
    assert counts[7] == counts[31] == 0
    assert sum(counts) == len(prepared)
    assert all(same(made.row(row), prepared.draws[row]) for row in range(60))
    assert made.example(1) == prepared.report.example


def test_pieces_of_documents_are_drawn_one_by_one(write: Write, beside: None) -> None:
    path = write(*({"text": "once upon a time " * (i + 1)} for i in range(20)))
    feed = Feed(preparation(path, make_tokenizer(), max_length=20))
    prepared = feed.prepared
    assert prepared is not None, "how many pieces there are has to be known before the first is drawn"
    assert len(feed) == len(prepared) > 20
    assert all(same(feed[i], [prepared[i]]) for i in range(len(feed)))


def test_what_is_drawn_does_not_tell_when_the_set_became_ready(path: str, never_ready: None) -> None:
    tokenizer = make_tokenizer()
    told: list[Prepared] = []
    feed = Feed(preparation(path, tokenizer))
    feed.when_ready(told.append)
    early = [list(groups) for groups in RowSource(feed, sequences_per_step=8, seed=3, epochs=2)]
    assert (feed.prepared, told) == (None, [])
    ready = feed.whole()
    assert told == [ready]
    late = [list(groups) for groups in RowSource(feed, sequences_per_step=8, seed=3, epochs=2)]
    assert all(itertools.starmap(same, zip(early, late, strict=True)))
    again = Feed(preparation(path, tokenizer))
    assert again.prepared is not None, "it is in the cache"
    again.when_ready(told.append)
    assert len(told) == 2


def test_another_process_makes_it_ready(path: str, beside: None, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    make_beside = burnish.data.feed.make_beside
    monkeypatch.setattr(
        burnish.data.feed, "make_beside", lambda maker: started.append(make_beside(maker)) or started[-1]
    )
    feed = Feed(preparation(path, make_tokenizer()))
    first = feed[0]
    (process,) = started
    process.wait()
    monkeypatch.setattr(Maker, "make", lambda *_: pytest.fail("the other process has made it"))
    assert feed.prepared is not None
    assert same(feed[0], first)


def test_a_process_that_fails_is_not_needed(path: str, beside: None) -> None:
    feed = Feed(preparation(path, make_tokenizer()))
    assert feed._beside is not None
    feed._beside.stop()
    assert feed.prepared is not None
    assert len(feed.prepared) == 58


def test_without_a_cache_all_is_made_at_once(
    path: str, beside: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "file" / "below"))
    assert Feed(preparation(path, make_tokenizer())).prepared is not None
    assert not cache_folder().exists()


def test_a_row_that_cannot_be_used_stops_when_it_is_drawn(path: str, never_ready: None) -> None:
    feed = Feed(preparation(path, make_tokenizer(), max_invalid_fraction=0.0))
    assert feed[6]
    with pytest.raises(DataError, match="line 8: messages is empty"):
        feed[7]
    with pytest.raises(DataError, match="2 of 60 rows cannot be used"):
        feed.whole()


def test_a_row_that_is_too_long_stops_when_it_is_drawn(path: str, never_ready: None) -> None:
    """And the message is about all rows, not about this one."""
    feed = Feed(preparation(path, make_tokenizer(), max_length=40))
    assert feed[0]
    with pytest.raises(DataError, match=r"of 58 samples of .* are longer than 40 tokens"):
        feed[40]


def test_where_no_row_is_left_all_are_waited_for(path: str, never_ready: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(burnish.data.feed, "_EMPTY", 5)
    feed = Feed(preparation(path, make_tokenizer(), max_length=5, overlong="drop"))
    with pytest.raises(DataError, match=r"no sample of .* is left"):
        list(RowSource(feed, sequences_per_step=8, seed=0))
    with pytest.raises(DataError, match=r"no sample of .* is left"):
        feed.example()


def test_rows_are_settled_before_a_checkpoint(path: str, never_ready: None) -> None:
    source = RowSource(feed := Feed(preparation(path, make_tokenizer())), sequences_per_step=8, seed=0)
    assert feed.prepared is None
    source.settle()
    assert feed.prepared is not None


def test_the_identity_is_of_all_that_decides(path: str) -> None:
    tokenizer = make_tokenizer()
    different: list[dict[str, object]] = [
        {},
        {"max_length": 199},
        {"overlong": "drop"},
        {"overlong": "drop_turns"},
        {"max_invalid_fraction": 0.2},
        {"train_on": "last"},
        {"forgetful": True},
    ]
    identities = [preparation(path, tokenizer, **rules).identity for rules in different]
    assert len(set(identities)) == len(different)
    assert preparation(path, make_tokenizer()).identity == identities[0]


def test_the_longest_of_rows_that_are_ready_and_of_those_that_are_not(path: str, never_ready: None) -> None:
    """Sixty rows are few enough to look at all, also before they are ready."""
    feed = Feed(preparation(path, make_tokenizer()))
    early = [group.num_tokens for group in feed.longest(5)]
    assert feed.prepared is None
    whole = feed.whole()
    assert early == sorted(whole.lengths.tolist(), reverse=True)[:5]
    assert [group.num_tokens for group in feed.longest(5)] == early
    assert len(feed.longest(1000)) == len(whole)
