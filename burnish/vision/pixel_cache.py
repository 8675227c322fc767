"""Pixels of images: those that were used last are kept, and those that are needed next are decoded ahead of time.

Decoding and resizing a photo takes tens of milliseconds. Threads do it while the microbatch before is computed (Pillow
decodes without Python's lock), so that a step waits for its first images alone.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from burnish.types import MediaRef
from burnish.vision.families.family import Pixels

KEPT_BYTES = 512 * 2**20
"""Memory for pixels of images that were used last."""
AHEAD = 32
"""Images that are decoded, or wait for it, before they are used."""
THREADS = 2


class PixelCache:
    """Pixels by the content of an image.

    Args:
        read: pixels of an image from its file; called in threads too.
    """

    def __init__(self, read: Callable[[MediaRef], Pixels]) -> None:
        self._read = read
        self._kept: OrderedDict[str, Pixels] = OrderedDict()
        self._bytes = 0
        self._next: deque[MediaRef] = deque()
        self._coming: dict[str, Future[Pixels]] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def prepare(self, media: Iterable[MediaRef]) -> None:
        """Decodes these images ahead of time, in their order; those that were asked for before and are not used yet are
        no longer decoded."""
        with self._lock:
            self._next = deque({medium.digest: medium for medium in media}.values())
            self._top_up()

    def of(self, medium: MediaRef) -> Pixels:
        """Pixels of an image.

        Raises:
            DataError: what `read` raises for it.
        """
        with self._lock:
            if medium.digest in self._kept:
                self._kept.move_to_end(medium.digest)
                return self._kept[medium.digest]
            coming = self._coming.pop(medium.digest, None)
            self._top_up()
        pixels = self._read(medium) if coming is None else coming.result()
        with self._lock:
            self._keep(medium.digest, pixels)
        return pixels

    def _top_up(self) -> None:
        while self._next and len(self._coming) < AHEAD:
            medium = self._next.popleft()
            if medium.digest not in self._kept and medium.digest not in self._coming:
                if self._threads is None:
                    self._threads = ThreadPoolExecutor(THREADS, "images")
                self._coming[medium.digest] = self._threads.submit(self._read, medium)

    def _keep(self, digest: str, pixels: Pixels) -> None:
        if digest in self._kept:
            return
        self._kept[digest] = pixels
        self._bytes += _size(pixels)
        while self._bytes > KEPT_BYTES and len(self._kept) > 1:
            self._bytes -= _size(self._kept.popitem(last=False)[1])


def _size(pixels: Pixels) -> int:
    return sum(tensor.nbytes for tensor in pixels.values())
