"""The variogram's nugget share and range.

References
----------
Cressie N (1993), Statistics for Spatial Data, ch. 2 (exponential model, weighted least squares).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2path.space.spatial.ripley import PairCounts

__all__ = ["Variogram", "best_fits", "fit_variogram"]

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
    c0, c1, a, loss = (float(v[0]) for v in best_fits(pairs.edges_um, h, gamma[None], weight[None]))
    flat = float(weight @ gamma)
    gain = float(weight @ (gamma - flat) ** 2) - loss
    # in units of the variance of unlike pairs, each pair counted once
    unlike = 2 * flat
    gain *= 0.5 * float(pairs.all[used].sum()) / max(0.25 * unlike * (1 - unlike), 1e-12)
    if gain < MIN_GAIN or not structured:
        return Variogram(flat, flat, 1.0, None, "no spatial structure")
    return _named(c0, c1, a, reach)


def best_fits(
    edges_um: Float, h: Float, gamma: Float, weight: Float
) -> tuple[Float, Float, Float, Float]:
    """Return c0, c1, a and the loss, (d,) each, of the model's best fit to d variograms at once.

    Parameters
    ----------
    edges_um : (b + 1,) float64
        Limits of all lags: they set the trial ranges.
    h : (m,) float64
        Middles of the lags that are fitted.
    gamma, weight : (d, m) float64
        Semivariances, and weights that sum to 1.
    """
    d = gamma.shape[0]
    best = np.full(d, np.inf)
    c0, c1, range_um = np.zeros(d), np.zeros(d), np.zeros(d)
    for a in np.geomspace(float(edges_um[1]), LONGEST * float(edges_um[-1]), TRIALS):
        nugget, part, loss = _solve(1.0 - np.exp(-3.0 * h / a), gamma, weight)
        better = loss < best
        best = np.where(better, loss, best)
        c0, c1 = np.where(better, nugget, c0), np.where(better, part, c1)
        range_um = np.where(better, a, range_um)
    return c0, c1, range_um, best


def _solve(f: Float, gamma: Float, weight: Float) -> tuple[Float, Float, Float]:
    """Return c0, c1 >= 0 and the loss of gamma ~ c0 + c1 f, for each row."""
    mean_f, mean_g = weight @ f, (weight * gamma).sum(axis=1)
    off_f, off_g = f - mean_f[:, None], gamma - mean_g[:, None]
    var = (weight * off_f**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.nan_to_num((weight * off_f * off_g).sum(axis=1) / var, posinf=0.0, neginf=0.0)
        steep = (weight * f * gamma).sum(axis=1) / (weight * f * f).sum(axis=1)
    free = (slope > 0) & (mean_g - slope * mean_f >= 0)
    zero = np.zeros_like(mean_g)
    c0 = np.stack([mean_g, zero, np.where(free, mean_g - slope * mean_f, mean_g)])
    c1 = np.stack([zero, np.maximum(0.0, steep), np.where(free, slope, zero)])
    missed = gamma - c0[..., None] - c1[..., None] * f
    loss = (weight * missed**2).sum(axis=2)
    k, row = np.argmin(loss, axis=0), np.arange(mean_g.size)
    return c0[k, row], c1[k, row], loss[k, row]


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
