"""Preference filters: every flaw is detected, counted, and treated by its rule."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from burnish.data.filter_rules import FilterRules
from burnish.data.filters import PreferenceFilters, apply_filters
from burnish.data.mixture import open_data
from burnish.data.settings import DataSource
from burnish.errors import DataError

Write = Callable[..., str]
KEEP = FilterRules(empty="keep", duplicate="keep", contradiction="keep", contamination="keep")


def pair(prompt: str, chosen: str, rejected: str, **more: object) -> dict[str, object]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


def gate(*paths: str, rules: FilterRules = KEEP, held_out: PreferenceFilters | None = None) -> PreferenceFilters:
    return apply_filters(open_data([DataSource(path=path) for path in paths], stage="prefer"), rules, held_out)


def flaws(result: PreferenceFilters) -> dict[str, tuple[int, ...]]:
    return {report.finding: report.rows for report in result.findings}


FLAWS = {
    "identical": (pair("q", "same", "same"), (1,)),
    "tie": (pair("q", "one", "two", margin=0), (1,)),
    "empty": (pair("q", " ", "two"), (1,)),
    "duplicate": (pair("first", "good", "bad"), (1,)),
    "contradiction": (pair("first", "bad", "good"), (0, 1)),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_each_flaw_is_detected_and_treated_by_its_rule(write: Write, flaw: str) -> None:
    row, expected = FLAWS[flaw]
    path = write(pair("first", "good", "bad"), row, pair("last", "fine", "poor"))
    kept_rows = gate(path, rules=KEEP.model_copy(update={flaw: "keep"}))
    assert flaws(kept_rows) == {flaw: expected}
    assert kept_rows.passed.tolist() == [0, 1, 2]
    dropped = gate(path, rules=KEEP.model_copy(update={flaw: "drop"}))
    assert dropped.passed.tolist() == [row for row in range(3) if row not in expected]
    assert any("left out" in line for line in dropped.lines())
    with pytest.raises(DataError, match=f"filters.{flaw} is error") as error:
        gate(path, rules=KEEP.model_copy(update={flaw: "error"}))
    assert "rows.jsonl line" in str(error.value)


def test_dialogues_without_a_common_prompt(write: Write) -> None:
    rows = [{"chosen": "abc", "rejected": "xyz"}, {"chosen": "one two three", "rejected": "one two four"}]
    with pytest.raises(DataError, match="different prompts"):
        gate(write(*rows))
    assert gate(write(*rows), rules=KEEP.model_copy(update={"prompts": "drop"})).passed.tolist() == [1]


def test_prompts_that_are_held_out_are_not_learned(write: Write) -> None:
    held_out = gate(write(pair("secret", "a", "b"), name="test.jsonl"))
    train = write(pair("secret", "other", "answers"), pair("open", "a", "b"))
    assert gate(train, rules=KEEP.model_copy(update={"contamination": "drop"}), held_out=held_out).passed.tolist() == [
        1
    ]
    with pytest.raises(DataError, match="held out"):
        gate(train, rules=KEEP.model_copy(update={"contamination": "error"}), held_out=held_out)


def test_the_bias_of_length(write: Write) -> None:
    path = write(*(pair(f"q{i}", "long answer", "short") for i in range(9)), pair("q", "few", "many words"))
    result = gate(path)
    assert result.lengths is not None
    assert (result.lengths.share, result.lengths.is_biased) == (0.9, True)
    assert any("90%" in line for line in result.lines())
    with pytest.raises(DataError, match="longer answer is the better one in 90"):
        gate(path, rules=KEEP.model_copy(update={"max_chosen_longer_share": 0.8}))
    fair = gate(write(pair("q", "long answer", "short"), pair("r", "few", "many words")))
    assert fair.lengths is not None
    assert not fair.lengths.is_biased
    assert list(fair.lines()) == []


def test_tags_and_pairs_of_tags(write: Write) -> None:
    path = write(
        pair("a", "1", "2", tags=["helpful", "harmless"]), pair("b", "1", "2", tags="helpful"), pair("c", "1", "2")
    )
    result = gate(path)
    assert (result.tags, result.conflicts) == ({"helpful": 2, "harmless": 1}, {"harmless & helpful": 1})
    with pytest.raises(DataError, match="harmless \\(1\\), harmless & helpful \\(1\\)"):
        gate(path, rules=KEEP.model_copy(update={"min_rows_per_tag": 2}))
    with pytest.raises(DataError, match="rows carry no column tags"):
        gate(write(pair("c", "1", "2")), rules=KEEP.model_copy(update={"min_rows_per_tag": 1}))


def test_limits_on_the_whole_set_do_not_apply_to_held_out_rows(write: Write) -> None:
    path = write(pair("a", "long answer", "short", tags="helpful"))
    for rule, value, message in (
        ("min_rows_per_tag", 2, r"helpful \(1\)"),
        ("max_chosen_longer_share", 0.5, "longer answer"),
    ):
        rules = KEEP.model_copy(update={rule: value})
        with pytest.raises(DataError, match=message):
            gate(path, rules=rules)
        assert gate(path, rules=rules.of_measured()).passed.tolist() == [0]


def test_contradictions(write: Write) -> None:
    rows = [{"prompt": "q", "completion": "a", "label": label} for label in (True, False, True)]
    assert flaws(gate(write(*rows))) == {"contradiction": (0, 1), "duplicate": (2,)}


def test_rows_of_a_mixture_are_counted_through(write: Write) -> None:
    first = write(pair("a", "1", "2"), name="one.jsonl")
    second = write(pair("b", "1", "2"), pair("a", "1", "2"), name="two.jsonl")
    assert flaws(gate(first, second)) == {"duplicate": (2,)}


def test_no_row_that_passes_is_an_error(write: Write) -> None:
    with pytest.raises(DataError, match="no row of"):
        gate(write(pair("q", "same", "same")))


def test_unusable_rows_are_left_to_the_dataset(write: Write) -> None:
    assert gate(write(pair("q", "a", "b"), {"prompt": "q", "chosen": 3, "rejected": "b"})).passed.tolist() == [0, 1]


def test_real_dialogues(shared_folder) -> None:
    """The helpful-base test split of HH-RLHF: 2 identical pairs, 4 with an empty answer (counted by this gate; the
    first of each was looked at by hand)."""
    result = gate(str(shared_folder / "data" / "hh_rlhf" / "helpful-base-test.jsonl.gz"))
    assert {name: len(rows) for name, rows in flaws(result).items()} == {"empty": 4, "identical": 2}
    assert result.lengths is not None
    assert result.lengths.share == pytest.approx(0.599, abs=1e-3)
