"""The lock itself; between processes it is tested with the run folder."""

import os

import pytest

from burnish.errors import RunError
from burnish.runs.lock import Lock


def test_a_holder_that_has_not_signed_has_no_name(tmp_path):
    lock = Lock(tmp_path / ".lock")
    with pytest.raises(RunError, match="another process"):
        Lock(tmp_path / ".lock")
    lock.sign()
    with pytest.raises(RunError, match=f"process {os.getpid()} on"):
        Lock(tmp_path / ".lock")
    lock.release()
    lock.release()
    Lock(tmp_path / ".lock").release()


def test_a_signature_replaces_a_longer_one(tmp_path):
    path = tmp_path / ".lock"
    path.write_text("x" * 1000)
    lock = Lock(path)
    assert path.read_text() == "x" * 1000
    lock.sign()
    assert path.read_text().startswith('{"pid"')
    assert path.read_text().endswith("}\n")
    lock.release()
