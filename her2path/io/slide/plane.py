"""The plane of square pixels, and reads on it from the file's own pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from her2path.core.geometry import Box, squared_px
from her2path.io.slide.cache import Pixels
from her2path.io.slide.resample import axis, bilinear
from her2path.io.slide.source import Source

__all__ = ["LevelPlane", "level_planes"]

#: pixels of the file held at a time while resampling
STRIP_PX = 1 << 22


@dataclass(frozen=True)
class LevelPlane:
    """One level, as square pixels: its size there and in the file."""

    level: int
    width: int
    height: int
    file_width: int
    file_height: int

    @property
    def square(self) -> bool:
        """Whether the file's own pixels are the plane's."""
        return (self.width, self.height) == (self.file_width, self.file_height)

    @property
    def extent(self) -> Box:
        """The whole level."""
        return Box(0, 0, self.width, self.height)

    def read_into(self, source: Source, box: Box, out: Pixels) -> list[Box]:
        """Write ``box`` (inside the level) into ``out``; return what cannot be decoded.

        Oblong pixels are resampled by bilinear interpolation at positions that depend on the
        global coordinates alone.
        """
        if self.square:
            return source.read_into(self.level, box, out)
        bad: list[Box] = []
        rx, ry = self.file_width / self.width, self.file_height / self.height
        xs = axis(box.x0, box.x1, rx, self.file_width)
        step = max(1, STRIP_PX // max(1, box.width))
        for y0 in range(box.y0, box.y1, step):
            y1 = min(box.y1, y0 + step)
            ys = axis(y0, y1, ry, self.file_height)
            need = Box(
                int(xs[0].min()), int(ys[0].min()), int(xs[1].max()) + 1, int(ys[1].max()) + 1
            )
            held = np.empty((need.height, need.width, 3), np.uint8)
            bad += [self._from_file(b) for b in source.read_into(self.level, need, held)]
            local_x = (xs[0] - need.x0, xs[1] - need.x0, xs[2])
            local_y = (ys[0] - need.y0, ys[1] - need.y0, ys[2])
            bilinear(held, local_x, local_y, out[y0 - box.y0 : y1 - box.y0])
        return bad

    def _from_file(self, box: Box) -> Box:
        """Return the plane's pixels that a box of file pixels touches."""
        return scaled(box, self.width / self.file_width, self.height / self.file_height).clip(
            self.extent
        )


def scaled(box: Box, sx: float, sy: float) -> Box:
    """Return the smallest box that holds ``box`` after scaling."""
    return Box(
        int(np.floor(box.x0 * sx)),
        int(np.floor(box.y0 * sy)),
        int(np.ceil(box.x1 * sx)),
        int(np.ceil(box.y1 * sy)),
    )


def level_planes(
    sizes: tuple[tuple[int, int], ...], mpp_x: float, mpp_y: float
) -> tuple[LevelPlane, ...]:
    """Return the plane of every level for a file whose pixels are ``mpp_x`` by ``mpp_y`` µm."""
    mpp = min(mpp_x, mpp_y)
    planes = []
    for level, (w, h) in enumerate(sizes):
        size = squared_px(w, mpp_x, mpp), squared_px(h, mpp_y, mpp)
        planes.append(LevelPlane(level, *size, w, h))
    return tuple(planes)
