"""Single rows equal those of the whole set, at any time and from any process."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerBase

import burnish.data.streaming
from burnish.builtin.tiny import make_tokenizer
from burnish.data.dataset import DatasetSpec, TokenizedDataset
from burnish.data.read import read_rows
from burnish.data.sample_builder import SampleBuilder
from burnish.data.streaming import StreamingDataset
from burnish.data.template import Template, choose_template
from burnish.errors import DataError
from burnish.local_path import cache_folder
from burnish.sources.rows import RowSource
from burnish.types import Group

Write = Callable[..., str]
FORGETFUL = (
    "{% for m in messages %}{% if m.role == 'user' %}[{{ m.content }}]"
    "{% elif loop.last %}{{ m.content }}<|endoftext|>{% else %}{{ m.content[:1] }};{% endif %}{% endfor %}"
)
"""Template that rewrites earlier answers: every answer is a separate sample."""


def talk(*contents: str) -> dict[str, object]:
    roles = itertools.cycle(["user", "assistant"])
    return {"messages": [{"role": role, "content": text} for role, text in zip(roles, contents, strict=False)]}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))


def sixty() -> list[dict[str, object]]:
    return [talk("why", "x" * (i % 50 + 1), "and", "y" * (i % 3)) for i in range(60)]


@pytest.fixture
def path(write: Write) -> str:
    """Writes sixty rows, two of them unusable."""
    rows = sixty()
    rows[7] = rows[31] = {"messages": []}
    return write(*rows)


@pytest.fixture
def whole(write: Write) -> str:
    """Writes sixty usable rows."""
    return write(*sixty(), name="whole.jsonl")


STRICT = {"max_invalid_fraction": 0.0}
"""Rules without left-out rows, so that training need not wait for all rows."""


def preparation(path: str, tokenizer: PreTrainedTokenizerBase, **rules: object) -> DatasetSpec:
    template = Template(FORGETFUL) if rules.pop("forgetful", False) else choose_template(tokenizer)
    return DatasetSpec.of(
        read_rows(path), tokenizer, template, **{"max_length": 200, "max_invalid_fraction": 0.1, **rules}
    )


@pytest.fixture
def in_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lowers the limit, so that sixty rows are tokenized in the background."""
    monkeypatch.setattr(burnish.data.streaming, "AT_ONCE", 10)


@pytest.fixture
def never_ready(in_background: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Waiting:
        ended = False

        def stop(self) -> None:
            pass

    monkeypatch.setattr(burnish.data.streaming, "build_in_background", lambda builder: Waiting())


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
def test_a_single_row_equals_that_of_the_whole_set(path: str, rules: dict[str, object]) -> None:
    prepared = (made := preparation(path, make_tokenizer(), **rules)).whole()
    on_the_spot = [made.row(row) for row in range(60)]
    assert on_the_spot[7] == on_the_spot[31] == ()
    usable = [groups for groups in on_the_spot if groups]
    assert len(prepared.draws) == len(usable) == prepared.report.usable
    assert all(itertools.starmap(same, zip(usable, prepared.draws, strict=True)))
    assert sum(map(len, usable)) == len(prepared)
    assert made.example() == prepared.report.example


def test_pieces_of_documents_are_drawn_one_by_one(write: Write, in_background: None) -> None:
    path = write(*({"text": "once upon a time " * (i + 1)} for i in range(20)))
    feed = StreamingDataset(preparation(path, make_tokenizer(), max_length=20))
    prepared = feed.prepared
    assert prepared is not None, "how many pieces there are has to be known before the first is drawn"
    assert len(feed) == len(prepared) > 20
    assert all(same(feed[i], [prepared[i]]) for i in range(len(feed)))


def test_draws_do_not_depend_on_the_time_of_tokenization(whole: str, never_ready: None) -> None:
    tokenizer = make_tokenizer()
    ready_datasets: list[TokenizedDataset] = []
    feed = StreamingDataset(preparation(whole, tokenizer, **STRICT))
    feed.when_ready(ready_datasets.append)
    early = [list(groups) for groups in RowSource(feed, sequences_per_step=8, seed=3, epochs=2)]
    assert (feed.prepared, ready_datasets) == (None, [])
    ready = feed.whole()
    assert ready_datasets == [ready]
    late = [list(groups) for groups in RowSource(feed, sequences_per_step=8, seed=3, epochs=2)]
    assert all(itertools.starmap(same, zip(early, late, strict=True)))
    again = StreamingDataset(preparation(whole, tokenizer, **STRICT))
    assert again.prepared is not None, "it is in the cache"
    again.when_ready(ready_datasets.append)
    assert len(ready_datasets) == 2


def test_a_background_process_builds_the_samples(
    whole: str, in_background: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    build_in_background = burnish.data.streaming.build_in_background
    monkeypatch.setattr(
        burnish.data.streaming,
        "build_in_background",
        lambda builder: started.append(build_in_background(builder)) or started[-1],
    )
    feed = StreamingDataset(preparation(whole, make_tokenizer(), **STRICT))
    first = feed[0]
    (process,) = started
    process.wait()
    monkeypatch.setattr(SampleBuilder, "make", lambda *_: pytest.fail("the other process has made it"))
    assert feed.prepared is not None
    assert same(feed[0], first)


def test_a_failed_background_process_is_replaced(whole: str, in_background: None) -> None:
    feed = StreamingDataset(preparation(whole, make_tokenizer(), **STRICT))
    assert feed._background is not None
    feed._background.stop()
    assert feed.prepared is not None
    assert len(feed.prepared) == 60


def test_without_a_cache_all_rows_are_built_first(
    whole: str, in_background: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "file" / "below"))
    assert StreamingDataset(preparation(whole, make_tokenizer(), **STRICT)).prepared is not None
    assert not cache_folder().exists()


@pytest.mark.parametrize(
    "rules", [{}, {"overlong": "drop", "max_length": 40, **STRICT}], ids=["max_invalid_fraction", "drop"]
)
def test_where_rows_may_be_left_out_the_usable_ones_are_counted_first(
    whole: str, never_ready: None, rules: dict[str, object]
) -> None:
    """The number of draws is known before the first, with and without the cache."""
    for _ in ("not in the cache", "in the cache"):
        feed = StreamingDataset(preparation(whole, make_tokenizer(), **rules))
        assert feed.prepared is not None
        assert len(feed) == feed.prepared.report.usable


def test_a_row_that_cannot_be_used_stops_when_it_is_drawn(path: str, never_ready: None) -> None:
    feed = StreamingDataset(preparation(path, make_tokenizer(), max_invalid_fraction=0.0))
    assert feed[6]
    with pytest.raises(DataError, match="line 8: messages is empty"):
        feed[7]
    with pytest.raises(DataError, match="2 of 60 rows cannot be used"):
        feed.whole()


def test_a_row_that_is_too_long_stops_when_it_is_drawn(whole: str, never_ready: None) -> None:
    """The message lists all rows, not only this one."""
    feed = StreamingDataset(preparation(whole, make_tokenizer(), max_length=40, **STRICT))
    assert feed[0]
    with pytest.raises(DataError, match=r"of 60 samples of .* are longer than 40 tokens"):
        feed[40]


def test_a_set_without_usable_rows_is_an_error(path: str, never_ready: None) -> None:
    with pytest.raises(DataError, match=r"no sample of .* is left"):
        StreamingDataset(preparation(path, make_tokenizer(), max_length=5, overlong="drop"))


def test_rows_are_validated_before_a_checkpoint(whole: str, never_ready: None) -> None:
    source = RowSource(
        feed := StreamingDataset(preparation(whole, make_tokenizer(), **STRICT)), sequences_per_step=8, seed=0
    )
    assert feed.prepared is None
    source.validate()
    assert feed.prepared is not None


def test_the_identity_covers_all_inputs(path: str) -> None:
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


def test_the_longest_groups_with_and_without_all_rows(whole: str, never_ready: None) -> None:
    """With sixty rows the search covers all of them, also before all are tokenized."""
    feed = StreamingDataset(preparation(whole, make_tokenizer(), **STRICT))
    early = [group.num_tokens for group in feed.longest(5)]
    assert feed.prepared is None
    ready = feed.whole()
    assert early == sorted(ready.lengths.tolist(), reverse=True)[:5]
    assert [group.num_tokens for group in feed.longest(5)] == early
    assert len(feed.longest(1000)) == len(ready)
