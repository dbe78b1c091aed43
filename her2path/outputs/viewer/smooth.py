"""A continuous map of a measure: the mean around each place, cells weighted by their distance."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from her2path.outputs.viewer.index import CellIndex

__all__ = ["BIN_UM", "KERNEL_UM", "Smooth"]

#: side of a bin, and width (one sigma) of the Gaussian that is laid over each cell, µm
BIN_UM, KERNEL_UM = 16.0, 32.0
#: shown fully where there is one cell in a square of this side, and not at all below half of that
_FADE_UM = 48.0
_ALPHA = 175


class Smooth:
    """One measure, smoothed (Nadaraya-Watson: sum of weighted values over sum of weights).

    Parameters
    ----------
    index : CellIndex
    values : (n,) float32
        NaN where a cell has none.
    width_px, height_px : int
        Level-0 plane.

    References
    ----------
    Nadaraya EA (1964), On estimating regression, Theory Probab Appl 9:141-142.
    """

    def __init__(
        self, index: CellIndex, values: NDArray[np.float32], width_px: int, height_px: int
    ) -> None:
        self._bin_px = BIN_UM / index.mpp
        size = (int(np.ceil(height_px / self._bin_px)) or 1,
                int(np.ceil(width_px / self._bin_px)) or 1)  # fmt: skip
        known = np.flatnonzero(np.isfinite(values))
        column, row = (
            np.clip((getattr(index.cells, a)[known] / self._bin_px).astype(np.int64), 0, n - 1)
            for a, n in (("x_px", size[1]), ("y_px", size[0]))
        )
        flat = row * size[1] + column
        fine = size[0] * size[1]
        weight = np.bincount(flat, minlength=fine).reshape(size).astype(np.float32)
        total = np.bincount(flat, weights=values[known], minlength=fine).reshape(size)
        self._levels = [(_blur(total.astype(np.float32)), _blur(weight))]
        while max(self._levels[-1][0].shape) > 64:
            self._levels.append(tuple(_halve(v) for v in self._levels[-1]))  # type: ignore[arg-type]

    def tile(
        self, origin: tuple[float, float], step: float, side: int
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return a tile's mean values, (side, side) float32, and how visible they are, uint8.

        ``step`` is level-0 px per tile px.
        """
        level = int(np.clip(np.floor(np.log2(max(step / self._bin_px, 1e-9))) + 1, 0,
                            len(self._levels) - 1))  # fmt: skip
        size = self._bin_px * 2**level
        shift = [(o + 0.5 * step) / size - 0.5 for o in origin]
        move = np.array([[step / size, 0, shift[0]], [0, step / size, shift[1]]])
        total, weight = (
            cv2.warpAffine(v, move, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                           borderMode=cv2.BORDER_CONSTANT, borderValue=0)
            for v in self._levels[level]
        )  # fmt: skip
        mean = total / np.maximum(weight, 1e-9)
        seen = np.clip(2 * weight * (_FADE_UM / BIN_UM) ** 2 - 1, 0, 1)
        return mean.astype(np.float32), np.asarray(np.round(_ALPHA * seen), np.uint8)


def _blur(values: NDArray[np.float32]) -> NDArray[np.float32]:
    sigma = KERNEL_UM / BIN_UM
    blurred = cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(blurred, np.float32)


def _halve(values: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, columns = values.shape
    even = np.pad(values, ((0, rows % 2), (0, columns % 2)))
    r, c = even.shape
    return np.asarray(even.reshape(r // 2, 2, c // 2, 2).mean(axis=(1, 3)), np.float32)
