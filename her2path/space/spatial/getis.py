"""Getis-Ord Gi*, and exact local tests for cells that are positive or negative.

References
----------
Ord JK, Getis A (1995), Geographical Analysis 27:286-306. Anselin L (1995), Geographical Analysis
27:93-115 (local Moran).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from her2path.space.spatial.fdr import benjamini_hochberg
from her2path.space.spatial.weights import Weights

__all__ = ["gi_star", "hot_and_cold", "hypergeometric_tails", "local_types"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]


def gi_star(values: Float, weights: Weights) -> Float | None:
    """Return z of Gi* for binary weights, each point's own value included with weight 1.

    Parameters
    ----------
    values : (n,) float64
    weights : Weights
        Binary.

    Returns
    -------
    (n,) float64 or None
        None for fewer than 3 points or equal values. A point whose neighbourhood is all points
        has no contrast, and 0.
    """
    x = np.asarray(values, float)
    n = x.size
    spread = float(x.std()) if n else 0.0
    if n < 3 or spread <= 1e-9 * max(1.0, float(np.abs(x).max())):
        return None
    w1 = 1.0 + np.bincount(weights.rows, weights.data, n)
    w2 = 1.0 + np.bincount(weights.rows, weights.data**2, n)
    top = x + weights.lag(x) - x.mean() * w1
    under = np.maximum(0.0, (n * w2 - w1 * w1) / (n - 1))
    # under is 0 (up to rounding) where the neighbourhood is everything
    defined = under > 1e-9
    return np.divide(top, spread * np.sqrt(under), out=np.zeros(n), where=defined)


def hypergeometric_tails(total: int, marked: int, drawn: int) -> tuple[Float, Float]:
    """Return P(X >= c) and P(X <= c), c = 0..drawn, for draws without replacement.

    Parameters
    ----------
    total, marked, drawn : int
        Points, positive points, and size of a neighbourhood.
    """
    from scipy.special import gammaln

    c = np.arange(drawn + 1)
    possible = (c <= marked) & (drawn - c <= total - marked)
    ok = c[possible]

    def choose(a: int, b: NDArray[np.int64]) -> Float:
        return gammaln(a + 1) - gammaln(b + 1) - gammaln(a - b + 1)

    log_pmf = (
        choose(marked, ok) + choose(total - marked, drawn - ok) - choose(total, np.array([drawn]))
    )
    pmf = np.zeros(drawn + 1)
    pmf[possible] = np.exp(log_pmf)
    upper = np.minimum(1.0, np.cumsum(pmf[::-1])[::-1])
    return upper, np.minimum(1.0, np.cumsum(pmf))


def hot_and_cold(
    counts: NDArray[np.integer], drawn: int, positives: int, rate: float
) -> tuple[Bool, Bool]:
    """Return which points lie in significant positive, and negative, patches.

    For labels 0 / 1 and neighbourhoods of one size, Gi* under random labelling at fixed positions
    is the number of positives in a draw without replacement: its p-values are exact
    (hypergeometric), where the normal z is badly wrong for rare positives.

    Parameters
    ----------
    counts : (n,) int
        Positives among each point and its neighbours.
    drawn : int
        Size of a neighbourhood, the point itself included.
    positives : int
        Positives among all n points.
    rate : float
        False discovery rate over both sides together.

    Returns
    -------
    hot, cold : (n,) bool
    """
    upper, lower = hypergeometric_tails(counts.size, positives, drawn)
    two_sided = np.minimum(1.0, 2.0 * np.minimum(upper, lower))
    significant = benjamini_hochberg(two_sided[counts]) <= rate
    high = (upper < lower)[counts]
    return significant & high, significant & ~high


def local_types(
    labels: Bool, near_positive: NDArray[np.integer], k: int, rate: float
) -> NDArray[np.int8]:
    """Return the significant quadrant of local Moran's I of labels 0 / 1, exactly.

    Given a point's own label, its k neighbours are under random labelling a draw without
    replacement from the other points: the conditional permutation that local Moran's p-value is
    usually drawn for (Anselin 1995) is hypergeometric here.

    Parameters
    ----------
    labels : (n,) bool
    near_positive : (n,) int
        Positives among the k neighbours, the point itself left out.
    k : int
    rate : float
        False discovery rate over all points, two-sided.

    Returns
    -------
    (n,) int8
        1 HH, 2 LH, 3 LL, 4 HL (own label first); 0 where not significant.
    """
    n, marked = labels.size, int(labels.sum())
    p, high = np.ones(n), np.zeros(n, bool)
    for own in (False, True):
        mine = labels == own
        upper, lower = hypergeometric_tails(n - 1, marked - own, k)
        two_sided = np.minimum(1.0, 2.0 * np.minimum(upper, lower))
        p[mine] = two_sided[near_positive[mine]]
        high[mine] = (upper < lower)[near_positive[mine]]
    kind = np.where(labels, np.where(high, 1, 4), np.where(high, 2, 3)).astype(np.int8)
    return np.where(benjamini_hochberg(p) <= rate, kind, 0).astype(np.int8)
