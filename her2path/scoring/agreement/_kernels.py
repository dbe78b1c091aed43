"""Weighted sums of sparse terms, for every bootstrap draw at once.

A table's terms are 1 in one cell and 0 in fifteen: what is 0 is skipped, which a product of
matrices would not do, and no thread of a linear-algebra library waits for a busy core.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["BLOCK", "weighted_sums"]

#: draws of one call
BLOCK = 512

#: terms of one block; with the draws that a call is given their sums stay in the second cache
_TERMS = 64


@njit(cache=True, nogil=True, error_model="numpy")
def weighted_sums(
    features: npt.NDArray[np.floating[Any]],
    weights: npt.NDArray[np.uint8],
    begin: int,
    out: npt.NDArray[np.float64],
) -> None:
    """Write ``features.T @ weights`` to ``out`` for the draws from ``begin`` on, 512 at most.

    Parameters
    ----------
    features : ndarray
        Terms of each case, (C, F); sums are taken in their precision.
    weights : ndarray
        Weight of each case in each draw, (C, D).
    begin : int
        First of the draws.
    out : ndarray
        Sums, (F, D) float64.
    """
    cases, terms = features.shape
    size = min(weights.shape[1] - begin, BLOCK)
    row = np.zeros(BLOCK, features.dtype)
    sums = np.zeros((_TERMS, BLOCK), features.dtype)
    for first in range(0, terms, _TERMS):
        last = min(terms, first + _TERMS)
        sums[:] = 0
        for c in range(cases):
            for d in range(size):
                row[d] = weights[c, begin + d]
            for f in range(first, last):
                x = features[c, f]
                if x != 0:
                    mine = sums[f - first]
                    for d in range(BLOCK):
                        mine[d] += x * row[d]
        for f in range(first, last):
            for d in range(size):
                out[f, begin + d] = sums[f - first, d]
