"""The chance that some area reads heterogeneous although all areas are alike.

References
----------
Beta-binomial: Williams DA (1975), Biometrics 31:949-952. Within-area correlation,
analysis-of-variance estimator: Donner A (1986), Int Stat Rev 54:67-82.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from her2path.core.intervals import AreaRules

__all__ = ["alarms", "false_alarm", "within_area"]

Int = NDArray[np.int64]


def alarms(positive: Int, cells: Int, rules: AreaRules) -> dict[str, float | None]:
    """Return the chances of a false alarm of some areas, and what they rest on.

    Parameters
    ----------
    positive, cells : (a,) int64
        Positive and evaluable cells of each area; those below the minimum take no part.
    rules : AreaRules

    Returns
    -------
    dict
        ``false_alarm_probability`` (cells independent at the pooled fraction),
        ``within_area_correlation`` as measured, and ``false_alarm_probability_correlated`` with
        it; None where undefined.
    """
    used = cells >= max(1, rules.min_cells)
    k, n = positive[used], cells[used]
    pooled = int(k.sum()) / int(n.sum()) if n.size else 0.0
    correlation = within_area(k, n)
    return {
        "false_alarm_probability": false_alarm(n, pooled, rules),
        "within_area_correlation": correlation,
        "false_alarm_probability_correlated": (
            None if correlation is None else false_alarm(n, pooled, rules, correlation)
        ),
    }


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


def false_alarm(cells: Int, p: float, rules: AreaRules, correlation: float = 0.0) -> float | None:
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
