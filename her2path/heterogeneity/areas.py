"""Areas, their classes, and the verdicts that rest on them.

References
----------
Filho OM et al. (2021), Cancer Discov 11:2474-2487. Vance GH et al. (2009), Arch Pathol Lab Med
133:611-612 (CAP). Wolff AC et al. (2018), J Clin Oncol 36:2105-2122. Beta-binomial: Williams DA
(1975), Biometrics 31:949-952. Within-area correlation, analysis-of-variance estimator: Donner A
(1986), Int Stat Rev 54:67-82.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.intervals import area_class, at_least, more_than, wilson

__all__ = ["AreaRules", "AreaTable", "area_table", "false_alarm", "filho", "in_band", "within_area"]

Int = NDArray[np.int64]
Float = NDArray[np.float64]
CLASSES = ("positive", "heterogeneous", "negative", "indeterminate")


@dataclass(frozen=True)
class AreaRules:
    """Limits of an area's class."""

    low: float = 0.05
    high: float = 0.50
    min_cells: int = 50


@dataclass(frozen=True)
class AreaTable:
    """Areas and their classes.

    Attributes
    ----------
    names : tuple of str
    positive, cells : (a,) int64
    area_um2 : (a,) float64
        Tumour area.
    kind : tuple of str
        Class of each area.
    certain : (a,) bool
    """

    names: tuple[str, ...]
    positive: Int
    cells: Int
    area_um2: Float
    kind: tuple[str, ...]
    certain: NDArray[np.bool_]

    @property
    def evaluable(self) -> NDArray[np.bool_]:
        """Areas that are not indeterminate."""
        return np.array([k != "indeterminate" for k in self.kind], bool)

    def count(self, kind: str) -> int:
        """Return how many areas have a class."""
        return self.kind.count(kind)

    def share(self, chosen: NDArray[np.bool_]) -> float | None:
        """Return tumour area of chosen areas over that of all evaluable ones; None without any."""
        whole = float(self.area_um2[self.evaluable].sum())
        if whole <= 0:
            return None
        return min(1.0, float(self.area_um2[chosen & self.evaluable].sum()) / whole)

    def rows(self) -> list[dict[str, Any]]:
        """Return one plain record an area."""
        out = []
        for i, name in enumerate(self.names):
            k, n = int(self.positive[i]), int(self.cells[i])
            low, high = wilson(k, n)
            out.append(
                {
                    "area_id": name,
                    "tumour_cells": n,
                    "positive_cells": k,
                    "positive_fraction": k / n if n else None,
                    "positive_low": low if n else None,
                    "positive_high": high if n else None,
                    "area_class": self.kind[i],
                    "area_class_certain": bool(self.certain[i]),
                }
            )
        return out


def area_table(
    names: tuple[str, ...], positive: Int, cells: Int, area_um2: Float, rules: AreaRules
) -> AreaTable:
    """Return the areas with their classes (`intervals.area_class`)."""
    classes = [
        area_class(int(k), int(n), rules.low, rules.high, rules.min_cells)
        for k, n in zip(positive, cells, strict=True)
    ]
    return AreaTable(
        names, positive, cells, area_um2,
        tuple(c[0] for c in classes), np.array([c[1] for c in classes], bool),
    )  # fmt: skip


def in_band(areas: AreaTable, rules: AreaRules) -> NDArray[np.bool_]:
    """Return which areas have low < p < high, strictly (the 5 % to 50 % band)."""
    pairs = zip(areas.positive.tolist(), areas.cells.tolist(), strict=True)
    inside = [
        n > 0 and more_than(k, n, rules.low) and not at_least(k, n, rules.high) for k, n in pairs
    ]
    return np.array(inside, bool)


def filho(
    areas: AreaTable, her2_positive: bool | None, why_open: str, negative: tuple[str, ...] = ()
) -> tuple[bool | None, str]:
    """Return Filho's verdict on a case and the reason.

    Parameters
    ----------
    areas : AreaTable
    her2_positive : bool or None
        None where the definition cannot be applied; ``why_open`` then says why.
    negative : tuple of str
        Areas whose own ISH result is negative.

    Returns
    -------
    (bool or None, str)
        Heterogeneous iff the case is HER2-positive and an area is heterogeneous or negative.
    """
    if her2_positive is None:
        return None, why_open
    if not areas.evaluable.any():
        return None, "no area has enough evaluable cells"
    if not her2_positive:
        return False, "the case is not HER2-positive"
    found = [
        f"{areas.count(kind)} of {int(areas.evaluable.sum())} areas {kind}"
        for kind in ("heterogeneous", "negative")
        if areas.count(kind)
    ]
    if negative:
        found.append(f"{len(negative)} with a negative ISH result")
    if found:
        return True, "HER2-positive, with " + " and ".join(found)
    return False, f"all {int(areas.evaluable.sum())} evaluable areas are positive"


def within_area(positive: Int, cells: Int) -> float | None:
    """Return the within-area (intraclass) correlation of positive cells.

    ICC(1) = (MSB - MSW) / (MSB + (n0 - 1) MSW), cut to 0..1; None with fewer than two areas, or
    where all cells are equal.
    """
    used = cells > 0
    k, n = positive[used].astype(float), cells[used].astype(float)
    total, groups = float(n.sum()), int(used.sum())
    if groups < 2 or total <= groups:
        return None
    p, own = float(k.sum()) / total, k / n
    if p in (0.0, 1.0):
        return None
    between = float((n * (own - p) ** 2).sum()) / (groups - 1)
    within = float((k * (1 - own)).sum()) / (total - groups)
    n0 = (total - float((n * n).sum()) / total) / (groups - 1)
    under = between + (n0 - 1) * within
    return min(1.0, max(0.0, (between - within) / under)) if under > 0 else 0.0


def false_alarm(
    cells: Int, p: float, rules: AreaRules, correlation: float = 0.0
) -> float | None:
    """Return P(at least one evaluable area reads heterogeneous or negative).

    Parameters
    ----------
    cells : (a,) int64
        Cells of each area; areas below the minimum take no part.
    p : float
        Pooled positive fraction: every area has the same one.
    rules : AreaRules
    correlation : float
        Within-area correlation, 0 for independent cells (binomial), else beta-binomial.

    Returns
    -------
    float or None
        None without an evaluable area.
    """
    sizes, times = np.unique(cells[cells >= max(1, rules.min_cells)], return_counts=True)
    if sizes.size == 0:
        return None
    log_safe = 0.0
    for n, m in zip(sizes.tolist(), times.tolist(), strict=True):
        safe = _at_least(n, p, rules.high, correlation)
        if safe <= 0.0:
            return 1.0
        log_safe += m * float(np.log(safe))
    return float(-np.expm1(log_safe))


def _at_least(n: int, p: float, high: float, correlation: float) -> float:
    """Return P(k / n >= high)."""
    limit = Fraction(repr(float(high))) * n
    need = -(-limit.numerator // limit.denominator)
    if need <= 0 or p >= 1.0:
        return 1.0
    if p <= 0.0:
        return 0.0
    if correlation >= 1.0:
        return p
    if correlation < 1e-9:
        from scipy.special import bdtrc

        return float(bdtrc(need - 1, n, p))
    return _beta_binomial_tail(n, need, p, correlation)


def _beta_binomial_tail(n: int, need: int, p: float, correlation: float) -> float:
    from scipy.special import betaln, gammaln

    scale = (1.0 - correlation) / correlation
    a, b = p * scale, (1.0 - p) * scale
    total = 0.0
    for start in range(need, n + 1, 1_000_000):
        k = np.arange(start, min(start + 1_000_000, n + 1), dtype=float)
        log_pmf = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
        log_pmf += betaln(k + a, n - k + b) - betaln(a, b)
        total += float(np.exp(log_pmf).sum())
    return min(1.0, total)
