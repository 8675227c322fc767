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

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

import burnish.data.cache
from burnish.builtin.tiny import make_tokenizer
from burnish.data.cache import cache_folder, samples_of
from burnish.data.formats.known import FORMATS
from burnish.data.processes import Worker
from burnish.data.read import read_rows
from burnish.data.sample_builder import SampleBuilder
from burnish.data.template import Template, choose_template
from burnish.data.token_store import TokenStore, open_joined
from burnish.data.writer import Writer

Write = Callable[..., str]


@pytest.fixture(autouse=True)
def small_stretches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(burnish.data.cache, "ROWS_PER_CHUNK", 16)
    return tmp_path / "cache"


@pytest.fixture
def path(write: Write) -> str:
    rows = [
        {"question": f"What is {i} {'x' * (i % 7)}?", "answer": f"It is {i}." if i % 30 else ""} for i in range(100)
    ]
    return write(*rows, {"question": "no answer", "answer": None})


def maker(path: str, tokenizer: PreTrainedTokenizerBase | None = None, **options: object) -> SampleBuilder:
    tokenizer = tokenizer or make_tokenizer()
    return SampleBuilder(
        read_rows(path), FORMATS["question_answer"], Writer(tokenizer, choose_template(tokenizer)), **options
    )


def same(one: TokenStore, other: TokenStore) -> bool:
    arrays = ("tokens", "trainable", "lengths", "prompt_lengths", "rows", "notes")
    return one.fingerprint == other.fingerprint and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays
    )


def test_the_cache_gives_what_was_made(path: str, small_stretches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = samples_of(maker(path), workers=0)
    direct = maker(path).make(0, 101)
    assert np.array_equal(made.tokens, direct.tokens)
    assert np.array_equal(made.trainable, direct.trainable)
    assert (made.faults, made.ends, made.conversations) == (direct.faults, direct.ends, direct.conversations)
    assert [fault.row for fault in made.faults] == [100]
    assert isinstance(made.tokens, np.memmap)

    def never(*_: object) -> None:
        raise AssertionError("nothing is made twice")

    monkeypatch.setattr(SampleBuilder, "make", never)
    assert same(samples_of(maker(path), workers=0), made)
    (entry,) = (small_stretches / "samples").iterdir()
    assert sorted(child.name for child in entry.iterdir()) == [".lock", "samples"]


def test_stretches_of_any_size_give_the_same(path: str, small_stretches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = samples_of(maker(path), workers=0)
    monkeypatch.setenv("BURNISH_CACHE", str(small_stretches) + "2")
    monkeypatch.setattr(burnish.data.cache, "ROWS_PER_CHUNK", 7)
    second = samples_of(maker(path), workers=0)
    assert np.array_equal(first.tokens, second.tokens)
    assert same(first, second)


@pytest.fixture
def waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are waited for before anything is made here."""
    forked = burnish.data.cache.fork

    def fork(count: int, work: Callable[[], None]) -> list[Worker]:
        workers = forked(count, work)
        for worker in workers:
            worker.wait()
        return workers

    monkeypatch.setattr(burnish.data.cache, "fork", fork)


@pytest.mark.usefixtures("waited_for")
def test_workers_give_the_same(path: str, small_stretches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = samples_of(maker(path), workers=0)
    monkeypatch.setenv("BURNISH_CACHE", str(small_stretches) + "2")
    here, make = os.getpid(), SampleBuilder.make

    def elsewhere(self: SampleBuilder, start: int, stop: int) -> TokenStore:
        assert os.getpid() != here, "the workers make it all"
        return make(self, start, stop)

    monkeypatch.setattr(SampleBuilder, "make", elsewhere)
    made = samples_of(maker(path), workers=2)
    assert np.array_equal(made.tokens, alone.tokens)
    assert same(made, alone)


@pytest.mark.usefixtures("waited_for")
def test_what_a_worker_leaves_undone_is_done_here(
    path: str, small_stretches: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    alone = samples_of(maker(path), workers=0)
    monkeypatch.setenv("BURNISH_CACHE", str(small_stretches) + "2")
    here, make = os.getpid(), SampleBuilder.make

    def fails_elsewhere(self: SampleBuilder, start: int, stop: int) -> TokenStore:
        if os.getpid() != here:
            raise MemoryError("this worker is out of memory")
        return make(self, start, stop)

    monkeypatch.setattr(SampleBuilder, "make", fails_elsewhere)
    assert same(samples_of(maker(path), workers=2), alone)
    assert "this worker is out of memory" in capfd.readouterr().err


def test_workers_end_when_the_work_is_given_up(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here, make, forked, started = os.getpid(), SampleBuilder.make, burnish.data.cache.fork, []

    def interrupted(self: SampleBuilder, start: int, stop: int) -> TokenStore:
        if os.getpid() == here:
            raise KeyboardInterrupt
        threading.Event().wait()  # for ever
        return make(self, start, stop)

    monkeypatch.setattr(SampleBuilder, "make", interrupted)
    monkeypatch.setattr(burnish.data.cache, "fork", lambda *given: started.extend(forked(*given)) or started)
    with pytest.raises(KeyboardInterrupt):
        samples_of(maker(path), workers=2)
    assert len(started) == 2
    for worker in started:
        with pytest.raises(ChildProcessError):
            os.waitpid(worker.pid, 0)


def test_the_identity_is_of_all_that_decides(write: Write, path: str, byte_level: PreTrainedTokenizerBase) -> None:
    base = maker(path)
    other_rows = write({"question": "a", "answer": "b"}, name="other.jsonl")
    tokenizer = make_tokenizer()
    makers = [
        base,
        maker(other_rows),
        maker(path, byte_level),
        maker(path, train_on="everything"),
        maker(path, special_tokens_in_text="tokens"),
        maker(path, turns_within=20),
        SampleBuilder(base.rows, base.format, Writer(tokenizer, Template("x"))),
        SampleBuilder(base.rows, base.format, Writer(tokenizer, Template("x", "y"))),
        SampleBuilder(base.rows, base.format, Writer(tokenizer, Template("x"), {"a": 1})),
        SampleBuilder(base.rows, FORMATS["chat"], base.writer),
    ]
    assert len({each.identity for each in makers}) == len(makers)
    assert maker(path).identity == base.identity


def test_damaged_entries_are_made_again(path: str, small_stretches: Path) -> None:
    made = samples_of(maker(path), workers=0)
    (entry,) = (small_stretches / "samples").iterdir()
    expected = made.tokens.copy()
    del made
    (entry / "samples" / "facts.json").write_text("{")
    (entry / "stretch-000001.npz").write_bytes(b"PK half")
    again = samples_of(maker(path), workers=0)
    assert np.array_equal(again.tokens, expected)
    assert open_joined(entry / "samples") is not None


def test_what_was_made_before_a_kill_is_used(path: str, small_stretches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, original = [], SampleBuilder.make

    def until_killed(self: SampleBuilder, start: int, stop: int) -> TokenStore:
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(start)
        return original(self, start, stop)

    monkeypatch.setattr(SampleBuilder, "make", until_killed)
    with pytest.raises(KeyboardInterrupt):
        samples_of(maker(path), workers=0)
    assert made == [0, 16, 32]
    monkeypatch.setattr(
        SampleBuilder, "make", lambda self, start, stop: made.append(start) or original(self, start, stop)
    )
    samples_of(maker(path), workers=0)
    assert made == [0, 16, 32, 48, 64, 80, 96]


def test_what_killed_processes_left_is_taken_away(path: str, small_stretches: Path) -> None:
    entry = small_stretches / "samples" / maker(path).identity
    (entry / ".joining-abc").mkdir(parents=True)
    (entry / ".joining-abc" / "tokens.npy").write_bytes(b"half")
    (entry / ".claims-abc").mkdir()
    (entry / ".stretch-000001.npz.77").write_bytes(b"half")
    samples_of(maker(path), workers=0)
    assert sorted(child.name for child in entry.iterdir()) == [".lock", "samples"]


def test_kill_9_and_again(write: Write, small_stretches: Path, tmp_path: Path) -> None:
    path = write(*({"question": "why " * 50, "answer": f"{i} " * 50} for i in range(6000)))
    program = (
        "import sys\nfrom tests.data.test_cache import maker\nfrom burnish.data.cache import samples_of\n"
        "samples_of(maker(sys.argv[1]), workers=0)"
    )
    command = [sys.executable, "-c", program, path]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONPATH": "."})
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(small_stretches.glob("samples/*/stretch-*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (entry,) = (small_stretches / "samples").iterdir()
    assert list(entry.glob("stretch-*"))
    assert not (entry / "samples").exists()
    # Stretches of that process have the usual size; here, too.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(burnish.data.cache, "ROWS_PER_CHUNK", 1024)
        resumed = samples_of(maker(path), workers=0)
        patch.setenv("BURNISH_CACHE", str(tmp_path / "fresh"))
        assert same(resumed, samples_of(maker(path), workers=0))


def test_a_cache_that_cannot_be_written(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "file" / "below"))
    made = samples_of(maker(path), workers=0)
    assert len(made.lengths) == 100
    assert int(made.tokens[-1]) >= 0


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BURNISH_CACHE", "/chosen")
    assert cache_folder() == Path("/chosen")
    monkeypatch.delenv("BURNISH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/burnish")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "burnish"
