"""Checkpoints of several processes: written whole or not at all, verified, read in another layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from burnish.parallel.mesh import Mesh
from burnish.runs.checkpoint import checkpoints, latest_checkpoint
from tests.parallel.group import Processes, processes
from tests.parallel.work import checkpoint_of, checkpoint_read


@pytest.fixture(scope="module")
def group() -> Iterator[Processes]:
    with processes(4) as four:
        yield four


MESHES = (Mesh(shard=4), Mesh(data=2, shard=2))


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_it_is_read_in_every_layout(group: Processes, tmp_path: Path, mesh: Mesh) -> None:
    assert group(checkpoint_of, tmp_path, 3, None, mesh=mesh) == [""] * 4
    for other in MESHES:
        assert group(checkpoint_read, tmp_path, mesh=other) == [(3, True)] * 4


@pytest.mark.parametrize("rank", [0, 2])
def test_a_full_disk_of_one_process_is_named_and_loses_nothing(group: Processes, tmp_path: Path, rank: int) -> None:
    assert group(checkpoint_of, tmp_path, 3, None, mesh=Mesh(shard=4)) == [""] * 4
    found = group(checkpoint_of, tmp_path, 4, rank, mesh=Mesh(shard=4))
    assert all(f"rank {rank} could not write its part of the checkpoint" in error for error in found)
    assert all("No space left on device" in error for error in found)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-3"]
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"step-3"}
    assert group(checkpoint_of, tmp_path, 4, None, mesh=Mesh(shard=4)) == [""] * 4
    assert group(checkpoint_read, tmp_path, mesh=Mesh(shard=4)) == [(4, True)] * 4


def test_damaged_pieces_are_skipped(group: Processes, tmp_path: Path) -> None:
    for step in (3, 4):
        assert group(checkpoint_of, tmp_path, step, None, mesh=Mesh(shard=4)) == [""] * 4
    [piece, *_] = sorted((tmp_path / "checkpoints" / "step-4" / "pieces").iterdir())
    content = bytearray(piece.read_bytes())
    content[-1] ^= 1
    piece.write_bytes(bytes(content))
    newest = latest_checkpoint(tmp_path)
    assert newest.path is not None
    assert newest.path.name == "step-3"
    assert piece.name in newest.damaged[0]
    piece.unlink()
    assert latest_checkpoint(tmp_path).path == newest.path
