"""Commands as functions: the same answers as the command line's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import burnish
from burnish.builtin.sets import generate, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.cli.main import main
from burnish.errors import RecipeError
from tests.adapters import write_adapter, write_base

ROW = {"question": "a?", "answer": "The 4."}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verbs")
    write_base(folder / "base")
    write_adapter(folder / "adapter", folder / "base")
    (folder / "rows.jsonl").write_text(json.dumps(ROW) + "\n")
    write_untrained(folder / "model", hidden_size=32, layers=1)
    write_rows(folder / "train.jsonl", generate(seed=1, count=20))
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert not ended.value.code
    return capsys.readouterr().out


def test_every_exported_name_is_there():
    assert all(getattr(burnish, name) is not None for name in burnish.__all__)
    assert set(burnish.__all__) <= set(dir(burnish))
    with pytest.raises(AttributeError, match="no attribute 'sfft'"):
        burnish.sfft  # noqa: B018


def test_eval(place, capsys):
    data = place / "rows.jsonl"
    report = burnish.eval(place / "base", data, max_new_tokens=4)
    text = printed(capsys, "eval", place / "base", "--data", data, "max_new_tokens=4", "--json")
    assert report.figures() == json.loads(text)
    with pytest.raises(RecipeError, match="did you mean match"):
        burnish.eval(place / "base", data, mach="exact")


def test_generate(place, tmp_path, capsys):
    data = place / "rows.jsonl"
    given = {"max_new_tokens": 4, "responses_per_prompt": 2}
    result = burnish.generate(place / "base", data, output=tmp_path / "a.jsonl", **given)
    other = tmp_path / "b.jsonl"
    words = [f"{key}={value}" for key, value in given.items()]
    printed(capsys, "generate", "--model", place / "base", "--data", data, "--output", other, *words)
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()] == list(result.answers)
    assert (tmp_path / "a.jsonl").read_text() == other.read_text()


def test_chat_keeps_the_conversation(place):
    talk = burnish.chat(place / "base", max_new_tokens=3)
    first = talk.answer("a?")
    talk.answer("and?")
    assert first
    if talk.opened.template is None:
        assert talk.text.startswith("a?" + first + "and?")
    else:
        assert [message.role for message in talk.messages] == ["user", "assistant"] * 2


def test_merge(place, tmp_path):
    written = burnish.merge(place / "adapter", output=tmp_path / "merged")
    assert written.folder == tmp_path / "merged"
    assert (tmp_path / "merged" / "model.safetensors").exists()


def test_view_and_profile(place, capsys):
    data, words = place / "train.jsonl", list[str]()
    views = burnish.view(data, place / "model", index=[3, 0])
    text = printed(capsys, "data", "view", data, "--model", place / "model", "--index", 3, "--index", 0, *words)
    assert text.split() == str(views).split()
    assert len(views) == 2
    assert views[0].where.endswith("line 4")
    assert "<mark>" in views._repr_html_()
    assert "max_length" in str(burnish.profile(data, place / "model"))


def test_only_one_choice_of_rows(place):
    with pytest.raises(RecipeError, match="one of --index"):
        burnish.view(place / "train.jsonl", place / "model", index=[1], search="a")


def test_check(place, monkeypatch):
    monkeypatch.setattr("burnish.checks.suite.OF_MODEL", ())
    recipe = {"model": str(place / "model"), "stages": [{"sft": {"data": str(place / "train.jsonl")}}]}
    by_recipe = burnish.check(recipe, "max_length=200")
    by_files = burnish.check(None, "max_length=200", model=place / "model", data=place / "train.jsonl")
    assert [(line.check, line.verdict) for line in by_recipe] == [(line.check, line.verdict) for line in by_files]
    assert all(line.passed is not False for line in by_recipe)
