"""The variogram's nugget share and range.

References
----------
Cressie N (1993), Statistics for Spatial Data, ch. 2 (exponential model, weighted least squares).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2path.spatial.ripley import PairCounts

__all__ = ["Variogram", "fit_variogram"]

Float = NDArray[np.float64]
#: trial ranges between one lag and this many times the longest lag
TRIALS, LONGEST = 81, 1.5
#: a structured part below this share of the sill has no range
MIN_STRUCTURE = 0.02
#: a structured part must lower the loss by this much (a chi-squared of 3 more parameters, with
#: room for pairs that share cells)
MIN_GAIN = 25.0


@dataclass(frozen=True)
class Variogram:
    """Exponential model c0 + c1 (1 - exp(-3 h / a)) of the semivariance.

    Attributes
    ----------
    nugget, sill : float
        c0, and c0 + c1.
    nugget_share : float
        c0 / (c0 + c1): the part of the variance that neighbours do not share (mosaic).
    range_um : float or None
        a, where 95 % of the structured part is reached (the size of patches); None without a
        structured part, or where it lies beyond the longest lag.
    reason : str or None
        Why there is no range.
    """

    nugget: float
    sill: float
    nugget_share: float
    range_um: float | None
    reason: str | None


def fit_variogram(pairs: PairCounts, structured: bool = True) -> Variogram | None:
    """Fit the model by least squares weighted with the numbers of pairs.

    The range is searched on a fixed geometric grid, nugget and structured part are solved with
    both held at or above 0: no starting values, no iterations that could end elsewhere. None for
    fewer than 4 lags with pairs, or without variance.

    Parameters
    ----------
    pairs : PairCounts
    structured : bool
        False where a test has found no autocorrelation: all is nugget then. (Few positive cells
        enter so many pairs each that the fit alone could mistake chance for structure.)
    """
    used = pairs.all >= 30
    if int(used.sum()) < 4:
        return None
    h = pairs.mid_um[used]
    gamma = 0.5 * (pairs.pn + pairs.np_)[used] / pairs.all[used]
    if float(gamma.max()) <= 0:
        return None
    weight = pairs.all[used] / pairs.all[used].sum()
    reach = float(pairs.edges_um[-1])
    best = (np.inf, 0.0, 0.0, 0.0)
    for a in np.geomspace(float(pairs.edges_um[1]), LONGEST * reach, TRIALS):
        c0, c1, loss = _solve(1.0 - np.exp(-3.0 * h / a), gamma, weight)
        if loss < best[0]:
            best = (loss, c0, c1, float(a))
    flat = float(weight @ gamma)
    gain = float(weight @ (gamma - flat) ** 2) - best[0]
    # in units of the variance of unlike pairs, each pair counted once
    unlike = 2 * flat
    gain *= 0.5 * float(pairs.all[used].sum()) / max(0.25 * unlike * (1 - unlike), 1e-12)
    if gain < MIN_GAIN or not structured:
        return Variogram(flat, flat, 1.0, None, "no spatial structure")
    return _named(best[1], best[2], best[3], reach)


def _solve(f: Float, gamma: Float, weight: Float) -> tuple[float, float, float]:
    """Return c0, c1 >= 0 and the loss of gamma ~ c0 + c1 f."""
    mean_f, mean_g = float(weight @ f), float(weight @ gamma)
    var = float(weight @ (f - mean_f) ** 2)
    slope = float(weight @ ((f - mean_f) * (gamma - mean_g))) / var if var > 0 else 0.0
    candidates = [(mean_g, 0.0), (0.0, max(0.0, float(weight @ (f * gamma) / (weight @ (f * f)))))]
    if slope > 0 and mean_g - slope * mean_f >= 0:
        candidates.append((mean_g - slope * mean_f, slope))
    losses = [float(weight @ (gamma - c0 - c1 * f) ** 2) for c0, c1 in candidates]
    k = int(np.argmin(losses))
    return (*candidates[k], losses[k])


def _named(c0: float, c1: float, a: float, reach: float) -> Variogram | None:
    sill = c0 + c1
    if sill <= 0:
        return None
    if c1 < MIN_STRUCTURE * sill:
        return Variogram(c0, sill, c0 / sill, None, "no spatial structure")
    if a > reach:
        reason = f"the range lies beyond the longest lag ({reach:g} µm)"
        return Variogram(c0, sill, c0 / sill, None, reason)
    return Variogram(c0, sill, c0 / sill, a, None)
