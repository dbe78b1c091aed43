"""The published definitions, each with its answer and the reason."""

from __future__ import annotations

from typing import Any

import numpy as np

from her2path.heterogeneity.areas import AreaRules, AreaTable, false_alarm, filho, within_area
from her2path.heterogeneity.pattern import PatternFacts
from her2path.heterogeneity.table import Points
from her2path.intervals import at_least, more_than
from her2path.results import Areas
from her2path.settings import Settings

__all__ = ["area_verdict", "definitions", "ish_positive", "negative_ish_areas", "pooled_verdict"]


def ish_positive(ratio: float, copies: float) -> bool:
    """Tell whether mean counts are ISH-positive by themselves: groups 1 and 3 (ASCO/CAP 2018)."""
    return (ratio >= 2.0 and copies >= 4.0) or (ratio < 2.0 and copies >= 6.0)


def negative_ish_areas(points: Points, areas: AreaTable) -> tuple[str, ...]:
    """Return the evaluable areas whose own mean counts are ISH-negative."""
    if points.copies is None:
        return ()
    inside, size = points.area >= 0, len(areas.names)
    her2, cep17 = (
        np.bincount(points.area[inside], points.copies[inside, i], size) for i in (0, 1)
    )
    return tuple(
        name
        for i, name in enumerate(areas.names)
        if areas.evaluable[i] and not ish_positive(her2[i] / cep17[i], her2[i] / areas.cells[i])
    )


def her2_status(points: Points, ihc: str | None) -> tuple[bool | None, str]:
    """Return whether the case is HER2-positive for Filho's definition, and why it is left open."""
    if ihc == "3+" or points.copies is None:
        return _ihc_status(ihc)
    total = points.copies.sum(axis=0)
    return ish_positive(float(total[0] / total[1]), float(total[0]) / points.n), ""


def _ihc_status(ihc: str | None) -> tuple[bool | None, str]:
    if ihc == "3+":
        return True, ""
    if ihc is None:
        return None, "the IHC score is not known"
    return None, (
        f"IHC {ihc}: on the IHC basis the verdict is given for 3+ only, since below it few cells "
        "are intense and every area would read negative; give ISH counts by area"
    )


def area_verdict(
    points: Points, areas: AreaTable, rules: AreaRules, ihc: str | None
) -> Areas:
    """Return the areas' classes and Filho's verdict, with the chance of a false alarm."""
    known, why = her2_status(points, ihc)
    return _verdict(areas, rules, known, why, negative_ish_areas(points, areas))


def pooled_verdict(areas: AreaTable, rules: AreaRules, ihc: str | None) -> Areas:
    """Return the same over the areas of several samples, on the IHC basis."""
    return _verdict(areas, rules, *_ihc_status(ihc), ())


def _verdict(
    areas: AreaTable, rules: AreaRules, known: bool | None, why: str, negative: tuple[str, ...]
) -> Areas:
    """Build the verdict.

    The chance that at least one area reads heterogeneous or negative although every area has the
    pooled positive fraction is given with independent cells, and (``..._correlated``) with the
    measured within-area correlation.
    """
    verdict, reason = filho(areas, known, why, negative)
    used = areas.evaluable
    k, n = areas.positive[used], areas.cells[used]
    pooled = int(k.sum()) / int(n.sum()) if used.any() else 0.0
    correlation = within_area(k, n)
    extra: dict[str, Any] = {
        "low": rules.low,
        "high": rules.high,
        "min_cells": rules.min_cells,
        "within_area_correlation": correlation,
        "false_alarm_probability_correlated": (
            None if correlation is None else false_alarm(n, pooled, rules, correlation)
        ),
    }
    return Areas(
        n=len(areas.names),
        positive=areas.count("positive"),
        heterogeneous=areas.count("heterogeneous"),
        negative=areas.count("negative"),
        indeterminate=areas.count("indeterminate"),
        uncertain=int((~areas.certain & used).sum()),
        rule="filho_2021",
        heterogeneous_case=verdict,
        reason=reason,
        false_alarm_probability=false_alarm(n, pooled, rules),
        **extra,
    )


def definitions(
    points: Points, areas: Areas | None, pattern: PatternFacts, settings: Settings
) -> dict[str, dict[str, Any]]:
    """Return every definition's answer (true, false or null), its figure and its reason."""
    out: dict[str, dict[str, Any]] = {
        "filho_2021": {
            "value": None if areas is None else areas.heterogeneous_case,
            "reason": "no areas" if areas is None else areas.reason,
        },
        "cap_2009": _cap_2009(points, settings),
    }
    out |= _spatial(points, pattern, settings)
    for entry in out.values():
        entry["basis"] = points.basis if points.basis == "ish" else "ihc (a surrogate for ISH)"
    return out


def _cap_2009(points: Points, settings: Settings) -> dict[str, Any]:
    """CAP 2009: more than 5 % and fewer than 50 % of the cells with a ratio above 2.2."""
    low, high = settings.heterogeneity.area_low, settings.heterogeneity.area_high
    if points.copies is None:
        k, what = int(points.positive.sum()), "positive cells"
    else:
        ratio = settings.ish.cap_ratio
        k = int((points.copies[:, 0] > ratio * points.copies[:, 1]).sum())
        what = f"cells with a ratio above {ratio:g}"
    n = points.n
    above = at_least(k, n, low) if settings.ish.cap_inclusive else more_than(k, n, low)
    return {
        "value": above and not at_least(k, n, high),
        "fraction": k / n,
        "reason": f"{k} of {n} {what}",
    }


def _spatial(points: Points, pattern: PatternFacts, settings: Settings) -> dict[str, Any]:
    """ASCO/CAP (a separate population), and the cluster and mosaic criteria."""
    names = ("asco_cap", "cluster", "mosaic")
    if pattern.type == "not_evaluable":
        return {name: {"value": None, "reason": pattern.reason} for name in names}
    patches = pattern.extras.get("patches")
    if patches is None:
        return {name: {"value": False, "reason": pattern.reason} for name in names}
    held = float(patches["held_positive_share"]) * int(points.positive.sum()) / points.n
    separate, spread = settings.ish.separate_population, settings.heterogeneity.cluster_area
    hot = float(pattern.hot_share or 0.0)
    mosaic, p, whom = _mosaic(points, pattern)
    return {
        "asco_cap": {
            "value": held > separate,
            "fraction": held,
            "reason": f"positive cells in patches are {held:.1%} of the tumour cells",
        },
        "cluster": {
            "value": hot > spread,
            "fraction": hot,
            "reason": f"positive patches cover {hot:.1%} of the tumour",
        },
        "mosaic": {
            "value": p < settings.heterogeneity.fdr,
            "fraction": mosaic,
            "p_value": p,
            "reason": f"{whom} are {mosaic:.1%} of the cells, against calling errors alone",
        },
    }


def _mosaic(points: Points, pattern: PatternFacts) -> tuple[float, float, str]:
    facts = pattern.extras["discordant"]
    if at_least(int(points.positive.sum()), points.n, 0.5):
        which, whom = "negative_among_positive", "negative cells among positive ones"
    else:
        which, whom = "positive_among_negative", "positive cells among negative ones"
    return float(facts[which]), float(facts[f"{which}_p"]), whom
