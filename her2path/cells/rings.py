"""Rays around a cell, and points in bins: what the kernels of the reading share."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from her2path.core.schema import OUTLINE_RAYS

__all__ = ["COS", "RAYS", "SIN", "bin_points", "sort_bins", "sort_first"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

#: rays of an outline, clockwise on screen from +x, and their directions
RAYS = OUTLINE_RAYS
COS = np.cos(np.arange(RAYS) * (2 * np.pi / RAYS))
SIN = np.sin(np.arange(RAYS) * (2 * np.pi / RAYS))


@njit(cache=True, nogil=True, error_model="numpy")
def sort_first(values: F64, n: int) -> None:
    """Sort the first n values in place, ascending; by insertion, for some dozens of them."""
    for i in range(1, n):
        v, j = values[i], i - 1
        while j >= 0 and values[j] > v:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = v


@njit(cache=True, nogil=True)
def sort_bins(where: I64, bins: int) -> tuple[I64, I64]:
    """Sort things by the bin that each lies in.

    Returns
    -------
    start : (bins + 1,) first place of each bin in `order`
    order : (N,) numbers of the things, ascending inside a bin
    """
    start = np.zeros(bins + 1, np.int64)
    for i in range(where.size):
        start[where[i] + 1] += 1
    for b in range(bins):
        start[b + 1] += start[b]
    fill = start[:-1].copy()
    order = np.empty(where.size, np.int64)
    for i in range(where.size):
        order[fill[where[i]]] = i
        fill[where[i]] += 1
    return start, order


@njit(cache=True, nogil=True)
def bin_points(x: F64, y: F64, size: float) -> tuple[I64, I64, int, int]:
    """Sort points into square bins.

    Returns
    -------
    start : (bins + 1,) first place of each bin in `order`
    order : (N,) point numbers, ascending inside a bin
    columns, rows : number of bins along x and y
    """
    n = x.size
    columns, rows = 1, 1
    for i in range(n):
        columns = max(columns, int(max(x[i], 0.0) / size) + 1)
        rows = max(rows, int(max(y[i], 0.0) / size) + 1)
    where = np.empty(n, np.int64)
    for i in range(n):
        where[i] = int(max(y[i], 0.0) / size) * columns + int(max(x[i], 0.0) / size)
    start, order = sort_bins(where, columns * rows)
    return start, order, columns, rows
