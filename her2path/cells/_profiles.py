"""DAB along a ray: samples, and what of them is the crest of a line.

Single precision: a cell's samples lie within some 70 px of its own whole pixel, from which they
are counted, so that no rounding depends on where the block begins.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from her2path.cells._limits import COS, SIN

F32 = NDArray[np.float32]

COS_32, SIN_32 = COS.astype(np.float32), SIN.astype(np.float32)
#: step along a ray, µm; two half widths of a crest, in steps; how far a second line is looked for
STEP_UM = 0.35
NEAR, FARTHER = int(1.05 / STEP_UM + 0.5), int(2.1 / STEP_UM + 0.5)
BEHIND_UM = 16.0
#: crests of a second line are read so many at a time
RUN = 16
#: a crest lower than this (OD) is none; at this height over it the evidence is one half
LEAST, HALFWAY = np.float32(0.02), np.float32(0.10)
#: evidence that a second line needs, and how many steps behind the first it begins
SECOND, PAST = np.float32(0.2), 11
NOTHING = np.float32(0.0)


@njit(cache=True, nogil=True)
def bilinear_at(d: F32, ix: int, iy: int, px: float, py: float) -> float:
    """Return the plane at pixel (ix, iy) + (px, py), the edge's value outside."""
    height, width = d.shape
    floor_x, floor_y = np.floor(px), np.floor(py)
    gx, gy = px - floor_x, py - floor_y
    x0, y0 = int(floor_x) + ix, int(floor_y) + iy
    x1, y1 = x0 + 1, y0 + 1
    if x0 < 0 or y0 < 0 or x1 >= width or y1 >= height:
        x0, x1 = min(max(x0, 0), width - 1), min(max(x1, 0), width - 1)
        y0, y1 = min(max(y0, 0), height - 1), min(max(y1, 0), height - 1)
    upper = d[y0, x0] + gx * (d[y0, x1] - d[y0, x0])
    lower = d[y1, x0] + gx * (d[y1, x1] - d[y1, x0])
    return upper + gy * (lower - upper)


@njit(cache=True, nogil=True)
def sample_ray(d: F32, at: tuple, k: int, step: float, part: tuple, out: F32, spots: tuple) -> None:
    """Write samples part[0] .. part[1] - 1 of ray k; an inner ray asks for no edge.

    `at` = (x, y) in pixels, multiples of 1/16; `step` in pixels, float32; `spots` is workspace for
    where the samples lie.
    """
    low, high = part
    height, width = d.shape
    ix, iy = int(np.floor(at[0])), int(np.floor(at[1]))
    fx, fy = np.float32(at[0] - ix), np.float32(at[1] - iy)
    room = int(high * step) + 2
    if ix < room or iy < room or ix + room >= width or iy + room >= height:
        for q in range(low, high):
            r = np.float32(q) * step
            out[q] = bilinear_at(d, ix, iy, fx + r * COS_32[k], fy + r * SIN_32[k])
        return
    _places((fx, fy), (COS_32[k], SIN_32[k]), step, (low, high), width, spots)
    _lerp(d.reshape(d.size), iy * width + ix, width, spots, out[low:high])


@njit(cache=True, nogil=True, error_model="numpy")
def _places(at: tuple, way: tuple, step: float, part: tuple, width: int, spots: tuple) -> None:
    """Write where the samples lie: pixel, and how far right and below of it."""
    place, gx, gy = spots
    (fx, fy), (c, s), (low, high), wide = at, way, part, np.int32(width)
    for q in range(high - low):
        r = np.float32(np.int32(q + low)) * step
        px, py = fx + r * c, fy + r * s
        floor_x, floor_y = np.floor(px), np.floor(py)
        gx[q], gy[q] = px - floor_x, py - floor_y
        place[q] = np.int32(floor_y) * wide + np.int32(floor_x)


@njit(cache=True, nogil=True, error_model="numpy")
def _lerp(flat: F32, here: int, width: int, spots: tuple, out: F32) -> None:
    place, gx, gy = spots
    for q in range(out.size):
        # unsigned: no test whether the place counts from the end
        p = np.uint64(here + place[q])
        below = p + np.uint64(width)
        a, b = flat[p], flat[below]
        upper = a + gx[q] * (flat[p + np.uint64(1)] - a)
        lower = b + gx[q] * (flat[below + np.uint64(1)] - b)
        out[q] = upper + gy[q] * (lower - upper)


@njit(cache=True, nogil=True, error_model="numpy")
def ridge_evidence(profile: F32, n: int, near: int, wide: int, out: F32) -> None:
    """Write 0..1 for each of the first n samples: is it the crest of a line?

    A crest is higher than both sides at one of two distances; the smaller of the two differences
    counts, so that a step (the edge of a blush or of a nucleus) is no crest. It saturates: a
    darker line farther out is no better than the first one. The profile goes on for at least
    `wide` samples behind the n; before it, its first sample stands.
    """
    for q in range(min(wide, n)):
        before = profile[max(q - near, 0)], profile[0]
        out[q] = _crest(profile[q], before, (profile[q + near], profile[q + wide]))
    c, near_in, wide_in = profile[wide:], profile[wide - near :], profile
    near_out, wide_out, rest = profile[wide + near :], profile[2 * wide :], out[wide:]
    for q in range(n - wide):
        rest[q] = _crest(c[q], (near_in[q], wide_in[q]), (near_out[q], wide_out[q]))


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _crest(c: float, before: tuple, after: tuple) -> float:
    a = min(c - before[0], c - after[0])
    b = min(c - before[1], c - after[1])
    height = max(max(a, b) - LEAST, NOTHING)
    return height / (height + HALFWAY)


@njit(cache=True, nogil=True)
def line_behind(
    d: F32, at: tuple, ray: tuple, part: tuple, profile: F32, spots: tuple, crest: F32
) -> int:
    """Return 1 where a second line follows 4 µm or more behind the first.

    `ray` = (its number, step, samples the profile holds already); more are taken when needed.
    `crest` is workspace for `RUN` samples.
    """
    k, step, have = ray
    q, stop = part
    for s in range(q + PAST, stop, RUN):
        count = min(RUN, stop - s)
        if s + count + FARTHER > have:
            sample_ray(d, at, k, step, (have, s + count + FARTHER), profile, spots)
            have = s + count + FARTHER
        _crests(profile[s - FARTHER :], crest)
        for j in range(count):
            if crest[j] > SECOND:
                return 1
    return 0


@njit(cache=True, nogil=True, error_model="numpy")
def _crests(p: F32, out: F32) -> None:
    """Write the evidence of `RUN` crests, the first at p[FARTHER]: a length known beforehand."""
    c, near_in, near_out = p[FARTHER:], p[FARTHER - NEAR :], p[FARTHER + NEAR :]
    far_out = p[2 * FARTHER :]
    for j in range(RUN):
        out[j] = _crest(c[j], (near_in[j], p[j]), (near_out[j], far_out[j]))
