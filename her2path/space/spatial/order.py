"""One order of points that depends on where they are, and not on their rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["canonical", "morton"]

Float = NDArray[np.float64]
Int = NDArray[np.int64]


def _spread(v: NDArray[np.uint64]) -> NDArray[np.uint64]:
    v = (v | (v << np.uint64(8))) & np.uint64(0x00FF00FF)
    v = (v | (v << np.uint64(4))) & np.uint64(0x0F0F0F0F)
    v = (v | (v << np.uint64(2))) & np.uint64(0x33333333)
    return (v | (v << np.uint64(1))) & np.uint64(0x55555555)


def morton(x: Float, y: Float) -> NDArray[np.uint64]:
    """Return the Morton (Z-order) key of points on a 65 536-step grid over their own extent."""
    if x.size == 0:
        return np.zeros(0, np.uint64)
    extent = max(float(np.ptp(x)), float(np.ptp(y)))
    step = extent / 65_535 if extent > 0 else 1.0
    i = np.minimum((x - x.min()) / step, 65_535).astype(np.uint64)
    j = np.minimum((y - y.min()) / step, 65_535).astype(np.uint64)
    return _spread(i) | (_spread(j) << np.uint64(1))


def canonical(x: Float, y: Float, *ties: NDArray[np.generic]) -> Int:
    """Return the row order: along a Z-curve, then by y, x and the tie-breaking columns.

    Points that follow each other lie near each other, which also keeps the kernels in the cache.

    Parameters
    ----------
    x, y : (n,) float64
        Positions, µm, finite.
    *ties : (n,) arrays
        What else tells two points at the same position apart.
    """
    return np.lexsort((*reversed(ties), x, y, morton(x, y))).astype(np.int64)
