"""Join counts of positive (B) and negative (W) cells.

References
----------
Cliff AD, Ord JK (1981), Spatial Processes, ch. 1-2 (non-free sampling).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2path.space.spatial.weights import Weights

__all__ = ["JoinCounts", "join_counts"]


@dataclass(frozen=True)
class JoinCounts:
    """Weighted joins, each pair counted once: (1/2) sum over ordered pairs, and their expectation.

    The expectation is that of non-free sampling: labels dealt at random over fixed positions.
    """

    bb: float
    bw: float
    ww: float
    expected_bb: float
    expected_bw: float
    expected_ww: float


def join_counts(labels: NDArray[np.bool_], weights: Weights) -> JoinCounts | None:
    """Return the join counts; None for fewer than 2 points or without neighbours."""
    b = np.asarray(labels, bool)
    n, n1 = b.size, int(b.sum())
    if n < 2 or weights.data.size == 0:
        return None
    own, other = b[weights.rows], b[weights.indices]
    half = weights.s0 / 2.0
    bb = float(weights.data[own & other].sum()) / 2.0
    ww = float(weights.data[~own & ~other].sum()) / 2.0
    n0, pairs = n - n1, n * (n - 1)
    return JoinCounts(
        bb=bb,
        bw=float(weights.data[own != other].sum()) / 2.0,
        ww=ww,
        expected_bb=half * n1 * (n1 - 1) / pairs,
        expected_bw=half * 2 * n1 * n0 / pairs,
        expected_ww=half * n0 * (n0 - 1) / pairs,
    )
