"""Where nuclei are: the finder runs over a block's grid, and its peaks are the nuclei.

The net uses no padding and its windows begin at multiples of 8 grid points, so that what a point
says depends on the 35 points before and the 32 behind it alone, wherever a window begins.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from her2path.cells.reading.inputs import CHANNELS, GRID_UM, INPUT_GAIN, grid_inputs
from her2path.cells.reading.nets import run_finder

__all__ = ["MARGIN_UM", "Peaks", "find_peaks"]

F32 = NDArray[np.float32]
#: first and end of rows, and of columns
Core = tuple[tuple[int, int], tuple[int, int]]

#: grid points around a window that its answer needs, windows' grain, and their largest side
MARGIN, GRAIN, WINDOW = 32, 8, 656
#: what a find depends on around it, µm: the net, the peak's disc, a pixel
MARGIN_UM = (MARGIN + 8) * GRID_UM
#: two nuclei lie no nearer than this, µm: the lower peak of two is part of the higher one
APART_UM = 2.6
#: a nucleus has hematoxylin above this (OD) within 3.2 µm; the heat of what has none
LEAST_H, NEAR, GLASS = 0.03, np.ones((9, 9), np.uint8), np.float32(-20.0)
#: finds below this are none, whatever the sensitivity; log odds 0 is even
LOWEST = -4.0


@dataclass(frozen=True)
class Peaks:
    """N finds of a block, sorted by row, then column of the grid.

    Attributes
    ----------
    x, y : float64 (N,)
        Centres, absolute µm from the slide's corner.
    heat : float32 (N,)
        Log odds of a nucleus.
    kind : float32 (N, 3)
        Logits of tumour, other, nothing.
    features : float32 (N, 24)
        What the finder hands to the reader.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    heat: F32
    kind: F32
    features: F32

    def take(self, which: NDArray[np.bool_] | slice) -> Peaks:
        """Return some of the finds."""
        return Peaks(**{name: getattr(self, name)[which] for name in self.__dataclass_fields__})


def find_peaks(
    planes: F32, mpp_a: float, origin: tuple[int, int], least: float, core: Core | None = None
) -> Peaks:
    """Find the nuclei of a block.

    Parameters
    ----------
    planes : float32 (3, H, W)
        Hematoxylin, DAB, residual, OD, on the analysis plane.
    mpp_a : float
        µm per analysis pixel.
    origin : (int, int)
        Absolute analysis pixel (y, x) of pixel (0, 0).
    least : float
        Log odds that a find needs.
    core : ((int, int), (int, int)), optional
        Rows and columns of ``planes``, first and end, in which finds are wanted: the net runs there
        and where those finds look, and finds outside are left out or are unsure. All by default.

    Returns
    -------
    Peaks
        Those within `MARGIN_UM` of the planes' edge depend on where the block was cut, unless
        the slide ends there.
    """
    rows = _span(origin[0], planes.shape[1], mpp_a, core and core[0])
    columns = _span(origin[1], planes.shape[2], mpp_a, core and core[1])
    shape = rows[1] - rows[0], columns[1] - columns[0]
    heat = np.full(shape, GLASS, np.float32)
    kind = np.zeros((3, shape[0] // 2, shape[1] // 2), np.float32)
    features: F32 | None = None
    for above, below in _windows(*rows):
        for before, behind in _windows(*columns):
            x = grid_inputs(
                planes, mpp_a, origin,
                (above - MARGIN, before - MARGIN,
                 below - above + 2 * MARGIN, behind - before + 2 * MARGIN),
            )  # fmt: skip
            blue = x[0] >= LEAST_H * INPUT_GAIN[0]
            if not blue.any():
                continue
            said = run_finder(x)
            # a window of glass is not run: what has no hematoxylin near is none in any window
            near = cv2.dilate(blue.astype(np.uint8), NEAR)[MARGIN:-MARGIN, MARGIN:-MARGIN]
            said[0][near == 0] = GLASS
            if features is None:
                features = np.zeros((len(said[2]), *kind.shape[1:]), np.float32)
            here = np.s_[
                above - rows[0] : below - rows[0], before - columns[0] : behind - columns[0]
            ]
            half = tuple(slice(s.start // 2, s.stop // 2) for s in here)
            heat[here] = said[0]
            kind[(slice(None), *half)] = said[1]
            features[(slice(None), *half)] = said[2]
    if features is None:
        return _nothing()
    found = np.empty((shape[0] * shape[1] // 8 + 16, 2), np.int64)
    place = np.empty((len(found), 2), np.float64)
    count = _peaks(heat, max(least, LOWEST), APART_UM / GRID_UM, found, place)
    found, place = found[:count], place[:count]
    j, i = found[:, 0] // 2, found[:, 1] // 2
    return Peaks(
        # whole numbers first: no rounding depends on where the block begins
        x=((found[:, 1] + columns[0]) + (place[:, 1] + 0.5)) * GRID_UM,
        y=((found[:, 0] + rows[0]) + (place[:, 0] + 0.5)) * GRID_UM,
        heat=heat[found[:, 0], found[:, 1]],
        kind=np.ascontiguousarray(kind[:, j, i].T),
        features=np.ascontiguousarray(features[:, j, i].T),
    )


def _nothing() -> Peaks:
    none = np.zeros(0)
    few = none.astype(np.float32)
    return Peaks(none, none, few, np.zeros((0, 3), np.float32), np.zeros((0, 24), np.float32))


def _span(origin: int, pixels: int, mpp_a: float, core: tuple[int, int] | None) -> tuple[int, int]:
    """Return the grid lines that cover a block, or what its core's finds look at, by grains."""
    low = math.floor(origin * mpp_a / GRID_UM / GRAIN) * GRAIN
    high = math.ceil((origin + pixels) * mpp_a / GRID_UM / GRAIN) * GRAIN
    if core is None:
        return low, high
    first, end = (math.floor((origin + v) * mpp_a / GRID_UM / GRAIN) * GRAIN for v in core)
    # a peak's disc and its summit look less than a grain beyond it
    return max(low, first - GRAIN), min(high, end + 2 * GRAIN)


def _windows(low: int, high: int) -> list[tuple[int, int]]:
    """Cut grid lines into nearly equal windows of at most `WINDOW`, in whole grains."""
    grains = (high - low) // GRAIN
    parts = max(1, -(-(high - low) // WINDOW))
    cuts = [low + GRAIN * (grains * k // parts) for k in range(parts + 1)]
    return list(itertools.pairwise(cuts))


@njit(cache=True, nogil=True, error_model="numpy")
def _peaks(heat, least, apart, found, place):  # type: ignore[no-untyped-def]
    """Write the maxima within a disc, and how far off their tops lie; return how many."""
    height, width = heat.shape
    reach = int(np.ceil(apart))
    count = 0
    for j in range(height):
        for i in range(width):
            value = heat[j, i]
            if value < least or count >= len(found):
                continue
            top = True
            for v in range(max(j - reach, 0), min(j + reach + 1, height)):
                for u in range(max(i - reach, 0), min(i + reach + 1, width)):
                    if (v - j) ** 2 + (u - i) ** 2 > apart * apart:
                        continue
                    # of equals the first one stands
                    other = heat[v, u]
                    if other > value or (other == value and (v, u) < (j, i)):
                        top = False
                        break
                if not top:
                    break
            if not top:
                continue
            found[count, 0], found[count, 1] = j, i
            place[count, 0] = _summit(heat, j, i, 1, 0)
            place[count, 1] = _summit(heat, j, i, 0, 1)
            count += 1
    return count


@njit(cache=True, nogil=True, error_model="numpy")
def _summit(heat, j, i, dj, di):  # type: ignore[no-untyped-def]
    """Return where a parabola through three points has its top, within half a point."""
    height, width = heat.shape
    if j < dj or j + dj >= height or i < di or i + di >= width:
        return 0.0
    low, top, high = heat[j - dj, i - di], heat[j, i], heat[j + dj, i + di]
    bend = low - 2.0 * top + high
    if bend >= -1e-6:
        return 0.0
    return min(max(0.5 * (low - high) / bend, -0.5), 0.5)


assert CHANNELS == 4  # the net's first layer
