"""Cut-offs from calibrators alone: the OD at which cells hold what a cut-off asks.

Without an earlier calibration a cut-off lies half-way (geometric mean) between published cell
lines: the last that does not reach the score and the first that surely does. Receptors a cell by
flow cytometry and IHC score: Larson 2010 (PMC2990097, table 1).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from her2path.core.errors import UsageError
from her2path.core.settings import Curve, Settings
from her2path.scoring.calibration.curve import monotone, read_off, relative_error_at
from her2path.scoring.calibration.levels import Cutoffs

__all__ = ["PUBLISHED", "cutoffs_from_curve"]

F64 = NDArray[np.float64]
#: receptors of the neighbours of each cut-off: A431 (0) and ZR-75-1 (1+); ZR-75-1 (1+) and
#: MDA-MB-361 (2-3+); MDA-MB-361 (2-3+) and BT-474 (3+)
PUBLISHED = ((27_343.0, 63_708.0), (63_708.0, 212_456.0), (212_456.0, 499_795.0))


def cutoffs_from_curve(curve: Curve, earlier: Settings | None = None) -> Cutoffs:
    """Return the cut-offs, in the curve's measure, with intervals.

    Parameters
    ----------
    curve : Curve
        Of this slide, or of this assay.
    earlier : Settings, optional
        A calibration whose own curve covers its cut-offs: then the receptors at those cut-offs
        are asked for, in place of the published ones.

    Raises
    ------
    UsageError
        Where the curve does not reach a cut-off: nothing is extrapolated.
    """
    asked, low, high = _asked(earlier)
    least, most = curve.range
    if asked[0] < least or asked[-1] > most:
        raise UsageError(
            f"the calibrators reach from {least:.0f} to {most:.0f} receptors, and the cut-offs lie "
            f"at {', '.join(f'{v:.0f}' for v in asked)}",
            "Give calibrators below and above, or controls of known level",
        )
    back = monotone(np.log(curve.od), np.log(curve.receptors))
    values = _solved(back, curve, asked)
    own = np.array([relative_error_at(curve, r) for r in asked])
    # an interval that leaves the curve ends with it
    ends = np.stack([np.clip(low / (1 + own), least, None), np.clip(high * (1 + own), None, most)])
    return Cutoffs(values, np.stack([_solved(back, curve, e) for e in ends], axis=1))


def _asked(earlier: Settings | None) -> tuple[F64, F64, F64]:
    """Return the receptors at the cut-offs, and the limits of what they may be."""
    old = earlier.calibration.curve if earlier is not None else None
    if earlier is not None and old is not None and old.measure == earlier.membrane.measure:
        known = read_off(old, np.array(earlier.membrane.cutoffs)).astype(np.float64)
        if np.isfinite(known).all():
            error = 1 + earlier.membrane.cutoffs_relative_error
            return known, known / error, known * error
    lines = np.array(PUBLISHED)
    return np.sqrt(lines[:, 0] * lines[:, 1]), lines[:, 0].copy(), lines[:, 1].copy()


def _solved(curve: Callable[[F64], F64], knots: Curve, receptors: F64) -> F64:
    """Return the OD at which the curve holds so many receptors, by bisection."""
    low = np.full(len(receptors), np.log(knots.od[0]))
    high = np.full(len(receptors), np.log(knots.od[-1]))
    wanted = np.log(receptors)
    for _ in range(60):
        middle = (low + high) / 2
        below = curve(middle) < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray(np.exp((low + high) / 2))
