"""Cells seen from afar: how many of each class lie in a bin, and what colour that is."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from her2path.outputs.palette import SCORE_COLOURS, rgb
from her2path.outputs.viewer.index import CLASSES, OTHER, Cells

__all__ = ["Heat"]

#: side of the finest bin, µm
BIN_UM = 16.0
_COLOURS = np.array([rgb(c) for c in SCORE_COLOURS.values()], np.float64)


class Heat:
    """Counts of cells by class in square bins, at every power of two.

    Parameters
    ----------
    cells : Cells
        All cells.
    width_px, height_px : int
        Level-0 plane.
    mpp : float
        µm per level-0 px.
    """

    def __init__(self, cells: Cells, width_px: int, height_px: int, mpp: float) -> None:
        self.bin_px = BIN_UM / mpp
        columns = int(np.ceil(width_px / self.bin_px)) or 1
        rows = int(np.ceil(height_px / self.bin_px)) or 1
        column = np.clip((cells.x_px / self.bin_px).astype(np.int64), 0, columns - 1)
        row = np.clip((cells.y_px / self.bin_px).astype(np.int64), 0, rows - 1)
        flat = (cells.kind.astype(np.int64) * rows + row) * columns + column
        counts = np.bincount(flat, minlength=CLASSES * rows * columns)
        self._levels = [counts.reshape(CLASSES, rows, columns).astype(np.int32)]
        while max(self._levels[-1].shape[1:]) > 64:
            self._levels.append(_halve(self._levels[-1]))
        # what a pattern scores depends on the guideline: the table knows
        self._score = np.zeros(CLASSES)
        for kind in range(OTHER):
            mine = cells.score[cells.kind == kind]
            self._score[kind] = mine[0] if len(mine) else 0

    def _bins(self, origin: tuple[float, float], step: float, side: int) -> NDArray[np.int32]:
        """Return counts for each pixel of a tile, (classes, side, side)."""
        # bins are drawn 4 px wide or wider: finer ones would be noise
        level = int(
            np.clip(np.ceil(np.log2(max(4 * step / self.bin_px, 1))), 0, len(self._levels) - 1)
        )
        counts, size = self._levels[level], self.bin_px * 2**level
        at = (np.arange(side) + 0.5) * step
        columns = np.floor((origin[0] + at) / size).astype(np.int64)
        rows = np.floor((origin[1] + at) / size).astype(np.int64)
        inside = np.ix_(
            (rows >= 0) & (rows < counts.shape[1]), (columns >= 0) & (columns < counts.shape[2])
        )
        out = np.zeros((CLASSES, side, side), np.int32)
        taken = counts[:, rows[inside[0][:, 0]]][:, :, columns[inside[1][0]]]
        out[:, inside[0], inside[1]] = taken
        return out

    def scores(
        self, origin: tuple[float, float], step: float, side: int, shown: NDArray[np.bool_]
    ) -> NDArray[np.uint8]:
        """Return a tile coloured by the mean score of the shown classes, (side, side, 4) RGBA.

        ``step`` is level-0 px per tile px, ``shown`` (classes,) says which classes count.
        """
        counts = self._bins(origin, step, side)[:OTHER] * shown[:OTHER, None, None]
        total = counts.sum(axis=0)
        mean = np.einsum("k,kyx->yx", self._score[:OTHER], counts) / np.maximum(total, 1)
        low = np.minimum(mean.astype(int), 2)
        part = (mean - low)[..., None]
        colour = _COLOURS[low] * (1 - part) + _COLOURS[low + 1] * part
        alpha = np.where(total > 0, 170, 0)
        return np.dstack([colour, alpha]).round().astype(np.uint8)

    def tumour_bins(self) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
        """Return where at least half of the cells are tumour cells, by bins, and how many."""
        counts = self._levels[0]
        tumour = counts[:OTHER].sum(axis=0)
        total = counts.sum(axis=0)
        return (2 * tumour >= total) & (total > 0), tumour.astype(np.int32)

    def tumour(self, origin: tuple[float, float], step: float, side: int) -> NDArray[np.uint8]:
        """Return a tile that shows where at least half of the cells are tumour cells, RGBA."""
        counts = self._bins(origin, step, side)
        here = 2 * counts[:OTHER].sum(axis=0) >= counts.sum(axis=0)
        here &= counts.sum(axis=0) > 0
        out = np.zeros((side, side, 4), np.uint8)
        out[here] = (20, 140, 90, 90)
        around = np.ones((3, 3), np.uint8)
        edge = cv2.morphologyEx(here.astype(np.uint8), cv2.MORPH_GRADIENT, around)
        out[(edge > 0) & here] = (10, 90, 60, 230)
        return out


def _halve(counts: NDArray[np.int32]) -> NDArray[np.int32]:
    _, rows, columns = counts.shape
    even = np.pad(counts, ((0, 0), (0, rows % 2), (0, columns % 2)))
    k, r, c = even.shape
    return even.reshape(k, r // 2, 2, c // 2, 2).sum(axis=(2, 4), dtype=np.int32)
