"""Control charts: limits of a series, and the rules by which a value of it is out of control.

Rules as named by Westgard et al. 1981 (Clin Chem 27:493): ``1_2s`` one value beyond 2 SD (a warning
by itself), ``1_3s`` one beyond 3 SD, ``2_2s`` two in a row beyond 2 SD on one side, ``R_4s`` two in
a row that lie beyond 2 SD on either side, ``4_1s`` four in a row beyond 1 SD on one side, ``10_x``
ten in a row on one side of the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEWEST_VALUES", "RULES", "WARNING", "Limits", "broken", "limits_of"]

F64 = NDArray[np.float64]
RULES = ("1_2s", "1_3s", "2_2s", "R_4s", "4_1s", "10_x")
#: the rule that warns, and by itself puts nothing out of control
WARNING = "1_2s"
#: fewer values have no limits
FEWEST_VALUES = 6
#: what the median absolute deviation of a normal series is worth in SD
MAD_TO_SD = 1.4826
#: values this far from the median take no part in mean and SD
INLIER = 3.0
#: spread over the mean that is rounding
ROUNDING = 1e-9


@dataclass(frozen=True)
class Limits:
    """Mean and SD of a series, and how many of its values they rest on."""

    mean: float
    sd: float
    n: int

    def at(self, z: float) -> float:
        """Return the value that lies so many SD from the mean."""
        return self.mean + z * self.sd


def limits_of(values: F64) -> Limits | None:
    """Return mean and SD of the values that are no outliers; None where there are too few.

    Values further than three (robust) SD from the median are left out, or one bad slide would widen
    the limits that are to show it.
    """
    known = values[np.isfinite(values)]
    if len(known) < FEWEST_VALUES:
        return None
    away = np.abs(known - np.median(known))
    spread = MAD_TO_SD * float(np.median(away))
    used = known[away <= INLIER * spread] if spread > 0 else known
    sd = float(used.std(ddof=1)) if len(used) > 1 else 0.0
    mean = float(used.mean())
    # values that are the same but for rounding have no spread
    return Limits(mean, sd, len(used)) if sd > ROUNDING * abs(mean) else None


def broken(values: F64, limits: Limits) -> list[tuple[str, ...]]:
    """Return the rules that each value breaks, in their order; a missing value breaks none.

    Parameters
    ----------
    values : (N,) float64
        In the order of time; NaN is missing, and "in a row" passes over it.
    limits : Limits
    """
    out: list[tuple[str, ...]] = []
    before: list[float] = []
    for value in values:
        if not np.isfinite(value):
            out.append(())
            continue
        before.append(float((value - limits.mean) / limits.sd))
        out.append(tuple(r for r in RULES if _breaks(r, before)))
    return out


def _breaks(rule: str, z: Sequence[float]) -> bool:
    last = z[-1]
    if rule == "1_2s":
        return abs(last) > 2
    if rule == "1_3s":
        return abs(last) > 3
    if rule == "R_4s":
        return len(z) > 1 and min(z[-2:]) < -2 and max(z[-2:]) > 2
    count, beyond = {"2_2s": (2, 2.0), "4_1s": (4, 1.0), "10_x": (10, 0.0)}[rule]
    run = z[-count:]
    return len(run) == count and (min(run) > beyond or max(run) < -beyond)
