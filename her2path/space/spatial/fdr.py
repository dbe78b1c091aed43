"""False discovery rate.

Written out here, and tested against `scipy.stats.false_discovery_control`: its other order of
operations could move the last bit of stored q-values, and scoring a slide loads ``scipy.stats`` for
nothing else.

References
----------
Benjamini Y, Hochberg Y (1995), J R Stat Soc B 57:289-300.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["benjamini_hochberg"]


def benjamini_hochberg(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return adjusted p-values (q-values): reject where they are at most the wanted rate.

    Parameters
    ----------
    p_values : (n,) float64
        0..1; an empty array gives an empty array.
    """
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")[::-1]
    ranks = np.arange(p.size, 0, -1)
    adjusted = np.minimum.accumulate(p[order] * p.size / np.maximum(ranks, 1)) if p.size else p
    out = np.empty_like(p)
    out[order] = np.minimum(adjusted, 1.0)
    return out
