"""Names that are paths, and the nearest existing path of a misspelt one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.local_path import looks_like_path, nearest_path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder in ("runs/lora/model", "runs/sft/model", "data", ".hidden"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "data" / "train.jsonl").write_text("{}")
    (tmp_path / "runs" / "lorb").write_text("a file")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "name", ["./a", "../a", "/a", "~/a", "~", ".", "a/b/c", "a/", "runs/lroa", "data/x", "model.gguf", "A.GGUF"]
)
def test_paths(here: Path, name: str) -> None:
    assert looks_like_path(name, (".gguf",))


@pytest.mark.parametrize("name", ["owner/name", "name", "Qwen/Qwen3-0.6B", "squad", "run/lora", "gguf", ""])
def test_names_of_the_hub(here: Path, name: str) -> None:
    assert not looks_like_path(name, (".gguf",))


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("runs/lroa", "runs/lora"),
        ("run/lora", "runs/lora"),
        ("rnus/sft/modle", "runs/sft/model"),
        ("./runs/lora/modell", "./runs/lora/model"),
        ("~/runs/srt", "~/runs/sft"),
        ("runs/completely-different", None),
        ("nowhere/lora", None),
        ("runs/lora", None),
        ("data/trian.jsonl", None),
    ],
)
def test_the_nearest_folder(here: Path, name: str, near: str | None) -> None:
    assert nearest_path(name, folders=True) == near


def test_the_nearest_file(here: Path) -> None:
    assert nearest_path("dta/trian.jsonl") == "data/train.jsonl"
    assert nearest_path(str(here / "data" / "trian.jsonl")) == str(here / "data" / "train.jsonl")
    assert nearest_path("hidden") is None, "a hidden name is not suggested for one that is not hidden"


@given(name=st.text(max_size=30))
def test_any_text_is_a_name(name: str) -> None:
    looks_like_path(name)
    if "\0" not in name:
        near = nearest_path(name)
        assert near is None or Path(near).expanduser().exists()
