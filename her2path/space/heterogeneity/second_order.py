"""Variogram and pair correlation of positive cells, as facts with intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.core.settings import Settings
from her2path.space.heterogeneity.table import Points
from her2path.space.spatial.blocks import Blocks, interval
from her2path.space.spatial.ripley import PairCounts, pair_counts
from her2path.space.spatial.variogram import LONGEST, Variogram, best_fits, fit_variogram

__all__ = ["pair_facts", "pairs_of", "variogram_facts"]

Float = NDArray[np.float64]


def pairs_of(
    points: Points, p_value: float | None, settings: Settings
) -> tuple[PairCounts | None, Variogram | None]:
    """Count the pairs and fit the variogram; None without positions, or where all are equal.

    ``p_value`` is that of the test of autocorrelation: without any there is no structure to fit.
    """
    k = int(points.positive.sum())
    if not points.located or points.n < 3 or k in (0, points.n):
        return None, None
    rules = settings.heterogeneity
    pairs = pair_counts(
        *points.at(), points.positive, rules.variogram_um, rules.variogram_lag_um, settings.seed
    )
    return pairs, fit_variogram(pairs, p_value is None or p_value <= 0.05)


def variogram_facts(
    pairs: PairCounts | None, fit: Variogram | None, points: Points, blocks: Blocks
) -> dict[str, Any]:
    """Return the empirical variogram, its model, and their 95 % intervals."""
    if pairs is None:
        why = "no positions" if not points.located else "all cells are equal, or too few"
        return {"lag_um": None, "semivariance": None, "nugget_share": None, "range_um": None,
                "reason": why}  # fmt: skip
    facts = dict(vars(fit)) if fit is not None else {
        "nugget": None, "sill": None, "nugget_share": None, "range_um": None,
        "reason": "too few pairs",
    }  # fmt: skip
    p = pairs.p
    return {
        "lag_um": pairs.mid_um.tolist(),
        "semivariance": pairs.semivariance(),
        "pairs": pairs.all.tolist(),
        "variance": p * (1 - p),
        "model": "exponential",
        **facts,
        **_bands(pairs, fit, blocks),
    }


def _bands(pairs: PairCounts, fit: Variogram | None, blocks: Blocks) -> dict[str, Any]:
    """Return intervals by blocks of centres: what a centre sees is drawn with it."""
    names = ("semivariance_low", "semivariance_high", "nugget_share_interval", "range_interval_um")
    if blocks.reason is not None:
        return dict.fromkeys(names)
    sums = _by_block(pairs, blocks)
    every, unlike = sums[:, 0], sums[:, 2] + sums[:, 3]
    lags = [
        interval(blocks, np.column_stack([every[:, i], unlike[:, i]]), _half_share, (0.0, 0.5))
        for i in range(every.shape[1])
    ]
    out: dict[str, Any] = {
        "semivariance_low": [None if v is None else v[0] for v in lags],
        "semivariance_high": [None if v is None else v[1] for v in lags],
        "nugget_share_interval": None,
        "range_interval_um": None,
    }
    used = pairs.all >= 30
    if fit is None or fit.reason == "no spatial structure" or int(used.sum()) < 4:
        return out
    both = np.concatenate([every[:, used], unlike[:, used]], axis=1)
    h, edges, m = pairs.mid_um[used], pairs.edges_um, int(used.sum())

    def refit(totals: Float, which: int) -> Float:
        pair, apart = totals[:, :m], totals[:, m:]
        gamma = 0.5 * np.divide(apart, pair, out=np.zeros_like(pair), where=pair > 0)
        c0, c1, a, _ = best_fits(edges, h, gamma, pair / pair.sum(axis=1, keepdims=True))
        sill = c0 + c1
        share = np.divide(c0, sill, out=np.full_like(c0, np.nan), where=sill > 0)
        return share if which == 0 else a

    longest = LONGEST * float(edges[-1])
    out["nugget_share_interval"] = interval(blocks, both, lambda t: refit(t, 0))
    if fit.range_um is not None:
        out["range_interval_um"] = interval(blocks, both, lambda t: refit(t, 1), (0.0, longest))
    return out


def _half_share(totals: Float) -> Float:
    return 0.5 * totals[:, 1] / totals[:, 0]


def _connection(totals: Float) -> Float:
    """Return P(both positive | pair) / p^2 with each draw's own p."""
    return totals[:, 1] / totals[:, 0] / (totals[:, 3] / totals[:, 2]) ** 2


def _by_block(pairs: PairCounts, blocks: Blocks) -> Float:
    """Return the pair counts of each block's centres, (blocks, 5, lags)."""
    from scipy.sparse import coo_array

    block = blocks.block[pairs.centre]
    size = (blocks.count, block.size)
    joined = coo_array((np.ones(block.size), (block, np.arange(block.size))), shape=size)
    flat = pairs.by_centre.reshape(block.size, -1)
    return np.asarray(joined.tocsr() @ flat, float).reshape(blocks.count, 5, -1)


def pair_facts(pairs: PairCounts | None, points: Points, blocks: Blocks) -> dict[str, Any] | None:
    """Return pair correlation and K of the positives over those of all cells, with intervals."""
    if pairs is None:
        return None
    out: dict[str, Any] = {
        "lag_um": pairs.mid_um.tolist(),
        "upper_um": pairs.edges_um[1:].tolist(),
        "pair_correlation_ratio": pairs.connection(),
        "k_ratio": pairs.k_ratio(),
        "cross_k_ratio": pairs.cross_k_ratio(),
        "centres": pairs.centres,
        "pair_correlation_low": None,
        "pair_correlation_high": None,
    }
    if blocks.reason is None and pairs.p > 0:
        sums = _by_block(pairs, blocks)
        cells = blocks.sums(np.column_stack([np.ones(points.n), points.positive]))
        lags = [
            interval(blocks, np.column_stack([sums[:, :2, i], cells]), _connection, (0.0, np.inf))
            for i in range(sums.shape[2])
        ]
        out["pair_correlation_low"] = [None if v is None else v[0] for v in lags]
        out["pair_correlation_high"] = [None if v is None else v[1] for v in lags]
    return out
