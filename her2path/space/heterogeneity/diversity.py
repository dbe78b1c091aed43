"""Diversity of the cells' classes, and how it splits between and within areas.

References
----------
Shannon CE (1948), Bell Syst Tech J 27:379-423. Simpson EH (1949), Nature 163:688. Rao CR (1982),
Theor Popul Biol 21:24-43. Hill MO (1973), Ecology 54:427-432. Shrout PE, Fleiss JL (1979), Psychol
Bull 86:420-428 (ICC). Ashman KM et al. (1994), Astron J 108:2348-2361. Schwarz G (1978), Ann Stat
6:461-464 (BIC).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.core.results import Diversity
from her2path.space.spatial.blocks import Blocks, interval

__all__ = [
    "bimodality", "diversity", "gini", "intraclass", "partition", "rao", "shannon", "simpson",
]  # fmt: skip

Int = NDArray[np.int64]
Float = NDArray[np.float64]
#: whole numbers, or totals of drawn blocks
Counts = NDArray[np.int64] | NDArray[np.float64]
#: classes 0, 1+, 2+, 3+: distance |i - j| / 3
ORDINAL = np.abs(np.subtract.outer(np.arange(4), np.arange(4))) / 3.0
#: bins of a histogram that stands for a column of measurements
BINS = 256
#: fewer values have no shape
MIN_VALUES = 10
#: draws of the interval of Ashman's D: each is a fit
FIT_DRAWS = 100


def _shares(counts: Counts) -> Float:
    """Return shares along the last axis; rows without cells are NaN."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(counts, float) / np.sum(counts, axis=-1, keepdims=True)


def shannon(counts: Counts) -> Float:
    """Return -sum p ln p of counts (..., classes)."""
    p = _shares(counts)
    return -np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=-1) + 0.0


def simpson(counts: Counts) -> Float:
    """Return 1 - sum p^2 of counts (..., classes)."""
    return 1.0 - np.sum(_shares(counts) ** 2, axis=-1)


def rao(counts: Counts) -> Float:
    """Return Rao's Q = sum_ij d_ij p_i p_j of counts (..., classes).

    d_ij = |i - j| / (classes - 1): ordinal, 1 between the extremes.
    """
    p = _shares(counts)
    classes = p.shape[-1]
    distance = ORDINAL if classes == 4 else np.abs(
        np.subtract.outer(np.arange(classes), np.arange(classes))
    ) / max(1, classes - 1)  # fmt: skip
    return np.einsum("...i,ij,...j->...", p, distance, p)


def gini(counts: Counts) -> Float:
    """Return the Gini coefficient of the cells' intensities from counts (..., classes).

    Equal to sum_i (2 i - n - 1) x_(i) / (n sum x), as mean difference over twice the mean; NaN
    where every intensity is 0.
    """
    p = _shares(counts)
    levels = np.arange(p.shape[-1])
    mean = p @ levels
    difference = np.einsum("...i,ij,...j->...", p, np.abs(np.subtract.outer(levels, levels)), p)
    with np.errstate(invalid="ignore", divide="ignore"):
        return difference / (2.0 * np.where(mean > 0, mean, np.nan))


def diversity(counts: Int) -> Diversity:
    """Return the diversity of the intensity classes.

    Parameters
    ----------
    counts : (classes,) int64
        Cells of intensity 0..3, or negative and positive.

    Returns
    -------
    Diversity
        With ``shannon_even`` (H / ln K), ``simpson_unbiased``, ``hill_1`` = exp H, ``hill_2`` =
        1 / sum p^2 and ``reason`` beside the contract's fields.
    """
    n = int(counts.sum())
    if n == 0:
        return Diversity(
            shannon=None, simpson=None, rao_q=None, gini=None, reason="no tumour cells"
        )
    h, d = float(shannon(counts)), float(simpson(counts))
    g = float(gini(counts))
    extra: dict[str, Any] = {
        "shannon_even": h / math.log(counts.size),
        "simpson_unbiased": _simpson_unbiased(counts, n),
        "hill_1": math.exp(h),
        "hill_2": 1.0 / (1.0 - d),
        "reason": None if math.isfinite(g) else "gini: every intensity is 0",
    }
    return Diversity(
        shannon=h, simpson=max(d, 0.0), rao_q=float(rao(counts)),
        gini=g if math.isfinite(g) else None, **extra,
    )  # fmt: skip


def _simpson_unbiased(counts: Int, n: int) -> float | None:
    if n < 2:
        return None
    return 1.0 - float((counts * (counts - 1)).sum()) / (n * (n - 1))


def partition(counts: Int) -> dict[str, Any] | None:
    """Split Rao's Q into a part within and a part between groups.

    Parameters
    ----------
    counts : (groups, classes) int64

    Returns
    -------
    dict or None
        ``gamma`` (all), ``alpha`` (within: the groups' mean, weighted by cells), ``beta`` =
        gamma - alpha (between), ``between_share`` = beta / gamma (None where gamma is 0). None
        with fewer than two groups.
    """
    used = counts[counts.sum(axis=1) > 0]
    if used.shape[0] < 2:
        return None
    weight = used.sum(axis=1) / used.sum()
    gamma, alpha = float(rao(used.sum(axis=0))), float(weight @ rao(used))
    beta = max(0.0, gamma - alpha)
    return {
        "gamma": gamma,
        "alpha": alpha,
        "beta": beta,
        "between_share": beta / gamma if gamma > 1e-15 else None,
    }


def intraclass(counts: Int) -> float | None:
    """Return ICC(1) of the intensities over groups, from counts (groups, classes).

    (MSB - MSW) / (MSB + (n0 - 1) MSW); may be slightly negative; None where undefined.
    """
    used = counts[counts.sum(axis=1) > 0].astype(float)
    n, groups = used.sum(axis=1), used.shape[0]
    total = float(n.sum())
    if groups < 2 or total <= groups:
        return None
    level = np.arange(used.shape[1])
    mean = used @ level / n
    grand = float(used.sum(axis=0) @ level) / total
    between = float(n @ (mean - grand) ** 2) / (groups - 1)
    within = float((used @ level**2 - n * mean**2).sum()) / (total - groups)
    n0 = (total - float(n @ n) / total) / (groups - 1)
    under = between + (n0 - 1) * within
    return (between - within) / under if under > 1e-15 else None


def bimodality(values: Float, blocks: Blocks | None = None) -> dict[str, Any]:
    """Tell whether a column of values has two modes.

    Two Gaussians are fitted by expectation-maximisation to a histogram of 256 bins, from fixed
    starting values. Ashman's D = sqrt 2 |m1 - m2| / sqrt(s1^2 + s2^2); above 2 the modes separate.
    ``delta_bic`` = BIC(one Gaussian) - BIC(two): positive speaks for two.

    Parameters
    ----------
    values : (n,) float64
    blocks : Blocks, optional
        Over the values, for the interval of Ashman's D.

    Returns
    -------
    dict
        ``ashman_d``, ``ashman_d_interval``, ``delta_bic``, ``means``, ``sds``, ``weights``,
        ``bimodal``, ``reason``; all but the last None where there are fewer than 10 values, or all
        are equal.
    """
    keys = ("ashman_d", "ashman_d_interval", "delta_bic", "means", "sds", "weights", "bimodal")
    v = np.asarray(values, float)
    if v.size < MIN_VALUES or float(np.ptp(v)) <= 1e-9 * max(1.0, float(np.abs(v).max())):
        reason = f"{v.size} values" if v.size < MIN_VALUES else "all values are equal"
        return {**dict.fromkeys(keys), "reason": reason}
    number, edges = np.histogram(v, BINS)
    x, w = (edges[1:] + edges[:-1]) / 2, number / v.size
    floor = float(edges[1] - edges[0]) / 2
    fits = _two_gaussians(x, w[None], floor)
    mean, sd, share, fit = (part[0] for part in fits)
    one = _normal(x, float(w @ x), max(floor, math.sqrt(float(w @ (x - w @ x) ** 2))))
    log_n = math.log(v.size)
    gain = 2 * v.size * (fit - float(w @ np.log(np.maximum(one, 1e-300)))) - 3 * log_n
    d = float(_ashman(mean, sd))
    return {
        "ashman_d": d,
        "ashman_d_interval": _ashman_interval(v, edges, fits, blocks),
        "delta_bic": float(gain),
        "means": mean.tolist(),
        "sds": sd.tolist(),
        "weights": share.tolist(),
        # a sliver of cells is no second population
        "bimodal": bool(d > 2 and gain > 0 and float(share.min()) >= 0.02),
        "reason": None,
    }


def _ashman(mean: Float, sd: Float) -> Float:
    apart = math.sqrt(2.0) * np.abs(mean[..., 1] - mean[..., 0])
    return np.asarray(apart / np.sqrt((sd**2).sum(axis=-1)))


def _ashman_interval(
    v: Float, edges: Float, fits: tuple[Float, ...], blocks: Blocks | None
) -> tuple[float, float] | None:
    """Fit the drawn histograms again, from where the fit of all values ended."""
    if blocks is None or blocks.reason is not None:
        return None
    few = replace(blocks, times=blocks.times[:FIT_DRAWS])
    place = np.clip(np.searchsorted(edges, v, side="right") - 1, 0, BINS - 1)
    flat = np.bincount(blocks.block * BINS + place, minlength=blocks.count * BINS)
    x, floor = (edges[1:] + edges[:-1]) / 2, float(edges[1] - edges[0]) / 2

    def measure(totals: Float) -> Float:
        w = totals / totals.sum(axis=1, keepdims=True)
        mean, sd, _, _ = _two_gaussians(x, w, floor, fits)
        return _ashman(mean, sd)

    sums = flat.reshape(blocks.count, BINS).astype(float)
    return interval(few, sums, measure, (0.0, math.inf))


def _normal(x: Float, mean: Any, sd: Any) -> Float:
    return np.asarray(np.exp(-0.5 * ((x - mean) / sd) ** 2) / (sd * math.sqrt(2 * math.pi)))


def _two_gaussians(
    x: Float, w: Float, floor: float, start: tuple[Float, ...] | None = None
) -> tuple[Float, Float, Float, Float]:
    """Return means, deviations, shares (d, 2) and mean log-likelihoods (d,) of d histograms.

    ``w`` (d, bins) sums to 1 in each row; ``start`` is an earlier result of one histogram.
    """
    if start is None:
        spread = math.sqrt(float(w[0] @ (x - w[0] @ x) ** 2))
        mean = np.interp([0.15, 0.85], np.cumsum(w[0]), x)[None]
        sd, share = np.full((1, 2), max(floor, spread / 2)), np.full((1, 2), 0.5)
    else:
        mean, sd, share = (np.repeat(part[:1], w.shape[0], axis=0) for part in start[:3])
    last, fit = np.full(w.shape[0], -np.inf), np.zeros(w.shape[0])
    for _ in range(500 if start is None else 60):
        dense = share[..., None] * _normal(x, mean[..., None], sd[..., None])
        total = np.maximum(dense.sum(axis=1), 1e-300)
        fit = (w * np.log(total)).sum(axis=1)
        if float((fit - last).max()) < 1e-9:
            break
        last = fit
        owned = w[:, None] * dense / total[:, None]
        share = np.maximum(owned.sum(axis=2), 1e-12)
        mean = owned @ x / share
        off = (owned * (x - mean[..., None]) ** 2).sum(axis=2)
        sd = np.sqrt(np.maximum(off / share, floor**2))
        share = share / share.sum(axis=1, keepdims=True)
    return mean, sd, share, fit
