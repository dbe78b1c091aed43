"""What the nets see: the stain planes on an absolute grid, and around a cell in polar form.

The finder's grid has one spacing on every slide. A point's place is computed from its absolute
number, so that its value does not depend on the block it is computed in. A cell is sampled relative
to its own whole pixel, for the same reason.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from her2path.core._scratch import scratch

__all__ = [
    "CHANNELS",
    "GRID_UM",
    "PLACES",
    "RADII",
    "RADIUS_UM",
    "STEP_UM",
    "WRAP",
    "grid_inputs",
    "pack_planes",
    "place_angles",
    "polar_stains",
    "sample_polar",
    "to_channels",
]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

#: spacing of the finder's grid, µm
GRID_UM = 0.8
#: half the distance of the two samples whose mean is a grid point, µm: against aliasing
SPREAD_UM = 0.2
#: directions around a cell, and how many are repeated at either end for the net
PLACES, WRAP = 24, 3
#: radii around a cell, their number and step, µm; the farthest that a cell is seen
RADII, STEP_UM = 32, 0.45
RADIUS_UM = RADII * STEP_UM
#: channels of both nets: hematoxylin, faint DAB, strong DAB, residual
CHANNELS = 4
#: gain, least and most of each channel; which plane (H, DAB, residual) it shows
INPUT_GAIN = np.array([2.5, 10.0, 1.5, 10.0], np.float32)
LOWEST_INPUT = np.array([-0.5, -1.0, -0.3, -2.0], np.float32)
HIGHEST_INPUT = np.array([2.5, 3.0, 3.0, 2.0], np.float32)
PLANE = np.array([0, 1, 1, 2], np.int64)


def place_angles(places: int = PLACES) -> F64:
    """Return the directions of the places, radians, clockwise on screen from +x."""
    return np.arange(places, dtype=np.float64) * (2 * np.pi / places)


def grid_inputs(
    planes: F32, mpp_a: float, origin: tuple[int, int], box: tuple[int, int, int, int]
) -> F32:
    """Return the finder's input on a part of its absolute grid.

    Parameters
    ----------
    planes : float32 (3, H, W)
        Hematoxylin, DAB, residual, OD, on the analysis plane.
    mpp_a : float
        µm per analysis pixel.
    origin : (int, int)
        Absolute analysis pixel (y, x) of pixel (0, 0).
    box : (int, int, int, int)
        Grid rows and columns: first row, first column, number of rows, number of columns. What
        lies outside the planes is empty glass.

    Returns
    -------
    float32 (4, rows, columns)
    """
    row, column, rows, columns = box
    at_y, by_y = _taps(row, rows, mpp_a, origin[0])
    at_x, by_x = _taps(column, columns, mpp_a, origin[1])
    out = np.empty((CHANNELS, rows, columns), np.float32)
    _resample(np.ascontiguousarray(planes, np.float32), at_y, by_y, at_x, by_x, out)
    return out


def _taps(first: int, count: int, mpp_a: float, origin: int) -> tuple[I64, F32]:
    """Return the first pixel (local) and the four weights of every grid line."""
    middle = (np.arange(first, first + count) + 0.5) * GRID_UM
    start = np.floor((middle - SPREAD_UM) / mpp_a - 0.5).astype(np.int64)
    weights = np.zeros((count, 4), np.float64)
    lines = np.arange(count)
    for side in (-SPREAD_UM, SPREAD_UM):
        place = (middle + side) / mpp_a - 0.5
        low = np.floor(place)
        # two samples are at most 1.5 pixels apart: four taps hold both
        at = np.minimum(low.astype(np.int64) - start, 2)
        rest = place - low
        weights[lines, at] += 0.5 * (1 - rest)
        weights[lines, at + 1] += 0.5 * rest
    return start - origin, weights.astype(np.float32)


@njit(cache=True, nogil=True, error_model="numpy")
def _resample(planes, at_y, by_y, at_x, by_x, out):  # type: ignore[no-untyped-def]
    height, width = planes.shape[1], planes.shape[2]
    line = np.empty((3, width), np.float32)
    sums = np.empty(3, np.float32)
    for j in range(out.shape[1]):
        for p in range(3):
            for x in range(width):
                line[p, x] = 0.0
            for v in range(4):
                y = at_y[j] + v
                if 0 <= y < height and by_y[j, v] != 0.0:
                    w = by_y[j, v]
                    for x in range(width):
                        line[p, x] += w * planes[p, y, x]
        for i in range(out.shape[2]):
            for p in range(3):
                total = np.float32(0.0)
                for u in range(4):
                    x = at_x[i] + u
                    if 0 <= x < width:
                        total += by_x[i, u] * line[p, x]
                sums[p] = total
            for c in range(out.shape[0]):
                value = INPUT_GAIN[c] * sums[PLANE[c]]
                out[c, j, i] = min(max(value, LOWEST_INPUT[c]), HIGHEST_INPUT[c])


def polar_stains(planes: F32, x: F64, y: F64, mpp_a: float, angles: F64) -> F32:
    """Return the stain around cells in polar form.

    Parameters
    ----------
    planes : float32 (3, H, W)
        Hematoxylin, DAB, residual, OD, on the analysis plane.
    x, y : float64 (N,)
        Centres, analysis pixels, multiples of 1/16.
    mpp_a : float
        µm per analysis pixel.
    angles : float64 (A,)
        Directions, radians.

    Returns
    -------
    float32 (N, 3, A, 32)
        OD at radii ``(k + 0.5) * STEP_UM``; the border's value outside the planes.
    """
    packed = pack_planes(planes)
    return sample_polar(packed, x, y, mpp_a, angles)


def pack_planes(planes: F32) -> F32:
    """Return stain planes (3, H, W) pixel by pixel, (H, W, 4): a sample is read in one go.

    The fourth value is padding, never read or written.

    The memory is this thread's own, until the next call.
    """
    packed = scratch("packed", (*planes.shape[1:], 4))
    _pack(np.ascontiguousarray(planes, np.float32), packed)
    return packed


def sample_polar(packed: F32, x: F64, y: F64, mpp_a: float, angles: F64) -> F32:
    """Return what `polar_stains` does, from the planes as `pack_planes` lays them."""
    out = np.empty((len(x), 3, len(angles), RADII), np.float32)
    way = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    _polar(packed, x, y, way, np.float32(STEP_UM / mpp_a), out)
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _pack(planes, packed):  # type: ignore[no-untyped-def]
    for y in range(packed.shape[0]):
        for x in range(packed.shape[1]):
            for p in range(3):
                packed[y, x, p] = planes[p, y, x]


@njit(cache=True, nogil=True, error_model="numpy")
def _polar(packed, xs, ys, way, step, out):  # type: ignore[no-untyped-def]
    height, width = packed.shape[0], packed.shape[1]
    for n in range(xs.size):
        ix, iy = int(np.floor(xs[n])), int(np.floor(ys[n]))
        fx, fy = np.float32(xs[n] - ix), np.float32(ys[n] - iy)
        for k in range(way[0].size):
            c, s = way[0][k], way[1][k]
            for q in range(RADII):
                r = (np.float32(q) + np.float32(0.5)) * step
                px, py = fx + r * c, fy + r * s
                floor_x, floor_y = np.floor(px), np.floor(py)
                gx, gy = px - floor_x, py - floor_y
                x1, y1 = int(floor_x) + ix + 1, int(floor_y) + iy + 1
                x0, y0 = min(max(x1 - 1, 0), width - 1), min(max(y1 - 1, 0), height - 1)
                x1, y1 = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
                for p in range(3):
                    a, b = packed[y0, x0, p], packed[y0, x1, p]
                    d, e = packed[y1, x0, p], packed[y1, x1, p]
                    upper, lower = a + gx * (b - a), d + gx * (e - d)
                    out[n, p, k, q] = upper + gy * (lower - upper)


def to_channels(stains: F32) -> F32:
    """Return the nets' channels, float32 (N, 4, A, B), of stain values (N, 3, A, B)."""
    out = np.empty((len(stains), CHANNELS, *stains.shape[2:]), np.float32)
    _channels(np.ascontiguousarray(stains, np.float32), out)
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _channels(stains, out):  # type: ignore[no-untyped-def]
    for n in range(stains.shape[0]):
        for c in range(CHANNELS):
            gain, least, most = INPUT_GAIN[c], LOWEST_INPUT[c], HIGHEST_INPUT[c]
            plane, into = stains[n, PLANE[c]], out[n, c]
            for k in range(plane.shape[0]):
                for q in range(plane.shape[1]):
                    into[k, q] = min(max(gain * plane[k, q], least), most)
