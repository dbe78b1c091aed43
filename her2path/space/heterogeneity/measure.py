"""The door: one table in, every heterogeneity measure out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from her2path.core.errors import SettingsError
from her2path.core.intervals import AreaRules
from her2path.core.results import Bystander, Diversity, Heterogeneity, PatternType, Score
from her2path.core.schema import PATTERNS, SCORES
from her2path.core.settings import Settings
from her2path.scoring import guidelines
from her2path.space.heterogeneity.areas import AreaTable, area_table, in_band
from her2path.space.heterogeneity.bands import (
    block_side_um,
    cell_blocks,
    cell_intervals,
    class_counts,
    is_strong,
    patch_intervals,
)
from her2path.space.heterogeneity.between import area_blocks, between_areas, bimodal
from her2path.space.heterogeneity.biopsy import virtual_biopsy
from her2path.space.heterogeneity.bystander import RADII_UM, coverage, nearest_positive
from her2path.space.heterogeneity.diversity import diversity
from her2path.space.heterogeneity.pattern import PatternFacts, threads, type_pattern
from her2path.space.heterogeneity.second_order import pair_facts, pairs_of, variogram_facts
from her2path.space.heterogeneity.shares import area_categories, area_intervals, low_vs_null
from her2path.space.heterogeneity.table import Points, read_points
from her2path.space.heterogeneity.uneven import staining
from her2path.space.heterogeneity.verdicts import area_verdict, definitions, rules_of
from her2path.space.spatial.blocks import Blocks

__all__ = ["measure"]

#: at most this many areas are listed one by one; regions.parquet holds them all
MAX_LISTED = 500


def measure(
    table: Any,
    positive: Sequence[str] | None = None,
    settings: Settings | None = None,
    regions: pa.Table | None = None,
    score: Score | str | None = None,
    guideline: str | None = None,
) -> Heterogeneity:
    """Measure the heterogeneity of the tumour cells of a table.

    Parameters
    ----------
    table : pyarrow.Table, DataFrame or dict of arrays
        One row a cell. ``x_um``, ``y_um`` (µm; both or none) and what says positive, the first
        of: a boolean ``positive``; ``pattern``; ``score`` (0..3 or 0, 1+, 2+, 3+); ``her2`` and
        ``cep17`` counts (the ISH basis). Optional: ``area_id``, ``slide_id`` (slides lie apart),
        ``cell_type``, ``membrane_od``, and ``region_id`` together with ``regions``.
    positive : sequence of str, optional
        Patterns that are positive; default: the setting, or the guideline's.
    settings : Settings, optional
    regions : pyarrow.Table, optional
        Regions (`schema.REGIONS`) that ``region_id`` refers to. Without them ``area_id`` gives
        the areas, and without that squares of ``regions.size_um``.
    score : Score or str, optional
        The slide's IHC score; without it the guideline scores the cells.
    guideline : str, optional
        Rule set in place of ``settings.score.guideline``.

    Returns
    -------
    Heterogeneity
        The fields of ``result.json``, and as extra fields ``intervals``, ``definitions``,
        ``spatial``, ``variogram``, ``pairs``, ``between_areas``, ``bimodality``,
        ``virtual_biopsy``, ``areas_table``. What cannot be given is None, with a reason.

    Raises
    ------
    ManifestError
        For missing columns or values that cannot be used.
    SettingsError
        For an unknown pattern or guideline.
    """
    settings = settings or Settings()
    if guideline is not None:
        settings = settings.replace({"score.guideline": guideline})
    definition = tuple(
        positive
        or settings.heterogeneity.positive
        or guidelines.positive_definition(settings.score.guideline)
    )
    points = read_points(
        table, definition, settings, regions=None if regions is None else regions.num_rows
    )
    if points.n == 0:
        return _empty(points, definition)
    ihc = _ihc(points, settings, score)
    return _measured(points, definition, settings, regions, ihc)


def _empty(points: Points, definition: tuple[str, ...]) -> Heterogeneity:
    reason: dict[str, Any] = {"reason": "no evaluable tumour cells"}
    return Heterogeneity(
        basis=points.basis,
        positive_definition=definition,
        areas=None,
        positive_cell_fraction=None,
        positive_area_fraction=None,
        area_fraction_5_50=None,
        low_vs_null=None,
        pattern=PatternType(
            type="not_evaluable", p_value=None, moran_i=None, cluster_area_fraction=None, **reason
        ),
        diversity=Diversity(shannon=None, simpson=None, rao_q=None, gini=None, **reason),
        bystander=Bystander(radius_um=tuple(RADII_UM.tolist()), coverage=None, **reason),
        **reason,
    )


def _measured(
    points: Points, definition: tuple[str, ...], settings: Settings, regions: pa.Table | None,
    ihc: str | None,
) -> Heterogeneity:  # fmt: skip
    rules = rules_of(settings, points.basis)
    areas = _areas(points, regions, rules)
    pattern = _pattern(points, settings)
    test = pattern.test
    pairs, variogram = pairs_of(points, None if test is None else test.p_value, settings)
    side, leak = block_side_um(points, variogram, settings)
    blocks = cell_blocks(points, side, leak, settings)
    over = None if areas is None else area_blocks(points, areas, side, leak, settings)
    verdict = None if areas is None else area_verdict(points, areas, settings, ihc)
    band = None if areas is None else in_band(areas, rules)
    positive_kind = None if areas is None else np.array([k == "positive" for k in areas.kind], bool)
    intervals = _intervals(points, areas, over, blocks, pattern, settings)
    extras = {
        "intervals": intervals | {"block_um": side if points.located else None},
        "definitions": definitions(points, verdict, pattern, _clones(points, pattern, settings),
                                   settings),
        "spatial": _spatial(pattern),
        "variogram": variogram_facts(pairs, variogram, points, blocks),
        "pairs": pair_facts(pairs, points, blocks),
        "between_areas": None if areas is None or over is None
        else between_areas(points, areas, over),
        "bimodality": bimodal(points, areas, over, blocks),
        "staining": staining(points, pattern, settings),
        "virtual_biopsy": _biopsy(points, settings, ihc),
        "areas_table": _listed(areas),
        "moderate_complete_or_above": _strong(points),
        "cells": points.n,
        "not_evaluable_cells": points.left_out,
        "area_kind": points.area_kind,
    }  # fmt: skip
    return Heterogeneity(
        basis=points.basis,
        positive_definition=definition,
        areas=verdict,
        positive_cell_fraction=int(points.positive.sum()) / points.n,
        positive_area_fraction=_share(areas, positive_kind),
        area_fraction_5_50=_share(areas, band),
        low_vs_null=_low_vs_null(points, areas, settings),
        pattern=_pattern_type(pattern),
        diversity=diversity(class_counts(points)),
        bystander=_bystander(points, settings, blocks),
        **{key: _plain(value) for key, value in extras.items()},
    )


def _clones(points: Points, pattern: PatternFacts, settings: Settings) -> PatternFacts:
    """Return what the cluster and mosaic criteria look at (Lab Invest 2018, s41374-018-0172-y).

    On the ISH basis a cell is high from 6 HER2 signals, low below 4, and left out between.
    """
    if points.copies is None or not points.located:
        return pattern
    x, y = points.at()
    high = points.copies[:, 0] >= settings.ish.high_copies
    kept = high | (points.copies[:, 0] < settings.ish.low_copies)
    return type_pattern(x[kept], y[kept], high[kept], points.ground_um2[kept], settings)


def _categories(points: Points, settings: Settings) -> list[str | None] | None:
    patterns = points.area_patterns()
    return None if patterns is None else area_categories(patterns, settings)


def _ihc(points: Points, settings: Settings, score: Score | str | None) -> str | None:
    """Return the IHC score: given, or by the guideline from the cells."""
    if isinstance(score, str):
        if score not in SCORES:
            raise SettingsError(f"{score!r} is no IHC score", f"Valid: {', '.join(SCORES)}")
        return score
    if score is not None:
        return score.ihc
    if points.basis == "ish":
        return None
    if points.pattern is None:
        # only positive or not: the guideline's positive cells stand for its strongest pattern
        k = int(points.positive.sum())
        codes = np.where(points.positive, PATTERNS.index("intense_complete"), 0)
        counts = {"intense_complete": k, "none": points.n - k}
    else:
        codes = points.pattern
        tally = np.bincount(codes, minlength=len(PATTERNS))
        counts = {p: int(c) for p, c in zip(PATTERNS, tally, strict=True)}
    if guidelines.rule_set(settings.score.guideline).needs_clusters:
        if not points.located:
            return None
        x, y = points.at()
        words = pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int8)), list(PATTERNS))
        return guidelines.score(
            {"pattern": words.cast(pa.string()), "x_um": x, "y_um": y},
            settings.score.guideline, settings.score,
        ).ihc  # fmt: skip
    return guidelines.score(counts, settings.score.guideline, settings.score).ihc


def _areas(points: Points, regions: pa.Table | None, rules: AreaRules) -> AreaTable | None:
    k, n = points.area_counts()
    if n.size == 0:
        return None
    inside = points.area >= 0
    ground = np.bincount(points.area[inside], points.ground_um2[inside], n.size)
    names = points.area_names
    if regions is not None:
        ground = 1e6 * regions.column("tumour_area_mm2").to_numpy(zero_copy_only=False)
        names = tuple(str(name) for name in regions.column("name").to_pylist())
    return area_table(names, k, n, np.nan_to_num(ground), rules)


def _share(areas: AreaTable | None, chosen: NDArray[np.bool_] | None) -> float | None:
    return None if areas is None or chosen is None else areas.share(chosen)


def _pattern(points: Points, settings: Settings) -> PatternFacts:
    if not points.located:
        return PatternFacts("not_evaluable", "the cells have no positions", None, None, {})
    return type_pattern(*points.at(), points.positive, points.ground_um2, settings)


def _pattern_type(facts: PatternFacts) -> PatternType:
    test = facts.test
    extra = {"reason": facts.reason, **{k: _plain(v) for k, v in facts.extras.items()}}
    return PatternType(
        type=facts.type,
        p_value=None if test is None else test.p_value,
        moran_i=None if test is None else test.moran_i,
        cluster_area_fraction=facts.hot_share,
        **extra,
    )


def _spatial(facts: PatternFacts) -> dict[str, Any] | None:
    """Return the autocorrelation tests in full."""
    return None if facts.test is None else dict(vars(facts.test))


def _intervals(
    points: Points, areas: AreaTable | None, over: Blocks | None, blocks: Blocks,
    pattern: PatternFacts, settings: Settings,
) -> dict[str, Any]:  # fmt: skip
    out = cell_intervals(points, blocks, settings)
    if areas is not None and over is not None:
        band = in_band(areas, rules_of(settings, points.basis))
        kinds = _categories(points, settings)
        out |= area_intervals(areas, band, kinds, over)
        out["areas_reason"] = over.reason
    out |= patch_intervals(points.positive, points.ground_um2, pattern, blocks)
    return out | {
        "method": "blocks of tissue drawn with replacement",
        "level": 0.95,
        "blocks": blocks.count,
        "hidden_variance": blocks.leak,
        "draws": int(blocks.times.shape[0]),
        "reason": blocks.reason,
    }


def _biopsy(points: Points, settings: Settings, ihc: str | None) -> dict[str, Any]:
    if not points.located or points.basis == "ish":
        return {"reason": "needs IHC cells with positions"}
    return virtual_biopsy(*points.at(), points.positive, points.pattern, settings, ihc)


def _listed(areas: AreaTable | None) -> list[dict[str, Any]] | None:
    if areas is None or len(areas.names) > MAX_LISTED:
        return None
    return areas.rows()


def _strong(points: Points) -> float | None:
    """Return the share of cells at moderate complete or above."""
    if points.pattern is None:
        return None
    return int(is_strong(points.pattern).sum()) / points.n


def _low_vs_null(points: Points, areas: AreaTable | None, settings: Settings) -> Any:
    categories = _categories(points, settings)
    if points.intensity is None or categories is None:
        return None
    return low_vs_null(class_counts(points), areas, categories)


def _bystander(points: Points, settings: Settings, blocks: Blocks) -> Bystander:
    radii = tuple(RADII_UM.tolist())
    if not points.located:
        extra: dict[str, Any] = {"reason": "the cells have no positions"}
        return Bystander(radius_um=radii, coverage=None, **extra)
    distance = nearest_positive(*points.at(), points.positive, threads(settings))
    return Bystander(
        radius_um=radii, **coverage(distance, settings.heterogeneity.proximity_um, blocks)
    )


def _plain(value: Any) -> Any:
    """Return plain JSON values; what is not finite becomes None, so that no NaN gets out."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
