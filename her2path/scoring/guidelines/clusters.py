"""Spatial clusters of stained tumour cells, for the biopsy rule.

Cells at or above an intensity are linked when their centres lie within a distance of each other;
linked cells form a cluster. Only cells at or above the intensity link: a weaker cell between two
intense ones does not join them.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["cluster_levels", "largest_clusters"]


@njit(cache=True, nogil=True)
def _find(parent: np.ndarray, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def _join(
    x: np.ndarray, y: np.ndarray, rank: np.ndarray, order: np.ndarray, spans: np.ndarray,
    link2: float, need: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Add cells in ``order``; return cluster sizes at the end and, per cell, when it had ``need``.

    ``rank[i]`` is the place of cell i in ``order``; ``spans`` (n, 6) are the candidate neighbours'
    index ranges. The second array holds the place at which the cell's cluster reached ``need``
    cells (or at which the cell joined such a one), -1 where it never did.
    """
    n = len(x)
    parent, size = np.arange(n), np.ones(n, np.int64)
    # members of a cluster that is still too small, as a chain from head to tail
    head, tail, chain = np.arange(n), np.arange(n), np.full(n, -1, np.int64)
    reached = np.full(n, -1, np.int64)
    for place in range(n):
        i = order[place]
        for s in range(3):
            for j in range(spans[i, 2 * s], spans[i, 2 * s + 1]):
                if rank[j] >= place or (x[i] - x[j]) ** 2 + (y[i] - y[j]) ** 2 > link2:
                    continue
                a, b = _find(parent, i), _find(parent, j)
                if a == b:
                    continue
                if size[a] < size[b]:
                    a, b = b, a
                parent[b] = a
                size[a] += size[b]
                if head[a] < 0:
                    head[a], tail[a] = head[b], tail[b]
                elif head[b] >= 0:
                    chain[tail[a]] = head[b]
                    tail[a] = tail[b]
        root = _find(parent, i)
        if size[root] >= need:
            j = head[root]
            while j >= 0:
                reached[j] = place
                j = chain[j]
            head[root] = -1
    sizes = np.empty(n, np.int64)
    for i in range(n):
        sizes[i] = size[_find(parent, i)]
    return sizes, reached


def _sorted_grid(x: np.ndarray, y: np.ndarray, link: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the order by grid square (side ``link``) and each cell's candidate ranges (n, 6)."""
    # squares a hair wider than the link, so that rounding never hides a neighbour
    side = link * (1 + 1e-9)
    col = np.floor((x - x.min()) / side).astype(np.int64) + 1
    row = np.floor((y - y.min()) / side).astype(np.int64) + 1
    width, height = int(col.max()) + 3, int(row.max()) + 3
    key = (row + 1) * width + col
    order = np.argsort(key, kind="stable")
    key = key[order]
    spans = np.empty((len(x), 6), dtype=np.int64)
    # a table of every square's first cell, unless the cells are far too sparse for one
    dense = width * height <= 16 * len(x) + 1_000_000
    first = np.searchsorted(key, np.arange(width * height + 1)) if dense else None
    for s, dy in enumerate((-1, 0, 1)):
        low, high = key + dy * width - 1, key + dy * width + 2
        spans[:, 2 * s] = np.searchsorted(key, low) if first is None else first[low]
        spans[:, 2 * s + 1] = np.searchsorted(key, high) if first is None else first[high]
    return order, spans


def largest_clusters(
    x_um: np.ndarray, y_um: np.ndarray, intensity: np.ndarray, link_um: float
) -> np.ndarray:
    """Return the size of the largest cluster at or above each intensity.

    Parameters
    ----------
    x_um, y_um : ndarray, shape (n,)
        Cell centres, µm.
    intensity : ndarray of int, shape (n,)
        0..3.
    link_um : float
        Cells whose centres lie within this distance (inclusive) are linked, µm.

    Returns
    -------
    ndarray of int64, shape (4,)
        Entry k: cells of the largest cluster of cells with intensity >= k; entry 0 is the number
        of cells.
    """
    out = np.zeros(4, dtype=np.int64)
    out[0] = len(intensity)
    for level in (1, 2, 3):
        keep = np.asarray(intensity) >= level
        if keep.any():
            x, y = np.asarray(x_um, float)[keep], np.asarray(y_um, float)[keep]
            order, spans = _sorted_grid(x, y, link_um)
            every = np.arange(len(x))
            out[level] = _join(x[order], y[order], every, every, spans, link_um**2, 1)[0].max()
    return out


def cluster_levels(
    x_um: np.ndarray, y_um: np.ndarray, measure: np.ndarray, link_um: float, need: int
) -> np.ndarray:
    """Return, for every cell, the highest cut-off at which it lies in a cluster of ``need`` cells.

    Parameters
    ----------
    x_um, y_um : ndarray, shape (n,)
        Cell centres, µm.
    measure : ndarray of float, shape (n,)
        Staining measure; cells at or above a cut-off are linked.
    link_um : float
        Linking distance, µm.
    need : int
        Cells that make a cluster.

    Returns
    -------
    ndarray of float64, shape (n,)
        The cut-off; -inf where the cell is in no such cluster at any cut-off.
    """
    out = np.full(len(measure), -np.inf)
    if not len(out):
        return out
    order, spans = _sorted_grid(np.asarray(x_um, float), np.asarray(y_um, float), link_um)
    x, y = np.asarray(x_um, float)[order], np.asarray(y_um, float)[order]
    m = np.asarray(measure, dtype=np.float64)[order]
    falling = np.argsort(-m, kind="stable")
    rank = np.empty(len(m), dtype=np.int64)
    rank[falling] = np.arange(len(m))
    reached = _join(x, y, rank, falling, spans, link_um**2, need)[1]
    values = np.where(reached >= 0, m[falling[np.maximum(reached, 0)]], -np.inf)
    out[order] = values
    return out
