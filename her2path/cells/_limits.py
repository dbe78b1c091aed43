"""How far a cell may reach: points in bins, and the limits that its neighbours set.

All lengths are pixels of the analysis plane.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

RAYS = 48
COS = np.cos(np.arange(RAYS) * (2 * np.pi / RAYS))
SIN = np.sin(np.arange(RAYS) * (2 * np.pi / RAYS))
FAR = 1e30


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


@njit(cache=True, nogil=True)
def neighbour_limits(i: int, x: F64, y: F64, size: F64, bins: tuple, soft: F64, hard: F64) -> None:
    """Write how far each ray of cell i reaches until its neighbours' realm.

    `soft` is the distance to the power line between the two nuclei (equal tangents), `hard` the
    entry into a neighbour's nucleus. Only minima are taken: the order of neighbours is free.
    """
    start, order, columns, rows, reach = bins
    for k in range(RAYS):
        soft[k] = FAR
        hard[k] = FAR
    bx, by = int(max(x[i], 0.0) / reach), int(max(y[i], 0.0) / reach)
    # near neighbours first: behind them the far ones seldom count
    for ring in range(2):
        most = FAR
        if ring == 1:
            most = soft.max()
        for v in range(max(by - 1, 0), min(by + 2, rows)):
            low = start[v * columns + max(bx - 1, 0)]
            high = start[v * columns + min(bx + 2, columns)]
            for place in range(low, high):
                j = order[place]
                dx, dy = x[j] - x[i], y[j] - y[i]
                far2 = dx * dx + dy * dy
                if j == i or far2 > reach * reach or far2 == 0.0:
                    continue
                if (far2 > 0.2 * reach * reach) != (ring == 1):
                    continue
                power = 0.5 * (far2 + size[i] * size[i] - size[j] * size[j])
                power = max(power, 0.15 * far2)
                if power * power < 1.001 * far2 * most * most:
                    _part(dx, dy, power, soft)
                _bar(dx, dy, far2, 0.8 * size[j], hard)


@njit(cache=True, nogil=True, error_model="numpy")
def _part(dx: float, dy: float, power: float, soft: F64) -> None:
    for k in range(RAYS):
        along = COS[k] * dx + SIN[k] * dy
        if along > 0.05 and power < 1.001 * soft[k] * along:
            soft[k] = min(soft[k], power / along)


@njit(cache=True, nogil=True, error_model="numpy")
def _bar(dx: float, dy: float, far2: float, disc: float, hard: F64) -> None:
    """Let a neighbour's disc stop the rays that meet it: those within its angle, and one more."""
    far = np.sqrt(far2)
    middle = int(np.floor(np.arctan2(dy, dx) * (RAYS / (2 * np.pi)) + 0.5)) + RAYS
    # an arc sine is at most a quarter turn for a whole one
    half = int(min(disc / far, 1.0) * (RAYS / 4)) + 1
    for ray in range(middle - half, middle + half + 1):
        k = ray % RAYS
        along = COS[k] * dx + SIN[k] * dy
        side2 = far2 - along * along
        if along > 0.05 and side2 < disc * disc:
            hard[k] = min(hard[k], along - np.sqrt(disc * disc - side2))
