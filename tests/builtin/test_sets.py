"""Named sets are the same bytes everywhere, and can be written."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pytest

from burnish.builtin import SETS, SPLITS, builtin_rows, generate
from burnish.builtin.base import CORPUS_SHA256, DOCUMENTS, corpus

# Of the JSON lines of every set. Whoever changes the world changes what the built-in model knows: both are made anew.
HASHES = {}


def digest(lines: Iterable[str]) -> str:
    made = hashlib.sha256()
    for line in lines:
        made.update(f"{line}\n".encode())
    return made.hexdigest()


@pytest.mark.parametrize("name", list(SETS))
@pytest.mark.parametrize("split", list(SPLITS))
def test_every_set_is_the_same_everywhere(name, split):
    assert digest(map(json.dumps, builtin_rows(name, split))) == HASHES[f"{name}/{split}"]


@pytest.mark.slow
def test_the_corpus_is_the_one_that_the_model_was_made_of():
    assert digest(json.dumps({"text": text}) for text in islice(corpus(), DOCUMENTS)) == CORPUS_SHA256


def test_the_corpus_begins_as_the_set_of_documents():
    assert [{"text": text} for text in islice(corpus(), 500)] == builtin_rows("documents", count=500)


@pytest.mark.parametrize("name", list(SETS))
def test_fewer_rows_are_the_first_of_more_and_seeds_differ(name):
    for split in SPLITS:
        more = builtin_rows(name, split, count=200, seed=3)
        assert builtin_rows(name, split, count=50, seed=3) == more[:50]
        assert builtin_rows(name, split, count=200, seed=4) != more


def test_questions_and_answers_are_those_of_the_chats():
    chats = [[message["content"] for message in row["messages"]] for row in builtin_rows("chat", count=60, seed=5)]
    assert [[row["question"], row["answer"]] for row in generate(5, 60)] == chats


def test_the_command_writes_all_sets(tmp_path):
    """In a process of another hash seed: no order of a set gets in."""
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "burnish.builtin", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == len(HASHES)
    for name, expected in HASHES.items():
        written = (tmp_path / f"{name.replace('/', '-')}.jsonl").read_bytes()
        assert hashlib.sha256(written).hexdigest() == expected
