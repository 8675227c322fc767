"""Whole or absent: every state that a kill can leave, and what repair makes of it."""

import pytest

from burnish.runs.durable import discard, hidden, publish, repair, write_text


def folder(path, text):
    path.mkdir()
    (path / "file").write_text(text)
    return path


def names(path):
    return sorted(child.name for child in path.iterdir())


def test_hidden_names(tmp_path):
    assert hidden(tmp_path / "step-1", "new") == tmp_path / ".step-1.new"


def test_a_text_that_fails_leaves_the_old(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half \ud800")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("old", [False, True])
def test_publish(tmp_path, old):
    if old:
        folder(tmp_path / "x", "old")
    publish(folder(tmp_path / ".x.partial", "new"), tmp_path / "x")
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x/file").read_text() == "new"


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({".x.partial": "half"}, {}),
        ({".x.partial": "half", "x": "old"}, {"x": "old"}),
        ({".x.new": "new", "x": "old"}, {"x": "new"}),
        ({".x.new": "new", ".x.trash": "old"}, {"x": "new"}),
        ({".x.trash": "old", "x": "new"}, {"x": "new"}),
        ({".x.new": "new", ".x.trash": "older", "x": "old"}, {"x": "new"}),
        ({".x.trash": "deleted"}, {}),
        ({"x": "old", ".hidden": "kept", "y.partial": "kept"}, {"x": "old", ".hidden": "kept", "y.partial": "kept"}),
    ],
)
def test_repair(tmp_path, state, expected):
    for name, text in state.items():
        folder(tmp_path / name, text)
    repair(tmp_path)
    assert {child.name: (child / "file").read_text() for child in tmp_path.iterdir()} == expected


def test_repair_removes_half_written_files(tmp_path):
    (tmp_path / ".identity.json.partial").write_text("{")
    repair(tmp_path)
    assert names(tmp_path) == []


def test_discard(tmp_path):
    discard(folder(tmp_path / "x", "old"))
    assert names(tmp_path) == []


def test_links_are_not_followed(tmp_path):
    outside = folder(tmp_path / "outside", "kept")
    inside = tmp_path / "inside"
    inside.mkdir()
    partial = inside / ".x.partial"
    partial.mkdir()
    (partial / "link").symlink_to(outside)
    (partial / "broken").symlink_to("nowhere")
    publish(partial, inside / "x")
    discard(inside / "x")
    assert (outside / "file").read_text() == "kept"
