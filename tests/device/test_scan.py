"""No file names a device, and no step waits for one, except where `allowed.py` says why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from tests.device.allowed import DEVICES, WAITS
from tests.device.scan import HOT, PACKAGE, Finding, Place, findings_in, named_devices, waits


def compare(found: Sequence[Finding], allowed: Mapping[Place, str]) -> None:
    new = [
        f"{each.place.file}:{each.line} {each.place.function}: {each.what}"
        for each in found
        if each.place not in allowed
    ]
    assert not new, "not in tests/device/allowed.py, where each has its reason"
    stale = set(allowed) - {each.place for each in found}
    assert not stale, "in tests/device/allowed.py, and no longer in the package"


def test_devices_are_named_where_it_is_allowed():
    compare(named_devices(), DEVICES)


def test_the_hot_path_waits_where_it_is_allowed():
    compare(waits(), WAITS)


def test_the_hot_path_is_there():
    assert [part for part in HOT if not (PACKAGE / part).exists()] == []


def test_an_entry_that_is_not_needed_is_stale():
    with pytest.raises(AssertionError, match="no longer"):
        compare([], {Place("train/step.py", "nobody"): "a reason"})
    with pytest.raises(AssertionError, match="has its reason"):
        compare([Finding(Place("train/step.py", "somebody"), 3, ".item()")], {})


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x.item()", [".item()"]),
        ("x.tolist()", [".tolist()"]),
        ("x.cpu().numpy()", [".numpy()", ".cpu()"]),
        ("x.to('cpu', copy=True)", ['.to("cpu")']),
        ("def f():\n    return bool(x.all())", ["bool()"]),
        ("float(loss)", ["float()"]),
        ("torch.cuda.synchronize()", [".synchronize()"]),
        ("int(len(x)), float('inf'), x.to(device)", []),
    ],
)
def test_what_may_wait_is_seen(source, expected):
    assert findings_in(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x.cuda()", [".cuda"]),
        ("torch.device('cuda:1')", ["'cuda:1'"]),
        ("if x.is_cuda: pass", [".is_cuda"]),
        ("# cuda\n'on cuda'", []),
    ],
)
def test_a_device_that_is_named_is_seen(source, expected):
    assert findings_in(source, "devices") == expected
