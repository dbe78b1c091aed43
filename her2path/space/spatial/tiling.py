"""Squares, hexagons, and the territory of a cell: which tile owns a point."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["TERRITORY_UM", "hexagon_centre", "hexagon_ids", "square_ids", "territory_um2"]

Float = NDArray[np.float64]
Int = NDArray[np.int64]
#: side of the bins in which cells share the ground, µm: two to three cells across
TERRITORY_UM = 20.0
#: room for negative tile numbers in a combined key
SPAN = 1 << 31


def _key(row: Int, col: Int) -> Int:
    return (row + SPAN // 2) * SPAN + (col + SPAN // 2)


def unkey(key: Int) -> tuple[Int, Int]:
    """Return (row, col) of tile keys."""
    return key // SPAN - SPAN // 2, key % SPAN - SPAN // 2


def square_ids(x: Float, y: Float, size_um: float) -> Int:
    """Return the key of the half-open square [i s, (i + 1) s) x [j s, (j + 1) s) of each point.

    Squares start at the slide's origin; keys rise row after row (see `unkey`).
    """
    return _key(
        np.floor(np.asarray(y, float) / size_um).astype(np.int64),
        np.floor(np.asarray(x, float) / size_um).astype(np.int64),
    )


def hexagon_ids(x: Float, y: Float, width_um: float) -> Int:
    """Return the key of the hexagon (flat to flat ``width_um``, pointed up) that owns each point.

    A hexagon owns the points nearest to its centre; on a border the one with the smaller (row,
    col) wins, so that every point has one owner.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    pitch = width_um * math.sqrt(3.0) / 2.0
    near = np.floor(y / pitch).astype(np.int64)
    best = np.full(x.shape, np.inf)
    row, col = np.zeros(x.shape, np.int64), np.zeros(x.shape, np.int64)
    for dr in (0, 1):
        r = near + dr
        shift = np.where(r % 2 == 0, 0.0, 0.5)
        middle = np.floor(x / width_um - shift).astype(np.int64)
        for dc in (0, 1):
            c = middle + dc
            d2 = (x - (c + shift) * width_um) ** 2 + (y - r * pitch) ** 2
            nearer = d2 < best
            best = np.where(nearer, d2, best)
            row, col = np.where(nearer, r, row), np.where(nearer, c, col)
    return _key(row, col)


def hexagon_centre(row: int, col: int, width_um: float) -> tuple[float, float]:
    """Return the centre of a hexagon, µm."""
    shift = 0.5 if row % 2 else 0.0
    return (col + shift) * width_um, row * width_um * math.sqrt(3.0) / 2.0


def territory_um2(x: Float, y: Float) -> Float:
    """Return the ground each cell stands for: a 20 µm bin's area shared by the cells in it.

    Given tumour and other cells together, a region's tumour area is the sum over its tumour
    cells. It is additive, needs no outlines, and a lone cell never stands for more than a bin.
    """
    if np.size(x) == 0:
        return np.zeros(0)
    inverse, counts = np.unique(
        square_ids(x, y, TERRITORY_UM), return_inverse=True, return_counts=True
    )[1:]
    return TERRITORY_UM**2 / counts[inverse.ravel()]
