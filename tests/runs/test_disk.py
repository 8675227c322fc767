"""A full disk is the user's; any other failure is passed on."""

import errno

import pytest
from safetensors import SafetensorError

from burnish.errors import RunError
from burnish.runs.disk import full_disk_explained


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("library", [False, True])
def test_full(tmp_path, code, library):
    text = f"Error while serializing: I/O error: whatever (os error {code})"
    error = SafetensorError(text) if library else OSError(code, "full")
    with pytest.raises(RunError) as caught, full_disk_explained(tmp_path / "absent", "a thing", "it is safe", 1234):
        raise error
    assert "a thing" in caught.value.given
    assert "1,234 bytes needed" in caught.value.given
    assert "bytes free there" in caught.value.given
    assert caught.value.rule == "it is safe"
    assert caught.value.remedy.startswith("free space and run the same command again")
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), SafetensorError("header too large"), ValueError("x")])
def test_not_full(tmp_path, error):
    with pytest.raises(type(error)) as caught, full_disk_explained(tmp_path, "a thing", "it is safe"):
        raise error
    assert caught.value is error
