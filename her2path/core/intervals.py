"""Binomial intervals and the class of an area: the words that several kernels share.

References
----------
Wilson EB (1927), Probable inference, the law of succession, and statistical inference,
J Am Stat Assoc 22:209-212. Filho OM et al. (2021), Cancer Discov 11:2474 (the 5 % and 50 % limits).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

__all__ = ["AreaClass", "AreaRules", "area_class", "at_least", "more_than", "wilson"]

AreaClass = Literal["positive", "heterogeneous", "negative", "indeterminate"]
#: two-sided 95 % quantile of the standard normal
Z95 = 1.959963984540054


@dataclass(frozen=True)
class AreaRules:
    """Limits of an area's class."""

    low: float = 0.05
    high: float = 0.50
    min_cells: int = 50


def wilson(k: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Return Wilson's interval of a fraction.

    Parameters
    ----------
    k : int
        Successes, 0..n.
    n : int
        Trials; 0 gives (0, 1): nothing is known.
    z : float
        Normal quantile; the default gives 95 %.

    Returns
    -------
    (float, float)
        Lower and upper limit, within 0..1; exactly 0 at ``k = 0`` and exactly 1 at ``k = n``.

    Raises
    ------
    ValueError
        Where ``k`` is not in 0..n.
    """
    k, n = int(k), int(n)
    if n < 0 or not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is not a fraction")
    if n == 0:
        return 0.0, 1.0
    p, z2 = k / n, z * z
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    low = 0.0 if k == 0 else max(0.0, middle - half)
    high = 1.0 if k == n else min(1.0, middle + half)
    return low, high


@lru_cache(maxsize=256)
def _exact(limit: float) -> Fraction:
    # a setting of 0.05 means five hundredths, not the binary number next to it
    return Fraction(repr(float(limit)))


def at_least(k: int, n: int, limit: float) -> bool:
    """Tell whether k/n >= limit, in integers (n may not be negative)."""
    exact = _exact(limit)
    return int(k) * exact.denominator >= exact.numerator * int(n)


def more_than(k: int, n: int, limit: float) -> bool:
    """Tell whether k/n > limit, in integers (n may not be negative)."""
    exact = _exact(limit)
    return int(k) * exact.denominator > exact.numerator * int(n)


def area_class(
    k: int, n: int, low: float = 0.05, high: float = 0.50, min_cells: int = 50
) -> tuple[AreaClass, bool]:
    """Return an area's class and whether it is certain.

    Parameters
    ----------
    k, n : int
        Positive and evaluable cells.
    low, high : float
        Negative at or below ``low``, positive at or above ``high``, heterogeneous between.
    min_cells : int
        Fewer evaluable cells are indeterminate.

    Returns
    -------
    (str, bool)
        The class by the point estimate, and whether the Wilson 95 % interval stays on one side of
        both limits; an indeterminate area is never certain.
    """
    if n < max(1, min_cells):
        return "indeterminate", False
    below, above = wilson(k, n)
    certain = not (below <= low < above) and not (below < high <= above)
    if not more_than(k, n, low):
        return "negative", certain
    if at_least(k, n, high):
        return "positive", certain
    return "heterogeneous", certain
