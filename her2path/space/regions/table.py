"""What each region reads: counts, score, positive fraction with interval, class."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from her2path.core.intervals import area_class, wilson
from her2path.core.schema import INTENSITY, PATTERNS, REGIONS, arrow_schema
from her2path.core.settings import Settings
from her2path.scoring import guidelines
from her2path.scoring.guidelines import Mix, RuleSet
from her2path.space.regions.cells import Cells
from her2path.space.regions.layout import Layout, Mask
from her2path.space.spatial.fdr import benjamini_hochberg
from her2path.space.spatial.getis import gi_star
from her2path.space.spatial.tiling import territory_um2
from her2path.space.spatial.weights import radius

__all__ = ["area_gi_q", "area_gi_z", "build_table"]

Int = NDArray[np.int64]
Float = NDArray[np.float64]
#: regions within this many steps between nearest centres are neighbours
REACH = 1.5


def build_table(cells: Cells, layout: Layout, settings: Settings, mask: Mask | None) -> pa.Table:
    """Return the regions table (`schema.REGIONS`).

    The tumour area of a region is the ground its tumour cells stand for: 20 µm bins, each shared
    equally by the cells (tumour and other) in it; never more than the region's tissue.
    """
    counts = _counts(cells, layout)
    n = counts.sum(axis=1)
    positive = counts[:, [PATTERNS.index(p) for p in positive_patterns(settings)]].sum(axis=1)
    tissue = [
        (o.area / 1e6 if mask is None else mask.area_mm2(o)) for o in layout.outlines
    ]  # fmt: skip
    tumour = _tumour_mm2(cells, layout)
    fractions = _shares(counts, n)
    columns: dict[str, Any] = {
        "region_id": np.arange(n.size, dtype=np.int32),
        "kind": [layout.kind] * n.size,
        "name": list(layout.names),
        "polygon": [shapely.to_wkb(o) for o in layout.outlines],
        "tissue_area_mm2": tissue,
        "tumour_area_mm2": [min(a, t) if t > 0 else a for a, t in zip(tumour, tissue, strict=True)],
        "tumour_cells": n,
        **{f"fraction_{p}": fractions[i] for i, p in enumerate(PATTERNS)},
        **_scores(cells, layout, counts, settings),
        "h_score": _h_scores(counts, n),
        "receptors_median": [None] * n.size,
        "positive_cells": positive,
        **_classes(positive, n, settings),
    }
    centres = np.array([[o.centroid.x, o.centroid.y] for o in layout.outlines]).reshape(-1, 2)
    columns["gi_z"] = area_gi_z(centres, positive, n, settings.regions.min_cells)
    columns["gi_q"] = area_gi_q(columns["gi_z"])
    schema = arrow_schema(REGIONS)
    return pa.table(
        {f.name: pa.array(columns[f.name], f.type) for f in schema}, schema=schema
    )  # fmt: skip


def positive_patterns(settings: Settings) -> tuple[str, ...]:
    """Return which patterns count as positive: the setting, or what the guideline says."""
    if settings.heterogeneity.positive is not None:
        return tuple(settings.heterogeneity.positive)
    return tuple(guidelines.positive_definition(settings.score.guideline))


def _counts(cells: Cells, layout: Layout) -> Int:
    mine = cells.tumour & (layout.region_of >= 0)
    flat = layout.region_of[mine].astype(np.int64) * len(PATTERNS) + cells.pattern[mine]
    size = len(layout.names) * len(PATTERNS)
    return np.bincount(flat, minlength=size).reshape(-1, len(PATTERNS)).astype(np.int64)


def _tumour_mm2(cells: Cells, layout: Layout) -> list[float]:
    ground = territory_um2(cells.x, cells.y)
    mine = cells.tumour & (layout.region_of >= 0)
    area, owner = ground[mine], layout.region_of[mine]
    # summed in rising order: the same total whatever the order of the rows
    order = np.lexsort((area, owner))
    total = np.bincount(owner[order], area[order], minlength=len(layout.names))
    return [float(v) / 1e6 for v in total]


def _shares(counts: Int, n: Int) -> list[list[float | None]]:
    return [
        [float(k) / int(m) if m else None for k, m in zip(column, n, strict=True)]
        for column in counts.T
    ]


def _h_scores(counts: Int, n: Int) -> list[float | None]:
    total = counts @ np.array([INTENSITY[p] for p in PATTERNS])
    return [100.0 * int(t) / int(m) if m else None for t, m in zip(total, n, strict=True)]


def _classes(positive: Int, n: Int, settings: Settings) -> dict[str, list[Any]]:
    rule = settings.heterogeneity
    out: dict[str, list[Any]] = {}
    pairs = [(int(k), int(m)) for k, m in zip(positive, n, strict=True)]
    classes = [
        area_class(k, m, rule.area_low, rule.area_high, settings.regions.min_cells)
        for k, m in pairs
    ]
    bounds = [wilson(k, m) for k, m in pairs]
    out["positive_fraction"] = [k / m if m else None for k, m in pairs]
    out["positive_low"] = [b[0] if m else None for b, (_, m) in zip(bounds, pairs, strict=True)]
    out["positive_high"] = [b[1] if m else None for b, (_, m) in zip(bounds, pairs, strict=True)]
    out["area_class"] = [c[0] for c in classes]
    out["area_class_certain"] = [c[1] for c in classes]
    return out


def _scores(
    cells: Cells, layout: Layout, counts: Int, settings: Settings
) -> dict[str, list[str | None]]:
    rule_set = guidelines.rule_set(settings.score.guideline)
    clusters = _clusters(cells, layout, settings) if rule_set.needs_clusters else None
    index = guidelines.rule_indices(rule_set, Mix(counts, clusters), settings.score)
    enough = counts.sum(axis=1) >= settings.regions.min_cells
    rules = [_rule(rule_set, int(i)) if ok else None for i, ok in zip(index, enough, strict=True)]
    return {
        "score": [None if r is None else r.score for r in rules],
        "substate": [None if r is None else r.substate for r in rules],
        "category": [None if r is None else guidelines.category_of(r, rule_set)[0] for r in rules],
    }


def _rule(rule_set: RuleSet, index: int) -> Any:
    return rule_set.rules[index] if index >= 0 else None


def _clusters(cells: Cells, layout: Layout, settings: Settings) -> Int:
    """Return each region's largest clusters of its own cells, (regions, 4)."""
    intensity = np.array([INTENSITY[p] for p in PATTERNS])
    out = np.zeros((len(layout.names), 4), np.int64)
    link = settings.score.cluster_link_um
    mine = np.flatnonzero(cells.tumour & (layout.region_of >= 0))
    mine = mine[np.argsort(layout.region_of[mine], kind="stable")]
    edges = np.searchsorted(layout.region_of[mine], np.arange(len(layout.names) + 1))
    for i, (a, b) in enumerate(pairwise(edges)):
        own = mine[a:b]
        out[i] = guidelines.largest_clusters(
            cells.x[own], cells.y[own], intensity[cells.pattern[own]], link
        )
    return out


def area_gi_z(centres: Float, positive: Int, n: Int, min_cells: int) -> list[float | None]:
    """Return z of Gi* of the areas' positive fractions; None where undefined.

    Parameters
    ----------
    centres : (a, 2) float64
        µm.
    positive, n : (a,) int64
    min_cells : int
        Areas below it take no part.

    Notes
    -----
    Neighbours lie within 1.5 times the usual distance between nearest centres.
    """
    from scipy.spatial import cKDTree

    out: list[float | None] = [None] * n.size
    used = np.flatnonzero(n >= max(1, min_cells))
    if used.size < 3:
        return out
    points = centres[used]
    step = float(np.median(cKDTree(points).query(points, 2)[0][:, 1]))
    if not step > 0:
        return out
    z = gi_star(positive[used] / n[used], radius(points[:, 0], points[:, 1], REACH * step))
    for i, value in zip(used, z if z is not None else (), strict=z is not None):
        out[int(i)] = float(value)
    return out


def area_gi_q(z: list[float | None]) -> list[float | None]:
    """Return two-sided normal p-values of Gi* under one false discovery rate; None stays None."""
    known = [i for i, v in enumerate(z) if v is not None]
    p = np.array([math.erfc(abs(v) / math.sqrt(2.0)) for v in z if v is not None])
    out: list[float | None] = [None] * len(z)
    for i, q in zip(known, benjamini_hochberg(p), strict=True):
        out[i] = float(q)
    return out
