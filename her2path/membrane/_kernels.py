"""Compiled loops of the membrane measurement at the slide's finest level.

Lengths in level-0 pixels unless a name ends in `um`; every sample is relative to the cell's own
whole pixel, so that no rounding depends on where the block begins.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from her2path.cells._limits import COS, RAYS, SIN, bin_points
from her2path.membrane._inputs import PLACES, ranked
from her2path.membrane._lines import (
    CREST,
    FWHM,
    INNER,
    MASS,
    R_UM,
    RIDGE,
    STEP_UM,
    TAPS,
    read_line,
    sample_lines,
    sample_od,
    texture_of,
)
from her2path.membrane._network import LOOK_TAPS

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
BOOL = NDArray[np.bool_]

#: what a ray reads as mass for one unit of texture, µm
TEXTURE_UM = 1.3
#: share of a line's crest that its grains show beside it
OWN_GRAIN = 0.12
#: a line whose red OD rises by this share of its blue one is grey (a refractile edge), not brown;
#: darker lines than GREY_CREST saturate and are not asked
GREY, GREY_CREST = 0.85, 0.6
LOG = -np.log10(np.maximum(np.arange(256), 1) / 255.0)


@njit(cache=True, nogil=True, error_model="numpy")
def colour_rise(
    rgb: U8, iy: int, ix: int, at: tuple, normal: tuple, shoulder: float
) -> tuple[float, float]:
    """Return by how much red and blue OD rise from both shoulders to the crest at `at`."""
    y, x = at
    ny, nx = normal
    red, blue = 0.0, 0.0
    for side in range(-1, 2):
        row = iy + int(np.floor(y + side * shoulder * ny + 0.5))
        column = ix + int(np.floor(x + side * shoulder * nx + 0.5))
        row = min(max(row, 0), rgb.shape[0] - 1)
        column = min(max(column, 0), rgb.shape[1] - 1)
        weight = 1.0 if side == 0 else -0.5
        red += weight * LOG[rgb[row, column, 0]]
        blue += weight * LOG[rgb[row, column, 2]]
    return red, blue


@njit(cache=True, nogil=True, error_model="numpy")
def drop_grey(red: F64, blue: F64, mass: F32, crest: F32) -> None:
    """Empty the rays whose line, over five rays, is grey."""
    for k in range(RAYS):
        if crest[k] <= 0.04 or crest[k] >= GREY_CREST:
            continue
        r, b = 0.0, 0.0
        for s in range(-2, 3):
            r += red[(k + s + RAYS) % RAYS]
            b += blue[(k + s + RAYS) % RAYS]
        if b > 0.2 and r > GREY * b:
            mass[k] = 0.0


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
def near_nuclei(i: int, x: F64, y: F64, size: F64, bins: tuple, reach: float, out: I64) -> int:
    """Write the nuclei that may come near cell i's border; return how many (at most out.size)."""
    start, order, columns, rows, side = bins
    count = 0
    bx, by = int(max(x[i], 0.0) / side), int(max(y[i], 0.0) / side)
    for v in range(max(by - 1, 0), min(by + 2, rows)):
        for u in range(max(bx - 1, 0), min(bx + 2, columns)):
            for place in range(start[v * columns + u], start[v * columns + u + 1]):
                j = order[place]
                dx, dy = x[j] - x[i], y[j] - y[i]
                limit = reach + size[j]
                if j != i and dx * dx + dy * dy < limit * limit and count < out.size:
                    out[count] = j
                    count += 1
    return count


@njit(cache=True, nogil=True, error_model="numpy")
def edge_distance(px: float, py: float, xy: tuple, near: I64, nucleus: F32, cap: float) -> float:
    """Return the distance from a point to the nearest edge of the nuclei `near`, at most cap."""
    x, y, largest = xy
    best = cap
    for s in range(near.size):
        j = near[s]
        dx, dy = px - x[j], py - y[j]
        far2 = dx * dx + dy * dy
        limit = largest[j] + best
        if far2 < limit * limit:
            ray = int(np.floor(np.arctan2(dy, dx) * (RAYS / (2 * np.pi)) + 0.5)) % RAYS
            best = min(best, abs(np.sqrt(far2) - nucleus[j, ray]))
    return best


@njit(cache=True, nogil=True, error_model="numpy")
def measure(
    rgb: U8, luts: F32, scale: tuple, nuclei: tuple, wanted: BOOL, ring: F32, found: tuple
) -> None:
    """Fill the raw columns of every cell.

    `scale` = (factor, mpp); `nuclei` = (x, y, radii) and `ring` in analysis pixels; `found` = the
    output arrays (line_r, mass, crest, fwhm, ridge, edge: (N, RAYS) each in float32; cytoplasm,
    noise: (N,); seen (N, 2, PLACES, LOOK_TAPS): hematoxylin and DAB across the border, thinned).
    """
    factor, mpp = scale
    x, y, nucleus = nuclei
    line_r, mass, crest, fwhm, ridge, edge, cytoplasm, noise, seen = found
    n_cells = x.size
    um = mpp * factor
    largest = np.zeros(n_cells)
    for i in range(n_cells):
        for k in range(RAYS):
            largest[i] = max(largest[i], nucleus[i, k])
    side = 40.0 / um
    start, order, columns, rows = bin_points(x, y, side)
    bins = (start, order, columns, rows, side)
    reach = 4 if mpp >= 0.4 else 3
    step = STEP_UM / mpp
    nx, ny, radius = np.empty(RAYS), np.empty(RAYS), np.empty(RAYS)
    raw, smooth = np.empty((RAYS, TAPS)), np.empty(TAPS)
    line = np.empty(6)
    profile, texture = np.empty((RAYS, TAPS)), np.empty(RAYS)
    sparse = np.empty((RAYS, LOOK_TAPS))
    inside, shoulder = np.empty(RAYS), np.empty(RAYS)
    red, blue = np.empty(RAYS), np.empty(RAYS)
    near = np.empty(512, np.int64)
    for i in range(n_cells):
        if not wanted[i]:
            continue
        x0, y0 = (x[i] + 0.5) * factor - 0.5, (y[i] + 0.5) * factor - 0.5
        ix, iy = int(np.floor(x0)), int(np.floor(y0))
        fx, fy = x0 - ix, y0 - iy
        widest = 0.0
        for k in range(RAYS):
            radius[k] = ring[i, k] * factor
            widest = max(widest, float(ring[i, k]))
        ring_normals(radius, nx, ny)
        count = near_nuclei(i, x, y, largest, bins, widest + 2.5 / um, near)
        n_inside = 0
        sample_lines(rgb, luts, (ix, iy, fx, fy), (radius, nx, ny), step, raw, sparse)
        for k in range(RAYS):
            # along the border a line goes on, noise and granules do not
            before, after = (k + RAYS - 1) % RAYS, (k + 1) % RAYS
            p = profile[k]
            here, back, on = raw[k], raw[before], raw[after]
            for q in range(TAPS):
                p[q] = 0.25 * (back[q] + 2.0 * here[q] + on[q])
            read_line(p, smooth, reach, line)
            off = line[R_UM] / um
            lx = ring[i, k] * COS[k] + off * nx[k]
            ly = ring[i, k] * SIN[k] + off * ny[k]
            r = np.sqrt(lx * lx + ly * ly)
            own = abs(r - nucleus[i, k]) * um
            other = edge_distance(
                x[i] + lx, y[i] + ly, (x, y, largest), near[:count], nucleus, 2.5 / um
            )
            turn = off * factor
            red[k], blue[k] = colour_rise(
                rgb,
                iy,
                ix,
                (fy + radius[k] * SIN[k] + turn * ny[k], fx + radius[k] * COS[k] + turn * nx[k]),
                (ny[k], nx[k]),
                1.5 / mpp,
            )
            line_r[i, k] = r * um
            mass[i, k], crest[i, k], fwhm[i, k] = line[MASS], line[CREST], line[FWHM]
            ridge[i, k] = line[RIDGE]
            shoulder[k] = line[INNER]
            edge[i, k] = min(own, other * um)
            gap = (radius[k] - nucleus[i, k] * factor) * mpp
            if gap > 1.6:
                mid = (0.5 * (radius[k] + nucleus[i, k] * factor)) - 0.25 / mpp
                inside[n_inside] = sample_od(
                    rgb, luts[1], iy, ix, fy + mid * SIN[k], fx + mid * COS[k]
                )
                n_inside += 1
        for p in range(PLACES):
            k = 2 * p
            back, here, on = sparse[(k + RAYS - 1) % RAYS], sparse[k], sparse[k + 1]
            for q in range(LOOK_TAPS):
                seen[i, 0, p, q] = 0.25 * (back[q] + 2.0 * here[q] + on[q])
                seen[i, 1, p, q] = profile[k, 2 * q + 1]
        if mpp < 0.4:  # subsampled chroma makes thin lines grey at coarser pixels
            drop_grey(red, blue, mass[i], crest[i])
        # where the nucleus fills its cell, the line's inner shoulders stand in
        cytoplasm[i] = ranked(inside[:n_inside], 0.5) if n_inside >= 4 else ranked(shoulder, 0.5)
        for k in range(RAYS):
            before, after = (k + RAYS - 2) % RAYS, (k + 2) % RAYS
            texture[k] = texture_of(profile[k], profile[before], profile[after])
            # a dark line's own grains spread that far; they are no texture of the cytoplasm
            texture[k] = max(texture[k] - OWN_GRAIN * max(crest[i, k], 0.0), 0.0)
        noise[i] = TEXTURE_UM * ranked(texture, 0.7)
