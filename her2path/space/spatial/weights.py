"""Who is whose neighbour: k nearest, or all within a radius."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Weights", "knn", "neighbours", "radius", "search"]

Float = NDArray[np.float64]
Index = NDArray[np.int32]
#: points per query: bounds the memory of a search whatever the number of points
CHUNK = 100_000


@dataclass(frozen=True)
class Weights:
    """Sparse spatial weights in CSR form, without self-neighbours.

    Attributes
    ----------
    indptr : (n + 1,) int64
    indices : (m,) int32
    data : (m,) float64
        1 (binary), or 1 / number of neighbours (row-standardised).
    """

    indptr: NDArray[np.int64]
    indices: Index
    data: Float

    @property
    def n(self) -> int:
        """Number of points."""
        return int(self.indptr.size - 1)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Row of each weight."""
        return np.repeat(np.arange(self.n), np.diff(self.indptr))

    @property
    def s0(self) -> float:
        """Sum of all weights."""
        return float(self.data.sum())

    def s1_s2(self) -> tuple[float, float]:
        """Return S1 = sum (w_ij + w_ji)^2 / 2 and S2 = sum (w_i. + w_.i)^2 of the moments."""
        from scipy.sparse import csr_array

        w = csr_array((self.data, self.indices, self.indptr), shape=(self.n, self.n))
        both = w + w.T
        s2 = (np.asarray(w.sum(axis=1)) + np.asarray(w.sum(axis=0))).astype(float)
        return float((both.data**2).sum() / 2.0), float((s2**2).sum())

    def row_standardised(self) -> Weights:
        """Return weights whose rows each sum to 1 (rows without neighbours stay empty)."""
        rows = self.rows
        sums = np.bincount(rows, self.data, self.n)
        return Weights(self.indptr, self.indices, self.data / sums[rows])

    def lag(self, values: Float) -> Float:
        """Return the weighted sum over each point's neighbours."""
        lag = np.bincount(self.rows, self.data * values[self.indices], self.n)
        return np.asarray(lag, np.float64)


def neighbours(x: Float, y: Float, k: int, workers: int = 1) -> Index:
    """Return each point's k nearest other points, nearest first.

    Parameters
    ----------
    x, y : (n,) float64
        Positions, µm, in canonical order; duplicates are allowed.
    k : int
        1 .. n - 1.
    workers : int
        Threads of the search; the result is the same for any number.

    Returns
    -------
    (n, k) int32
    """
    out = np.empty((x.size, k), np.int32)
    for start, found in search(x, y, k, workers):
        out[start : start + found.shape[0]] = found
    return out


def search(x: Float, y: Float, k: int, workers: int = 1) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield (first point, neighbours (m, k)) in chunks: memory does not grow with the points.

    Parameters as in `neighbours`.
    """
    from scipy.spatial import cKDTree

    if not 1 <= k < x.size:
        raise ValueError(f"{k} nearest neighbours of {x.size} points do not exist")
    points = np.column_stack([x, y])
    tree = cKDTree(points)
    for start in range(0, x.size, CHUNK):
        found = tree.query(points[start : start + CHUNK], k + 1, workers=workers)[1]
        own = np.arange(start, start + found.shape[0])[:, None] == found
        # among many points at one position a point may not find itself: drop the last instead
        own[~own.any(axis=1), -1] = True
        yield start, found[~own].reshape(-1, k)


def knn(x: Float, y: Float, k: int, *, row_standardised: bool = True) -> Weights:
    """Return k-nearest-neighbour weights (see `neighbours`)."""
    near = neighbours(x, y, k)
    indptr = np.arange(0, near.size + 1, k, dtype=np.int64)
    weights = Weights(indptr, near.ravel(), np.ones(near.size))
    return weights.row_standardised() if row_standardised else weights


def radius(x: Float, y: Float, r_um: float, *, row_standardised: bool = False) -> Weights:
    """Return weights of all pairs of points at most ``r_um`` apart (isolated points have none)."""
    from scipy.spatial import cKDTree

    pairs = cKDTree(np.column_stack([x, y])).query_pairs(r_um, output_type="ndarray")
    rows = np.concatenate([pairs[:, 0], pairs[:, 1]])
    cols = np.concatenate([pairs[:, 1], pairs[:, 0]])
    order = np.lexsort((cols, rows))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=x.size))]).astype(np.int64)
    weights = Weights(indptr, cols[order].astype(np.int32), np.ones(cols.size))
    return weights.row_standardised() if row_standardised else weights
