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

from burnish.builtin.base import CORPUS_SHA256, corpus
from burnish.builtin.sets import SETS, SPLITS, builtin_rows, generate
from burnish.builtin.world import draw_world

# Of the JSON lines of every set. Whoever changes the world changes what the built-in model knows: both are made anew.
HASHES = {
    "documents/train": "0a1d2c071ff8ac2495871c7f221f0e8e3811962a66948d19ff7cdd0f5d64b683",
    "documents/test": "8670ea9ade232dc5de1661b8ee24735e9dc7c2fa334e4afefd6ae535fcfd4893",
    "chat/train": "0be8fe56b9ba9ed88ed757e40de62f912c2d1f2ca2cec6867e54d79bbdded80b",
    "chat/test": "cd3b7385847030bbd15680df0e391d3d6832f29a370e4eea14b3d906c58328b1",
    "preferences/train": "b15feaade57a48460cc67ea21bc737bafc3e417f2eb79e74e2c81d698e3108eb",
    "preferences/test": "bd2e03cca27550fd04c3df573c2b130766ff8bebd80844a73b3ad4600c1e6098",
    "safety/train": "47b434fc68842db0c79587eb7e7847c6d891996a28da67e5f2eb0cb4e6a43659",
    "safety/test": "197a101fa0e16335c60e5678d644767c015ec90c258be68f7c6de64483bcc67f",
    "math/train": "1ff8d80cc98b826709d8517e962663b390da52a04ccab5e85c4d69ac7c589e2d",
    "math/test": "fc93157c0827d061e9b568f38daf5066ea9a274aa42b250f36f53f0e9e89df51",
    "instructions/train": "d1fc2d669614ca48b9b5cdd77049214d496b4ef33a3c0d0e5622faa543ceb59d",
    "instructions/test": "907504a6dfc4ab7021ead60d67b0acf87444c2c8edd292bf2b35b2bee023a55a",
    "reasoning/train": "971c1d70e81c2dd3fefd0590d93d4cca2f2053986536b21e14d472160cdcbe99",
    "reasoning/test": "371656e5732660a21dbaca83904111bdafe1f4255ac2aefc44bbf9ce1444675f",
    "reasoning-math/train": "c767f86273585165d82868a873e4854e6ebfd2d48594fb160795fa8c17eb3e7d",
    "reasoning-math/test": "275f0428b60e38886a7c46f721134fcb4f427eef25b7f6d4a818ab30998d75be",
    "steps/train": "7153c1bfc821977719192f31971b15cc968ca03123d36492f44133cf9c0987a4",
    "steps/test": "9a5a143e15b7f8e503ce40dcdcdd0317f8343f7bdefdfe09b95994b39a471d14",
    "code/train": "5ab01e539c4bc9498725749f67cbd2fb1761d9a49882ae72c3fd70d4e465a93b",
    "code/test": "796c6077a104a4d8ff26df446204e649c96a44593c2f9cba986f6c85a37602af",
    "code-chat/train": "a5e8ada428b3e872582fdd847e0c92f0c4e1099f1def07a67b074e098851c337",
    "code-chat/test": "0a96a2d96c82c6336496429ebd45d31c8e8b8adb42dcb8aeda693be473c1826f",
    "shapes/train": "acd1cf5cd23621987d1e944ad127f01e2230e1e0fbf9927cec0aff2acfd91dff",
    "shapes/test": "5106cbf760cee9c0183ba508db2e66906aa85c453771548d311768d225c2a73b",
    "shapes-preferences/train": "67e6805e11f9317c762af0b8306b66a2d38d46ce0fd8835ce4e7474592712c34",
    "shapes-preferences/test": "55eadcfc7dd59bc4b567845e8a2e542e09f8587d61c02bd6bde1fc8b9c1b9efa",
    "shapes-counting/train": "18cca2b7cb772e4ec9cbf2e2c6b8c76087da247e80bc7e07b7f64d7dd8b776ec",
    "shapes-counting/test": "32e55f892e6fa6f5eab6ccafe4ff73173e6938f8572b2b788557dc1587d51157",
}


def digest(lines: Iterable[str]) -> str:
    made = hashlib.sha256()
    for line in lines:
        made.update(f"{line}\n".encode())
    return made.hexdigest()


@pytest.mark.parametrize("name", list(SETS))
@pytest.mark.parametrize("split", list(SPLITS))
def test_every_set_is_the_same_everywhere(name, split):
    assert digest(map(json.dumps, builtin_rows(name, split))) == HASHES[f"{name}/{split}"]


def test_the_corpus_is_the_one_that_the_model_was_made_of():
    assert digest(json.dumps({"text": text}) for text in corpus()) == CORPUS_SHA256


def test_the_corpus_begins_as_the_set_of_documents():
    assert [{"text": text} for text in islice(corpus(), 500)] == builtin_rows("documents", count=500)


@pytest.mark.parametrize("name", list(SETS))
def test_fewer_rows_are_the_first_of_more_and_seeds_differ(name):
    for split in SPLITS:
        more = builtin_rows(name, split, count=200, seed=3)
        assert builtin_rows(name, split, count=50, seed=3) == more[:50]
        assert builtin_rows(name, split, count=200, seed=4) != more


def test_rows_for_untrained_models_are_true_and_of_their_seed():
    answers = {fact.questions[0]: fact.answer for fact in draw_world(0).facts}
    rows = generate(3, 200)
    assert all(row["answer"] == answers[row["question"]] for row in rows)
    assert generate(3, 50) == rows[:50]
    assert generate(4, 200) != rows


def test_the_command_writes_all_sets(tmp_path):
    """In a process of another hash seed: no order of a set gets in."""
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "burnish.builtin", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == len(HASHES)
    for name, expected in HASHES.items():
        written = (tmp_path / f"{name.replace('/', '-')}.jsonl").read_bytes()
        assert hashlib.sha256(written).hexdigest() == expected
