"""Upload to the hub: its calls, and the errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.errors import ModelError
from burnish.export import push as module
from burnish.export.push import check_push, push


class Hub:
    """Hub that records its calls, and refuses if requested."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.refuses = refuses

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> None:
        self.calls.append(("create", repo_id, private, exist_ok))

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        if self.refuses:
            raise OSError("403 Forbidden")
        self.calls.append(
            ("upload", repo_id, sorted(path.name for path in folder_path.iterdir()), bool(commit_message))
        )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "get_token", lambda: "token")
    (tmp_path / "README.md").touch()
    (tmp_path / "model.safetensors").touch()
    return tmp_path


def test_one_repository_one_commit_private_unless_asked(folder):
    hub = Hub()
    assert push(folder, "me/mine", hub=hub) == "https://huggingface.co/me/mine"
    push(folder, "me/open", private=False, hub=hub)
    names = ["README.md", "model.safetensors"]
    assert hub.calls == [
        ("create", "me/mine", True, True),
        ("upload", "me/mine", names, True),
        ("create", "me/open", False, True),
        ("upload", "me/open", names, True),
    ]


def test_a_refusal_says_how_to_go_on(folder):
    with pytest.raises(ModelError, match="403 Forbidden") as error:
        push(folder, "me/mine", hub=Hub(refuses=True))
    assert f"hf upload me/mine {folder}" in error.value.remedy


@pytest.mark.parametrize("name", ["mine", "a/b/c", "", "a b/c"])
def test_names(folder, name):
    with pytest.raises(ModelError, match="owner/name"):
        check_push(name)


def test_no_token(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "get_token", lambda: None)
    hub = Hub()
    with pytest.raises(ModelError, match="HF_TOKEN"):
        push(tmp_path, "me/mine", hub=hub)
    assert hub.calls == []
