"""Figures of any number of readers, some reads missing, from how many chose each class.

The counts (N, q) of an item say how many readers put it into each class. What the figures need
are sums over items, so that a bootstrap draw is a weighted sum: `features` gives an item's terms,
the other functions take their sums, terms on the first axis, any further axes being those of the
figures.

References
----------
Fleiss JL (1971) Psychol Bull 76:378; with missing reads as in Gwet KL, Handbook of Inter-Rater
Reliability: items with two reads or more give the agreement found, all items the classes' shares.
Krippendorff K (2011) Computing Krippendorff's alpha-reliability. Gwet KL (2008) Br J Math Stat
Psychol 61:29. Shrout PE, Fleiss JL (1979) Psychol Bull 86:420.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from her2path.scoring.agreement.pairwise import Figure, Figures, ratio
from her2path.scoring.agreement.scale import distance

__all__ = ["alpha", "counts_of", "features", "figures", "icc", "icc_features"]

Floats = NDArray[np.float64]


def counts_of(codes: NDArray[np.integer], classes: int) -> Floats:
    """Return how many readers chose each class, (N, q), from codes (N, R); below 0 is missing."""
    return np.stack([(codes == k).sum(1) for k in range(classes)], axis=1).astype(float)


def features(counts: Floats) -> Floats:
    """Return an item's terms (N, 5 + q + q²).

    Read twice or more; found agreement, plain and quadratically weighted; read at all; all alike
    (of those read twice or more); the classes' shares; coincidences.
    """
    n_items, q = counts.shape
    reads = counts.sum(1)
    twice, once = reads >= 2, reads >= 1
    pairs = np.where(twice, reads * (reads - 1), 1.0)
    w = 1.0 - distance(q, 2)
    plain = (counts * (counts - 1)).sum(1) / pairs
    weighted = (counts * (counts @ w - 1)).sum(1) / pairs
    shares = counts / np.where(once, reads, 1.0)[:, None]
    both = counts[:, :, None] * counts[:, None, :] - np.einsum("ic,ck->ick", counts, np.eye(q))
    both = both / np.where(twice, reads - 1, 1.0)[:, None, None]
    alike = twice & (counts.max(1) == reads)
    head = np.stack([twice, plain * twice, weighted * twice, once, alike], axis=1)
    return np.hstack([head, shares, (both * twice[:, None, None]).reshape(n_items, q * q)])


def figures(sums: Floats, classes: int) -> Figures:
    """Return the figures of sums (5 + q + q², ...) of `features`."""
    q = classes
    twice, once = sums[0], sums[3]
    found, weighted = ratio(sums[1], twice), ratio(sums[2], twice)
    shares = ratio(sums[5 : 5 + q], once)
    chance = (shares**2).sum(0)
    spread = (shares * (1 - shares)).sum(0)
    ac1 = spread / (q - 1)
    ac2 = (1.0 - distance(q, 2)).sum() / (q * (q - 1)) * spread
    coincidences = sums[5 + q :].reshape(q, q, *sums.shape[1:])
    return {
        ("exact",): Figure(ratio(sums[4], twice), twice),
        ("pairwise",): Figure(found),
        ("fleiss",): Figure(ratio(found - chance, 1 - chance)),
        ("alpha",): Figure(alpha(coincidences, "ordinal")),
        ("alpha_nominal",): Figure(alpha(coincidences, "nominal")),
        ("pabak",): Figure((q * found - 1) / (q - 1)),
        ("ac1",): Figure(ratio(found - ac1, 1 - ac1)),
        ("ac2",): Figure(ratio(weighted - ac2, 1 - ac2)),
    }


def alpha(coincidences: Floats, metric: str) -> Floats:
    """Return Krippendorff's alpha from coincidences (q, q, ...).

    Parameters
    ----------
    coincidences : ndarray
        Every ordered pair of reads of an item, weighted by 1 / (reads of the item - 1).
    metric : str
        ``nominal``, or ``ordinal``: classes are as far apart as there are reads between them.
    """
    margin = coincidences.sum(1)
    n = margin.sum(0)
    if metric == "nominal":
        plain = distance(len(margin), 0)
        d = plain.reshape(*plain.shape, *(1 for _ in n.shape))
    else:
        upto = np.cumsum(margin, 0) - margin / 2
        d = (upto[:, None] - upto[None]) ** 2
    observed = (coincidences * d).sum((0, 1))
    expected = (margin[:, None] * margin[None] * d).sum((0, 1))
    return 1.0 - ratio((n - 1) * observed, expected)


def icc_features(values: Floats) -> Floats:
    """Return an item's terms for ICC(2,1), (N, 3 + R), of values (N, R); NaN is missing.

    Complete; square of the sum; sum of squares; the values. Items with a missing read are 0.
    """
    whole = np.asarray(~np.isnan(values).any(axis=1))
    x = np.where(whole[:, None], values, 0.0)
    return np.column_stack([whole, x.sum(1) ** 2, (x**2).sum(1), x])


def icc(sums: Floats) -> Floats:
    """Return ICC(2,1) of all readers from sums (3 + R, ...) of `icc_features`."""
    n, columns = sums[0], sums[3:]
    readers, total = len(columns), columns.sum(0)
    middle = ratio(total**2, n * readers)
    rows = sums[1] / readers - middle
    between = ratio((columns**2).sum(0), n) - middle
    rest = sums[2] - middle - rows - between
    msr, msc = ratio(rows, n - 1), between / (readers - 1)
    mse = ratio(rest, (n - 1) * (readers - 1))
    return ratio(msr - mse, msr + (readers - 1) * mse + ratio(readers * (msc - mse), n))
