"""A tile cache bounded in bytes, shared by the threads of one slide."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future

import numpy as np
import numpy.typing as npt

__all__ = ["Pixels", "TileCache"]

Pixels = npt.NDArray[np.uint8]

#: what an entry without pixels (a tile that cannot be decoded) is taken to weigh
EMPTY_BYTES = 256


class TileCache:
    """Least-recently-used tiles up to a number of bytes.

    The lock is held for bookkeeping only. A tile that one thread is decoding is waited for by the
    others, so that no tile is decoded twice at a time. None stands for a tile that cannot be
    decoded, and is remembered like any other.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._tiles: OrderedDict[Hashable, Pixels | None] = OrderedDict()
        self._pending: dict[Hashable, Future[Pixels | None]] = {}
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._tiles)

    def get(self, key: Hashable, make: Callable[[], Pixels | None]) -> Pixels | None:
        """Return the tile of ``key``, made by ``make`` (outside the lock) where it is not held."""
        with self._lock:
            if key in self._tiles:
                self._tiles.move_to_end(key)
                return self._tiles[key]
            waiting = self._pending.get(key)
            if waiting is None:
                mine: Future[Pixels | None] = Future()
                self._pending[key] = mine
        if waiting is not None:
            return waiting.result()
        try:
            tile = make()
        except BaseException as exc:
            with self._lock:
                del self._pending[key]
            mine.set_exception(exc)
            raise
        if tile is not None:
            tile.flags.writeable = False
        with self._lock:
            del self._pending[key]
            self._store(key, tile)
        mine.set_result(tile)
        return tile

    def peek(self, key: Hashable) -> tuple[bool, Pixels | None]:
        """Return whether ``key`` is held, and its tile."""
        with self._lock:
            return key in self._tiles, self._tiles.get(key)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._tiles.clear()
            self._bytes = 0

    def _store(self, key: Hashable, tile: Pixels | None) -> None:
        weight = _weight(tile)
        if weight > self.max_bytes:
            return
        self._tiles[key] = tile
        self._bytes += weight
        while self._bytes > self.max_bytes:
            _, old = self._tiles.popitem(last=False)
            self._bytes -= _weight(old)


def _weight(tile: Pixels | None) -> int:
    return EMPTY_BYTES if tile is None else tile.nbytes
