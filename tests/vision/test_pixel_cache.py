"""The cache of pixels: each image is read once, in time, and in bounded memory."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from burnish.errors import DataError
from burnish.types import MediaRef
from burnish.vision import pixel_cache
from burnish.vision.families.family import Pixels
from burnish.vision.pixel_cache import PixelCache
from burnish.vision.processing import ImageProcessing
from tests.vision.groups import group_of, policy_of, prompt_of
from tests.vision.small import FAMILIES


def medium(number: int) -> MediaRef:
    return MediaRef("image", f"/{number}.png", (0, 1), str(number))


def recording(read: list[str], fails: str = "") -> Callable[[MediaRef], Pixels]:
    def of(medium: MediaRef) -> Pixels:
        read.append(medium.digest)
        if medium.digest == fails:
            raise DataError(given="broken", rule="an image is whole", remedy="mend it")
        return {"pixels": torch.full((2,), float(medium.digest))}

    return of


def test_images_are_read_once_ahead_of_their_use() -> None:
    read: list[str] = []
    cache = PixelCache(recording(read))
    images = [medium(number) for number in (*range(80), 3, 79)]
    cache.prepare(images)
    found = [float(cache.of(image)["pixels"][0]) for image in images]
    assert found == [float(image.digest) for image in images]
    assert sorted(read, key=int) == [str(number) for number in range(80)]


def test_no_more_images_than_the_bound_are_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_cache, "AHEAD", 4)
    read: list[str] = []
    gate = threading.Event()

    def waiting(medium: MediaRef) -> Pixels:
        gate.wait()
        return recording(read)(medium)

    cache = PixelCache(waiting)
    cache.prepare([medium(number) for number in range(20)])
    gate.set()
    cache.of(medium(0))
    cache.prepare([])
    for number in range(1, 5):
        cache.of(medium(number))
    assert sorted(read, key=int) == [str(number) for number in range(5)]


def test_the_oldest_images_leave_a_full_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_cache, "KEPT_BYTES", 24)
    read: list[str] = []
    cache = PixelCache(recording(read))
    for number in (0, 1, 2, 0, 3, 0, 1):
        cache.of(medium(number))
    assert read == ["0", "1", "2", "3", "1"]


def test_an_error_comes_with_its_image() -> None:
    cache = PixelCache(recording([], fails="1"))
    cache.prepare([medium(0), medium(1), medium(2)])
    cache.of(medium(0))
    with pytest.raises(DataError, match="broken"):
        cache.of(medium(1))
    cache.of(medium(2))


def test_packing_reads_the_images_of_a_step_and_copies_have_caches_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_of(FAMILIES[0], tmp_path)
    assert policy.vision is not None
    _, media = prompt_of(policy, "# and #", ((1, 40, 24), (2, 24, 56)), tmp_path)
    prepared: list[str] = []
    monkeypatch.setattr(PixelCache, "prepare", lambda _, images: prepared.extend(each.digest for each in images))
    group = group_of(policy, "# and #", ((1, 40, 24), (2, 24, 56)), ("yes", "no"), tmp_path)
    policy.pack([group], 1000)
    assert prepared == [image.digest for image in media]
    copied = copy.deepcopy(policy.vision.processing)
    assert isinstance(copied, ImageProcessing)
    assert copied.pixels is not policy.vision.processing.pixels
    assert torch.equal(
        next(iter(copied.pixels_of(media[0]).values())),
        next(iter(policy.vision.processing.pixels_of(media[0]).values())),
    )
