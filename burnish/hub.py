"""Look-up of a name on the Hugging Face hub: one quiet request, whose failure is explained.

Called before a library fetches files. The libraries repeat a failed request for each of many files, and each of these
up to six times, so a misspelt name or a machine without network would take minutes, and end in a message about a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from huggingface_hub import constants, hf_hub_url
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError, of httpx or httpx2
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import get_hf_file_metadata, repo_folder_name

Kind = Literal["model", "dataset"]

_FILES: dict[Kind, str] = {"model": "config.json", "dataset": "README.md"}
"""File whose metadata are asked for. It need not exist: the hub's answer says whether the repository does."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Reason why a name cannot be fetched, and what to do."""

    reason: str
    """Clause, such as "the hub has no model of this name"."""
    remedy: str
    may_be_cached: bool = False
    """True: the hub cannot be asked, or does not let this user in; files that were fetched before are usable."""


def look_up(name: str, kind: Kind, revision: str | None = None) -> Literal["online", "cached"] | Refusal:
    """Asks the hub once for a name; a name that it has is not asked for again in this process.

    Args:
        name: ``owner/name``, or a single name.
        kind: what the name is of.
        revision: branch, tag or commit; None: the newest.

    Returns:
        online: it can be fetched. cached: only files that were fetched before can be used, see `offline`.
    """
    refusal = _refusal(name, kind, revision)
    if refusal is None:
        return "online"
    return "cached" if refusal.may_be_cached and is_cached(name, kind) else refusal


def is_cached(name: str, kind: Kind) -> bool:
    """Whether some files of a name were fetched before."""
    snapshots = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=kind) / "snapshots"
    return snapshots.is_dir() and any(snapshots.iterdir())


@contextmanager
def offline() -> Iterator[None]:
    """Context manager in which huggingface_hub and transformers use fetched files and send no request.

    (HF_HUB_OFFLINE is read from the environment only on import.)
    """
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@lru_cache(maxsize=64)
def _request(name: str, kind: Kind, revision: str | None, is_offline: bool) -> None:
    """Sends the request. An error is not cached."""
    url = hf_hub_url(name, _FILES[kind], repo_type=kind, revision=revision)  # refuses what is no name
    if is_offline:
        raise OfflineModeIsEnabled
    try:
        get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except EntryNotFoundError:  # the repository is there
        return


def _refusal(name: str, kind: Kind, revision: str | None) -> Refusal | None:
    """Sends the request; None: the hub has the name."""
    try:
        _request(name, kind, revision, constants.HF_HUB_OFFLINE)
    except HFValidationError:
        return Refusal("it is no name of the hub", f"write it as owner/name, or give the path of the {kind}")
    except OfflineModeIsEnabled:
        return Refusal(
            "HF_HUB_OFFLINE is set, and it was not fetched before",
            f"unset HF_HUB_OFFLINE, or give the path of the {kind}",
            may_be_cached=True,
        )
    except GatedRepoError:
        return Refusal(
            f"the hub lets only some users fetch this {kind} (it is gated)",
            f"accept its conditions on {_page(name, kind)}, and log in: hf auth login",
            may_be_cached=True,
        )
    except RevisionNotFoundError:
        return Refusal(f"the hub has no revision {revision!r} of this {kind}", f"see {_page(name, kind)}/tree/main")
    except RepositoryNotFoundError:
        return Refusal(
            f"the hub has no {kind} of this name, or it is private",
            "correct the name; if it is private, log in: hf auth login",
        )
    except DisabledRepoError:
        return Refusal(f"the hub has disabled this {kind}", f"see {_page(name, kind)}", may_be_cached=True)
    except HfHubHTTPError as error:
        status = error.response.status_code
        return Refusal(f"the hub refuses the request (status {status})", "try again later", may_be_cached=True)
    except (HTTPError, OSError) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return Refusal(
            f"the hub ({constants.ENDPOINT}) cannot be reached ({why})",
            f"check the network and its proxy, or give the path of the {kind}",
            may_be_cached=True,
        )
    return None


def _page(name: str, kind: Kind) -> str:
    return f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{name}"
