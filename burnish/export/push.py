"""Uploads a model's folder to the hub: the last step of `burnish export --push`, and the only upload in Burnish."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError

from burnish.errors import ModelError

_NAME = re.compile(r"[\w.-]+/[\w.-]+")


class Hub(Protocol):
    """The methods of `huggingface_hub.HfApi` that are used."""

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> object:
        """Creates the repository, if it does not exist."""

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> object:
        """Uploads all files of the folder as one commit."""


def check_push(repository: str) -> None:
    """Checks the repository's name and the token, before any model is loaded.

    Raises:
        ModelError: the name is not owner/name, or there is no token.
    """
    if _NAME.fullmatch(repository) is None:
        raise ModelError(
            given=f"--push {repository}",
            rule="a repository on the hub is owner/name",
            remedy="write it as owner/name, with your user or organisation as owner",
        )
    if get_token() is None:
        raise ModelError(
            given=f"--push {repository}, without a token for the hub",
            rule="the hub takes uploads from authenticated users",
            remedy="run `hf auth login`, or set HF_TOKEN to a token with write access",
        )


def push(folder: Path, repository: str, *, private: bool = True, hub: Hub | None = None) -> str:
    """Uploads all files of a folder as one commit.

    Args:
        folder: the folder.
        repository: owner/name; created if it does not exist.
        private: whether a new repository is private.
        hub: the client; None: `HfApi()`.

    Returns:
        The address of the repository.

    Raises:
        ModelError: no token, or the hub refuses.
    """
    check_push(repository)
    api: Hub = HfApi() if hub is None else hub
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload by burnish export")
    except (HfHubHTTPError, OSError) as error:
        raise ModelError(
            given=f"{folder} could not be uploaded to {repository}: {' '.join(str(error).split())[:300]}",
            rule="the token may write to the repository, and the hub can be reached",
            remedy=f"check both; the folder is complete, so `hf upload {repository} {folder}` does the rest",
        ) from error
    return f"https://huggingface.co/{repository}"
