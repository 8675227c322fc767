"""The cache stays within its limit: least recently used entries are evicted first, locked ones never."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import burnish.data.cache
from burnish.builtin.tiny import make_tokenizer
from burnish.data.cache import samples_of
from burnish.data.eviction import evict, limit
from burnish.data.formats.known import FORMATS
from burnish.data.read import read_rows
from burnish.data.sample_builder import SampleBuilder
from burnish.data.template import choose_template
from burnish.data.writer import Writer

Write = Callable[..., str]


def make_entries(folder: Path, sizes: list[int]) -> list[Path]:
    """Creates entries of these sizes in bytes, used one after the other."""
    entries = [folder / f"entry-{i:02}" for i in range(len(sizes))]
    for i, (entry, size) in enumerate(zip(entries, sizes, strict=True)):
        (entry / "samples").mkdir(parents=True)
        (entry / "samples" / "tokens.npy").write_bytes(b"x" * size)
        os.utime(entry, (1000 + i, 1000 + i))
    return entries


@given(sizes=st.lists(st.integers(0, 50), min_size=1, max_size=8), max_bytes=st.integers(0, 200), data=st.data())
def test_the_least_recently_used_entries_are_evicted(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], max_bytes: int, data: st.DataObject
) -> None:
    entries = make_entries(folder := tmp_path_factory.mktemp("cache"), sizes)
    stays = data.draw(st.integers(0, len(sizes) - 1))
    removed = evict(folder, max_bytes, but=entries[stays])
    assert removed == [entry for i, entry in enumerate(entries) if i != stays][: len(removed)], "the oldest"
    left = [size for entry, size in zip(entries, sizes, strict=True) if entry.exists()]
    assert sum(left) == sum(sizes) - sum(sizes[entries.index(entry)] for entry in removed)
    assert sum(left) <= max_bytes or set(entries) - set(removed) == {entries[stays]}
    if removed:
        assert sum(left) + sizes[entries.index(removed[-1])] > max_bytes, "no more than has to"


def test_a_locked_entry_is_not_evicted(tmp_path: Path) -> None:
    old, middle, new = make_entries(tmp_path, [10, 10, 10])
    with (old / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert evict(tmp_path, 0, but=new) == [middle]
    assert evict(tmp_path, 0, but=new) == [old]


def test_a_used_entry_is_not_evicted(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    tokenizer = make_tokenizer()
    writer = Writer(tokenizer, choose_template(tokenizer))
    builders = [
        SampleBuilder(
            read_rows(write({"question": text, "answer": "b"}, name=f"{text}.jsonl")),
            FORMATS["question_answer"],
            writer,
        )
        for text in "uvw"
    ]
    entries = [tmp_path / "cache" / "samples" / builder.identity for builder in builders]
    for i, builder in enumerate(builders[:2]):
        samples_of(builder, workers=0)
        os.utime(entries[i], (1000 + i, 1000 + i))
    samples_of(builders[0], workers=0)
    size = sum(file.stat().st_size for file in entries[0].rglob("*") if file.is_file())
    monkeypatch.setattr(burnish.data.cache, "limit", lambda _: int(2.5 * size))
    samples_of(builders[2], workers=0)
    assert [entry.exists() for entry in entries] == [True, False, True]


def test_the_limit_is_the_users_or_a_share_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BURNISH_CACHE_GIB", "1.5")
    assert limit(tmp_path) == 3 * 2**29
    monkeypatch.delenv("BURNISH_CACHE_GIB")
    assert 0 < limit(tmp_path) < 2**60
