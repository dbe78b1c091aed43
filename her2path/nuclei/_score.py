"""How nucleus-like a contour reads: boosted trees on a few ratios.

They were fitted (`scripts/fit_nuclei.py`) on drawings of two generators and on hand-marked fields
of real HER2 cores: how near the contour's centre lies to a nucleus', and how well the size fits.
Ratios are relative to the contour's own hematoxylin, so that pale and dark slides read alike.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

__all__ = ["FEATURES", "SLIDE_FEATURES", "describe_all", "probability"]

_jit = njit(cache=True, nogil=True, error_model="numpy")
#: least mean edge, and least contrast, of a nucleus, relative to its own hematoxylin: 1 % of the
#: nuclei of the fitted fields lie below
LEAST_EDGE, LEAST_CONTRAST = 0.08, 0.06
#: the names of the features, in the order of `describe_all` and of the trees
FEATURES = (
    "edge_mean", "edge_low_quarter", "edge_weakest", "edge_high_quarter", "edge_absolute",
    "edge_share", "inside_over_outside", "inside_over_level", "near_over_wide", "hematoxylin",
    "dab_inside", "dab_outside_over_inside", "dab_over_hematoxylin", "texture", "core_over_rest",
    "size", "size_squared", "elongation", "roughness", "off_centre", "gain",
    "wall_mean", "wall_share", "edge_without_wall", "outside_over_wide", "edge_unevenness",
)
#: features relative to the slide's typical contrast; they follow the others when it is known
SLIDE_FEATURES = (
    "contrast_of_slide", "edge_of_slide", "low_edge_of_slide", "near_of_slide", "gain_of_slide",
    "hematoxylin_of_slide",
)


@_jit
def _bounded(value):  # type: ignore[no-untyped-def]
    """Squeeze any number into -1..1."""
    return value / (np.float32(1) + abs(value))


@_jit
def _sort(values, out):  # type: ignore[no-untyped-def]
    """Write a few values in rising order."""
    for i in range(values.size):
        v = values[i]
        j = i
        while j > 0 and out[j - 1] > v:
            out[j] = out[j - 1]
            j -= 1
        out[j] = v


@_jit
def describe_all(radii, edges, walls, gain, centre, measures, near, wide, mpp, contrast, out):  # type: ignore[no-untyped-def]
    """Write the features of every candidate, float32 (N, F).

    F is len(FEATURES), and len(SLIDE_FEATURES) more where `contrast` is above 0.

    Parameters
    ----------
    radii, edges, walls : float32 (N, K)
        Pixels; the H drop and the highest DAB ridge on every ray, OD.
    gain : float32 (N,)
    centre : float32 (N, 3)
        As `centroid` writes it.
    measures : float32 (N, MEASURES)
    near, wide : float32 (N,)
        H OD at nuclear and at neighbourhood scale.
    mpp : float32
        µm per pixel.
    contrast : float32
        The slide's strong nuclear contrast, OD; 0 where it is not known.
    """
    rays = radii.shape[1]
    k32 = np.float32(rays)
    sorted_edges = np.empty(rays, np.float32)
    for i in range(radii.shape[0]):
        m = measures[i]
        own = max(m[1], np.float32(0)) + np.float32(0.04)
        _sort(edges[i], sorted_edges)
        total = np.float32(0)
        strong = np.float32(0)
        length = np.float32(0)
        bends = np.float32(0)
        wall = np.float32(0)
        walled = np.float32(0)
        free = np.float32(0)
        square = np.float32(0)
        for k in range(rays):
            total += edges[i, k]
            strong += np.float32(1) if edges[i, k] > np.float32(0.1) * own else np.float32(0)
            length += radii[i, k]
            wall += min(walls[i, k], np.float32(0.3))
            walled += np.float32(1) if walls[i, k] > np.float32(0.05) else np.float32(0)
            free += edges[i, k] / (np.float32(1) + walls[i, k] * np.float32(20))
            square += edges[i, k] * edges[i, k]
            bends += abs(radii[i, k + 1 if k + 1 < rays else 0] - radii[i, k])
        mean = total / k32
        radius = length / k32
        row = out[i]
        row[0] = mean / own
        row[1] = sorted_edges[rays // 4] / own
        row[2] = sorted_edges[rays // 12] / own
        row[3] = sorted_edges[3 * rays // 4] / own
        row[4] = max(mean, np.float32(0)) / (max(mean, np.float32(0)) + np.float32(0.03))
        row[5] = strong / k32
        row[6] = (m[1] - m[4]) / own
        row[7] = (m[1] - wide[i]) / own
        row[8] = (near[i] - wide[i]) / own
        row[9] = own / (own + np.float32(0.1))
        row[10] = min(max(m[3], np.float32(-0.1)), np.float32(1))
        row[11] = min(max(m[5] - m[3], np.float32(-0.3)), np.float32(0.3))
        row[12] = min(max(m[3], np.float32(0)) / own, np.float32(3))
        row[13] = m[2] / own
        row[14] = (m[6] - m[7]) / own
        size = radius * mpp / (radius * mpp + np.float32(4))
        row[15] = size
        row[16] = size * size
        row[17] = np.float32(1) - np.float32(1) / m[8]
        row[18] = bends / length
        row[19] = np.sqrt(centre[i, 0] * centre[i, 0] + centre[i, 1] * centre[i, 1]) / radius
        row[20] = gain[i] / own
        row[21] = wall / k32
        row[22] = walled / k32
        row[23] = free / k32 / own
        row[24] = (m[4] - wide[i]) / own
        row[25] = np.sqrt(max(square / k32 - mean * mean, np.float32(0))) / own
        if contrast > 0:
            row[26] = _bounded((m[1] - m[4]) / contrast)
            row[27] = _bounded(mean / contrast)
            row[28] = _bounded(sorted_edges[rays // 4] / contrast)
            row[29] = _bounded((near[i] - wide[i]) / contrast)
            row[30] = _bounded(gain[i] / contrast)
            row[31] = _bounded(m[1] / contrast)


@_jit
def probability(features, odds, out):  # type: ignore[no-untyped-def]
    """Write the logistic function of every candidate's log odds.

    A contour without a drop of hematoxylin is no nucleus, whatever brown surrounds it: 0.
    """
    for i in range(features.shape[0]):
        if features[i, 0] < LEAST_EDGE or features[i, 6] < LEAST_CONTRAST:
            out[i] = np.float32(0)
        else:
            out[i] = np.float32(1.0 / (1.0 + math.exp(-odds[i])))
