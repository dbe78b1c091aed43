"""An open slide: level-0 square pixels, area averages, overviews."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import NoReturn

import numpy as np

from her2path.core.errors import UsageError
from her2path.core.geometry import Box
from her2path.io.slide.cache import Pixels
from her2path.io.slide.plane import LevelPlane, scaled
from her2path.io.slide.ref import SlideInfo
from her2path.io.slide.resample import block_mean
from her2path.io.slide.source import Source, paint

__all__ = ["MAX_FACTOR", "Slide"]

#: pixels of level 0 held at a time while averaging
STRIP_PX = 1 << 22
#: an overview is averaged from a finer level than it must where that level has no more pixels
CHEAP_PX = 24_000_000
#: the largest whole-number reduction whose sums fit 32 bits
MAX_FACTOR = 4096


class Slide:
    """An open slide; made by `open_slide`. Thread-safe, not picklable: pass its `SlideRef`.

    Parameters
    ----------
    info : SlideInfo
        What is known of it.
    source : Source
        Decodes the file's own pixels.
    planes : tuple of LevelPlane
        Its levels as square pixels.

    Notes
    -----
    A tile that cannot be decoded does not stop a read: it is filled with the background and noted
    for the thread that read it, until `take_bad_boxes` hands the notes over.
    """

    def __init__(self, info: SlideInfo, source: Source, planes: tuple[LevelPlane, ...]) -> None:
        self.info = info
        self._source = source
        self._planes = planes
        self._local = threading.local()

    @property
    def source(self) -> Source:
        """What decodes the file's own pixels."""
        return self._source

    def read(self, box: Box, out: Pixels | None = None) -> Pixels:
        """Return level-0 pixels.

        Parameters
        ----------
        box : Box
            Any box; what lies outside the slide is background.
        out : uint8 (h, w, 3), optional
            Memory to write them to.

        Returns
        -------
        uint8 (h, w, 3)
            RGB.
        """
        return self.level_read(0, box, out)

    def level_read(self, level: int, box: Box, out: Pixels | None = None) -> Pixels:
        """Return pixels of one level of the pyramid, uint8 (h, w, 3); ``box`` counts its pixels."""
        if out is None:
            out = np.empty((max(0, box.height), max(0, box.width), 3), np.uint8)
        self._bad().update(self._read_into(self._planes[level], box, out))
        return out

    def read_down(self, box: Box, factor: int) -> Pixels:
        """Return level 0 averaged over ``factor`` x ``factor`` pixels.

        Parameters
        ----------
        box : Box
            Level-0 pixels; its corners are multiples of ``factor``.
        factor : int
            Whole-number reduction, 1 to `MAX_FACTOR`.

        Returns
        -------
        uint8 (h / factor, w / factor, 3)
            ``(sum + factor**2 // 2) // factor**2`` per channel, whatever the box.

        Raises
        ------
        UsageError
            When the box is not aligned or the factor out of range.
        """
        if not 1 <= factor <= MAX_FACTOR:
            raise UsageError(f"a reduction by {factor} is not possible", f"Use 1 to {MAX_FACTOR}")
        if any(v % factor for v in (box.x0, box.y0, box.x1, box.y1)):
            raise UsageError(f"{box} is not aligned to {factor} px", "Use multiples of the factor")
        return self.read(box) if factor == 1 else self._averaged(self._planes[0], box, factor)

    def overview(self, max_px: int, threads: int = 1) -> tuple[Pixels, float]:
        """Return the whole slide, small.

        Parameters
        ----------
        max_px : int
            The longer side is at most this.
        threads : int
            How many threads decode.

        Returns
        -------
        uint8 (h, w, 3)
            RGB, averaged from the coarsest level that is fine enough.
        float
            Downsample: pixel ``(i, j)`` shows level-0 pixels from ``(i, j)`` times this.
        """
        longest = max(self.info.width_px, self.info.height_px)
        level = self._level_for(max(1.0, longest / max(1, max_px)), max_px)
        plane = self._planes[level]
        factor = max(1, -(-max(plane.width, plane.height) // max(1, max_px)))
        down = self.info.levels[level] * factor
        if factor == 1:
            return self.level_read(level, plane.extent), down
        return self._averaged(plane, plane.extent, factor, threads), down

    def _level_for(self, wanted: float, max_px: int) -> int:
        """Return the level from which an overview reduced by ``wanted`` is averaged."""
        level = max(k for k, d in enumerate(self.info.levels) if d <= wanted or k == 0)
        plane = self._planes[level]
        if max(plane.width, plane.height) <= max_px:
            return level
        # averaging at least three pixels a side wastes little of max_px, where it is cheap
        finer = max(k for k, d in enumerate(self.info.levels) if d <= wanted / 3 or k == 0)
        plane = self._planes[finer]
        return finer if plane.width * plane.height <= CHEAP_PX else level

    def take_bad_boxes(self) -> list[Box]:
        """Return, and forget, what this thread could not read: level-0 boxes, sorted."""
        found = sorted(self._bad())
        self._local.bad = set()
        return found

    def close(self) -> None:
        """Give back files and memory; the slide cannot be read afterwards."""
        self._source.close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("an open slide cannot be pickled: pass its SlideRef and use get_slide")

    def _bad(self) -> set[Box]:
        if not hasattr(self._local, "bad"):
            self._local.bad = set()
        bad: set[Box] = self._local.bad
        return bad

    def _read_into(self, plane: LevelPlane, box: Box, out: Pixels) -> list[Box]:
        """Fill ``out``; return what could not be read, level-0 boxes."""
        inside = box.clip(plane.extent)
        if inside != box:
            paint(out, self.info.background)
        if inside.empty:
            return []
        to = inside.shift(-box.x0, -box.y0)
        found = plane.read_into(self._source, inside, out[to.y0 : to.y1, to.x0 : to.x1])
        full = self._planes[0]
        if plane is full:
            return found
        sx, sy = full.width / plane.width, full.height / plane.height
        return [scaled(b, sx, sy).clip(full.extent) for b in found]

    def _averaged(self, plane: LevelPlane, box: Box, factor: int, threads: int = 1) -> Pixels:
        """Average a level strip by strip; a thread holds `STRIP_PX` (or ``factor`` rows)."""
        rows, cols = -(-box.height // factor), -(-box.width // factor)
        out = np.empty((max(0, rows), max(0, cols), 3), np.uint8)
        step = max(1, STRIP_PX // max(1, box.width * factor))

        def average(row: int) -> list[Box]:
            last = min(rows, row + step)
            y0, y1 = box.y0 + row * factor, min(box.y1, box.y0 + last * factor)
            strip = np.empty((y1 - y0, box.width, 3), np.uint8)
            bad = self._read_into(plane, Box(box.x0, y0, box.x1, y1), strip)
            block_mean(strip, factor, out[row:last])
            return bad

        with ThreadPoolExecutor(max(1, threads)) as pool:
            for bad in pool.map(average, range(0, rows, step)):
                self._bad().update(bad)
        return out
