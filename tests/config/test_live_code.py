"""Functions from Python in a recipe: their names, their identity, and their copies in another process."""

from __future__ import annotations

import functools
import linecache
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from burnish.config.live_code import live_object, named, unresumable, with_names
from burnish.config.user_code import UserCode, is_user_code
from burnish.errors import RecipeError


def top_level(answer):
    return 1.0


class Weighted:
    def __call__(self, answer):
        return 2.0


def captured(number):
    def inner(answer):
        return number

    return inner


def read(written: str) -> UserCode:
    return UserCode.read(written, "a reward", RecipeError)


def test_a_function_of_a_file_has_the_name_and_identity_of_a_recipe(monkeypatch, tmp_path):
    written = named(top_level)
    assert Path(written.rpartition(":")[0]).resolve() == Path(__file__)
    assert written.endswith(".py:top_level")
    live = read(written)
    assert live.load() is top_level
    file = UserCode(
        written.rpartition(":")[0], Path(__file__).read_text(encoding="utf-8"), "top_level", "", RecipeError
    )
    assert live.identity == file.identity, "the recipe of the run can be run from the command line"


@pytest.mark.parametrize(
    "value", [top_level, Weighted, Weighted(), captured(1), lambda answer: 3.0, functools.partial(min)]
)
def test_any_callable_is_found_by_its_name(value):
    written = named(value)
    assert is_user_code(written)
    assert read(written).load() is value


def test_who_can_resume():
    can = [named(top_level), named(Weighted), named(lambda answer: 3.0)]
    cannot = [named(captured(1)), named(Weighted()), named(functools.partial(min))]
    assert unresumable([*can, *cannot, "file.py:name", "math"]) == cannot


def test_equal_source_is_the_same_name_and_captured_variables_are_not():
    def one():
        return lambda answer: 1.0

    assert named(one()) == named(one())
    assert named(captured(1)) != named(captured(1))


def test_names_replace_functions_at_any_depth():
    settings = {"reward": [top_level, {"name": Weighted, "weight": 0.5}, "math"], "folder": Path("a") / "b", "n": 3}
    plain = with_names(settings)
    assert plain["reward"][0] == named(top_level)
    assert plain["reward"][1] == {"name": named(Weighted), "weight": 0.5}
    assert (plain["reward"][2], plain["folder"], plain["n"]) == ("math", "a/b", 3)


def test_where_an_error_was_raised():
    def fails(answer):
        raise ValueError("no")

    code = read(named(fails))
    line = fails.__code__.co_firstlineno + 1
    with pytest.raises(ValueError, match="no") as caught:
        code.load()(None)
    assert code.where(caught.value).endswith(f'line {line}: raise ValueError("no"))')


def test_another_process_gets_a_copy(tmp_path):
    """By value for what is in a script, whose other lines are not run again."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            import pickle, sys
            from pathlib import Path
            from burnish.config.live_code import named
            from burnish.config.user_code import UserCode
            from burnish.errors import RecipeError

            FACTOR = 3
            Path(sys.argv[1]).write_text("run " + (Path(sys.argv[1]).read_text() if Path(sys.argv[1]).exists() else ""))

            def tripled(n):
                return FACTOR * n

            codes = [UserCode.unrun(named(f), "a reward", RecipeError) for f in (tripled, lambda n: FACTOR + n)]
            Path(sys.argv[2]).write_bytes(pickle.dumps(codes))
        """)
    )
    subprocess.run([sys.executable, script, tmp_path / "runs", tmp_path / "codes"], check=True)
    codes = pickle.loads((tmp_path / "codes").read_bytes())
    assert [code.load()(5) for code in codes] == [15, 8]
    assert (tmp_path / "runs").read_text() == "run "


def test_what_cannot_be_copied_is_refused():
    code = UserCode.unrun(named(captured(number for number in range(3))), "a reward", RecipeError)
    with pytest.raises(RecipeError, match="cannot be copied to a worker process"):
        pickle.dumps(code)


def test_a_memory_name_of_another_process_is_explained():
    with pytest.raises(RecipeError, match="start the run from Python again"):
        read("<memory>/short-0123456789ab.py:short")
    assert live_object("<memory>/short-0123456789ab.py:short") is None


def test_a_global_that_is_read_is_part_of_the_identity():
    code = "def scaled(answer):\n    return SCALE * helper(answer)\n\ndef helper(answer):\n    return OFFSET\n"

    def name(**names: object) -> str:
        module = dict(names)
        source = f"{code}# {sorted(names)}"
        file = f"<cell {hash(source)}>"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        exec(compile(source, file, "exec"), module)
        return named(module["scaled"])

    assert name(SCALE=1.0, OFFSET=0) == name(SCALE=1.0, OFFSET=0)
    assert name(SCALE=2.0, OFFSET=0) != name(SCALE=1.0, OFFSET=0)
    assert name(SCALE=1.0, OFFSET=1) != name(SCALE=1.0, OFFSET=0), "through a function that it calls"
    assert unresumable([name(SCALE=1.0, OFFSET=object())]) != []
