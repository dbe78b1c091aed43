"""OpenSlide as a source: every format it reads, one bounded cache, bad tiles told apart."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import openslide
from openslide import lowlevel

from her2path.core.geometry import Box
from her2path.io.slide.cache import Pixels
from her2path.io.slide.jpegtiles import JpegTiles
from her2path.io.slide.resample import argb_over
from her2path.io.slide.source import Colour, cells_of, colour_of, paint

__all__ = ["OpenSlideSource", "open_handle"]

#: pixels read in one go: OpenSlide needs 4 bytes a pixel beside the result
STRIP_PX = 1 << 22
#: side of the cells in which bad data are looked for where the file states no tiles
CELL_PX = 256
_UINT32_P = ctypes.POINTER(ctypes.c_uint32)


def open_handle(path: str, cache_bytes: int) -> openslide.OpenSlide:
    """Open a file with a cache of its own, bounded in bytes."""
    handle = openslide.OpenSlide(path)
    handle.set_cache(openslide.OpenSlideCache(max(1, cache_bytes)))
    return handle


class OpenSlideSource:
    """All levels of a file through OpenSlide. Thread-safe.

    A failed read leaves an OpenSlide handle unusable for good, for all threads. The damaged cells
    are then found one by one with a handle that nobody else uses, and remembered.

    Parameters
    ----------
    path : str
        The file.
    cache_bytes : int
        Bound of OpenSlide's own tile cache.
    background : tuple of int
        Grey levels (R, G, B) of what was not scanned.
    colour : Colour or None
        Applied to scanned pixels.
    tiles : JpegTiles or None
        The file's tile directory where the direct path knows it: libtiff decodes cut tiles
        without complaint, so that damage is told by the same rule whatever the reader.
    """

    def __init__(
        self,
        path: str,
        cache_bytes: int,
        background: tuple[int, int, int],
        colour: Colour | None = None,
        tiles: JpegTiles | None = None,
    ) -> None:
        self._path = path
        self._cache_bytes = cache_bytes
        self._background = background
        self._colour = colour
        self._ycbcr: frozenset[int] = frozenset()
        self._tiles = tiles
        self._lock = threading.Lock()
        self._handle = open_handle(path, cache_bytes)
        self._sizes = tuple((int(w), int(h)) for w, h in self._handle.level_dimensions)
        self._downsamples = tuple(float(d) for d in self._handle.level_downsamples)
        self._cells = [_cell_size(self._handle, k) for k in range(len(self._sizes))]
        if tiles is not None:
            self._cells[0] = (tiles.layout.tile_w, tiles.layout.tile_h)
        #: (level, column, row) of cells that cannot be read, and of those whose bytes were seen
        self._bad: set[tuple[int, int, int]] = set()
        self._seen: set[tuple[int, int, int]] = set()

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(width, height) of every level, level 0 first."""
        return self._sizes

    def read_into(self, level: int, box: Box, out: Pixels) -> list[Box]:
        """See `Source.read_into`."""
        bad: list[Box] = []
        for strip in _strips(box, self._cells[level][1]):
            target = out[strip.y0 - box.y0 : strip.y1 - box.y0]
            if not self._suspect(level, strip):
                handle = self._handle
                try:
                    self._read(handle, level, strip, target)
                    continue
                except openslide.OpenSlideError:
                    self._replace(handle)
            bad += self._read_cells(level, strip, target)
        return bad

    def take_as_ycbcr(self, levels: frozenset[int]) -> None:
        """See `Source.take_as_ycbcr`."""
        self._ycbcr = levels

    def close(self) -> None:
        """Close the handle."""
        self._handle.close()
        if self._tiles is not None:
            self._tiles.close()

    def _read(self, handle: openslide.OpenSlide, level: int, box: Box, out: Pixels) -> None:
        argb = _read_argb(handle, level, self._downsamples[level], box)
        clear = argb_over(argb, self._background, out)
        colour = colour_of(level in self._ycbcr, self._colour)
        if colour is not None:
            out[...] = colour(np.ascontiguousarray(out))
            if clear:
                out[argb < 0x01000000] = self._background

    def _suspect(self, level: int, box: Box) -> bool:
        """Tell whether a box touches a cell that is known, or found by its bytes, to be bad."""
        keys = [(level, col, row) for col, row, _ in cells_of(box, *self._cells[level])]
        if level == 0 and self._tiles is not None:
            for key in keys:
                if key not in self._seen:
                    if not self._tiles.whole(key[2] * self._tiles.cols + key[1]):
                        self._bad.add(key)
                    self._seen.add(key)
        return any(key in self._bad for key in keys)

    def _read_cells(self, level: int, box: Box, out: Pixels) -> list[Box]:
        """Read cell by cell with a handle of its own; return what cannot be read."""
        bad: list[Box] = []
        handle = open_handle(self._path, 1 << 20)
        try:
            for col, row, part in cells_of(box, *self._cells[level]):
                to = part.shift(-box.x0, -box.y0)
                target = out[to.y0 : to.y1, to.x0 : to.x1]
                if (level, col, row) not in self._bad:
                    try:
                        self._read(handle, level, part, target)
                        continue
                    except openslide.OpenSlideError:
                        handle.close()
                        handle = open_handle(self._path, 1 << 20)
                self._bad.add((level, col, row))
                paint(target, self._background)
                bad.append(part)
        finally:
            handle.close()
        return bad

    def _replace(self, failed: openslide.OpenSlide) -> None:
        """Put a fresh handle where another thread has not done so yet."""
        with self._lock:
            if self._handle is failed:
                # the old one is closed when the last thread that reads from it lets go
                self._handle = open_handle(self._path, self._cache_bytes)


def _read_argb(
    handle: openslide.OpenSlide, level: int, downsample: float, box: Box
) -> npt.NDArray[np.uint32]:
    """Return premultiplied ARGB words (h, w), as OpenSlide's C function writes them."""
    x, y = round(box.x0 * downsample), round(box.y0 * downsample)
    raw = getattr(lowlevel, "_read_region", None)
    osr = getattr(handle, "_osr", None)
    if raw is None or osr is None:  # a later openslide-python: its public, slower way
        rgba = np.array(handle.read_region((x, y), level, (box.width, box.height)), np.uint32)
        alpha = rgba[..., 3:]
        rgb = (rgba[..., :3] * alpha + 127) // 255
        word = alpha[..., 0] << 24 | rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
        return np.ascontiguousarray(word, np.uint32)
    argb = np.empty((box.height, box.width), np.uint32)
    raw(osr, argb.ctypes.data_as(_UINT32_P), x, y, level, box.width, box.height)
    return argb


def _cell_size(handle: openslide.OpenSlide, level: int) -> tuple[int, int]:
    """Return the tile size of a level, with very flat tiles (NDPI) taken several at a time."""
    width, height = (
        int(handle.properties.get(f"openslide.level[{level}].tile-{side}", CELL_PX))
        for side in ("width", "height")
    )
    width, height = max(1, width), max(1, height)
    return width, height * -(-64 // height)


def _strips(box: Box, row_height: int) -> Iterator[Box]:
    """Cut a box into strips of whole tile rows, each of at most about `STRIP_PX` pixels."""
    step = max(1, STRIP_PX // max(1, box.width) // row_height) * row_height
    y0 = box.y0
    while y0 < box.y1:
        y1 = min(box.y1, (y0 // step + 1) * step)
        yield Box(box.x0, y0, box.x1, y1)
        y0 = y1
