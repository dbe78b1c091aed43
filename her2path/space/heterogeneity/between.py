"""How heterogeneity splits between and within areas, with intervals by blocks of areas."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.core.settings import Settings
from her2path.space.heterogeneity.areas import AreaTable
from her2path.space.heterogeneity.diversity import bimodality, intraclass, partition, rao
from her2path.space.heterogeneity.table import Points, intensity_counts
from her2path.space.spatial.blocks import Blocks, interval, make_blocks
from her2path.space.spatial.tiling import square_ids

__all__ = ["area_blocks", "between_areas", "bimodal", "partition_intervals"]

Int = NDArray[np.int64]
Float = NDArray[np.float64]


def area_blocks(
    points: Points, areas: AreaTable, side_um: float, leak: float, settings: Settings
) -> Blocks:
    """Return blocks of areas: areas whose mean cell position shares a square are drawn together."""
    draws = settings.heterogeneity.interval_draws
    label = area_labels(points, len(areas.names), side_um)
    own = not points.located or points.area_kind == "given"
    return make_blocks(label, draws, settings.seed, 0.0 if own else leak)


def area_labels(points: Points, size: int, side_um: float) -> Int:
    """Return the block of each area; given areas are blocks of their own."""
    if not points.located or points.area_kind == "given":
        return np.arange(size, dtype=np.int64)
    inside = points.area >= 0
    number = np.maximum(1, np.bincount(points.area[inside], minlength=size))
    x, y = (np.bincount(points.area[inside], v[inside], size) / number for v in points.at())
    return square_ids(x, y, side_um)


def class_counts_of(points: Points, areas: AreaTable) -> Int:
    """Return cells of each intensity, or negative and positive, of each area."""
    patterns = points.area_patterns()
    if patterns is None:
        return np.column_stack([areas.cells - areas.positive, areas.positive])
    return intensity_counts(patterns)


def between_areas(points: Points, areas: AreaTable, blocks: Blocks) -> dict[str, Any]:
    """Return Rao's partition and the ICC over the evaluable areas, with 95 % intervals."""
    counts = class_counts_of(points, areas)
    known = areas.evaluable
    used = make_used(blocks, known)
    return {
        "areas": int(known.sum()),
        "rao": partition(counts[known]),
        "icc": intraclass(counts[known]),
        **partition_intervals(counts[known], used),
        "reason": used.reason,
    }


def make_used(blocks: Blocks, known: NDArray[np.bool_]) -> Blocks:
    """Return the blocks of some of the areas, drawn anew."""
    return make_blocks(blocks.block[known], blocks.times.shape[0], leak=blocks.leak)


def partition_intervals(counts: Int, blocks: Blocks) -> dict[str, Any]:
    """Return intervals of the between share of Rao's Q and of the ICC.

    Parameters
    ----------
    counts : (groups, classes) int64
    blocks : Blocks
        Over the groups.
    """
    n = counts.sum(axis=1).astype(float)
    level = np.arange(counts.shape[1])
    total, square = counts @ level, counts @ level**2
    with np.errstate(invalid="ignore", divide="ignore"):
        own = np.nan_to_num(rao(counts)) * n
        mean_part = np.where(n > 0, total**2 / np.maximum(n, 1), 0.0)
    sums = np.column_stack([counts, own, n > 0, n * n, square, mean_part])
    c = counts.shape[1]

    def share(t: Float) -> Float:
        gamma = rao(t[:, :c])
        alpha = t[:, c] / t[:, :c].sum(axis=1)
        return np.where(gamma > 1e-15, 1.0 - alpha / gamma, np.nan)

    def icc(t: Float) -> Float:
        every, groups, squares = t[:, :c].sum(axis=1), t[:, c + 1], t[:, c + 2]
        grand = (t[:, :c] @ level) ** 2 / every
        between = (t[:, c + 4] - grand) / (groups - 1)
        within = (t[:, c + 3] - t[:, c + 4]) / (every - groups)
        n0 = (every - squares / every) / (groups - 1)
        under = between + (n0 - 1) * within
        return np.where(under > 1e-15, (between - within) / under, np.nan)

    drawn = blocks.sums(sums)
    return {
        "between_share_interval": interval(blocks, drawn, share),
        "icc_interval": interval(blocks, drawn, icc, (-1.0, 1.0)),
    }


def bimodal(points: Points, areas: AreaTable | None, over: Blocks | None, blocks: Blocks) -> Any:
    """Return bimodality of the areas' positive fractions, and of membrane OD where given."""
    out: dict[str, Any] = {"areas": None, "cells": None}
    if areas is not None and over is not None:
        used = areas.evaluable
        values = areas.positive[used] / np.maximum(1, areas.cells[used])
        out["areas"] = bimodality(values, make_used(over, used))
    if points.measured is not None:
        out["cells"] = bimodality(points.measured, blocks)
    return out
