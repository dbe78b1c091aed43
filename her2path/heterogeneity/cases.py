"""A case: its slides, blocks and biopsies together, and how HER2 changes over time.

Diversity adds up over the levels: Rao's Q of all cells = between samples + between areas within
samples + within areas (Rao 1982). Changes carry intervals from drawing blocks of tissue of the
two time points independently.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from her2path import guidelines
from her2path.heterogeneity.areas import AreaTable, area_table, in_band
from her2path.heterogeneity.bands import block_side_um
from her2path.heterogeneity.diversity import intraclass, rao, shannon, simpson
from her2path.heterogeneity.table import INTENSITY_OF, Points, intensity_counts, read_points
from her2path.heterogeneity.verdicts import pooled_verdict
from her2path.intervals import AreaRules
from her2path.results import Heterogeneity, Score
from her2path.schema import PATTERNS, SCORES
from her2path.settings import Settings
from her2path.spatial.blocks import Blocks, interval, make_blocks, widening
from her2path.spatial.ripley import pair_counts
from her2path.spatial.tiling import square_ids
from her2path.spatial.variogram import fit_variogram

__all__ = ["Sample", "case", "compare", "sample"]

Int = NDArray[np.int64]
Float = NDArray[np.float64]
Counts = Int | Float
CONVERSION_ORDER = ("null", "ultralow", "negative", "low", "equivocal", "positive")


@dataclass(frozen=True)
class Sample:
    """One slide, block or biopsy of a case, reduced to what a case needs.

    Attributes
    ----------
    name : str
    timepoint : str or None
    ihc, category : str
    blocks : (b, 7) int64
        Counts of the patterns in each block of tissue.
    areas : AreaTable
    area_patterns : (a, 7) int64
    positive : tuple of str
        Patterns that are positive.
    pattern_type : str or None
        Homogeneous, clustered, mosaic, scattered, where it was measured.
    leak : float
        Share of variance that the blocks' borders hide.
    """

    name: str
    timepoint: str | None
    ihc: str
    category: str
    blocks: Int
    areas: AreaTable
    area_patterns: Int
    positive: tuple[str, ...]
    pattern_type: str | None = None
    leak: float = 0.0

    @property
    def counts(self) -> Int:
        """Counts of the seven patterns."""
        return self.blocks.sum(axis=0)


def sample(
    name: str, table: Any, settings: Settings | None = None, *,
    timepoint: str | None = None, score: Score | None = None,
    regions: pa.Table | None = None, heterogeneity: Heterogeneity | None = None,
) -> Sample:  # fmt: skip
    """Reduce one sample's tumour cells.

    Parameters
    ----------
    name : str
        For people; of a slide, block or biopsy.
    table : pyarrow.Table, DataFrame or dict of arrays
        As in `measure`, with ``pattern`` or ``score``.
    settings : Settings, optional
    timepoint : str, optional
        A date, or a number or word that sorts.
    score : Score, optional
        The sample's score; without it the guideline scores the counts.
    regions : pyarrow.Table, optional
        The regions that ``region_id`` refers to.
    heterogeneity : Heterogeneity, optional
        The sample's own, for its pattern type.

    Raises
    ------
    ManifestError
        For columns that cannot be used, or a table without patterns or without tumour cells.
    """
    from her2path.errors import ManifestError

    settings = settings or Settings()
    positive = tuple(
        settings.heterogeneity.positive or guidelines.positive_definition(settings.score.guideline)
    )
    points = read_points(
        table, positive, settings, regions=None if regions is None else regions.num_rows
    )
    patterns = points.area_patterns()
    if points.pattern is None or patterns is None or points.n == 0:
        raise ManifestError(f"sample {name!r} has no tumour cells with a pattern", "Leave it out")
    side, leak = _side(points, heterogeneity, settings)
    label = square_ids(*points.at(), side) if points.located else points.area
    block = np.unique(label, return_inverse=True)[1].ravel()
    flat = block * len(PATTERNS) + points.pattern
    size = (int(block.max()) + 1) * len(PATTERNS)
    k, n = points.area_counts()
    inside = points.area >= 0
    ground = np.asarray(np.bincount(points.area[inside], points.ground_um2[inside], n.size), float)
    blocks = np.bincount(flat, minlength=size).reshape(-1, len(PATTERNS)).astype(np.int64)
    if score is None:
        tally = blocks.sum(axis=0).tolist()
        score = guidelines.score(
            dict(zip(PATTERNS, tally, strict=True)), settings.score.guideline, settings.score
        )
    return Sample(
        name=name,
        timepoint=timepoint,
        ihc=score.ihc,
        category=score.category,
        blocks=blocks,
        areas=area_table(points.area_names, k, n, ground, _rules(settings)),
        area_patterns=patterns,
        positive=positive,
        pattern_type=None if heterogeneity is None else heterogeneity.pattern.type,
        leak=leak,
    )


def _side(
    points: Points, known: Heterogeneity | None, settings: Settings
) -> tuple[float, float]:
    """Return side and hidden variance of the blocks: as measured already, or by the variogram."""
    measured = getattr(known, "intervals", None) or {}
    if measured.get("block_um") is not None:
        return float(measured["block_um"]), float(measured["hidden_variance"])
    k = int(points.positive.sum())
    if not points.located or points.n < 3 or k in (0, points.n):
        return settings.heterogeneity.interval_block_um, 0.0
    rules = settings.heterogeneity
    pairs = pair_counts(
        *points.at(), points.positive, rules.variogram_um, rules.variogram_lag_um, settings.seed
    )
    return block_side_um(points, fit_variogram(pairs), settings)


def _rules(settings: Settings) -> AreaRules:
    h = settings.heterogeneity
    return AreaRules(h.area_low, h.area_high, settings.regions.min_cells)


def case(samples: Sequence[Sample], settings: Settings | None = None) -> dict[str, Any]:
    """Return the heterogeneity of a case over its samples, as plain JSON values.

    Returns
    -------
    dict
        ``areas`` (classes and Filho's verdict over all areas; the case is HER2-positive when its
        highest score is 3+), ``samples`` (each one's figures with intervals), ``partition``
        (diversity between samples, between areas, within areas), ``timepoints`` (one entry a
        time point) and ``changes`` (each time point against the first and the one before).
    """
    settings = settings or Settings()
    if not samples:
        return {"areas": None, "samples": [], "partition": None, "timepoints": [], "changes": [],
                "reason": "no sample was evaluable"}  # fmt: skip
    ordered = sorted(samples, key=lambda s: s.name)
    groups = _by_time(ordered)
    changes = []
    for i in range(1, len(groups)):
        for j in sorted({0, i - 1}):
            changes.append(compare(groups[j], groups[i], settings))
    return {
        "areas": _pooled_areas(ordered, settings),
        "samples": [_facts([s], settings) for s in ordered],
        "partition": nested_partition(ordered),
        "timepoints": [_facts(g, settings) for g in groups] if _timed(ordered) else [],
        "changes": changes,
        "reason": None,
    }


def _timed(samples: Sequence[Sample]) -> bool:
    return any(s.timepoint is not None for s in samples)


def _time_key(word: str) -> tuple[int, float, str]:
    try:
        value = float(word)
    except ValueError:
        return (1, 0.0, word)
    return (0, value, word) if math.isfinite(value) else (1, 0.0, word)


def _by_time(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Return the samples by time point, earliest first; samples without one take no part."""
    words = sorted({s.timepoint for s in samples if s.timepoint is not None}, key=_time_key)
    return [[s for s in samples if s.timepoint == w] for w in words]


def _highest(samples: Sequence[Sample]) -> Sample:
    return max(samples, key=lambda s: (SCORES.index(s.ihc), CONVERSION_ORDER.index(s.category)))


def _pooled_areas(samples: Sequence[Sample], settings: Settings) -> dict[str, Any]:
    rules = _rules(settings)
    names = tuple(f"{s.name}: {a}" for s in samples for a in s.areas.names)
    parts = [s.areas for s in samples]
    pooled = area_table(
        names,
        np.concatenate([p.positive for p in parts]),
        np.concatenate([p.cells for p in parts]),
        np.concatenate([p.area_um2 for p in parts]),
        rules,
    )
    band = in_band(pooled, rules)
    positive = np.array([k == "positive" for k in pooled.kind], bool)
    verdict = pooled_verdict(pooled, rules, _highest(samples).ihc)
    return verdict.model_dump(mode="json") | {
        "positive_area_fraction": pooled.share(positive),
        "area_fraction_5_50": pooled.share(band),
    }


def nested_partition(samples: Sequence[Sample]) -> dict[str, Any] | None:
    """Split Rao's Q of the intensities over cells, areas and samples; None without cells in areas.

    ``total`` = ``between_samples`` + ``between_areas`` + ``within_areas``; ``icc_samples`` and
    ``icc_areas`` are ICC(1) of the intensities over samples, and over all areas.
    """
    areas = [
        np.asarray(intensity_counts(s.area_patterns[s.areas.evaluable]), np.int64) for s in samples
    ]
    areas = [a for a in areas if a.sum() > 0]
    if not areas:
        return None
    own = np.stack([np.asarray(a.sum(axis=0), np.int64) for a in areas])
    every = np.concatenate(areas)
    weight, area_weight = own.sum(axis=1) / own.sum(), every.sum(axis=1) / every.sum()
    total = float(rao(own.sum(axis=0)))
    by_sample, by_area = float(weight @ rao(own)), float(area_weight @ rao(every))
    parts = {
        "between_samples": max(0.0, total - by_sample),
        "between_areas": max(0.0, by_sample - by_area),
        "within_areas": by_area,
    }
    shares = {f"{k}_share": v / total if total > 1e-15 else None for k, v in parts.items()}
    return {
        "total": total, **parts, **shares,
        "icc_samples": intraclass(own), "icc_areas": intraclass(every),
        "samples": len(areas), "areas": int(every.shape[0]),
    }  # fmt: skip


def _measures(positive: tuple[str, ...]) -> dict[str, tuple[Callable[[Float], Float], float]]:
    """Return each measure of pattern counts (d, 7) -> (d,), and its upper limit."""
    index = [PATTERNS.index(p) for p in positive]

    def share(columns: list[int]) -> Callable[[Float], Float]:
        return lambda t: t[:, columns].sum(axis=1) / t.sum(axis=1)

    return {
        "h_score": (lambda t: 100.0 * (t @ INTENSITY_OF) / t.sum(axis=1), 300.0),
        "positive_cell_fraction": (share(index), 1.0),
        "null_cell_fraction": (share([0]), 1.0),
        "low_cell_fraction": (share([1, 2, 3, 4]), 1.0),
        "shannon": (lambda t: shannon(intensity_counts(t)), math.log(4)),
        "simpson": (lambda t: simpson(intensity_counts(t)), 1.0),
        "rao_q": (lambda t: rao(intensity_counts(t)), 1.0),
    }


def _blocks(group: Sequence[Sample], settings: Settings, stream: int) -> tuple[Blocks, Float]:
    sums = np.concatenate([s.blocks for s in group]).astype(float)
    draws = settings.heterogeneity.interval_draws
    seed = int(np.random.SeedSequence([settings.seed, stream]).generate_state(1)[0])
    leak = max(s.leak for s in group)
    return make_blocks(np.arange(sums.shape[0]), draws, seed, leak), sums


def _facts(group: Sequence[Sample], settings: Settings) -> dict[str, Any]:
    """Return the figures of samples taken together, with intervals."""
    blocks, sums = _blocks(group, settings, 0)
    top = _highest(group)
    out: dict[str, Any] = {
        "name": ", ".join(s.name for s in group),
        "timepoint": group[0].timepoint,
        "ihc": top.ihc,
        "category": top.category,
        "cells": int(sums.sum()),
        "pattern_types": sorted({s.pattern_type for s in group if s.pattern_type is not None}),
        "heterogeneous_case": _pooled_areas(group, settings)["heterogeneous_case"],
    }
    for name, (of, limit) in _measures(top.positive).items():
        out[name] = _finite(float(of(sums.sum(axis=0, keepdims=True))[0]))
        band = interval(blocks, sums, of, (0.0, limit))
        out[f"{name}_low"], out[f"{name}_high"] = band if band is not None else (None, None)
    out["interval_reason"] = blocks.reason
    return out


def compare(
    first: Sequence[Sample], second: Sequence[Sample], settings: Settings | None = None
) -> dict[str, Any]:
    """Return what changed between two time points.

    Parameters
    ----------
    first, second : sequence of Sample
        The samples of either time point; their cells are pooled, the category is that of the
        highest score.

    Returns
    -------
    dict
        ``conversion`` ("low -> null"), ``converted``, ``direction`` (up, down or same), score
        before and after, the verdicts before and after, and for each measure the change (second
        minus first) with its 95 % interval and whether that excludes 0.
    """
    settings = settings or Settings()
    before, after = _highest(first), _highest(second)
    rank = CONVERSION_ORDER.index
    step = rank(after.category) - rank(before.category)
    facts = {i: _pooled_areas(g, settings) for i, g in (("before", first), ("after", second))}
    out: dict[str, Any] = {
        "from": first[0].timepoint,
        "to": second[0].timepoint,
        "score_before": before.ihc,
        "score_after": after.ihc,
        "score_change": SCORES.index(after.ihc) - SCORES.index(before.ihc),
        "conversion": f"{before.category} -> {after.category}",
        "converted": before.category != after.category,
        "direction": "up" if step > 0 else "down" if step < 0 else "same",
        "changes": _changes(first, second, before.positive, settings),
    }
    for when, areas in facts.items():
        out[f"heterogeneous_{when}"] = areas["heterogeneous_case"]
        out[f"area_fraction_5_50_{when}"] = areas["area_fraction_5_50"]
    return out


def _changes(
    first: Sequence[Sample], second: Sequence[Sample], positive: tuple[str, ...], settings: Settings
) -> dict[str, Any]:
    one, sums_one = _blocks(first, settings, 1)
    two, sums_two = _blocks(second, settings, 2)
    reason = one.reason or two.reason
    drawn = None if reason else (one.drawn(sums_one), two.drawn(sums_two))
    fewest = min(one.count, two.count)
    widen = widening(fewest, max(one.leak, two.leak))
    out: dict[str, Any] = {}
    for name, (of, limit) in _measures(positive).items():
        change = float(
            of(sums_two.sum(axis=0, keepdims=True))[0] - of(sums_one.sum(axis=0, keepdims=True))[0]
        )
        entry: dict[str, Any] = {"change": _finite(change), "low": None, "high": None,
                                 "excludes_zero": None, "reason": reason}  # fmt: skip
        if drawn is not None:
            ends = np.quantile(of(drawn[1]) - of(drawn[0]), [0.025, 0.975])
            low, high = (float(change + (v - change) * widen) for v in ends)
            low, high = max(-limit, min(low, change)), min(limit, max(high, change))
            entry |= {"low": low, "high": high, "excludes_zero": bool(low > 0 or high < 0)}
        out[name] = entry
    return out


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
