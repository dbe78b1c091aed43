"""Compiled loops of the membrane measurement at the slide's finest level.

Lengths in level-0 pixels unless a name ends in `um`; every sample is relative to the cell's own
whole pixel, so that no rounding depends on where the block begins.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from her2path.cells.membrane._lines import (
    CREST,
    FWHM,
    HALF,
    MASS,
    R_UM,
    STEP_UM,
    TAPS,
    read_line,
    sample_lines,
    sample_od,
)
from her2path.cells.rings import COS, RAYS, SIN

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

#: cytoplasm is read where nucleus and border lie farther apart than this, µm, on so many rays
ROOM_UM, ROOMY = 1.6, 4
#: else so many samples inside of the border
WITHIN = 7


@njit(cache=True, nogil=True, error_model="numpy")
def ring_normals(radius: F64, nx: F64, ny: F64) -> None:
    """Write the outward unit normals of a ring given by its radii."""
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
    for i in range(1, n):
        v, j = values[i], i - 1
        while j >= 0 and values[j] > v:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = v
    return values[int(0.5 * (n - 1) + 0.5)]


@njit(cache=True, nogil=True, error_model="numpy")
def measure(rgb: U8, dab: F32, scale: tuple, at: tuple, rings: tuple, found: tuple) -> None:
    """Fill the raw columns of every cell.

    `scale` = (factor, mpp); `at` = (x, y) and `rings` = (nucleus, border), (N, RAYS), in analysis
    pixels; `found` = line_r (µm), mass, crest, fwhm (µm), (N, RAYS) each, and cytoplasm (N,).
    """
    factor, mpp = scale
    x, y = at
    nucleus, ring = rings
    line_r, mass, crest, fwhm, cytoplasm = found
    um = mpp * factor
    step = STEP_UM / mpp
    nx, ny, radius = np.empty(RAYS), np.empty(RAYS), np.empty(RAYS)
    raw, profile, smooth = np.empty((RAYS, TAPS)), np.empty(TAPS), np.empty(TAPS)
    line, inside = np.empty(4), np.empty(RAYS)
    for i in range(x.size):
        x0, y0 = (x[i] + 0.5) * factor - 0.5, (y[i] + 0.5) * factor - 0.5
        ix, iy = int(np.floor(x0)), int(np.floor(y0))
        fx, fy = x0 - ix, y0 - iy
        roomy = 0
        for k in range(RAYS):
            radius[k] = ring[i, k] * factor
            inner = nucleus[i, k] * factor
            if (radius[k] - inner) * mpp > ROOM_UM:
                mid = 0.5 * (radius[k] + inner) - 0.25 / mpp
                inside[roomy] = sample_od(rgb, dab, iy, ix, fy + mid * SIN[k], fx + mid * COS[k])
                roomy += 1
        ring_normals(radius, nx, ny)
        sample_lines(rgb, dab, (ix, iy, fx, fy), (radius, nx, ny), step, raw)
        if roomy < ROOMY:  # the nucleus fills its cell: what lies just inside the line stands in
            for k in range(RAYS):
                inside[k] = raw[k, HALF - WITHIN]
            roomy = RAYS
        cytoplasm[i] = middle_of(inside, roomy)
        for k in range(RAYS):
            # along the border a line goes on, noise and granules do not
            here, back, on = raw[k], raw[(k + RAYS - 1) % RAYS], raw[(k + 1) % RAYS]
            for q in range(TAPS):
                profile[q] = 0.25 * (back[q] + 2.0 * here[q] + on[q])
            read_line(profile, smooth, cytoplasm[i], line)
            off = line[R_UM] / um
            lx = ring[i, k] * COS[k] + off * nx[k]
            ly = ring[i, k] * SIN[k] + off * ny[k]
            line_r[i, k] = np.sqrt(lx * lx + ly * ly) * um
            mass[i, k], crest[i, k], fwhm[i, k] = line[MASS], line[CREST], line[FWHM]
