"""Two finds in one nucleus: long, large and pale nuclei are found in halves.

Between two nuclei the hematoxylin drops, or at least both have an edge there; between two halves
of one nucleus neither. Boosted trees tell from a few ratios of a pair (`scripts/fit_nuclei.py`).
Positions are whole sixteenths of a pixel or relative to a candidate, so that no number sees the
origin of the block.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from her2path.nuclei._drafts import FIXED_POINT

__all__ = ["FEATURES", "describe_pairs", "mates"]

_jit = njit(cache=True, nogil=True, error_model="numpy")
#: the names of the features, in the order of `describe_pairs` and of the trees
FEATURES = (
    "apart", "apart_of_radii", "valley_of_paler", "between_of_paler", "valley_of_darker",
    "facing_edge_high", "facing_edge_low", "gap", "brown_between", "score_high", "score_low",
    "radius_low", "radius_high", "beside_near", "beside_far", "difference",
)
#: samples on the way from centre to centre: sixteenths of it
FROM, TO, PARTS = 4, 13, 16
#: least contrast and least mean edge that others are measured in, OD
LEAST_CONTRAST, LEAST_EDGE = np.float32(0.01), np.float32(0.005)


@_jit
def _at(plane, origin, y, x):  # type: ignore[no-untyped-def]
    """Read a plane at the pixel nearest to an offset from a pixel, clamped to the plane."""
    row = origin[0] + np.int64(math.floor(y + 0.5))
    column = origin[1] + np.int64(math.floor(x + 0.5))
    row = min(max(row, 0), plane.shape[0] - 1)
    column = min(max(column, 0), plane.shape[1] - 1)
    return plane[row, column]


@_jit
def _facing(radii, edges, dy, dx):  # type: ignore[no-untyped-def]
    """Return edge (of its mean) and radius of a contour on the three rays towards (dy, dx)."""
    count = radii.size
    turn = math.atan2(dy, dx) / (2 * math.pi)
    middle = math.floor(turn * count + 0.5) + count
    edge, reach, mean = np.float32(0), np.float32(0), np.float32(0)
    for k in range(count):
        mean += edges[k]
    for side in range(-1, 2):
        edge += edges[(middle + side) % count]
        reach += radii[(middle + side) % count]
    three = np.float32(3)
    return edge / three / max(mean / np.float32(count), LEAST_EDGE), reach / three


@_jit
def describe_pairs(planes, finds, pairs, mpp, out):  # type: ignore[no-untyped-def]
    """Write the features of every pair, float32 (M, F).

    Parameters
    ----------
    planes : tuple of float32 (H, W)
        Smoothed hematoxylin and DAB, OD.
    finds : tuple
        Candidates' pixels int32 (N, 2); centroids int64 (N, 2), y, x in parts of a pixel
        (`FIXED_POINT`); radii and edges (N, K); area (N,) px; measures (N, MEASURES); score (N,).
    pairs : int32 (M, 2)
    mpp : float32
        µm per pixel.
    """
    smooth, dab = planes
    at, place, radii, edges, area, measures, score = finds
    for p in range(pairs.shape[0]):
        i, j = pairs[p, 0], pairs[p, 1]
        dy = (place[j, 0] - place[i, 0]) / FIXED_POINT
        dx = (place[j, 1] - place[i, 1]) / FIXED_POINT
        cy, cx = place[i, 0] / FIXED_POINT - at[i, 0], place[i, 1] / FIXED_POINT - at[i, 1]
        far = max(math.sqrt(dy * dy + dx * dx), 1e-3)
        low, total, brown = np.float32(1e9), np.float32(0), np.float32(-1e9)
        for q in range(FROM, TO):
            f = q / PARTS
            v = _at(smooth, at[i], cy + f * dy, cx + f * dx)
            low, total = min(low, v), total + v
            brown = max(brown, _at(dab, at[i], cy + f * dy, cx + f * dx))
        ends = min(_at(dab, at[i], cy, cx), _at(dab, at[i], cy + dy, cx + dx))
        near, wide = np.float32(0), np.float32(0)
        for side in (-1.0, 1.0):
            sy, sx = side * dx / far / mpp, -side * dy / far / mpp
            near += _at(smooth, at[i], cy + 0.5 * dy + sy, cx + 0.5 * dx + sx)
            wide += _at(smooth, at[i], cy + 0.5 * dy + 2 * sy, cx + 0.5 * dx + 2 * sx)
        a, b = measures[i, 1], measures[j, 1]
        paler, darker = min(a, b), max(a, b)
        contrast = max(min(a - measures[i, 4], b - measures[j, 4]), LEAST_CONTRAST)
        edge_i, reach_i = _facing(radii[i], edges[i], dy, dx)
        edge_j, reach_j = _facing(radii[j], edges[j], -dy, -dx)
        r_i = np.float32(math.sqrt(max(area[i], np.float32(1)) / math.pi)) * mpp
        r_j = np.float32(math.sqrt(max(area[j], np.float32(1)) / math.pi)) * mpp
        half = np.float32(0.5)
        row = out[p]
        row[0] = far * mpp
        row[1] = far * mpp / (r_i + r_j)
        row[2] = (paler - low) / contrast
        row[3] = (paler - total / np.float32(TO - FROM)) / contrast
        row[4] = (darker - low) / contrast
        row[5], row[6] = max(edge_i, edge_j), min(edge_i, edge_j)
        row[7] = (far - reach_i - reach_j) * mpp
        row[8] = brown - ends
        row[9], row[10] = max(score[i], score[j]), min(score[i], score[j])
        row[11], row[12] = min(r_i, r_j), max(r_i, r_j)
        row[13], row[14] = (paler - half * near) / contrast, (paler - half * wide) / contrast
        row[15] = (darker - paler) / contrast


@_jit
def mates(pairs, odds, key, out):  # type: ignore[no-untyped-def]
    """Write each find's other half: the likeliest of its pairs, where that is mutual; else -1.

    Parameters
    ----------
    pairs : int32 (M, 2)
    odds : float64 (M,)
        Log odds that both are one nucleus; from 0 on they may be joined.
    key : int64 (N,)
        Breaks ties of the odds.
    out : int32 (N,)
    """
    best = np.full(out.size, -np.inf)
    choice = np.full(out.size, -1, np.int32)
    for p in range(pairs.shape[0]):
        if odds[p] < 0:
            continue
        for side in range(2):
            i, j = pairs[p, side], pairs[p, 1 - side]
            other = choice[i]
            if odds[p] > best[i] or (odds[p] == best[i] and key[j] > key[other]):
                best[i], choice[i] = odds[p], j
    for i in range(out.size):
        out[i] = choice[i] if choice[i] >= 0 and choice[choice[i]] == i else -1
