"""Shares of cells and of tumour area: positive, 5-50 %, and low against null."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.core.results import LowVsNull
from her2path.core.settings import Settings
from her2path.scoring import guidelines
from her2path.scoring.guidelines import Mix
from her2path.space.heterogeneity.areas import AreaTable
from her2path.space.spatial.blocks import Blocks, interval

__all__ = ["AREA_CATEGORIES", "area_categories", "area_intervals", "low_vs_null"]

Int = NDArray[np.int64]
Float = NDArray[np.float64]
AREA_CATEGORIES = ("null", "ultralow", "low", "equivocal", "positive")


def area_categories(patterns: Int, settings: Settings) -> list[str | None]:
    """Return each area's category by the guideline; None below the minimum of cells.

    Under guidelines without low, ultralow and null every IHC score below 2+ is ``negative``. Rule
    sets that look for clusters give none from counts alone.
    """
    rule_set = guidelines.rule_set(settings.score.guideline)
    if rule_set.needs_clusters:
        return [None] * patterns.shape[0]
    index = guidelines.rule_indices(rule_set, Mix(patterns), settings.score)
    enough = patterns.sum(axis=1) >= settings.regions.min_cells
    return [
        guidelines.category_of(rule_set.rules[int(i)], rule_set)[0] if ok and i >= 0 else None
        for i, ok in zip(index, enough, strict=True)
    ]


def low_vs_null(
    intensities: Int, areas: AreaTable | None, categories: list[str | None] | None
) -> LowVsNull:
    """Return shares of cells (by intensity) and of tumour area (by the areas' category).

    Parameters
    ----------
    intensities : (4,) int64
        Cells of intensity 0..3: null 0, low 1 or 2, positive 3.
    areas : AreaTable or None
    categories : list or None
        One an area, from `area_categories`.
    """
    n = int(intensities.sum())
    null, faint, moderate, intense = (int(v) for v in intensities)
    cells = {"null": null / n, "low": (faint + moderate) / n, "positive": intense / n}
    shares: dict[str, float] | None = None
    extra: dict[str, Any] = {}
    if areas is not None and categories is not None:
        shares = _area_shares(areas, categories)
    if shares is None:
        extra["reason"] = "no area has enough tumour cells for a category of its own"
    return LowVsNull(cell_fraction=cells, area_fraction=shares, **extra)


def _area_shares(areas: AreaTable, categories: list[str | None]) -> dict[str, float] | None:
    known = np.array([c is not None for c in categories], bool)
    whole = float(areas.area_um2[known].sum())
    if whole <= 0:
        return None
    words = [*AREA_CATEGORIES, *(["negative"] if "negative" in categories else [])]
    return {
        w: float(areas.area_um2[np.array([c == w for c in categories], bool)].sum()) / whole
        for w in words
    }


def area_intervals(
    areas: AreaTable, band: NDArray[np.bool_], categories: list[str | None] | None, blocks: Blocks
) -> dict[str, Any]:
    """Return intervals of shares of tumour area, drawing blocks of areas.

    Parameters
    ----------
    areas : AreaTable
    band : (a,) bool
        Areas in 5-50 %.
    categories : list or None
        One an area, from `area_categories`.
    blocks : Blocks
        Over the areas.

    Returns
    -------
    dict
        ``positive_area_fraction``, ``area_fraction_5_50``, and ``area_category``: one interval a
        category that occurs.
    """
    positive = np.array([k == "positive" for k in areas.kind], bool)
    words = sorted({c for c in categories or () if c is not None})
    named = np.array([c is not None for c in categories or [None] * len(areas.names)], bool)

    def of(whole: NDArray[np.bool_], part: NDArray[np.bool_]) -> tuple[float, float] | None:
        sums = blocks.sums(np.column_stack([areas.area_um2 * whole, areas.area_um2 * part]))
        return interval(blocks, sums, lambda t: t[:, 1] / t[:, 0])

    return {
        "positive_area_fraction": of(areas.evaluable, areas.evaluable & positive),
        "area_fraction_5_50": of(areas.evaluable, areas.evaluable & band),
        "area_category": {
            word: of(named, np.array([c == word for c in categories or ()], bool)) for word in words
        },
    }
