"""Checkpoints: lossless, complete or absent after every kill, verified, retained by number."""

import itertools
import math
import os
import random
import shutil
import signal

import pytest
import torch

from burnish.errors import RunError
from burnish.runs import checkpoint as module
from burnish.runs.checkpoint import Checkpoint, latest_checkpoint, load_checkpoint, save_checkpoint


def filled(step, size=8):
    return Checkpoint(step, {"x": torch.full((size,), step), "y": torch.tensor(step)}, {"filled": step})


def steps(folder):
    return sorted(int(path.name.removeprefix("step-")) for path in (folder / "checkpoints").iterdir())


def flip(path, position=None):
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if position is None else position] ^= 0xFF
    path.write_bytes(content)


def check_consistent(checkpoint):
    assert checkpoint.values["filled"] == checkpoint.step
    for tensor in checkpoint.tensors.values():
        assert bool((tensor == checkpoint.step).all())


# What is saved comes back


@pytest.mark.parametrize(
    "dtype",
    [
        "bool",
        "uint8",
        "int8",
        "int32",
        "int64",
        "bfloat16",
        "float16",
        "float32",
        "float64",
        "float8_e4m3fn",
        "complex64",
    ],
)
@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,), (5, 7)], ids=str)
def test_every_dtype_and_shape_comes_back_bit_for_bit(tmp_path, dtype, shape):
    dtype = getattr(torch, dtype)
    bits = torch.randint(0, 2 if dtype == torch.bool else 256, (math.prod(shape) * dtype.itemsize,))
    tensor = bits.to(torch.uint8).view(dtype).reshape(shape)
    loaded = load_checkpoint(save_checkpoint(tmp_path, Checkpoint(3, {"t": tensor}, {}), None)).tensors["t"]
    assert (loaded.dtype, loaded.shape) == (dtype, tensor.shape)
    assert torch.equal(loaded.reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))


def test_values_come_back_exactly(tmp_path):
    values = {
        "floats": [0.1, 1e-323, -0.0, math.inf, math.pi],
        "big": 2**200,
        "nested": {"none": None, "text": "ß\n\ud800", "flag": True},
    }
    loaded = load_checkpoint(save_checkpoint(tmp_path, Checkpoint(0, {}, values), None))
    assert loaded.values == values
    assert math.copysign(1, loaded.values["floats"][2]) == -1
    assert loaded.tensors == {}


def test_keys_that_json_would_change_are_our_mistake(tmp_path):
    with pytest.raises(AssertionError, match="strings"):
        save_checkpoint(tmp_path, Checkpoint(0, {}, {"a": {1: 2}}), None)


def test_shared_and_overlapping_memory(tmp_path):
    base = torch.arange(12.0)
    tensors = {
        "base": base,
        "again": base,
        "parameter": torch.nn.Parameter(base),
        "left": base[:8],
        "right": base[4:],
        "transposed": base.view(3, 4).T,
        "strided": base[::2],
        "expanded": base[:1].expand(5),
    }
    loaded = load_checkpoint(save_checkpoint(tmp_path, Checkpoint(1, tensors, {}), None)).tensors
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(loaded[name], tensor.detach())
    assert loaded["again"].data_ptr() == loaded["base"].data_ptr() == loaded["parameter"].data_ptr()
    assert loaded["left"].data_ptr() != loaded["base"].data_ptr()


def test_loaded_tensors_outlive_the_files(tmp_path):
    loaded = load_checkpoint(save_checkpoint(tmp_path, filled(5), None))
    shutil.rmtree(tmp_path / "checkpoints")
    check_consistent(loaded)
    loaded.tensors["x"].add_(1)


def test_files_have_the_access_that_the_folder_has(tmp_path):
    path = save_checkpoint(tmp_path, filled(5), None)
    expected = path.stat().st_mode & 0o666
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {expected}


# Retention


@pytest.mark.parametrize(("keep", "left"), [(1, [5]), (2, [4, 5]), (9, [1, 2, 3, 4, 5]), (None, [1, 2, 3, 4, 5])])
def test_keeps_the_newest(tmp_path, keep, left):
    for step in range(1, 6):
        save_checkpoint(tmp_path, filled(step), keep)
    assert steps(tmp_path) == left


def test_order_is_by_number_not_by_name(tmp_path):
    for step in (8, 9, 10, 11):
        save_checkpoint(tmp_path, filled(step), 2)
    assert steps(tmp_path) == [10, 11]
    assert latest_checkpoint(tmp_path).path.name == "step-11"


def test_a_torn_checkpoint_does_not_count_as_kept(tmp_path):
    for step in (1, 2):
        save_checkpoint(tmp_path, filled(step), None)
    (tmp_path / "checkpoints/step-2/tensors.safetensors").write_bytes(b"short")
    save_checkpoint(tmp_path, filled(3), 2)
    assert steps(tmp_path) == [1, 3]


def test_the_one_just_written_is_kept_before_a_given_up_future(tmp_path):
    for step in (10, 20):
        save_checkpoint(tmp_path, filled(step), None)
    flip(tmp_path / "checkpoints/step-20/tensors.safetensors")
    save_checkpoint(tmp_path, filled(15), 1)
    assert latest_checkpoint(tmp_path).path.name == "step-15"
    save_checkpoint(tmp_path, filled(20), 1)
    assert latest_checkpoint(tmp_path).damaged == ()
    assert steps(tmp_path) == [20]


# Damage


def test_nothing_there_is_not_damage(tmp_path):
    assert latest_checkpoint(tmp_path).path is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".step-3.partial").mkdir()
    (tmp_path / "checkpoints" / "notes").mkdir()
    assert latest_checkpoint(tmp_path).path is None


def test_every_flipped_byte_is_noticed(tmp_path):
    path = save_checkpoint(tmp_path, filled(4), None)
    for name in ("tensors.safetensors", "values.json", "manifest.json"):
        good = (path / name).read_bytes()
        for position in range(len(good)):
            flip(path / name, position)
            with pytest.raises(RunError) as caught:
                load_checkpoint(path)
            assert name in caught.value.given
            (path / name).write_bytes(good)
    check_consistent(load_checkpoint(path))


@pytest.mark.parametrize("name", ["tensors.safetensors", "values.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "folder"])
def test_a_damaged_one_is_passed_over_with_a_warning(tmp_path, name, damage):
    good = save_checkpoint(tmp_path, filled(4), None)
    bad = save_checkpoint(tmp_path, filled(5), None) / name
    if damage == "flip":
        flip(bad)
    elif damage == "cut":
        bad.write_bytes(bad.read_bytes()[:-2])
    else:
        bad.unlink()
    if damage == "folder":
        bad.mkdir()
    loaded = latest_checkpoint(tmp_path)
    assert loaded.path == good
    (warning,) = loaded.damaged
    assert "step-5" in warning
    assert name in warning
    shutil.rmtree(good)
    with pytest.raises(RunError, match=name):
        latest_checkpoint(tmp_path)


def test_another_format_is_not_read(tmp_path):
    path = save_checkpoint(tmp_path, filled(4), None) / "manifest.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 3'))
    with pytest.raises(RunError, match="format 3"):
        load_checkpoint(path.parent)


def test_what_changes_between_memory_and_disk_is_refused(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, filled(1), None)

    def write_wrongly(tensors, path):
        original({**tensors, "x": tensors["x"] + 1}, path)

    original = module.save_file
    monkeypatch.setattr(module, "save_file", write_wrongly)
    with pytest.raises(RunError, match="read back"):
        save_checkpoint(tmp_path, filled(2), 1)
    assert steps(tmp_path) == [1]


# Kills


def test_killed_at_every_operation(tmp_path, fork_server):
    for moment in itertools.count(1):
        folder = tmp_path / str(moment)
        folder.mkdir()
        status, lines = fork_server.run("checkpoints", folder, start=1, count=3, keep=1, kill_at=moment)
        loaded = latest_checkpoint(folder)
        safe = int(lines[-1].removeprefix("done ")) if lines else 0
        assert loaded.damaged == ()
        if loaded.path is not None:
            check_consistent(load_checkpoint(loaded.path))
            assert load_checkpoint(loaded.path).step >= safe
        assert loaded.path is not None or safe == 0
        for path in (folder / "checkpoints").glob("step-*"):
            check_consistent(load_checkpoint(path))
        save_checkpoint(folder, filled(9), 1)
        assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-9"]
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert moment > 40


def test_killed_while_replacing_the_same_step(tmp_path, fork_server):
    for moment in itertools.count(1):
        folder = tmp_path / str(moment)
        folder.mkdir()
        status, lines = fork_server.run("same_step", folder, count=3, kill_at=moment)
        safe = int(lines[-1].removeprefix("done ")) if lines else 0
        loaded = latest_checkpoint(folder)
        if safe:
            version = load_checkpoint(loaded.path).values["version"]
            assert safe <= version <= safe + 1
            assert load_checkpoint(loaded.path).tensors["x"].tolist() == [version] * 4
        if status == 0:
            break
    assert moment > 40


def test_killed_from_outside_at_random_moments(tmp_path, fork_server):
    chance = random.Random(5)
    step = 1
    for _ in range(40):
        pid = fork_server.start("checkpoints", tmp_path, start=step, count=10**6, keep=2, size=20_000)
        for _ in range(chance.randrange(1, 150)):
            fork_server.read()
        lines = fork_server.kill(pid)
        loaded = latest_checkpoint(tmp_path)
        assert loaded.damaged == ()
        if loaded.path is not None:
            restored = load_checkpoint(loaded.path)
            check_consistent(restored)
            assert restored.step >= max([int(line.removeprefix("done ")) for line in lines], default=0)
            step = restored.step + 1
    assert step > 20


@pytest.mark.parametrize("name", ["rename", "fsync", "mkdir"])
def test_an_error_at_every_call(tmp_path, monkeypatch, name):
    original = getattr(os, name)
    for moment in itertools.count(1):
        folder = tmp_path / str(moment)
        folder.mkdir()
        save_checkpoint(folder, filled(1), 1)
        calls = itertools.count(1)

        def fail(*arguments, calls=calls, moment=moment, **named):
            if next(calls) == moment:
                raise OSError(5, "the disk is broken")
            return original(*arguments, **named)

        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            try:
                save_checkpoint(folder, filled(2), 1)
            except OSError:
                broken = True
            else:
                broken = False
        check_consistent(load_checkpoint(latest_checkpoint(folder).path))
        save_checkpoint(folder, filled(3), 1)
        assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-3"]
        if not broken:
            break
    assert moment > 1


def test_everything_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """What a power cut would show and kill -9 cannot: the order of fsync and rename."""
    synced = set()
    names_given = []

    def sync(descriptor):
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def give_name(source, target):
        names_given.append(os.path.basename(target))
        unsynced = [path for path in (source, *source.rglob("*")) if path.stat().st_ino not in synced]
        assert unsynced == []
        rename(source, target)
        synced.discard(target.parent.stat().st_ino)

    fsync, rename = os.fsync, os.rename
    save_checkpoint(tmp_path, filled(1), 1)
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "rename", give_name)
    save_checkpoint(tmp_path, filled(2), None)
    assert names_given == ["step-2"]
    assert (tmp_path / "checkpoints").stat().st_ino in synced


# A full disk


def test_the_limit_on_the_size_of_a_file(tmp_path, fork_server):
    status, lines = fork_server.run("limited", tmp_path, limit=100_000)
    assert status == 0
    (message,) = lines
    for part in ("step 2", "File too large", "bytes needed", "bytes free", "newest good one is step 1", "ulimit"):
        assert part in message
    assert "free space and run the same command again" in message
    assert steps(tmp_path) == [1]
    check_consistent(load_checkpoint(latest_checkpoint(tmp_path).path))


def test_a_full_disk(tmp_path, secluded):
    status, lines = secluded.run("small_disk", tmp_path)
    assert status == 0
    first, second = lines
    for part in ("No space left on device", "free space and run the same command again"):
        assert part in first
        assert part in second
    assert "there is none yet" in first
    assert "newest good one is step 2" in second
    assert " (14,06" in second, "bytes needed: 3 million of two bytes, one million of eight, some headroom"
