"""Hot loops: neighbourhoods in an order that does not depend on the cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["NEAREST", "Buckets", "bucket", "neighbour_means", "neighbour_ranks", "neighbourhood"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

_jit = njit(cache=True, nogil=True, error_model="numpy")
#: columns of buckets; a slide is far narrower than this many buckets
_STRIDE = 1 << 24
#: what is said about the neighbours next to a cell
NEAREST = ("nearest", "nearest_better", "better_overlap", "better_margin", "better_area", "pressed")
#: farthest neighbour that counts as next to a cell, and as pressing on it, µm
_NEXT_UM, _PRESS_UM = 12.0, 6.0


@dataclass(frozen=True)
class Buckets:
    """Cells sorted by buckets of absolute coordinates and, within a bucket, by ``cell_id``.

    ``order`` (n,) sorts the cells, ``back`` undoes it; ``x, y`` are sorted, and the neighbours of
    sorted cell i lie in ``start[r, i]:stop[r, i]``, r = 0..2.
    """

    order: I64
    back: I64
    x: F64
    y: F64
    start: I64
    stop: I64


def bucket(x: F64, y: F64, cell_id: I64, side: float) -> Buckets:
    """Sort cells into buckets of a side (µm); neighbours up to that far can be visited."""
    column = np.floor(x / side).astype(np.int64)
    row = np.floor(y / side).astype(np.int64)
    order = np.lexsort((cell_id, column, row))
    key = row[order] * _STRIDE + column[order]
    around = np.stack([key - _STRIDE, key, key + _STRIDE])
    start = np.searchsorted(key, around - 1, side="left")
    stop = np.searchsorted(key, around + 1, side="right")
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return Buckets(order, back, x[order], y[order], start, stop)


@_jit
def _means(x, y, start, stop, values, radii, first, last, means, weight):  # type: ignore[no-untyped-def]
    count = values.shape[0]
    far2 = radii.max() * radii.max()
    for i in range(count):
        for row in range(3):
            for j in range(start[row, i], stop[row, i]):
                dx = x[j] - x[i]
                dy = y[j] - y[i]
                d2 = dx * dx + dy * dy
                if d2 >= far2 or j == i:
                    continue
                for r in range(radii.size):
                    near = 1.0 - d2 / (radii[r] * radii[r])
                    if near <= 0.0:
                        continue
                    w = near * near
                    weight[r, i] += w
                    for k in range(first[r], last[r]):
                        means[r, i, k] += w * values[j, k]
        for r in range(radii.size):
            if weight[r, i] > 0.0:
                for k in range(first[r], last[r]):
                    means[r, i, k] /= weight[r, i]


def neighbour_means(
    near: Buckets,
    values: F64,
    radii: tuple[float, ...],
    wanted: tuple[tuple[int, int], ...] | None = None,
) -> tuple[F64, F64]:
    """Return weighted means over the neighbours of every cell, itself left out.

    A neighbour at distance d weighs ``(1 - d² / radius²)²``. Neighbours are visited by bucket
    and ``cell_id``: the sums round alike in every cut.

    Parameters
    ----------
    near : Buckets
        With a side of at least the largest radius.
    values : float64 (n, k)
        What is averaged, in the cells' own order.
    radii : tuple of float
        Reaches, µm.
    wanted : tuple of (first, last), optional
        The columns averaged at every radius, the last one left out; all without it.

    Returns
    -------
    means : float64 (radii, n, k)
        0 where a cell has no neighbour, and in columns that are not wanted.
    weight : float64 (radii, n)
        Sum of the weights.
    """
    means = np.zeros((len(radii), *values.shape))
    weight = np.zeros((len(radii), len(values)))
    ordered = np.ascontiguousarray(values[near.order])
    first, last = np.array(wanted or ((0, values.shape[1]),) * len(radii), dtype=np.int64).T.copy()
    _means(
        near.x, near.y, near.start, near.stop, ordered, np.array(radii), first, last, means, weight
    )  # fmt: skip
    return means[:, near.back], weight[:, near.back]


@_jit
def _nearest(x, y, start, stop, ids, radius, trust, out):  # type: ignore[no-untyped-def]
    far2 = _NEXT_UM * _NEXT_UM
    for i in range(x.size):
        least, better = _NEXT_UM, _NEXT_UM
        overlap, margin, area, pressed = -1.0, 0.0, 0.0, 0.0
        for row in range(3):
            for j in range(start[row, i], stop[row, i]):
                dx = x[j] - x[i]
                dy = y[j] - y[i]
                d2 = dx * dx + dy * dy
                if d2 >= far2 or j == i:
                    continue
                d = np.sqrt(d2)
                least = min(least, d)
                if d < _PRESS_UM:
                    pressed += 1.0
                if trust[j] < trust[i] or (trust[j] == trust[i] and ids[j] < ids[i]):
                    continue
                if d < better:
                    better = d
                    overlap = max(1.0 - d / (radius[i] + radius[j]), -1.0)
                    margin = trust[j] - trust[i]
                    area = np.log(radius[j] / radius[i])
        out[i, 0] = least
        out[i, 1] = better
        out[i, 2] = overlap
        out[i, 3] = margin
        out[i, 4] = area
        out[i, 5] = pressed


def neighbourhood(near: Buckets, cell_id: I64, radius: F64, trust: F64) -> F64:
    """Return what lies right beside every cell: a double has a more trusted neighbour too near.

    Parameters
    ----------
    near : Buckets
    cell_id : int64 (n,)
        Breaks ties of trust.
    radius : float64 (n,)
        Of the nucleus, µm, above 0.
    trust : float64 (n,)
        Confidence of the detection.

    Returns
    -------
    float64 (n, len(NEAREST))
        Distance to the nearest neighbour and to the nearest more trusted one (µm, 12 at most), the
        overlap with that one (1 is complete, below 0 apart), how much more it is trusted, log of
        its radius over the cell's own, and how many lie within 6 µm.
    """
    out = np.zeros((len(radius), len(NEAREST)))
    o = near.order
    _nearest(near.x, near.y, near.start, near.stop, cell_id[o], radius[o], trust[o], out)
    return np.asarray(out[near.back])


@_jit
def _ranks(x, y, start, stop, values, reach, out):  # type: ignore[no-untyped-def]
    count, columns = values.shape
    far2 = reach * reach
    below = np.empty(columns)
    for i in range(count):
        below[:] = 0.0
        total = 0.0
        for row in range(3):
            for j in range(start[row, i], stop[row, i]):
                dx = x[j] - x[i]
                dy = y[j] - y[i]
                near = 1.0 - (dx * dx + dy * dy) / far2
                if near <= 0.0 or j == i:
                    continue
                total += near
                half = 0.5 * near
                for k in range(columns):
                    # an equal one counts half; sums, because branches would be guessed wrong
                    below[k] += half * (values[j, k] < values[i, k])
                    below[k] += half * (values[j, k] <= values[i, k])
        for k in range(columns):
            # one neighbour of each kind is added: few neighbours say little
            out[i, k] = (below[k] + 0.5) / (total + 1.0)


def neighbour_ranks(near: Buckets, values: F64, reach: float) -> F64:
    """Return which share of the neighbours lies below a cell, value by value.

    Parameters
    ----------
    near : Buckets
        With a side of at least the reach.
    values : float64 (n, k)
        What is compared, in the cells' own order.
    reach : float
        µm; a neighbour at distance d weighs ``1 - d² / reach²``.

    Returns
    -------
    float64 (n, k)
        0..1; 0.5 without neighbours.
    """
    out = np.empty(values.shape)
    ordered = np.ascontiguousarray(values[near.order])
    _ranks(near.x, near.y, near.start, near.stop, ordered, reach, out)
    return np.asarray(out[near.back])
