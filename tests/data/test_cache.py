"""The same samples from any number of workers, from the cache, and after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

import burnish.data.cache
from burnish.builtin.tiny import make_tokenizer
from burnish.data.cache import samples_of
from burnish.data.formats.known import FORMATS
from burnish.data.processes import Worker
from burnish.data.read import read_rows
from burnish.data.sample_builder import SampleBuilder
from burnish.data.template import Template, choose_template
from burnish.data.token_store import TokenStore, open_joined
from burnish.data.writer import Writer
from burnish.local_path import cache_folder

Write = Callable[..., str]


@pytest.fixture(autouse=True)
def small_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(burnish.data.cache, "ROWS_PER_CHUNK", 16)
    return tmp_path / "cache"


@pytest.fixture
def path(write: Write) -> str:
    rows = [
        {"question": f"What is {i} {'x' * (i % 7)}?", "answer": f"It is {i}." if i % 30 else ""} for i in range(100)
    ]
    return write(*rows, {"question": "no answer", "answer": None})


def builder(path: str, tokenizer: PreTrainedTokenizerBase | None = None, **options: object) -> SampleBuilder:
    tokenizer = tokenizer or make_tokenizer()
    return SampleBuilder(
        read_rows(path), FORMATS["question_answer"], Writer(tokenizer, choose_template(tokenizer)), **options
    )


def same(one: TokenStore, other: TokenStore) -> bool:
    arrays = ("tokens", "trainable", "lengths", "prompt_lengths", "rows", "notes")
    return one.fingerprint == other.fingerprint and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays
    )


def test_the_cache_returns_the_built_samples(path: str, small_chunks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = samples_of(builder(path), workers=0)
    direct = builder(path).make(0, 101)
    assert np.array_equal(stored.tokens, direct.tokens)
    assert np.array_equal(stored.trainable, direct.trainable)
    assert (stored.faults, stored.ends, stored.conversations) == (direct.faults, direct.ends, direct.conversations)
    assert [fault.row for fault in stored.faults] == [100]
    assert isinstance(stored.tokens, np.memmap)

    def never(*_: object) -> None:
        raise AssertionError("nothing is made twice")

    monkeypatch.setattr(SampleBuilder, "make", never)
    assert same(samples_of(builder(path), workers=0), stored)
    (entry,) = (small_chunks / "samples").iterdir()
    assert sorted(child.name for child in entry.iterdir()) == [".lock", "samples"]


def test_chunks_of_any_size_give_the_same(path: str, small_chunks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = samples_of(builder(path), workers=0)
    monkeypatch.setenv("BURNISH_CACHE", str(small_chunks) + "2")
    monkeypatch.setattr(burnish.data.cache, "ROWS_PER_CHUNK", 7)
    second = samples_of(builder(path), workers=0)
    assert np.array_equal(first.tokens, second.tokens)
    assert same(first, second)


@pytest.fixture
def waits_for_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for the workers before the parent builds a chunk."""
    forked = burnish.data.cache.fork

    def fork(count: int, work: Callable[[], None]) -> list[Worker]:
        workers = forked(count, work)
        for worker in workers:
            worker.wait()
        return workers

    monkeypatch.setattr(burnish.data.cache, "fork", fork)


@pytest.mark.usefixtures("waits_for_workers")
def test_workers_give_the_same(path: str, small_chunks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = samples_of(builder(path), workers=0)
    monkeypatch.setenv("BURNISH_CACHE", str(small_chunks) + "2")
    here, make = os.getpid(), SampleBuilder.make

    def elsewhere(self: SampleBuilder, start: int, stop: int, *more: Any) -> TokenStore:
        assert os.getpid() != here, "the workers make it all"
        return make(self, start, stop, *more)

    monkeypatch.setattr(SampleBuilder, "make", elsewhere)
    stored = samples_of(builder(path), workers=2)
    assert np.array_equal(stored.tokens, alone.tokens)
    assert same(stored, alone)


@pytest.mark.usefixtures("waits_for_workers")
def test_unfinished_work_of_a_worker_is_done_by_the_parent(
    path: str, small_chunks: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    alone = samples_of(builder(path), workers=0)
    monkeypatch.setenv("BURNISH_CACHE", str(small_chunks) + "2")
    here, make = os.getpid(), SampleBuilder.make

    def fails_elsewhere(self: SampleBuilder, start: int, stop: int, *more: Any) -> TokenStore:
        if os.getpid() != here:
            raise MemoryError("this worker is out of memory")
        return make(self, start, stop, *more)

    monkeypatch.setattr(SampleBuilder, "make", fails_elsewhere)
    assert same(samples_of(builder(path), workers=2), alone)
    assert "this worker is out of memory" in capfd.readouterr().err


def test_workers_end_when_the_parent_is_interrupted(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here, make, forked, started = os.getpid(), SampleBuilder.make, burnish.data.cache.fork, []

    def interrupted(self: SampleBuilder, start: int, stop: int, *more: Any) -> TokenStore:
        if os.getpid() == here:
            raise KeyboardInterrupt
        threading.Event().wait()  # for ever
        return make(self, start, stop, *more)

    monkeypatch.setattr(SampleBuilder, "make", interrupted)
    monkeypatch.setattr(burnish.data.cache, "fork", lambda *given: started.extend(forked(*given)) or started)
    with pytest.raises(KeyboardInterrupt):
        samples_of(builder(path), workers=2)
    assert len(started) == 2
    for worker in started:
        with pytest.raises(ChildProcessError):
            os.waitpid(worker.pid, 0)


def test_the_identity_covers_all_inputs(write: Write, path: str, byte_level: PreTrainedTokenizerBase) -> None:
    base = builder(path)
    other_rows = write({"question": "a", "answer": "b"}, name="other.jsonl")
    tokenizer = make_tokenizer()
    builders = [
        base,
        builder(other_rows),
        builder(path, byte_level),
        builder(path, train_on="everything"),
        builder(path, special_tokens_in_text="tokens"),
        builder(path, turns_within=20),
        SampleBuilder(base.rows, base.format, Writer(tokenizer, Template("x"))),
        SampleBuilder(base.rows, base.format, Writer(tokenizer, Template("x", "y"))),
        SampleBuilder(base.rows, base.format, Writer(tokenizer, Template("x"), {"a": 1})),
        SampleBuilder(base.rows, FORMATS["chat"], base.writer),
    ]
    assert len({each.identity for each in builders}) == len(builders)
    assert builder(path).identity == base.identity


def test_damaged_entries_are_built_again(path: str, small_chunks: Path) -> None:
    stored = samples_of(builder(path), workers=0)
    (entry,) = (small_chunks / "samples").iterdir()
    expected = stored.tokens.copy()
    del stored
    (entry / "samples" / "facts.json").write_text("{")
    (entry / "stretch-000001.npz").write_bytes(b"PK half")
    again = samples_of(builder(path), workers=0)
    assert np.array_equal(again.tokens, expected)
    assert open_joined(entry / "samples") is not None


def test_chunks_from_before_a_kill_are_used(path: str, small_chunks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored, original = [], SampleBuilder.make

    def until_killed(self: SampleBuilder, start: int, stop: int, *more: Any) -> TokenStore:
        if len(stored) == 3:
            raise KeyboardInterrupt
        stored.append(start)
        return original(self, start, stop, *more)

    monkeypatch.setattr(SampleBuilder, "make", until_killed)
    with pytest.raises(KeyboardInterrupt):
        samples_of(builder(path), workers=0)
    assert stored == [0, 16, 32]

    def noted(self: SampleBuilder, start: int, stop: int, *more: Any) -> TokenStore:
        stored.append(start)
        return original(self, start, stop, *more)

    monkeypatch.setattr(SampleBuilder, "make", noted)
    samples_of(builder(path), workers=0)
    assert stored == [0, 16, 32, 48, 64, 80, 96]


def test_files_of_killed_processes_are_removed(path: str, small_chunks: Path) -> None:
    entry = small_chunks / "samples" / builder(path).identity
    (entry / ".joining-abc").mkdir(parents=True)
    (entry / ".joining-abc" / "tokens.npy").write_bytes(b"half")
    (entry / ".claims-abc").mkdir()
    (entry / ".stretch-000001.npz.77").write_bytes(b"half")
    samples_of(builder(path), workers=0)
    assert sorted(child.name for child in entry.iterdir()) == [".lock", "samples"]


def test_resume_after_kill_9(write: Write, small_chunks: Path, tmp_path: Path) -> None:
    path = write(*({"question": "why " * 50, "answer": f"{i} " * 50} for i in range(6000)))
    program = (
        "import sys\nfrom tests.data.test_cache import builder\nfrom burnish.data.cache import samples_of\n"
        "samples_of(builder(sys.argv[1]), workers=0)"
    )
    command = [sys.executable, "-c", program, path]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONPATH": "."})
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(small_chunks.glob("samples/*/stretch-*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (entry,) = (small_chunks / "samples").iterdir()
    assert list(entry.glob("stretch-*"))
    assert not (entry / "samples").exists()
    # Stretches of that process have the usual size; here, too.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(burnish.data.cache, "ROWS_PER_CHUNK", 1024)
        resumed = samples_of(builder(path), workers=0)
        patch.setenv("BURNISH_CACHE", str(tmp_path / "fresh"))
        assert same(resumed, samples_of(builder(path), workers=0))


def test_a_cache_that_is_not_writable(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "file" / "below"))
    stored = samples_of(builder(path), workers=0)
    assert len(stored.lengths) == 100
    assert int(stored.tokens[-1]) >= 0


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BURNISH_CACHE", "/chosen")
    assert cache_folder() == Path("/chosen")
    monkeypatch.delenv("BURNISH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/burnish")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "burnish"
