"""Run folder: lock, identity, metrics, samples, checkpoints, model, and the finished mark.

Opened by the loop before anything else and closed last. Every file appears whole (see `durable`); after a kill at any
moment, the next `RunFolder.open` repairs it. Of several processes the main one locks and writes; the others call the
same methods, which then write nothing, and wait for it where they read what it wrote. Contents::

    identity.json · recipe.yaml · unusable.jsonl · metrics.jsonl · samples.jsonl · log.txt · checkpoints/step-N/
    model/ · finished.json · stages/NAME/ (with several stages)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from burnish.config.live_code import MEMORY
from burnish.errors import RunError
from burnish.parallel.world import ONE_PROCESS, World
from burnish.run_files import CHECKPOINTS, FINISHED, IDENTITY, LOCK, METRICS, RECIPE, SAMPLES, STAGES
from burnish.runs.checkpoint import has_checkpoints
from burnish.runs.disk import full_disk_explained, is_full
from burnish.runs.durable import hidden, publish, remove, repair, share_files, sync_folder, write_text
from burnish.runs.extension import Extension, LengthKeys
from burnish.runs.journal import Journal
from burnish.runs.json_value import JSON, exact_text, flatten, same, strict_text
from burnish.runs.lock import Lock, is_locked

_FORMAT = 2
_EARLIER_FORMATS = (1,)
"""Formats of version 0.1.0, whose recipes have other keys."""
_TRIAL = ".trial.partial"
# Files that can exist before identity.json, and files that file systems create in an empty folder.
_FRESH = {LOCK, _TRIAL, f".{IDENTITY}.partial", "lost+found", ".DS_Store"}


class RunFolder:
    """Run folder that the main process has locked. A context manager: leaving it releases the lock."""

    path: Path
    """The folder, absolute."""
    world: World
    """Processes that have opened it."""
    extension: Extension | None = None
    """The change of its length, until it is committed; None: the folder is that of the run that opened it."""

    def __init__(self, path: Path, lock: Lock | None, world: World) -> None:
        """Use `RunFolder.open`. Only the main process has a lock, and journals."""
        self.path = path
        self.world = world
        self._lock = lock
        self._journals = {name: Journal(path / name) for name in (METRICS, SAMPLES) if lock is not None}

    @classmethod
    def open(
        cls,
        path: Path,
        recipe_text: str,
        identity: Mapping[str, JSON],
        world: World = ONE_PROCESS,
        lengths: LengthKeys | None = None,
    ) -> RunFolder:
        """Opens a new, empty or resumed run folder; raises RunError for any other, without changing it.

        `identity` has everything that determines the result (settings, fingerprints of data and model); a run resumes
        only with the identity that it started with. Before the first checkpoint the folder may start again with another
        identity. `recipe_text` is for users, and is written when the run starts. With `lengths` the folder of a shorter
        run may be opened too: then it has an `extension`.
        """
        path = path.absolute()
        folder = cls._locked(path, recipe_text, identity, world, lengths) if world.is_main else cls(path, None, world)
        world.wait()
        stored = _stored_identity(path)
        if not same(stored, identity):
            changed = _differences(stored, identity)
            is_finished = (path / FINISHED).exists()
            folder.extension = Extension(path, changed, is_finished, lambda: folder._commit(recipe_text, identity))
        return folder

    @classmethod
    def _locked(
        cls, path: Path, recipe_text: str, identity: Mapping[str, JSON], world: World, lengths: LengthKeys | None
    ) -> RunFolder:
        with _failures_explained(path):
            _make_folder(path)
            if not (path / LOCK).exists():
                _refuse_stranger(path)
            lock = Lock(path / LOCK)
            try:
                _initialize(path, lock, recipe_text, identity, lengths)
                return cls(path, lock, world)
            except BaseException:
                lock.release()
                raise

    @staticmethod
    def finished_before(
        path: Path, identity: Mapping[str, JSON], lengths: LengthKeys | None = None
    ) -> Mapping[str, JSON] | None:
        """The summary of a run finished in this folder with this identity; None: there is none, or it is a shorter one
        (see `open`). Nothing is locked."""
        if not (path / FINISHED).exists() or not (path / IDENTITY).exists():
            return None
        if _is_longer(path, identity, lengths):
            return None
        _refuse_other_run(path, identity)
        return _read_object(path / FINISHED)

    @staticmethod
    def held(path: Path) -> bool:
        """Whether some process has the folder open now. Nothing is changed.

        Raises:
            RunError: the path is no run folder.
        """
        if not (path / IDENTITY).is_file() or not (path / LOCK).is_file():
            raise RunError(
                given=f"{path} is no run folder",
                rule="a run folder is written by burnish to --output; it has an identity.json",
                remedy="name the folder of a run, such as runs/sft",
            )
        return is_locked(path / LOCK)

    def _commit(self, recipe_text: str, identity: Mapping[str, JSON]) -> None:
        """See `Extension.commit`. Before the identity changes, the shorter run is not finished any more."""
        if self.world.is_main:
            remove(self.path / FINISHED)
            _write_identity(self.path, identity)
            write_text(self.path / RECIPE, recipe_text)
        self.extension = None
        self.world.wait()

    @property
    def finished(self) -> Mapping[str, JSON] | None:
        """The summary given to `mark_finished`; None: the run is not finished."""
        path = self.path / FINISHED
        return _read_object(path) if path.exists() else None

    def mark_finished(self, summary: Mapping[str, JSON]) -> None:
        """Marks the run as finished, after all other files. NaN and infinities in the summary become null."""
        if self.world.is_main:
            self.offsets()
            rule = "finished.json is the last thing that a run writes; all else is written already"
            with full_disk_explained(self.path, FINISHED, rule):
                write_text(self.path / FINISHED, strict_text(summary) + "\n")
        self.world.wait()

    def append_metrics(self, lines: Iterable[Mapping[str, JSON]]) -> None:
        """Appends one JSON object per line to metrics.jsonl. NaN and infinities become null."""
        self._append(METRICS, lines)

    def append_samples(self, lines: Iterable[Mapping[str, JSON]]) -> None:
        """Appends one JSON object per line to samples.jsonl."""
        self._append(SAMPLES, lines)

    def _append(self, name: str, lines: Iterable[Mapping[str, JSON]]) -> None:
        if self.world.is_main:
            self._journals[name].append(lines)

    def offsets(self) -> dict[str, int]:
        """Bytes of each journal, by name, after a sync to the disk; a checkpoint stores them for `cut`. Empty on other
        processes than the main one."""
        return {name: journal.offset() for name, journal in self._journals.items()}

    def cut(self, offsets: Mapping[str, int]) -> None:
        """Truncates the journals to a checkpoint's offsets; the resumed run writes the rest again.

        A journal without an offset was empty at the checkpoint.
        """
        for name, journal in self._journals.items():
            journal.cut(offsets.get(name, 0))
        self.world.wait()

    def replace_folder(self, name: str, write: Callable[[Path], None]) -> Path:
        """Calls `write` with an empty folder, then replaces `name` by it; the old one exists until then.

        `name` may be a path whose parent exists.
        """
        final = self.path / name
        if self.world.is_main:
            self._replace(final, name, write)
        self.world.wait()
        return final

    def _replace(self, final: Path, name: str, write: Callable[[Path], None]) -> None:
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

    def close(self) -> None:
        """Closes the journals and releases the lock; a second call does nothing."""
        for journal in self._journals.values():
            journal.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _initialize(
    path: Path, lock: Lock, recipe_text: str, identity: Mapping[str, JSON], lengths: LengthKeys | None
) -> None:
    """Checks, repairs and completes a locked folder. identity.json is the first file."""
    _refuse_stranger(path)
    parts = [path, *path.glob(f"{STAGES}/*")]
    has_progress = any((part / FINISHED).exists() or has_checkpoints(part) for part in parts)
    if (path / IDENTITY).exists() and not (has_progress and _is_longer(path, identity, lengths)):
        _refuse_other_run(path, identity if has_progress else None)
    lock.sign()
    _check_writable(path)
    repair(path)
    if (path / CHECKPOINTS).is_dir():
        repair(path / CHECKPOINTS)
    if not has_progress:  # a run that failed before its first checkpoint may start again with corrected settings
        _write_identity(path, identity)
    if not has_progress or not (path / RECIPE).exists():
        write_text(path / RECIPE, recipe_text)


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
            rule="a run writes a folder",
            remedy="give another --output",
        )
    path.mkdir(parents=True)
    sync_folder(path.parent)


def _refuse_stranger(path: Path) -> None:
    names = {child.name for child in path.iterdir()}
    foreign = sorted(names - _FRESH)
    if foreign and IDENTITY not in names:
        raise RunError(
            given=f"the folder {path} has files that no run wrote ({', '.join(foreign[:3])}, ...)",
            rule="a run writes to a new or empty folder, or resumes in its own; it does not mix with other files",
            remedy="give another --output, for example a new folder inside this one",
        )


def _refuse_other_run(path: Path, identity: Mapping[str, JSON] | None) -> None:
    """Refuses an unreadable or earlier format and, if an identity is given, a run with another identity."""
    stored = _read_object(path / IDENTITY)
    old = stored.get("identity")
    if stored.get("format") in _EARLIER_FORMATS and isinstance(old, Mapping):
        raise RunError(
            given=f"the run folder {path} was started by an earlier version of Burnish, whose recipes have other keys",
            rule="a run resumes with the version that started it",
            remedy="give another --output for a new run; the model in this folder can be used as before",
        )
    if stored.get("format") != _FORMAT or not isinstance(old, Mapping):
        raise _unreadable(path / IDENTITY, f"it is not of format {_FORMAT}")
    if identity is not None and not same(old, identity):
        if any(str(value).startswith(MEMORY) and old.get(key) != value for key, value in identity.items()):
            raise RunError(
                given=f"the run folder {path} was started with other functions:\n{_differences(old, identity)}",
                rule="a function that captures variables, or whose source text changed, is another function",
                remedy="put it at the top level of a file, which a later run recognizes, or give another output",
            )
        raise RunError(
            given=f"the run folder {path} was started with other settings:\n{_differences(old, identity)}",
            rule="a run resumes only with the settings, data and model that it started with",
            remedy="give another --output for the new run, or the old settings to continue this one",
        )


def _is_longer(path: Path, identity: Mapping[str, JSON], lengths: LengthKeys | None) -> bool:
    """Whether the folder is that of a shorter run, as far as the identities tell."""
    return lengths is not None and lengths.may_be_longer(_stored_identity(path), identity)


def _stored_identity(path: Path) -> Mapping[str, JSON]:
    """The identity of a run folder; empty: it has another format, which is refused elsewhere."""
    stored = _read_object(path / IDENTITY)
    identity = stored.get("identity")
    return identity if stored.get("format") == _FORMAT and isinstance(identity, Mapping) else {}


def _write_identity(path: Path, identity: Mapping[str, JSON]) -> None:
    write_text(path / IDENTITY, exact_text({"format": _FORMAT, "identity": identity}))


def _differences(old: Mapping[str, JSON], new: Mapping[str, JSON]) -> str:
    before, now = flatten(old), flatten(new)
    lines = []
    for key in sorted(before.keys() | now.keys()):
        old_text, new_text = _leaf_text(before, key), _leaf_text(now, key)
        if old_text != new_text:
            lines.append(f"    {key}: {old_text} before, {new_text} now")
    return "\n".join(lines)


def _leaf_text(leaves: Mapping[str, JSON], key: str) -> str:
    return exact_text(leaves[key]).strip() if key in leaves else "absent"


def _check_writable(path: Path) -> None:
    """Writes and deletes a file, since permission bits do not apply to root and read-only mounts."""
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


def _unreadable(path: Path, reason: str) -> RunError:
    return RunError(
        given=f"{path} cannot be read: {reason}",
        rule=f"{path.name} is written by burnish as a whole, and not edited by hand",
        remedy="restore the file, or give another --output",
    )
