"""Second-order statistics: cross-K, and pairs of labelled cells by distance.

References
----------
Ripley BD (1977), J R Stat Soc B 39:172-212. Ohser J (1983), Math Operationsforsch Stat 14:63-71
(translation correction). Stoyan D, Stoyan H (1994), Fractals, Random Shapes and Point Fields
(mark connection functions).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2path.space.spatial._kernels import cell_list, pair_histogram

__all__ = ["PairCounts", "cross_k", "pair_counts"]

Float = NDArray[np.float64]
Int = NDArray[np.int64]
#: centres sampled for pair statistics: bounds the time whatever the number of cells
MAX_CENTRES = 20_000


@dataclass(frozen=True)
class PairCounts:
    """Ordered pairs of cells by distance.

    Attributes
    ----------
    edges_um : (b + 1,) float64
        Limits of the lags.
    all, pp, pn, np_, nn : (b,) int64
        All pairs, and positive-positive, positive-negative (centre first), ...
    centres : int
        Cells that served as centres.
    p : float
        Positive fraction of all cells.
    centre : (c,) int64
        The centres, as rows of the input.
    by_centre : (c, 5, b) int32
        The same five counts, centre by centre.
    """

    edges_um: Float
    all: Int
    pp: Int
    pn: Int
    np_: Int
    nn: Int
    centres: int
    p: float
    centre: Int
    by_centre: NDArray[np.int32]

    @property
    def mid_um(self) -> Float:
        """Middle of each lag."""
        return (self.edges_um[1:] + self.edges_um[:-1]) / 2

    def connection(self) -> list[float | None]:
        """Return the mark connection P(both positive | distance) / p^2: 1 without association.

        This is the ratio of the positives' pair correlation function to that of all cells; the
        edge correction, the same for both, cancels. None for an empty lag.
        """
        return [
            float(a) / float(b) / self.p**2 if b and self.p > 0 else None
            for a, b in zip(self.pp, self.all, strict=True)
        ]

    def k_ratio(self) -> list[float | None]:
        """Return K of the positives over K of all tumour cells, by the lags' upper limits."""
        pp, every = np.cumsum(self.pp), np.cumsum(self.all)
        return [
            float(a) / float(b) / self.p**2 if b and self.p > 0 else None
            for a, b in zip(pp, every, strict=True)
        ]

    def cross_k_ratio(self) -> list[float | None]:
        """Return the cross-K of positives and negatives over K of all tumour cells."""
        pn, every = np.cumsum(self.pn + self.np_), np.cumsum(self.all)
        expected = 2 * self.p * (1 - self.p)
        return [
            float(a) / float(b) / expected if b and expected > 0 else None
            for a, b in zip(pn, every, strict=True)
        ]

    def semivariance(self) -> list[float | None]:
        """Return the empirical variogram, half the share of unlike pairs; None for empty lags."""
        return [
            0.5 * float(u) / float(t) if t else None
            for u, t in zip(self.pn + self.np_, self.all, strict=True)
        ]


def pair_counts(
    x: Float, y: Float, labels: NDArray[np.bool_], reach_um: float, lag_um: float, seed: int = 0
) -> PairCounts:
    """Count pairs of cells by distance, from at most 20 000 randomly drawn centres to all cells.

    Parameters
    ----------
    x, y : (n,) float64
        Positions in canonical order, µm.
    labels : (n,) bool
        Positive cells.
    reach_um, lag_um : float
        Longest distance and width of a lag, µm.
    seed : int
        Of the choice of centres.
    """
    bins = max(1, round(reach_um / lag_um))
    order, keys, columns = cell_list(x, y, bins * lag_um)
    rng = np.random.default_rng(seed)
    n = x.size
    centres = np.arange(n)
    if n > MAX_CENTRES:
        centres = np.sort(rng.choice(n, MAX_CENTRES, replace=False))
    counts = pair_histogram(
        x[order], y[order], np.asarray(labels, bool)[order], keys, columns, centres, lag_um, bins
    )
    edges = np.asarray(np.arange(bins + 1) * float(lag_um), np.float64)
    every, pp, pn, np_, nn = counts.sum(axis=0, dtype=np.int64)
    p = float(np.mean(labels))
    return PairCounts(edges, every, pp, pn, np_, nn, centres.size, p, order[centres], counts)


def cross_k(
    first: tuple[Float, Float],
    second: tuple[Float, Float] | None,
    radii_um: Float,
    window_um: tuple[float, float, float, float],
) -> Float | None:
    """Return Ripley's K (or the cross-K of two kinds) in a rectangle, translation-corrected.

    K(r) = A / (n1 n2) sum over pairs within r of A / |W meets W shifted by the pair's difference|.

    Parameters
    ----------
    first, second : (x, y)
        Points; ``second`` None for K of the first kind itself (n2 is then n1 - 1).
    radii_um : (r,) float64
        Radii; below half of the shorter side of the window.
    window_um : (x0, y0, x1, y1)

    Returns
    -------
    (r,) float64 or None
        µm²; pi r² without association. None without pairs.
    """
    from scipy.spatial import cKDTree

    x0, y0, x1, y1 = window_um
    width, height = x1 - x0, y1 - y0
    a = np.column_stack(first)
    b = a if second is None else np.column_stack(second)
    pairs = a.shape[0] * (a.shape[0] - 1 if second is None else b.shape[0])
    if pairs <= 0:
        return None
    near = cKDTree(a).sparse_distance_matrix(
        cKDTree(b), float(np.max(radii_um)), output_type="ndarray"
    )
    if second is None:
        near = near[near["i"] != near["j"]]
    delta = np.abs(a[near["i"]] - b[near["j"]])
    weight = width * height / ((width - delta[:, 0]) * (height - delta[:, 1]))
    order = np.argsort(near["v"], kind="stable")
    total = np.concatenate([[0.0], np.cumsum(weight[order])])
    return width * height / pairs * total[np.searchsorted(near["v"][order], radii_um, "right")]
