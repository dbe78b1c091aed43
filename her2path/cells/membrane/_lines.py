"""One line across the border: sampled at the slide's finest level, and read.

Lengths in level-0 pixels unless a name ends in `um`; every sample is relative to the cell's own
whole pixel, so that no rounding depends on where the block begins.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numba import njit
from numpy.typing import NDArray

from her2path.cells.rings import COS, RAYS, SIN

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]

#: samples across a line: -3.25 .. 3.25 µm in steps of 0.25 µm
STEP_UM = 0.25
HALF = 13
TAPS = 2 * HALF + 1
#: samples by which a crest may lie off the border
CREST_TAPS = 5
#: what each of them costs a crest, OD
OFF_BORDER_OD = 0.003
#: samples that a line may reach to either side of its crest
ARM_TAPS = 8


class Line(IntEnum):
    """What is read of one line."""

    PLACE_UM = 0
    CREST_OD = 1
    MASS_OD_UM = 2
    WIDTH_UM = 3


class Ring(IntEnum):
    """Rows of one cell's ring (4, RAYS): radii of border and nucleus, normals."""

    RADIUS = 0
    NORMAL_X = 1
    NORMAL_Y = 2
    NUCLEUS = 3


MEASURES = len(Line)
RING_ROWS = len(Ring)


@njit(cache=True, nogil=True, error_model="numpy")
def sample_od(rgb: U8, luts: F32, iy: int, ix: int, gy: float, gx: float) -> float:
    """Return the DAB OD at (iy + gy, ix + gx), bilinear in OD; the edge's value outside."""
    height, width = rgb.shape[0], rgb.shape[1]
    fy, fx = int(np.floor(gy)), int(np.floor(gx))
    gy -= fy
    gx -= fx
    y0, x0 = iy + fy, ix + fx
    y1, x1 = y0 + 1, x0 + 1
    if x0 < 0 or y0 < 0 or x1 >= width or y1 >= height:
        y0, y1 = min(max(y0, 0), height - 1), min(max(y1, 0), height - 1)
        x0, x1 = min(max(x0, 0), width - 1), min(max(x1, 0), width - 1)
    a = luts[0, rgb[y0, x0, 0]] + luts[1, rgb[y0, x0, 1]] + luts[2, rgb[y0, x0, 2]]
    b = luts[0, rgb[y0, x1, 0]] + luts[1, rgb[y0, x1, 1]] + luts[2, rgb[y0, x1, 2]]
    c = luts[0, rgb[y1, x0, 0]] + luts[1, rgb[y1, x0, 1]] + luts[2, rgb[y1, x0, 2]]
    e = luts[0, rgb[y1, x1, 0]] + luts[1, rgb[y1, x1, 1]] + luts[2, rgb[y1, x1, 2]]
    upper = a + gx * (b - a)
    return upper + gy * (c + gx * (e - c) - upper)


@njit(cache=True, nogil=True, error_model="numpy")
def sample_lines(rgb: U8, dab: F32, x0: float, y0: float, ring: F64, step: float, out: F64) -> None:
    """Write the DAB OD across the border on every ray (RAYS, TAPS), as `sample_od` reads it.

    (x0, y0) is the centre, `ring` (`Ring`, RAYS), `step` the distance of two samples. A cell that
    lies well inside the block asks for no edge, sample by sample.
    """
    ix, iy = int(np.floor(x0)), int(np.floor(y0))
    fx, fy = x0 - ix, y0 - iy
    radius, nx, ny = ring[Ring.RADIUS], ring[Ring.NORMAL_X], ring[Ring.NORMAL_Y]
    height, width = rgb.shape[0], rgb.shape[1]
    room = int(radius.max() + HALF * step) + 3
    inner = ix >= room and iy >= room and ix + room < width and iy + room < height
    flat, here = rgb.reshape(rgb.size), iy * width + ix
    place, offset = np.empty(TAPS, np.int32), np.empty((2, TAPS))
    for k in range(RAYS):
        bx, by = fx + radius[k] * COS[k], fy + radius[k] * SIN[k]
        if not inner:
            for q in range(TAPS):
                t = (q - HALF) * step
                y, x = by + t * ny[k], bx + t * nx[k]
                out[k, q] = sample_od(rgb, dab, iy, ix, y, x)
            continue
        place_samples(bx, by, ring[:, k], step, width, place, offset)
        interpolate(flat, dab, here, width, place, offset, out[k])


@njit(cache=True, nogil=True, error_model="numpy")
def place_samples(
    bx: float, by: float, ray: F64, step: float, width: int, place: I32, offset: F64
) -> None:
    """Write where the samples of one line lie: pixel, and how far right and below of it.

    `ray` is a column of a ring; `offset` (2, TAPS) holds x and y.
    """
    nx, ny = ray[Ring.NORMAL_X], ray[Ring.NORMAL_Y]
    gx, gy = offset[0], offset[1]
    wide = np.int32(width)
    for q in range(TAPS):
        t = (q - HALF) * step
        y, x = by + t * ny, bx + t * nx
        low_y, low_x = np.floor(y), np.floor(x)
        gy[q], gx[q] = y - low_y, x - low_x
        place[q] = np.int32(low_y) * wide + np.int32(low_x)


@njit(cache=True, nogil=True, error_model="numpy")
def interpolate(
    flat: U8, luts: F32, here: int, width: int, place: I32, offset: F64, out: F64
) -> None:
    """Write the DAB OD at samples inside the block, bilinear in OD, as `sample_od` does."""
    gx, gy = offset[0], offset[1]
    reds, greens, blues = luts[0], luts[1], luts[2]
    # unsigned places: no check for counting from the end
    u1, u2, u3 = np.uint64(1), np.uint64(2), np.uint64(3)
    u4, u5 = np.uint64(4), np.uint64(5)
    for q in range(out.size):
        p = np.uint64(3 * (here + place[q]))
        r = p + np.uint64(3 * width)
        a = reds[flat[p]] + greens[flat[p + u1]] + blues[flat[p + u2]]
        b = reds[flat[p + u3]] + greens[flat[p + u4]] + blues[flat[p + u5]]
        c = reds[flat[r]] + greens[flat[r + u1]] + blues[flat[r + u2]]
        e = reds[flat[r + u3]] + greens[flat[r + u4]] + blues[flat[r + u5]]
        upper = a + gx[q] * (b - a)
        out[q] = upper + gy[q] * (c + gx[q] * (e - c) - upper)


@njit(cache=True, nogil=True, error_model="numpy")
def read_line(p: F64, smooth: F64, base: float, out: F64) -> None:
    """Read one line from a profile across it.

    Parameters
    ----------
    p : (TAPS,) OD across the border, inside first
    smooth : (TAPS,) workspace
    base : OD of the cell's cytoplasm, above which the line rises
    out : (`Line`,) offset of the crest from the border (µm), OD of the crest and mass (OD µm) above
        the base, full width at half of the crest (µm); 0 where nothing rises above the base
    """
    smooth[0], smooth[TAPS - 1] = p[0], p[TAPS - 1]
    for q in range(1, TAPS - 1):
        smooth[q] = 0.25 * (p[q - 1] + 2.0 * p[q] + p[q + 1])
    c, best = HALF, smooth[HALF]
    for s in range(1, CREST_TAPS + 1):
        for q in (HALF - s, HALF + s):
            if smooth[q] - OFF_BORDER_OD * s > best:
                c, best = q, smooth[q] - OFF_BORDER_OD * s
    out[Line.PLACE_UM] = (c - HALF) * STEP_UM
    out[Line.CREST_OD] = max(smooth[c] - base, 0.0)
    out[Line.MASS_OD_UM], out[Line.WIDTH_UM] = 0.0, 0.0
    if smooth[c] <= base:
        return
    half, total, width = 0.5 * (smooth[c] - base), smooth[c] - base, 0.0
    for way in (-1, 1):
        q, wide = c, True
        for _ in range(ARM_TAPS):
            nxt = q + way
            # a line ends at the base, or where another one begins to rise
            if not 0 <= nxt < TAPS or smooth[nxt] <= base or smooth[nxt] > smooth[q] + 0.01:
                break
            if wide and smooth[nxt] - base < half:
                width += (smooth[q] - base - half) / max(smooth[q] - smooth[nxt], 1e-9)
                wide = False
            elif wide:
                width += 1.0
            total += smooth[nxt] - base
            q = nxt
    out[Line.MASS_OD_UM], out[Line.WIDTH_UM] = total * STEP_UM, width * STEP_UM
