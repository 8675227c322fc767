"""The folder of one run: whose it is, what determines its result, whether it is finished, and what it reports.

Opened by the loop before anything else and closed last. Every file appears whole (see `durable`); a kill at any moment
leaves something that the next `RunFolder.open` repairs. What it holds::

    identity.json · recipe.yaml · unusable.jsonl · metrics.jsonl · samples.jsonl · log.txt · checkpoints/step-N/
    model/ · finished.json · stages/NAME/ (of a run of several)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from burnish.errors import RunError
from burnish.runs.checkpoint import CHECKPOINTS, has_checkpoints
from burnish.runs.disk import full_disk_explained, is_full
from burnish.runs.durable import hidden, publish, remove, repair, share_files, sync_folder, write_text
from burnish.runs.journal import Journal
from burnish.runs.json_value import JSON, exact_text, flatten, same, strict_text
from burnish.runs.lock import Lock, is_locked

_FORMAT = 2
_EARLIER_FORMATS = (1,)
"""Version 0.1.0, whose recipes have other keys."""
_LOCK = ".lock"
_IDENTITY = "identity.json"
_RECIPE = "recipe.yaml"
_METRICS = "metrics.jsonl"
_SAMPLES = "samples.jsonl"
_FINISHED = "finished.json"
STAGES = "stages"
"""The folder of the stages of a run of several, see `stage_folder`."""
_TRIAL = ".trial.partial"
# All that can be there before identity.json is, and what file systems put into an empty folder by themselves.
_FRESH = {_LOCK, _TRIAL, ".identity.json.partial", "lost+found", ".DS_Store"}


class RunFolder:
    """A run folder that this process holds. A context manager: leaving it releases the lock."""

    path: Path
    """The folder, absolute."""

    def __init__(self, path: Path, lock: Lock) -> None:
        """Use `RunFolder.open`."""
        self.path = path
        self._lock = lock
        self._journals = {name: Journal(path / name) for name in (_METRICS, _SAMPLES)}

    @classmethod
    def open(cls, path: Path, recipe_text: str, identity: Mapping[str, JSON]) -> RunFolder:
        """Take a new, empty or resumed run folder; refuse any other with a RunError, leaving it as it is.

        `identity` is all that determines the result (settings, fingerprints of data and model); a run continues only
        under the identity that it began with. Before its first checkpoint there is nothing to continue, and the folder
        may begin anew under another. `recipe_text` is for people, and is written when the run begins.
        """
        path = path.absolute()
        with _failures_explained(path):
            _make_folder(path)
            if not (path / _LOCK).exists():
                _refuse_stranger(path)
            lock = Lock(path / _LOCK)
            try:
                _settle(path, lock, recipe_text, identity)
                return cls(path, lock)
            except BaseException:
                lock.release()
                raise

    @staticmethod
    def finished_before(path: Path, identity: Mapping[str, JSON]) -> Mapping[str, JSON] | None:
        """The summary of a run that was finished there under this identity; None: there is none. Nothing is opened."""
        if not (path / _FINISHED).exists() or not (path / _IDENTITY).exists():
            return None
        _refuse_other_run(path, identity)
        return _read_object(path / _FINISHED)

    @staticmethod
    def held(path: Path) -> bool:
        """Whether some process holds it now. Nothing is changed.

        Raises:
            RunError: it is no run folder.
        """
        if not (path / _IDENTITY).is_file() or not (path / _LOCK).is_file():
            raise RunError(
                given=f"{path} is no run folder",
                rule="a run folder is what burnish writes to --output; it has an identity.json",
                remedy="name the folder that a run wrote, such as runs/sft",
            )
        return is_locked(path / _LOCK)

    @property
    def finished(self) -> Mapping[str, JSON] | None:
        """The summary that `mark_finished` was given; None: the run is not finished."""
        path = self.path / _FINISHED
        return _read_object(path) if path.exists() else None

    def mark_finished(self, summary: Mapping[str, JSON]) -> None:
        """Say, last of all, that the run is finished. NaN and infinities in the summary become null."""
        self.offsets()
        rule = "finished.json is the last thing that a run writes; all else is written already"
        with full_disk_explained(self.path, _FINISHED, rule):
            write_text(self.path / _FINISHED, strict_text(summary) + "\n")

    def append_metrics(self, lines: Iterable[Mapping[str, JSON]]) -> None:
        """Append one JSON object a line to metrics.jsonl. NaN and infinities become null."""
        self._journals[_METRICS].append(lines)

    def append_samples(self, lines: Iterable[Mapping[str, JSON]]) -> None:
        """Append one JSON object a line to samples.jsonl."""
        self._journals[_SAMPLES].append(lines)

    def offsets(self) -> dict[str, int]:
        """Bytes of each journal, by its name, now on the disk; a checkpoint remembers them for `cut`."""
        return {name: journal.offset() for name, journal in self._journals.items()}

    def cut(self, offsets: Mapping[str, int]) -> None:
        """Forget what the journals have after a checkpoint's offsets, which the resumed run will write again.

        A journal that they do not name had nothing in it then.
        """
        for name, journal in self._journals.items():
            journal.cut(offsets.get(name, 0))

    def replace_folder(self, name: str, write: Callable[[Path], None]) -> Path:
        """Have `write` fill an empty folder, then put it in the place of `name`; the old one stays until then.

        `name` may be a path whose parent is there.
        """
        final = self.path / name
        partial = hidden(final, "partial")
        rule = f"{name}/ is replaced whole or not at all; it is as it was before, and so are the checkpoints"
        with full_disk_explained(self.path, f"{name}/", rule):
            repair(final.parent)
            try:
                partial.mkdir()
                write(partial)
                share_files(partial)
                publish(partial, final)
            finally:
                remove(partial)
        return final

    def close(self) -> None:
        """Release the folder; a second call does nothing."""
        for journal in self._journals.values():
            journal.close()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _settle(path: Path, lock: Lock, recipe_text: str, identity: Mapping[str, JSON]) -> None:
    """Under the lock: check whose folder it is, repair it, and complete it. identity.json comes first of all files."""
    _refuse_stranger(path)
    parts = [path, *path.glob(f"{STAGES}/*")]
    worth_keeping = any((part / _FINISHED).exists() or has_checkpoints(part) for part in parts)
    if (path / _IDENTITY).exists():
        _refuse_other_run(path, identity if worth_keeping else None)
    lock.sign()
    _try_to_write(path)
    repair(path)
    if (path / CHECKPOINTS).is_dir():
        repair(path / CHECKPOINTS)
    if not worth_keeping:  # whoever mends a mistake that ended the first try may use the folder again
        write_text(path / _IDENTITY, exact_text({"format": _FORMAT, "identity": identity}))
    if not worth_keeping or not (path / _RECIPE).exists():
        write_text(path / _RECIPE, recipe_text)


@contextmanager
def _failures_explained(path: Path) -> Iterator[None]:
    rule = "a run needs a folder in which it can create, lock and rename files"
    with full_disk_explained(path, "a new run folder", rule):
        try:
            yield
        except OSError as error:
            if is_full(error):
                raise
            raise RunError(
                given=f"the run folder {path} cannot be written: {error.strerror} ({error.filename or path})",
                rule=rule,
                remedy="give an --output that this user may write to",
            ) from error


def _make_folder(path: Path) -> None:
    if path.is_dir():
        return
    if path.exists():
        raise RunError(
            given=f"the run folder {path} is a file",
            rule="a run writes a folder of its own",
            remedy="give another --output",
        )
    path.mkdir(parents=True)
    sync_folder(path.parent)


def _refuse_stranger(path: Path) -> None:
    names = {child.name for child in path.iterdir()}
    foreign = sorted(names - _FRESH)
    if foreign and _IDENTITY not in names:
        raise RunError(
            given=f"the folder {path} holds files of something else ({', '.join(foreign[:3])}, ...)",
            rule="a run writes a new or empty folder, or continues in its own; it does not mix with other files",
            remedy="give another --output, for example a new folder inside this one",
        )


def _refuse_other_run(path: Path, identity: Mapping[str, JSON] | None) -> None:
    """Refuse a run that is not ours and, if an identity is given, one that was begun under another."""
    stored = _read_object(path / _IDENTITY)
    old = stored.get("identity")
    if stored.get("format") in _EARLIER_FORMATS and isinstance(old, Mapping):
        raise RunError(
            given=f"the run folder {path} was begun by an earlier version of Burnish, whose recipes have other keys",
            rule="a run continues under the version that began it",
            remedy="give another --output for a new run; the model in this folder is used as before",
        )
    if stored.get("format") != _FORMAT or not isinstance(old, Mapping):
        raise _unreadable(path / _IDENTITY, f"it is not of format {_FORMAT}")
    if identity is not None and not same(old, identity):
        raise RunError(
            given=f"the run folder {path} was begun with other settings:\n{_differences(old, identity)}",
            rule="a run continues only with the settings, data and model that it began with",
            remedy="give another --output for the new run, or the old settings to continue this one",
        )


def _differences(old: Mapping[str, JSON], new: Mapping[str, JSON]) -> str:
    before, now = flatten(old), flatten(new)
    lines = []
    for key in sorted(before.keys() | now.keys()):
        was, will = _shown(before, key), _shown(now, key)
        if was != will:
            lines.append(f"    {key}: {was} before, {will} now")
    return "\n".join(lines)


def _shown(leaves: Mapping[str, JSON], key: str) -> str:
    return exact_text(leaves[key]).strip() if key in leaves else "absent"


def _try_to_write(path: Path) -> None:
    """Ask by doing: permission bits say nothing to root, nor on a read-only mount."""
    trial = path / _TRIAL
    trial.write_text("can this folder be written?\n", encoding="utf-8")
    trial.unlink()


def _read_object(path: Path) -> Mapping[str, JSON]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _unreadable(path, f"it is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise _unreadable(path, "it is not a JSON object")
    return value


def _unreadable(path: Path, why: str) -> RunError:
    return RunError(
        given=f"{path} cannot be understood: {why}",
        rule=f"{path.name} is written by burnish, whole, and not edited by hand",
        remedy="restore the file, or give another --output",
    )
