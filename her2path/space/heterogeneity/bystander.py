"""Bystander coverage: who lies within reach of a HER2-positive cell.

C(r) is the share of tumour cells that are positive themselves or have a positive cell within r.
An antibody-drug conjugate with a membrane-permeable payload can reach such neighbours; which r
matters is not settled, so the whole curve is given, and the proximity score has its radius as a
setting. The idea of a spatial proximity score: Sci Rep 2024, s41598-024-61957-9.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.space.heterogeneity.bands import share_interval
from her2path.space.spatial.blocks import Blocks, interval

__all__ = ["RADII_UM", "coverage", "nearest_positive"]

Float = NDArray[np.float64]
#: 0, 5, ... 200 µm
RADII_UM = np.arange(0.0, 201.0, 5.0)
#: positions are not known more exactly than this, µm
EXACT_UM = 1e-6


def nearest_positive(x: Float, y: Float, positive: NDArray[np.bool_], workers: int = 1) -> Float:
    """Return each cell's distance to the nearest positive cell, µm: 0 for positive cells.

    Infinite beyond the longest radius, and where there is no positive cell. A negative cell at
    the very position of a positive one is within every radius above 0.
    """
    from scipy.spatial import cKDTree

    out = np.zeros(x.size)
    if not positive.any():
        return np.full(x.size, np.inf)
    tree = cKDTree(np.column_stack([x[positive], y[positive]]))
    negative = np.flatnonzero(~positive)
    for start in range(0, negative.size, 200_000):
        part = negative[start : start + 200_000]
        points = np.column_stack([x[part], y[part]])
        found = tree.query(points, 1, distance_upper_bound=RADII_UM[-1] + 1.0, workers=workers)[0]
        out[part] = np.maximum(found, EXACT_UM * 2)
    return out


def coverage(distance: Float, reach_um: float, blocks: Blocks | None) -> dict[str, Any]:
    """Return the curve, its interval, and the proximity score.

    Parameters
    ----------
    distance : (n,) float64
        From `nearest_positive`.
    reach_um : float
        Radius of the proximity score, µm.
    blocks : Blocks, optional
        For the intervals.

    Returns
    -------
    dict
        ``coverage`` and its limits ``coverage_low``, ``coverage_high`` over `RADII_UM`;
        ``proximity_score`` = C(reach) with its ``proximity_interval``, ``proximity_gain`` =
        C(reach) - C(0), and ``area_under_curve``, the mean of C over 0..200 µm.
    """
    n = distance.size
    step = np.searchsorted(RADII_UM + EXACT_UM, distance, side="left")
    reached = np.cumsum(np.bincount(step, minlength=RADII_UM.size + 1)[: RADII_UM.size])
    curve = reached / n
    near = int((distance <= reach_um + EXACT_UM).sum()) / n
    middle = (curve[1:] + curve[:-1]) / 2
    low, high = _band(step, blocks)
    within = None if blocks is None else share_interval(blocks, distance <= reach_um + EXACT_UM)
    return {
        "coverage": curve.tolist(),
        "coverage_low": low,
        "coverage_high": high,
        "proximity_um": reach_um,
        "proximity_score": near,
        "proximity_interval": within,
        "proximity_gain": near - float(curve[0]),
        "area_under_curve": float(middle.mean()),
    }


def _band(
    step: NDArray[np.int64], blocks: Blocks | None
) -> tuple[list[float] | None, list[float] | None]:
    if blocks is None or blocks.reason is not None:
        return None, None
    radii = RADII_UM.size
    flat = blocks.block * (radii + 1) + np.minimum(step, radii)
    cells = np.bincount(flat, minlength=blocks.count * (radii + 1)).reshape(-1, radii + 1)
    sums = np.cumsum(cells, axis=1).astype(float)
    pairs = [
        interval(blocks, sums[:, [i, radii]], lambda t: t[:, 0] / t[:, 1]) for i in range(radii)
    ]
    if any(p is None for p in pairs):
        return None, None
    known = [p for p in pairs if p is not None]
    return [p[0] for p in known], [p[1] for p in known]
