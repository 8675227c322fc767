"""Split of rows into training and held-out rows: the laws that leave no prompt on both sides."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from burnish.data.mixture import Data, open_data
from burnish.data.records import Completion, Conversation, Document, Message, Ranked, Task
from burnish.data.settings import DataSource
from burnish.data.split import Split, normalized, prompt_text, split
from burnish.errors import DataError

Write = Callable[..., str]
SHARE = 0.3


def ask(question: str, answer: str = "4") -> dict[str, str]:
    return {"question": question, "answer": answer}


def of_rows(folder: Path, rows: Sequence[object], share: float = SHARE, seed: int = 0) -> Split:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return split(open_data([DataSource(path=str(file))]), share, seed)


def questions(data: Data) -> list[str]:
    return [row["question"] for row in data.rows]


SETTINGS = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
NUMBERS = st.lists(st.integers(0, 40), min_size=30, max_size=80)
SPELLINGS = (str, str.upper, "  {}\n".format, "{} ".format)


@SETTINGS
@given(numbers=NUMBERS, spelling=st.lists(st.sampled_from(SPELLINGS), min_size=80, max_size=80))
def test_no_prompt_is_on_both_sides_in_any_spelling(tmp_path: Path, numbers: list[int], spelling: list) -> None:
    rows = [ask(write(f"what is {n}?"), str(at)) for at, (n, write) in enumerate(zip(numbers, spelling, strict=False))]
    try:
        halves = of_rows(tmp_path, rows)
    except DataError:
        return
    trained, held = ({*map(normalized, questions(side))} for side in (halves.train, halves.held_out))
    assert not trained & held
    assert len(halves.train.rows) + len(halves.held_out.rows) == len(rows) == halves.rows
    assert halves.held_out_prompts == len(held)


@SETTINGS
@given(data=st.data())
def test_a_row_keeps_its_side_in_any_order_and_among_others(tmp_path: Path, data: st.DataObject) -> None:
    rows = [ask(f"{n} and {n}?") for n in range(60)]
    held = set(questions(of_rows(tmp_path, rows).held_out))
    others = [ask(f"{n} minus {n}?") for n in range(data.draw(st.integers(0, 40)))]
    shuffled = data.draw(st.permutations([*rows, *others]))
    again = questions(of_rows(tmp_path, shuffled).held_out)
    assert {question for question in again if "and" in question} == held
    assert [row["question"] for row in shuffled if row["question"] in set(again)] == again, "rows keep their order"


def test_a_larger_share_has_all_rows_of_a_smaller_one(tmp_path: Path) -> None:
    rows = [ask(f"{n}?") for n in range(500)]
    sides = [set(questions(of_rows(tmp_path, rows, share).held_out)) for share in (0.05, 0.2, 0.5, 0.9)]
    assert all(small < large for small, large in pairwise(sides))


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_the_share_is_close_for_many_rows(tmp_path: Path, share: float) -> None:
    halves = of_rows(tmp_path, [ask(f"{n}?") for n in range(4000)], share)
    assert abs(len(halves.held_out.rows) / 4000 - share) < 4 * (share * (1 - share) / 4000) ** 0.5


def test_another_seed_splits_otherwise(tmp_path: Path) -> None:
    rows = [ask(f"{n}?") for n in range(100)]
    first, other = (questions(of_rows(tmp_path, rows, seed=seed).held_out) for seed in (0, 1))
    assert first != other
    assert of_rows(tmp_path, rows).held_out.rows.fingerprint != of_rows(tmp_path, rows).train.rows.fingerprint


def test_a_mixture_is_split_within_each_source_and_weights_stay(write: Write) -> None:
    """The prompts of both sources are the same, so they fall together; held-out rows are measured once."""
    plain = write(*(ask(f"{n}?") for n in range(200)), name="plain.jsonl")
    pairs = write(*({"prompt": f"{n}?", "completion": " yes"} for n in range(200)), name="pairs.jsonl")
    data = open_data([DataSource(path=plain, name="plain", weight=3), DataSource(path=pairs, name="pairs")])
    halves = split(data, 0.25, 7)
    plain_held, pairs_held = halves.held_out.parts
    assert {row["question"] for row in plain_held.rows} == {row["prompt"] for row in pairs_held.rows}
    assert len(plain_held.rows) == len(pairs_held.rows) == halves.held_out_prompts
    assert [len(part.rows) for part in halves.train.parts] == [
        3 * (200 - len(plain_held.rows)),
        200 - len(plain_held.rows),
    ]
    assert halves.rows == 400
    assert len(halves.held_out.rows) == 2 * len(plain_held.rows)
    description = next(halves.train.lines())
    assert f"{200 - len(plain_held.rows)} rows" in description
    assert f"weight 3: {len(halves.train.parts[0].rows)} in an epoch" in description
    names = [halves.train.rows.source_of(row) for row in range(len(halves.train.rows))]
    assert set(names) == {"plain", "pairs"}


def test_an_unusable_row_is_a_training_row(tmp_path: Path) -> None:
    rows = [*(ask(f"{n}?") for n in range(40)), {"question": 3, "answer": "4"}]
    halves = of_rows(tmp_path, rows, 0.9)
    assert halves.train.rows[len(halves.train.rows) - 1]["question"] == 3


@pytest.mark.parametrize(("share", "words"), [(1e-6, "evaluate on|raise eval_share"), (1 - 1e-6, "train on|lower")])
def test_a_side_without_rows_is_refused(tmp_path: Path, share: float, words: str) -> None:
    with pytest.raises(DataError) as caught:
        of_rows(tmp_path, [ask(f"{n}?") for n in range(20)], share)
    assert all(word in str(caught.value) for word in (*words.split("|"), "20 rows", "eval_data"))


USER = Message("user", "What is\n 2+2?")


@pytest.mark.parametrize(
    "example",
    [
        Conversation((USER, Message("assistant", "4", trained=True))),
        Conversation((USER, Message("assistant", "4"), Message("user", "Why?"), Message("assistant", "So."))),
        Task((USER,), "4"),
        Task((USER, Message("assistant", "4"), Message("user", "Why?"))),
        Ranked((USER,), ((Message("assistant", "4"),), (Message("assistant", "5"),)), (1.0, 0.0)),
        Completion("what IS 2+2? ", "4"),
        Document(" What is 2+2?"),
    ],
)
def test_a_question_has_one_key_in_every_kind_of_row(example) -> None:
    """So the stages of a recipe hold out the same questions."""
    assert prompt_text(example) == "what is 2+2?"


def test_without_a_prompt_the_content_counts() -> None:
    """In any order of the responses: the opposite preference is on the same side."""
    one, other = Ranked("", ("a", "b"), (1.0, 0.0)), Ranked("", ("b", "a"), (1.0, 0.0))
    assert prompt_text(one) == prompt_text(other) != prompt_text(Ranked("", ("a", "c"), (1.0, 0.0)))
    assert prompt_text(Completion(" ", "Yes")) == "yes"


def test_the_system_message_is_part_of_the_prompt() -> None:
    answer = Message("assistant", "4")
    texts = {prompt_text(Conversation((Message("system", text), USER, answer))) for text in ("Be brief.", "Be polite.")}
    assert len(texts) == 2
