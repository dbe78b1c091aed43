"""Intervals of the cell measures, by drawing blocks of tissue."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.core.schema import PATTERNS
from her2path.core.settings import Settings
from her2path.space.heterogeneity.diversity import gini, rao, shannon, simpson
from her2path.space.heterogeneity.pattern import PatternFacts
from her2path.space.heterogeneity.table import Points
from her2path.space.spatial.blocks import Blocks, hidden_variance, interval, make_blocks
from her2path.space.spatial.tiling import square_ids
from her2path.space.spatial.variogram import Variogram

__all__ = [
    "block_side_um", "cell_blocks", "cell_intervals", "class_counts", "is_strong",
    "moran_interval",    "patch_intervals", "share_interval",
]  # fmt: skip

Float = NDArray[np.float64]
#: stretch a block to so many ranges while at least so many blocks remain
STRETCH = ((6.0, 25), (3.0, 12))


def block_side_um(
    points: Points, variogram: Variogram | None, settings: Settings
) -> tuple[float, float]:
    """Return a block's side, and the share of variance that its borders still hide.

    Blocks must be far wider than the range of the correlation, or what leaks over their borders
    makes intervals too narrow; and there must be enough of them. From
    ``heterogeneity.interval_block_um`` the side is stretched towards six ranges while 25 blocks
    with tumour remain, then towards three while 12 remain.
    """
    side = settings.heterogeneity.interval_block_um
    if variogram is None or not points.located or variogram.reason == "no spatial structure":
        return side, 0.0
    # a range beyond the longest lag is at least that long
    reach = variogram.range_um or settings.heterogeneity.variogram_um
    x, y = points.at()
    for ranges, enough in STRETCH:
        while side < ranges * reach:
            wider = min(ranges * reach, side * 1.25)
            if np.unique(square_ids(x, y, wider)).size < enough:
                break
            side = wider
    return side, hidden_variance(reach, side)


def cell_blocks(points: Points, side_um: float, leak: float, settings: Settings) -> Blocks:
    """Return blocks over the cells: squares, or the areas where there are no positions."""
    draws = settings.heterogeneity.interval_draws
    if points.located:
        return make_blocks(square_ids(*points.at(), side_um), draws, settings.seed, leak)
    return make_blocks(points.area, draws, settings.seed)


def class_counts(points: Points) -> NDArray[np.int64]:
    """Return cells of each intensity 0..3, or negative and positive where only that is known."""
    if points.intensity is None:
        k = int(points.positive.sum())
        return np.array([points.n - k, k], np.int64)
    return np.bincount(points.intensity, minlength=4).astype(np.int64)


def cell_intervals(points: Points, blocks: Blocks, settings: Settings) -> dict[str, Any]:
    """Return 95 % intervals of fractions, H-score and diversity; None each where there is none."""
    level = points.intensity if points.intensity is not None else points.positive.astype(np.int8)
    classes = 4 if points.intensity is not None else 2
    flat = blocks.block * classes + level
    sums = np.bincount(flat, minlength=blocks.count * classes).reshape(-1, classes).astype(float)
    k = blocks.sums(points.positive.astype(float))
    whole = np.column_stack([k, sums.sum(axis=1)])
    out: dict[str, Any] = {
        "positive_cell_fraction": interval(blocks, whole, _share),
        "shannon": interval(blocks, sums, shannon, (0.0, float(np.log(classes)))),
        "simpson": interval(blocks, sums, simpson),
        "rao_q": interval(blocks, sums, rao),
        "gini": interval(blocks, sums, gini),
        "hill_1": interval(blocks, sums, lambda t: np.exp(shannon(t)), (1.0, float(classes))),
        "hill_2": interval(blocks, sums, lambda t: 1 / (1 - simpson(t)), (1.0, float(classes))),
    }
    if classes == 4:
        out["h_score"] = interval(
            blocks, sums, lambda t: 100.0 * (t @ np.arange(4)) / t.sum(axis=1), (0.0, 300.0)
        )
        for i, name in enumerate(("null", "faint", "moderate", "intense")):
            pair = np.column_stack([sums[:, i], sums.sum(axis=1)])
            out[f"{name}_cell_fraction"] = interval(blocks, pair, _share)
        pair = np.column_stack([sums[:, 1] + sums[:, 2], sums.sum(axis=1)])
        out["low_cell_fraction"] = interval(blocks, pair, _share)
    if points.pattern is not None:
        out["moderate_complete_or_above"] = share_interval(blocks, is_strong(points.pattern))
    if points.copies is not None:
        above = points.copies[:, 0] > settings.ish.cap_ratio * points.copies[:, 1]
        out["cap_2009_fraction"] = share_interval(blocks, above)
    return out


def is_strong(pattern: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Return which cells have a complete membrane of moderate intensity or above."""
    return np.isin(pattern, [PATTERNS.index(f"{i}_complete") for i in ("moderate", "intense")])


def _share(totals: Float) -> Float:
    return totals[:, 0] / totals[:, 1]


def share_interval(
    blocks: Blocks, marked: NDArray[np.bool_], weight: Float | None = None
) -> tuple[float, float] | None:
    """Return the 95 % interval of the share of marked cells, or of their weight."""
    of = np.ones(marked.size) if weight is None else weight
    return interval(blocks, blocks.sums(np.column_stack([of * marked, of])), _share)


def patch_intervals(
    positive: NDArray[np.bool_], ground_um2: Float, pattern: PatternFacts, blocks: Blocks
) -> dict[str, Any]:
    """Return intervals of what rests on patches, and of Moran's I; the patches themselves stay.

    ``cluster_area_fraction``, ``separate_population`` (positive cells held by patches, of all
    cells) and ``moran_i``.
    """
    around = pattern.around
    if around is None:
        return dict.fromkeys(("cluster_area_fraction", "separate_population", "moran_i"))
    held = around.held(positive)[0]
    k = around.near.shape[1]
    return {
        "cluster_area_fraction": share_interval(blocks, around.hot, ground_um2),
        "separate_population": share_interval(blocks, held),
        "moran_i": moran_interval(positive, around.near_positive, k, blocks),
    }


def moran_interval(
    positive: NDArray[np.bool_], near_positive: NDArray[np.int32], k: int, blocks: Blocks
) -> tuple[float, float] | None:
    """Return the 95 % interval of Moran's I of the positive cells over k nearest neighbours.

    Blocks keep their cells' neighbours as they are; pairs across the seams of drawn blocks do not
    enter.
    """
    x, s = positive.astype(float), near_positive.astype(float)
    sums = blocks.sums(np.column_stack([np.ones(x.size), x, s, x * s]))

    def measure(t: Float) -> Float:
        n, n1, lag, both = t.T
        p = n1 / n
        return (both - p * lag - p * k * n1 + k * p * p * n) / (k * n * p * (1 - p))

    return interval(blocks, sums, measure, (-1.0, 1.0))
