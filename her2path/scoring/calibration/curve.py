"""Membrane OD as receptors a cell: a monotone curve through calibrators.

Knots are the medians of the calibrators' stained cells; a calibrator of which most cells read
unstained lies below the detection limit and is no knot. Knots that do not rise are pooled with
their neighbours (isotonic regression of log OD on log receptors); between the knots log receptors
follow log OD along a monotone cubic (Fritsch and Carlson 1980, SIAM J Numer Anal 17:238; scipy's
PCHIP). Nothing is read off outside the outermost knots.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.core.errors import UsageError
from her2path.core.settings import Curve
from her2path.scoring.calibration.control import Control, middle, resampled

__all__ = ["fit_curve", "read_off", "relative_error_at"]

F64 = NDArray[np.float64]
#: calibrators of different receptor number that make a curve
FEWEST_CALIBRATORS = 3
DRAWS = 200


def fit_curve(controls: Sequence[Control], measure: str, seed: int = 0) -> tuple[Curve, list[str]]:
    """Return the curve through controls of stated receptor number, and remarks.

    Parameters
    ----------
    controls : sequence of Control
        Those with `receptors` count; several of one number are one knot.
    measure : str
        The column that is read off.
    seed : int
        Of the bootstrap over squares of 100 µm.

    Raises
    ------
    UsageError
        Fewer than three calibrators above the detection limit, or calibrators that do not rank.
    """
    groups: dict[float, list[Control]] = {}
    for control in controls:
        if control.receptors is not None:
            groups.setdefault(float(control.receptors), []).append(control)
    seen = {r: g for r, g in sorted(groups.items()) if _middle(g, measure) > 0}
    remarks = [f"calibrator of {r:g} receptors: more than half of its cells read unstained; the "
               "curve begins above it" for r in sorted(set(groups) - set(seen))]  # fmt: skip
    if len(seen) < FEWEST_CALIBRATORS:
        raise UsageError(
            f"there are too few calibrators: {len(seen)} of different receptor number stain more "
            f"than half of their cells, and {FEWEST_CALIBRATORS} are needed",
            "Give more cell lines or beads",
        )  # fmt: skip
    receptors = np.array(list(seen))
    od = np.array([_middle(g, measure) for g in seen.values()])
    sampled = np.array([_spread(g, measure, seed + i) for i, g in enumerate(seen.values())])
    _refuse_unranked(receptors, od, sampled)
    receptors, od, sampled = _pooled(receptors, od, sampled)
    if len(receptors) < FEWEST_CALIBRATORS:
        raise UsageError("the calibrators do not rank: their ODs hardly rise with their receptors",
                         "Check which calibrator is which")  # fmt: skip
    left_out = _left_out(receptors, od)
    return Curve.model_validate({
        "measure": measure, "od": _rounded(od), "receptors": _rounded(receptors),
        "relative_error": _errors(receptors, od, sampled, left_out).tolist(),
        "residuals": [None if not np.isfinite(v) else round(float(v), 4) for v in left_out],
    }), remarks  # fmt: skip


def _rounded(values: F64) -> list[float]:
    """Return values with six significant digits, as they are written down."""
    return [float(f"{v:.6g}") for v in values]


def _middle(group: Sequence[Control], measure: str) -> float:
    middles = [c.median(measure) for c in group]
    return float(np.exp(np.mean(np.log(middles)))) if min(middles) > 0 else 0.0


def _spread(group: Sequence[Control], measure: str, seed: int) -> float:
    """Return the standard error of a knot's log OD, between its controls or within the only one."""
    if len(group) > 1:
        return float(np.std(np.log([c.median(measure) for c in group]), ddof=1) / len(group) ** 0.5)
    rng = np.random.default_rng(seed)
    middles = resampled(group[0], measure, middle, DRAWS, rng)
    return float(np.std(np.log(middles[middles > 0])))


def _refuse_unranked(receptors: F64, od: F64, spread: F64) -> None:
    for i in range(len(od) - 1):
        fall = np.log(od[i] / od[i + 1])
        if fall > max(1.96 * float(np.hypot(spread[i], spread[i + 1])), 0.02):
            raise UsageError(
                f"the calibrators do not rank: {receptors[i + 1]:g} receptors read "
                f"{od[i + 1]:.3g}, {receptors[i]:g} read {od[i]:.3g}",
                "Check which calibrator is which",
            )  # fmt: skip


def monotone(x: F64, y: F64) -> Any:
    """Return the monotone cubic through rising points (PCHIP; Fritsch & Carlson 1980).

    SciPy's interpolation is loaded on first use: it takes longer than a small slide's first look.
    """
    from scipy.interpolate import PchipInterpolator

    return PchipInterpolator(x, y)


def _pooled(receptors: F64, od: F64, spread: F64) -> tuple[F64, F64, F64]:
    """Return strictly rising knots; those that fall within their errors become one."""
    from scipy.optimize import isotonic_regression

    fitted = isotonic_regression(np.log(od), increasing=True)
    edges = np.asarray(fitted.blocks)
    kept = [np.arange(a, b) for a, b in pairwise(edges)]
    return (
        np.exp([np.log(receptors[k]).mean() for k in kept]),
        np.exp([np.log(od[k]).mean() for k in kept]),
        np.array([max(spread[k].max(), np.log(od[k]).std()) for k in kept]),
    )


def _left_out(receptors: F64, od: F64) -> F64:
    """Return what each knot reads on the others' curve, over what was stated, minus 1."""
    out = np.full(len(od), np.nan)
    for i in range(1, len(od) - 1):
        others = np.arange(len(od)) != i
        curve = monotone(np.log(od[others]), np.log(receptors[others]))
        out[i] = np.exp(float(curve(np.log(od[i])))) / receptors[i] - 1
    return out


def _errors(receptors: F64, od: F64, spread: F64, left_out: F64) -> F64:
    """Return half-widths of the 95 % intervals: of the knot's OD, times the slope, and the curve's.

    Between knots a curve may be off by about what leaving one out shows, halved: the gaps are half
    as wide with the knot in.
    """
    slope = np.abs(monotone(np.log(od), np.log(receptors)).derivative()(np.log(od)))
    seen = np.abs(np.log1p(left_out[np.isfinite(left_out)]))
    between = 0.5 * float(np.sqrt(np.mean(seen**2))) if len(seen) else 0.0
    return np.asarray(np.expm1(1.96 * np.hypot(slope * spread, between)).round(4))


def read_off(curve: Curve, values: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return receptors a cell, float32; NaN outside the curve's range.

    Parameters
    ----------
    curve : Curve
    values : (N,)
        Of the column that the curve names.
    """
    od = np.asarray(values, np.float64)
    inside = (od >= curve.od[0] * (1 - 1e-9)) & (od <= curve.od[-1] * (1 + 1e-9))
    line = monotone(np.log(curve.od), np.log(curve.receptors))
    at = np.log(np.clip(od[inside], curve.od[0], curve.od[-1]))
    out = np.full(len(od), np.nan, np.float32)
    out[inside] = np.exp(line(at)).astype(np.float32)
    return out


def relative_error_at(curve: Curve, receptors: float) -> float:
    """Return the half-width of the curve's 95 % interval at a number of receptors, relative."""
    return float(np.interp(np.log(receptors), np.log(curve.receptors), curve.relative_error))
