"""Compiled loops of the membrane measurement at the slide's finest level.

Lengths in level-0 pixels unless a name ends in `um`; every sample is relative to the cell's own
whole pixel, so that no rounding depends on where the block begins.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numba import njit
from numpy.typing import NDArray

from her2path.cells.membrane._lines import (
    HALF,
    MEASURES,
    RING_ROWS,
    STEP_UM,
    TAPS,
    Line,
    Ring,
    read_line,
    sample_lines,
    sample_od,
)
from her2path.cells.rings import COS, RAYS, SIN, sort_first

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

#: cytoplasm is read where nucleus and border lie farther apart than this, µm
CYTOPLASM_GAP_UM = 1.6
#: and on at least this many rays
CYTOPLASM_RAYS = 4
#: else this many samples inside of the border, on every ray
INSIDE_TAPS = 7


class Outline(IntEnum):
    """First index of the outlines, (2, N, RAYS)."""

    NUCLEUS = 0
    BORDER = 1


@njit(cache=True, nogil=True, error_model="numpy")
def ring_normals(ring: F64) -> None:
    """Write the outward unit normals of a ring (`Ring`, RAYS) given by its radii."""
    radius, nx, ny = ring[Ring.RADIUS], ring[Ring.NORMAL_X], ring[Ring.NORMAL_Y]
    for k in range(RAYS):
        a, b = (k + 1) % RAYS, (k + RAYS - 1) % RAYS
        e, f = (k + 2) % RAYS, (k + RAYS - 2) % RAYS
        tx = radius[a] * COS[a] - radius[b] * COS[b] + radius[e] * COS[e] - radius[f] * COS[f]
        ty = radius[a] * SIN[a] - radius[b] * SIN[b] + radius[e] * SIN[e] - radius[f] * SIN[f]
        norm = np.sqrt(tx * tx + ty * ty)
        nx[k], ny[k] = COS[k], SIN[k]
        if norm > 1e-9 and (ty * COS[k] - tx * SIN[k]) > 0.2 * norm:
            nx[k], ny[k] = ty / norm, -tx / norm


@njit(cache=True, nogil=True, error_model="numpy")
def middle_of(values: F64, n: int) -> float:
    """Sort the first n values in place and return the middle one; 0 of nothing."""
    if n == 0:
        return 0.0
    sort_first(values, n)
    return values[int(0.5 * (n - 1) + 0.5)]


@njit(cache=True, nogil=True, error_model="numpy")
def read_cytoplasm(
    rgb: U8, dab: F32, x0: float, y0: float, ring: F64, mpp: float, inside: F64
) -> int:
    """Write the DAB OD between nucleus and border; return on how many rays there was room."""
    ix, iy = int(np.floor(x0)), int(np.floor(y0))
    fx, fy = x0 - ix, y0 - iy
    roomy = 0
    for k in range(RAYS):
        outer, inner = ring[Ring.RADIUS, k], ring[Ring.NUCLEUS, k]
        if (outer - inner) * mpp > CYTOPLASM_GAP_UM:
            mid = 0.5 * (outer + inner) - 0.25 / mpp
            inside[roomy] = sample_od(rgb, dab, iy, ix, fy + mid * SIN[k], fx + mid * COS[k])
            roomy += 1
    return roomy


@njit(cache=True, nogil=True, error_model="numpy")
def read_profiles(profiles: F64, cytoplasm: float, smooth: F64, lines: F64) -> None:
    """Read the line on every ray (`Line`, RAYS) of profiles (RAYS, TAPS) across a border."""
    profile, line = np.empty(TAPS), np.empty(MEASURES)
    for k in range(RAYS):
        # along the border a line goes on, noise and granules do not
        here, back, on = profiles[k], profiles[(k + RAYS - 1) % RAYS], profiles[(k + 1) % RAYS]
        for q in range(TAPS):
            profile[q] = 0.25 * (back[q] + 2.0 * here[q] + on[q])
        read_line(profile, smooth, cytoplasm, line)
        for m in range(MEASURES):
            lines[m, k] = line[m]


@njit(cache=True, nogil=True, error_model="numpy")
def measure(
    rgb: U8, dab: F32, factor: int, mpp: float, centres: F64, outlines: F32, lines: F32,
    cytoplasm: F32,
) -> None:  # fmt: skip
    """Fill the raw columns of every cell.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
    dab : (3, 256) float32, DAB OD of a grey level in each channel
    factor : level-0 pixels along one analysis pixel
    mpp : µm per level-0 pixel
    centres : (2, N) float64, x and y, analysis pixels
    outlines : (`Outline`, N, RAYS) float32, radii, analysis pixels
    lines : (`Line`, N, RAYS) float32, written; a line's place is its distance from the centre
    cytoplasm : (N,) float32, OD, written
    """
    um, step = mpp * factor, STEP_UM / mpp
    ring, inside = np.empty((RING_ROWS, RAYS)), np.empty(RAYS)
    profiles, smooth, found = np.empty((RAYS, TAPS)), np.empty(TAPS), np.empty((MEASURES, RAYS))
    for i in range(centres.shape[1]):
        x0, y0 = (centres[0, i] + 0.5) * factor - 0.5, (centres[1, i] + 0.5) * factor - 0.5
        border = outlines[Outline.BORDER, i]
        for k in range(RAYS):
            ring[Ring.RADIUS, k] = border[k] * factor
            ring[Ring.NUCLEUS, k] = outlines[Outline.NUCLEUS, i, k] * factor
        ring_normals(ring)
        sample_lines(rgb, dab, x0, y0, ring, step, profiles)
        roomy = read_cytoplasm(rgb, dab, x0, y0, ring, mpp, inside)
        if roomy < CYTOPLASM_RAYS:  # the nucleus fills its cell
            inside[:] = profiles[:, HALF - INSIDE_TAPS]
            roomy = RAYS
        cytoplasm[i] = middle_of(inside, roomy)
        read_profiles(profiles, cytoplasm[i], smooth, found)
        for k in range(RAYS):
            off = found[Line.PLACE_UM, k] / um
            lx = border[k] * COS[k] + off * ring[Ring.NORMAL_X, k]
            ly = border[k] * SIN[k] + off * ring[Ring.NORMAL_Y, k]
            for m in range(MEASURES):
                lines[m, i, k] = found[m, k]
            lines[Line.PLACE_UM, i, k] = np.sqrt(lx * lx + ly * ly) * um
