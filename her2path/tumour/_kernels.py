"""Sums over neighbours, in an order that does not depend on how the slide was cut."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["neighbour_means"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

#: columns of buckets; a slide is far narrower than this many buckets
_STRIDE = 1 << 24


@njit(cache=True, nogil=True)
def _means(x, y, start, stop, values, radius, means, weight):  # type: ignore[no-untyped-def]
    far2 = radius * radius
    width = values.shape[1]
    for i in range(x.size):
        total = 0.0
        for row in range(3):
            for j in range(start[row, i], stop[row, i]):
                if j == i:
                    continue
                dx = x[j] - x[i]
                dy = y[j] - y[i]
                d2 = dx * dx + dy * dy
                if d2 >= far2:
                    continue
                near = 1.0 - d2 / far2
                w = near * near
                total += w
                for k in range(width):
                    means[i, k] += w * values[j, k]
        weight[i] = total
        if total > 0.0:
            for k in range(width):
                means[i, k] /= total


def neighbour_means(x: F64, y: F64, cell_id: I64, values: F64, radius: float) -> tuple[F64, F64]:
    """Return weighted means over the neighbours of every cell, itself left out.

    A neighbour at distance d weighs ``(1 - d² / radius²)²``. Neighbours are visited by buckets of
    absolute coordinates and, within a bucket, by ``cell_id``: the sums round alike in every cut.

    Parameters
    ----------
    x, y : float64 (n,)
        Positions, µm, in coordinates that do not depend on the cut.
    cell_id : int64 (n,)
        Identity.
    values : float64 (n, k)
        What is averaged.
    radius : float
        Reach, µm.

    Returns
    -------
    means : float64 (n, k)
        0 where a cell has no neighbour.
    weight : float64 (n,)
        Sum of the weights.
    """
    column = np.floor(x / radius).astype(np.int64)
    row = np.floor(y / radius).astype(np.int64)
    order = np.lexsort((cell_id, column, row))
    key = row[order] * _STRIDE + column[order]
    around = np.stack([key - _STRIDE, key, key + _STRIDE])
    start = np.searchsorted(key, around - 1, side="left")
    stop = np.searchsorted(key, around + 1, side="right")
    means = np.zeros(values.shape)
    weight = np.zeros(len(x))
    sorted_values = np.ascontiguousarray(values[order])
    _means(x[order], y[order], start, stop, sorted_values, radius, means, weight)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return means[back], weight[back]
