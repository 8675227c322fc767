"""Tables of a teacher's probabilities: what is stored is what was computed, to the stated precision."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from burnish.builtin.tiny import write_untrained
from burnish.errors import DataError
from burnish.model.load import load_policy
from burnish.model.policy import Model
from burnish.teachers import tables
from burnish.teachers.local import LocalTeacher
from burnish.teachers.signal import Signal
from burnish.teachers.tables import TableFacts, identity_of, probe, read_table, require_table, write_table
from burnish.types import Group
from tests.conftest import make_groups

K = 6
ROUNDING = 2**-11


def models(folder: Path) -> list[Model]:
    for seed in (1, 2):
        write_untrained(folder / str(seed), seed=seed, hidden_size=32, layers=1)
    return [load_policy(str(folder / str(seed)), dtype="float32") for seed in (1, 2)]


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> list[LocalTeacher]:
    return [
        LocalTeacher(lambda model=model: nullcontext(model), Signal("top_k", K), 64)
        for model in models(tmp_path_factory.mktemp("models"))
    ]


@pytest.fixture
def rows() -> list[list[Group]]:
    groups = make_groups([(5, [4, 3]), (2, [5]), (3, [6, 1]), (4, [2]), (6, [3])], holes=True)
    return [groups[:1], groups[1:3], groups[3:4], groups[4:]]


@pytest.fixture
def facts(rows) -> TableFacts:
    return TableFacts(identity_of(rows), K, 1.0, "a teacher")


class Counted:
    """A teacher that counts the rows that it is asked for."""

    def __init__(self, teacher: LocalTeacher) -> None:
        self.teacher, self.groups = teacher, 0

    def streams(self, groups: Sequence[Group]) -> list[list[dict[str, Tensor]]]:
        self.groups += len(groups)
        return self.teacher.streams(groups)


def test_what_is_stored_is_what_was_computed(teachers, rows, facts, tmp_path):
    table = write_table(tmp_path, teachers[0], rows, facts)
    for number, groups in enumerate(rows):
        computed, kept = teachers[0](groups), table.fill(number, groups)
        for one, other in zip(computed, kept, strict=True):
            for a, b in zip(one.responses, other.responses, strict=True):
                assert torch.equal(a.teacher_topk_tokens, b.teacher_topk_tokens)
                for name in ("teacher_topk_logprobs", "teacher_tail_logprobs"):
                    exact, rounded = getattr(a, name)[a.trainable], getattr(b, name)[a.trainable]
                    # Rounded to float16, then divided by the sum of the rounded probabilities.
                    assert torch.allclose(exact, rounded, rtol=2 * ROUNDING, atol=8 * ROUNDING)
                    assert bool((getattr(b, name)[~b.trainable] == 0).all())


def test_rounded_probabilities_are_a_distribution(teachers, rows, facts, tmp_path):
    table = write_table(tmp_path, teachers[0], rows, facts)
    [group] = table.fill(0, rows[0])
    for response in group.responses:
        logprobs = response.teacher_topk_logprobs[response.trainable].exp().sum(dim=1)
        mass = logprobs + response.teacher_tail_logprobs[response.trainable].exp()
        assert torch.allclose(mass, torch.ones_like(mass), atol=1e-6)


def test_a_table_is_compact(teachers, rows, facts, tmp_path):
    """16 bits for a token, 16 for its log-probability and for the tail."""
    table = write_table(tmp_path, teachers[0], rows, facts)
    assert (table.tokens.dtype, table.logprobs.dtype, table.tail.dtype) == (np.uint16, np.float16, np.float16)
    trained = sum(int(r.trainable.sum()) for groups in rows for group in groups for r in group.responses)
    assert table.tokens.nbytes + table.logprobs.nbytes + table.tail.nbytes == trained * (4 * K + 2)


def test_it_is_read_again(teachers, rows, facts, tmp_path):
    written = write_table(tmp_path, teachers[0], rows, facts)
    table, known = read_table(tmp_path)
    assert known == facts
    assert np.array_equal(table.tokens, written.tokens)
    assert np.array_equal(require_table(tmp_path, facts).logprobs, written.logprobs)
    assert {path.name for path in tmp_path.iterdir()} == {
        "table.json",
        "tokens.npy",
        "logprobs.npy",
        "tail.npy",
        "starts.npy",
    }


def test_blocks_of_a_killed_process_are_used(teachers, rows, facts, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "BLOCK", 1)
    whole = write_table(tmp_path / "whole", teachers[0], rows, facts)

    def stops_after(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_table(tmp_path / "cut", teachers[0], rows, facts, stops_after)
    assert read_table(tmp_path / "cut") is None
    rest = Counted(teachers[0])
    again = write_table(tmp_path / "cut", rest, rows, facts)
    assert rest.groups == sum(map(len, rows[2:]))
    for name in ("starts", "tokens", "logprobs", "tail"):
        assert np.array_equal(getattr(whole, name), getattr(again, name))


def test_blocks_of_another_table_are_not_used(teachers, rows, facts, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "BLOCK", 1)
    with pytest.raises(KeyboardInterrupt):
        write_table(tmp_path, teachers[1], rows, replace(facts, teacher="another"), _interrupt)
    counted = Counted(teachers[0])
    write_table(tmp_path, counted, rows, facts)
    assert counted.groups == sum(map(len, rows))


def _interrupt(done: int, total: int) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["tokens.npy", "logprobs.npy", "tail.npy", "starts.npy", "table.json"])
def test_a_damaged_table_is_none(teachers, rows, facts, tmp_path, name):
    write_table(tmp_path, teachers[0], rows, facts)
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    content[-3] ^= 255
    path.write_bytes(content)
    assert read_table(tmp_path) is None
    with pytest.raises(DataError, match="no whole table"):
        require_table(tmp_path, facts)


def test_a_table_that_lost_a_file_is_none(teachers, rows, facts, tmp_path):
    write_table(tmp_path, teachers[0], rows, facts)
    (tmp_path / "tail.npy").unlink()
    assert read_table(tmp_path) is None


def test_a_probe_tells_another_teacher(teachers, rows, facts, tmp_path):
    table = write_table(tmp_path, teachers[0], rows, facts)
    assert probe(teachers[0], rows, table, torch.float32) <= 1e-6
    assert probe(teachers[1], rows, table, torch.float32) > 0.01
    warmer = replace(teachers[0], signal=Signal("top_k", K, temperature=2.0))
    assert probe(warmer, rows, table, torch.float32) > 0.01


@pytest.mark.parametrize(
    ("changed", "told"),
    [({"rows": "others"}, "a table of other rows"), ({"k": K + 1}, "k: 6"), ({"temperature": 2.0}, "temperature: 1.0")],
)
def test_a_table_of_something_else_is_refused(teachers, rows, facts, tmp_path, changed, told):
    write_table(tmp_path, teachers[0], rows, facts)
    with pytest.raises(DataError, match=told):
        require_table(tmp_path, replace(facts, **changed))


def test_the_identity_is_that_of_tokens_and_masks(rows):
    same = identity_of(rows)
    assert identity_of([list(groups) for groups in rows]) == same
    [response, *others] = rows[0][0].responses
    unmasked = replace(response, trainable=torch.ones_like(response.trainable))
    changed = [[replace(rows[0][0], responses=(unmasked, *others))], *rows[1:]]
    assert identity_of(changed) != same
    assert identity_of(rows[1:]) != same
    assert identity_of([[*rows[0], *rows[1]], *rows[2:]]) != same
