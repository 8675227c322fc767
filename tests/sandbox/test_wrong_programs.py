"""Constants and attacks define what the tests use, and are unlike each other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.sandbox.attacks import ATTACKS
from burnish.sandbox.mutants import Mutant, MutantKind
from burnish.sandbox.wrong_programs import (
    TestedNames,
    attacks_of_functions,
    attacks_of_scripts,
    constants_of_functions,
    constants_of_scripts,
    program_of,
)

NAMES = TestedNames(("add", "Solution.mul", "Solution.div", "Other.run"), ("Stack",))


def loaded(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "solution"}
    exec(compile(source, "wrong", "exec", dont_inherit=True), names)
    return names


def test_a_program_has_all_names() -> None:
    names = loaded(program_of(NAMES, "return arguments[0]"))
    assert names["add"](1, 2) == 1
    assert names["Solution"]().mul(3, key=4) == names["Solution"]().div(3) == names["Other"]().run(3) == 3
    assert names["Stack"](9).push(5) == 5


PLAIN = st.recursive(
    st.none() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=5,
)


@given(st.lists(PLAIN, min_size=1, max_size=6))
def test_the_first_and_the_most_frequent_values_are_tried(expected: list[Any]) -> None:
    values = [
        repr(loaded(mutant.source)["add"]("first"))
        for mutant in constants_of_functions(NAMES, expected)
        if mutant.name.startswith("constant")
    ]
    assert repr(expected[0]) in values
    assert max(map(repr, expected), key=list(map(repr, expected)).count) in values
    assert len(set(values)) == len(values)


def printed(mutant: Mutant, capsys: pytest.CaptureFixture[str]) -> str:
    loaded(mutant.source)
    return capsys.readouterr().out


def test_scripts_print_what_tests_expect(capsys: pytest.CaptureFixture[str]) -> None:
    mutants = constants_of_scripts(["7\n", "8\n", "8\n", " \n"])
    shown = [printed(mutant, capsys) for mutant in mutants if mutant.name.startswith("constant")]
    assert shown == ["", "7\n", "8\n"]


@pytest.mark.parametrize("mutants", [attacks_of_functions(NAMES), attacks_of_scripts(["1"])], ids=["calls", "stdin"])
def test_attacks_compile_and_have_one_control(mutants: tuple[Mutant, ...]) -> None:
    for mutant in mutants:
        compile(mutant.source, mutant.name, "exec", dont_inherit=True)
    kinds = [mutant.kind for mutant in mutants]
    assert kinds.count(MutantKind.CONTROL) == 1
    assert set(kinds) == {MutantKind.CONTROL, MutantKind.ATTACK}
    assert len({mutant.name for mutant in mutants}) == len({mutant.source for mutant in mutants}) == len(mutants)


def test_a_marker_that_a_test_expects_is_no_attack() -> None:
    names = {mutant.name for mutant in attacks_of_scripts(["OK\n", "4"])}
    assert "marker: passed" in names
    assert "marker: OK" not in names


@pytest.mark.parametrize("attack", [attack for attack in ATTACKS if attack.name.startswith("comparison")], ids=str)
def test_a_comparison_is_deceived_in_its_own_process(attack: Any) -> None:
    """What the attack does to a grader that compares in the process of the program: so it tests something."""
    result = loaded(program_of(NAMES, attack.body, attack.top))["add"]([1], 2)
    if "unpickles" not in attack.name:
        assert result == 12345
        assert 12345 == result  # noqa: SIM300 (the other side asks first)
        assert (result != "text") is False


def test_expected_values_are_found_in_the_process_of_the_tests() -> None:
    attack = next(attack for attack in ATTACKS if attack.name == "reading: frames of the caller")
    function = loaded(program_of(NAMES, attack.body, attack.top))["add"]
    expected = 4711  # read by the attack
    assert function(1, 2) == expected
