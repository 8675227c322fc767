"""A folder goes to the hub. The last thing that `burnish export --push` does; nothing else here ever uploads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError

from burnish.errors import ModelError

_NAME = re.compile(r"[\w.-]+/[\w.-]+")


class Hub(Protocol):
    """What is needed of `huggingface_hub.HfApi`."""

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> object:
        """Makes the repository, if it is not there."""

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> object:
        """One commit with all files of the folder."""


def check_push(repository: str) -> None:
    """What can be known before hours of work: the name is one, and there is a token.

    Raises:
        ModelError: not so.
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
            rule="the hub takes uploads from users that it knows",
            remedy="run `hf auth login`, or set HF_TOKEN to a token that may write",
        )


def push(folder: Path, repository: str, *, private: bool = True, hub: Hub | None = None) -> str:
    """Uploads all files of a folder as one commit.

    Args:
        folder: what is uploaded.
        repository: owner/name; made if it is not there.
        private: whether a new repository is seen by its owner only.
        hub: whom to talk to; None: the hub.

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
