"""The hot loop: one bootstrap draw is one pass over the movable cells."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["draw_counts"]


@njit(cache=True, nogil=True)
def draw_counts(
    weight: np.ndarray, fixed: np.ndarray, start: np.ndarray, kind: np.ndarray,
    value: np.ndarray, cutoffs: np.ndarray, share: float, out: np.ndarray,
) -> None:  # fmt: skip
    """Add up the patterns of one draw.

    Parameters
    ----------
    weight : (S,) int64
        How often each grid square is drawn.
    fixed : (S, 7) int64
        Fixed cells of each square by pattern.
    start, kind, value
        Movable and uncertain cells, as in `Gridded`.
    cutoffs : (3,) float32
        This draw's lower limits for faint, moderate, intense.
    share : float
        Share of the uncertain cells that are faint in this draw.
    out : (7,) int64
        Counts by pattern; added to.
    """
    for s in range(len(weight)):
        w = weight[s]
        if w == 0:
            continue
        for p in range(7):
            out[p] += w * fixed[s, p]
        for i in range(start[s], start[s + 1]):
            v = value[i]
            if kind[i] == 2:
                out[1 if v < share else 0] += w
                continue
            level = 0
            for k in range(3):
                if v >= cutoffs[k]:
                    level = k + 1
            out[0 if level == 0 else 2 * level - 1 + kind[i]] += w
