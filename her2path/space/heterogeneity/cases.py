"""A case: its slides, blocks and biopsies together, and how HER2 changes over time.

Diversity adds up over the levels: Rao's Q of all cells = between samples + between areas within
samples + within areas (Rao 1982). Changes carry intervals from drawing blocks of tissue of the
two time points independently.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.core.schema import PATTERNS, SCORES
from her2path.core.settings import Settings
from her2path.core.timepoints import time_groups
from her2path.scoring import guidelines
from her2path.scoring.guidelines import Mix
from her2path.space.heterogeneity.areas import AreaTable, area_table, in_band
from her2path.space.heterogeneity.diversity import rao, shannon, simpson
from her2path.space.heterogeneity.levels import nested_partition
from her2path.space.heterogeneity.samples import Sample, rules_of
from her2path.space.heterogeneity.table import INTENSITY_OF, intensity_counts
from her2path.space.heterogeneity.verdicts import ish_verdict, pooled_verdict
from her2path.space.spatial.blocks import Blocks, interval, make_blocks, widening

__all__ = ["case", "compare"]

Int = NDArray[np.int64]
Float = NDArray[np.float64]
#: a measure of totals (d, columns) -> (d,), and its upper limit
Measures = dict[str, tuple[Callable[[Float], Float], float]]
#: measures of some columns, and those columns by block
Drawable = tuple[Measures, Blocks, Float]
CONVERSION_ORDER = ("null", "ultralow", "negative", "low", "equivocal", "positive")


def case(
    samples: Sequence[Sample],
    settings: Settings | None = None,
    ish: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the heterogeneity of a case over its samples, as plain JSON values.

    Parameters
    ----------
    samples : sequence of Sample
    settings : Settings, optional
    ish : mapping, optional
        The case's row of ``ish.json``: Filho's verdict then rests on its areas.

    Returns
    -------
    dict
        ``areas`` (classes and Filho's verdict over all areas; the case is HER2-positive when its
        highest score is 3+), ``samples`` (each one's figures with intervals), ``partition``
        (diversity between samples, between areas, within areas), ``timepoints`` (one entry a
        time point) and ``changes`` (each time point against the first and the one before).

    Raises
    ------
    ManifestError
        For time points that cannot be ordered.
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
        "areas": _pooled_areas(ordered, settings) | ish_verdict(ish),
        "samples": [_facts([s], settings) for s in ordered],
        "partition": nested_partition(ordered, settings),
        "timepoints": [_facts(g, settings) for g in groups] if _timed(ordered) else [],
        "changes": changes,
        "reason": None,
    }


def _timed(samples: Sequence[Sample]) -> bool:
    return any(s.timepoint is not None for s in samples)


def _by_time(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Return the samples by time point, earliest first; samples without one take no part."""
    groups = time_groups(s.timepoint for s in samples if s.timepoint is not None)
    return [[s for s in samples if s.timepoint in group] for group in groups]


def _highest(samples: Sequence[Sample]) -> Sample:
    return max(samples, key=lambda s: (SCORES.index(s.ihc), CONVERSION_ORDER.index(s.category)))


def _joined(samples: Sequence[Sample], settings: Settings) -> AreaTable:
    """Return the areas of several samples as one table."""
    parts = [s.areas for s in samples]
    return area_table(
        tuple(f"{s.name}: {a}" for s in samples for a in s.areas.names),
        np.concatenate([p.positive for p in parts]),
        np.concatenate([p.cells for p in parts]),
        np.concatenate([p.area_um2 for p in parts]),
        rules_of(settings),
    )


def _pooled_areas(samples: Sequence[Sample], settings: Settings) -> dict[str, Any]:
    rules, pooled = rules_of(settings), _joined(samples, settings)
    band = in_band(pooled, rules)
    positive = np.array([k == "positive" for k in pooled.kind], bool)
    verdict = pooled_verdict(pooled, settings, _highest(samples).ihc)
    return verdict.model_dump(mode="json") | {
        "positive_area_fraction": pooled.share(positive),
        "area_fraction_5_50": pooled.share(band),
    }


def _measures(positive: tuple[str, ...]) -> Measures:
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


#: measures of tumour area: evaluable, positive, in the band
AREA_MEASURES: Measures = {
    "positive_area_fraction": (lambda t: t[:, 1] / t[:, 0], 1.0),
    "area_fraction_5_50": (lambda t: t[:, 2] / t[:, 0], 1.0),
}


def _drawables(
    group: Sequence[Sample], positive: tuple[str, ...], settings: Settings, stream: int
) -> list[Drawable]:
    """Return the measures of cells over blocks of cells, and of areas over blocks of areas."""
    seed = int(np.random.SeedSequence([settings.seed, stream]).generate_state(1)[0])
    draws, leak = settings.heterogeneity.interval_draws, max(s.leak for s in group)
    cells = np.concatenate([s.blocks for s in group]).astype(float)
    over_cells = make_blocks(np.arange(cells.shape[0]), draws, seed, leak)
    areas, label = _joined(group, settings), _area_labels(group)
    band = in_band(areas, rules_of(settings))
    kind = np.array([k == "positive" for k in areas.kind], bool)
    known = areas.evaluable
    columns = areas.area_um2[:, None] * np.column_stack([known, known & kind, known & band])
    over_areas = make_blocks(label, draws, seed, leak)
    return [(_measures(positive), over_cells, cells),
            (AREA_MEASURES, over_areas, over_areas.sums(columns))]  # fmt: skip


def _area_labels(group: Sequence[Sample]) -> Int:
    """Return the block of each area of several samples; blocks of two samples are never one."""
    own = [
        np.arange(len(s.areas.names)) if s.area_block is None
        else np.unique(s.area_block, return_inverse=True)[1].ravel()
        for s in group
    ]  # fmt: skip
    start = np.cumsum([0, *(part.size for part in own[:-1])])
    return np.concatenate([part + at for part, at in zip(own, start, strict=True)])


def _value(of: Callable[[Float], Float], sums: Float) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(of(sums.sum(axis=0, keepdims=True))[0])


def _facts(group: Sequence[Sample], settings: Settings) -> dict[str, Any]:
    """Return the figures of samples taken together, with intervals."""
    top = _highest(group)
    out: dict[str, Any] = {
        "name": ", ".join(s.name for s in group),
        "timepoint": group[0].timepoint,
        "ihc": top.ihc,
        "category": top.category,
        "cells": int(sum(s.counts.sum() for s in group)),
        "pattern_types": _types(group),
        "heterogeneous_case": _pooled_areas(group, settings)["heterogeneous_case"],
    }
    for measures, blocks, sums in _drawables(group, top.positive, settings, 0):
        for name, (of, limit) in measures.items():
            out[name] = _finite(_value(of, sums))
            band = interval(blocks, sums, of, (0.0, limit))
            out[f"{name}_low"], out[f"{name}_high"] = band if band is not None else (None, None)
        out.setdefault("interval_reason", blocks.reason)
        out["area_interval_reason"] = blocks.reason
    return out


def _types(group: Sequence[Sample]) -> list[str]:
    return sorted({s.pattern_type for s in group if s.pattern_type is not None})


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
        minus first) with its 95 % interval and whether that excludes 0: of cells, and of tumour
        area. ``score_change_probability`` (down, same, up) and ``conversion_probability`` come
        from scoring drawn blocks of either time's highest sample.
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
        **_scored_again(before, after, settings),
        "pattern_types_before": _types(first),
        "pattern_types_after": _types(second),
        "changes": _changes(first, second, before.positive, settings),
    }
    for when, areas in facts.items():
        out[f"heterogeneous_{when}"] = areas["heterogeneous_case"]
        out[f"area_fraction_5_50_{when}"] = areas["area_fraction_5_50"]
    return out


def _changes(
    first: Sequence[Sample], second: Sequence[Sample], positive: tuple[str, ...], settings: Settings
) -> dict[str, Any]:
    pairs = zip(
        _drawables(first, positive, settings, 1), _drawables(second, positive, settings, 2),
        strict=True,
    )  # fmt: skip
    out: dict[str, Any] = {}
    for (measures, one, sums_one), (_, two, sums_two) in pairs:
        for name, (of, limit) in measures.items():
            out[name] = _change((one, sums_one), (two, sums_two), of, limit)
    return out


def _change(
    one: tuple[Blocks, Float], two: tuple[Blocks, Float], of: Callable[[Float], Float], limit: float
) -> dict[str, Any]:
    change = _value(of, two[1]) - _value(of, one[1])
    reason = one[0].reason or two[0].reason
    if reason is None and not math.isfinite(change):
        reason = "no area has enough tumour cells"
    entry: dict[str, Any] = {"change": _finite(change), "low": None, "high": None,
                             "excludes_zero": None, "reason": reason}  # fmt: skip
    if reason is not None:
        return entry
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = of(two[0].drawn(two[1])) - of(one[0].drawn(one[1]))
    known = drawn[np.isfinite(drawn)]
    if known.size < 0.9 * drawn.size:
        return entry | {"reason": "too few drawn areas have enough tumour cells"}
    widen = widening(min(one[0].count, two[0].count), max(one[0].leak, two[0].leak))
    ends = np.quantile(known, [0.025, 0.975])
    low, high = (float(change + (v - change) * widen) for v in ends)
    low, high = max(-limit, min(low, change)), min(limit, max(high, change))
    return entry | {"low": low, "high": high, "excludes_zero": bool(low > 0 or high < 0)}


def _scored_again(before: Sample, after: Sample, settings: Settings) -> dict[str, Any]:
    """Return how sure a change of score and category is, by scoring drawn blocks."""
    names = ("score_change_probability", "conversion_probability")
    one, two = _drawn_scores(before, settings, 4), _drawn_scores(after, settings, 5)
    if one is None or two is None:
        return dict.fromkeys(names)
    (score_one, category_one), (score_two, category_two) = one, two
    step = np.sign(score_two - score_one)
    share = {name: float((step == sign).mean()) for sign, name in
             ((-1, "down"), (0, "same"), (1, "up"))}  # fmt: skip
    return {names[0]: share, names[1]: float((category_one != category_two).mean())}


def _drawn_scores(s: Sample, settings: Settings, stream: int) -> tuple[Int, Any] | None:
    """Return score (index) and category of drawn blocks; None where they cannot be drawn."""
    rule_set = guidelines.rule_set(settings.score.guideline)
    seed = int(np.random.SeedSequence([settings.seed, stream]).generate_state(1)[0])
    draws = settings.heterogeneity.interval_draws
    blocks = make_blocks(np.arange(s.blocks.shape[0]), draws, seed)
    if rule_set.needs_clusters or blocks.reason is not None:
        return None
    totals = np.rint(blocks.drawn(s.blocks.astype(float))).astype(np.int64)
    index = guidelines.rule_indices(rule_set, Mix(totals), settings.score)
    score = np.array([SCORES.index(r.score) for r in rule_set.rules])
    category = np.array([guidelines.category_of(r, rule_set)[0] for r in rule_set.rules])
    return score[index], category[index]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
