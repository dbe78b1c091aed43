"""Figures of two readers, from their contingency table.

Tables have their classes on the first two axes, (q, q, ...): rows the first reader's class, columns
the second's; any further axes (pairs, bootstrap draws) are those of the figures that come back. NaN
where a figure is not defined (no reads, or no variation to agree on beyond chance).

References
----------
Cohen J (1960) Educ Psychol Meas 20:37 and (1968) Psychol Bull 70:213 (kappa, weighted kappa).
Byrt T, Bishop J, Carlin JB (1993) J Clin Epidemiol 46:423 (PABAK). Gwet KL (2008) Br J Math Stat
Psychol 61:29 (AC1), and Handbook of Inter-Rater Reliability (AC2). Shrout PE, Fleiss JL (1979)
Psychol Bull 86:420 (ICC(2,1)). Lin LI (1989) Biometrics 45:255 (CCC). Cicchetti DV, Feinstein AR
(1990) J Clin Epidemiol 43:551 (average positive and negative agreement).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from her2path.scoring.agreement.scale import CUTOFFS, LOW, LOW_CLASSES, collapsed, distance

__all__ = ["Figure", "Figures", "binary", "gwet", "kappa", "lower_end", "moments", "pair", "ratio"]

Floats = NDArray[np.float64]


class Figure(NamedTuple):
    """A figure's values, and for a proportion the number of items that it is a share of."""

    value: Floats
    of: Floats | None = None


#: where a figure stands in the tree of a pair -> its values
Figures = dict[tuple[str, ...], Figure]


def ratio(top: Floats, bottom: Floats) -> Floats:
    """Return top / bottom, NaN where the bottom is not above a rounding error of 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.abs(bottom) > 1e-12, top / bottom, np.nan)


def _share(top: Floats, bottom: Floats) -> Figure:
    return Figure(ratio(top, bottom), bottom)


def kappa(table: Floats, power: int = 0) -> Floats:
    """Return Cohen's kappa (power 0), linearly (1) or quadratically (2) weighted.

    1 - sum(v p) / sum(v e): v the weight of a disagreement, p the shares, e those by chance, the
    product of both readers' own margins.
    """
    v = distance(len(table), power)
    rows, columns = table.sum(1), table.sum(0)
    chance = (rows * np.tensordot(v, columns, 1)).sum(0)
    return 1.0 - ratio(np.tensordot(v, table, 2) * rows.sum(0), chance)


def gwet(table: Floats, power: int = 0) -> Floats:
    """Return Gwet's AC1 (power 0), or AC2 with linear (1) or quadratic (2) weights."""
    q = len(table)
    w = 1.0 - distance(q, power)
    both = table.sum(1) + table.sum(0)
    n = both.sum(0) / 2
    mean = ratio(both, 2 * n)
    chance = w.sum() / (q * (q - 1)) * (mean * (1 - mean)).sum(0)
    found = ratio(np.tensordot(w, table, 2), n)
    return ratio(found - chance, 1 - chance)


class Moments(NamedTuple):
    """n, means, variances and covariance (divided by n) of two readers' numbers."""

    n: Floats
    mean_a: Floats
    mean_b: Floats
    var_a: Floats
    var_b: Floats
    cov: Floats

    def icc(self) -> Floats:
        """Return ICC(2,1): two-way random effects, single read, absolute agreement."""
        n, s = self.n, ratio(self.n, self.n - 1)
        both, cov = s * (self.var_a + self.var_b), s * self.cov
        shift = (self.mean_a - self.mean_b) ** 2
        return ratio(2 * cov, both + shift - ratio(both - 2 * cov, n))

    def ccc(self) -> Floats:
        """Return Lin's concordance correlation coefficient."""
        shift = (self.mean_a - self.mean_b) ** 2
        return ratio(2 * self.cov, self.var_a + self.var_b + shift)


def moments(n: Floats, sums: Floats) -> Moments:
    """Return moments from sums (5, ...) of a, b, a², b², ab."""
    a, b, aa, bb, ab = ratio(sums, n)
    # rounding must not make a constant reader vary
    var_a, var_b = (np.where(v > 1e-9, v, 0.0) for v in (aa - a * a, bb - b * b))
    return Moments(n, a, b, var_a, var_b, ab - a * b)


def _moments_of(table: Floats) -> Moments:
    k = np.arange(len(table), dtype=float)
    a, b = table.sum(1), table.sum(0)
    sums = [np.tensordot(w, side, 1) for w in (k, k**2) for side in (a, b)]
    return moments(a.sum(0), np.stack([*sums, np.tensordot(np.outer(k, k), table, 2)]))


def binary(table: Floats) -> Figures:
    """Return the figures of (2, 2, ...) tables, below and above a cut-off.

    ``ppa`` and ``npa`` take the rows' reader as the reference: the share of its positives
    (negatives) that the columns' reader calls so too. ``apa`` and ``ana`` take neither.
    """
    nn, only_b, only_a, pp = (table[i, j] for i in (0, 1) for j in (0, 1))
    n = nn + only_b + only_a + pp
    opa = _share(nn + pp, n)
    return {
        ("opa",): opa,
        ("ppa",): _share(pp, only_a + pp),
        ("npa",): _share(nn, nn + only_b),
        ("apa",): Figure(ratio(2 * pp, 2 * pp + only_a + only_b)),
        ("ana",): Figure(ratio(2 * nn, 2 * nn + only_a + only_b)),
        ("kappa",): Figure(kappa(table)),
        ("pabak",): Figure(2 * opa.value - 1),
        ("ac1",): Figure(gwet(table)),
    }


def pair(table: Floats) -> Figures:
    """Return the figures of (q, q, ...) tables of two readers' scores."""
    q = len(table)
    exact = _share(np.trace(table), table.sum((0, 1)))
    m = _moments_of(table)
    found: Figures = {
        ("exact",): exact,
        ("kappa", "plain"): Figure(kappa(table, 0)),
        ("kappa", "linear"): Figure(kappa(table, 1)),
        ("kappa", "quadratic"): Figure(kappa(table, 2)),
        ("pabak",): Figure((q * exact.value - 1) / (q - 1)),
        ("ac1",): Figure(gwet(table, 0)),
        ("ac2",): Figure(gwet(table, 2)),
        ("icc",): Figure(m.icc()),
        ("ccc",): Figure(m.ccc()),
    }
    for name, above in CUTOFFS.items():
        for key, figure in binary(collapsed(table, above)).items():
            found["cutoffs", name, *key] = figure
    return found


def lower_end(table: Floats) -> Figures:
    """Return the figures of (3, 3, ...) tables over null, ultralow, and low or above.

    ``opa`` is over the three classes, ``ppa`` and ``npa`` are at the limit between null and the
    others; each class's own figure is the share of the rows' reader that the other calls so too.
    """
    found: Figures = {
        ("cutoffs", LOW, "opa"): _share(np.trace(table), table.sum((0, 1))),
        ("cutoffs", LOW, "kappa"): Figure(kappa(table)),
    }
    two = binary(collapsed(table, 1))
    for name in ("ppa", "npa"):
        found["cutoffs", LOW, name] = two[name,]
    for k, name in enumerate(LOW_CLASSES):
        found["cutoffs", LOW, name] = _share(table[k, k], table[k].sum(0))
    return found
