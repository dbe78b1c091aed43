"""The published definitions, each with its answer and the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from her2path.core.intervals import AreaRules, at_least, more_than
from her2path.core.results import Areas, Heterogeneity
from her2path.core.settings import Settings
from her2path.scoring.false_alarms import alarms
from her2path.space.heterogeneity.areas import AreaTable, filho
from her2path.space.heterogeneity.pattern import PatternFacts
from her2path.space.heterogeneity.table import Points
from her2path.space.heterogeneity.uneven import area_difference

__all__ = [
    "area_verdict", "definitions", "ish_positive", "ish_verdict", "negative_ish_areas",
    "pooled_verdict", "rules_of", "with_ish",
]  # fmt: skip

#: what a verdict without ISH rests on
SURROGATE = "ihc (a surrogate for ISH)"
#: what is taken over from a case's ISH counts
ISH_FACTS = (
    "cells", "amplified_fraction", "amplified_low", "amplified_high", "cap_2009_fraction",
    "areas_positive", "areas_heterogeneous", "areas_negative", "areas_indeterminate",
    "false_alarm_probability", "false_alarm_probability_correlated", "within_area_correlation",
)  # fmt: skip


def ish_positive(ratio: float, copies: float) -> bool:
    """Tell whether mean counts are ISH-positive by themselves: groups 1 and 3 (ASCO/CAP 2018)."""
    return (ratio >= 2.0 and copies >= 4.0) or (ratio < 2.0 and copies >= 6.0)


def negative_ish_areas(points: Points, areas: AreaTable) -> tuple[str, ...]:
    """Return the evaluable areas whose own mean counts are ISH-negative."""
    if points.copies is None:
        return ()
    inside, size = points.area >= 0, len(areas.names)
    her2, cep17 = (np.bincount(points.area[inside], points.copies[inside, i], size) for i in (0, 1))
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


def area_verdict(points: Points, areas: AreaTable, settings: Settings, ihc: str | None) -> Areas:
    """Return the areas' classes and Filho's verdict, with the chance of a false alarm."""
    known, why = her2_status(points, ihc)
    basis = SURROGATE if points.copies is None else "ish"
    rules = rules_of(settings, points.basis)
    negative = negative_ish_areas(points, areas)
    return _verdict(areas, (rules, settings), (known, why), negative, basis)


def rules_of(settings: Settings, basis: str = "ihc") -> AreaRules:
    """Return the limits of an area's class."""
    limits = settings.heterogeneity
    few = settings.ish.min_cells if basis == "ish" else settings.regions.min_cells
    return AreaRules(limits.area_low, limits.area_high, few)


def pooled_verdict(areas: AreaTable, settings: Settings, ihc: str | None) -> Areas:
    """Return the same over the areas of several samples, on the IHC basis."""
    return _verdict(areas, (rules_of(settings), settings), _ihc_status(ihc), ())


def _verdict(
    areas: AreaTable, how: tuple[AreaRules, Settings], status: tuple[bool | None, str],
    negative: tuple[str, ...], basis: str = SURROGATE,
) -> Areas:  # fmt: skip
    """Build the verdict.

    The chance that at least one area reads heterogeneous or negative although every area has the
    pooled positive fraction is given with independent cells, and (``..._correlated``) with the
    measured within-area correlation. Where that is all but certain (a share between the limits,
    evenly mixed, makes every area heterogeneous) the verdict follows from the share alone:
    ``by_share_alone``; whether areas differ is then told by ``difference_p_value`` only.
    """
    rules, settings = how
    verdict, reason = filho(areas, *status, negative)
    chances = alarms(areas.positive, areas.cells, rules)
    known, alarm = areas.evaluable, chances["false_alarm_probability"]
    extra: dict[str, Any] = {
        "low": rules.low,
        "high": rules.high,
        "min_cells": rules.min_cells,
        "within_area_correlation": chances["within_area_correlation"],
        "false_alarm_probability_correlated": chances["false_alarm_probability_correlated"],
        "by_share_alone": None if alarm is None else alarm > 0.5,
        "difference_p_value": area_difference(
            areas.positive[known], areas.cells[known], settings
        ),
        "basis": basis,
    }  # fmt: skip
    return Areas(
        n=len(areas.names),
        positive=areas.count("positive"),
        heterogeneous=areas.count("heterogeneous"),
        negative=areas.count("negative"),
        indeterminate=areas.count("indeterminate"),
        uncertain=int((~areas.certain & areas.evaluable).sum()),
        rule="filho_2021",
        heterogeneous_case=verdict,
        reason=reason,
        false_alarm_probability=chances["false_alarm_probability"],
        **extra,
    )


def definitions(
    points: Points,
    areas: Areas | None,
    pattern: PatternFacts,
    clones: PatternFacts,
    settings: Settings,
) -> dict[str, dict[str, Any]]:
    """Return every definition's answer (true, false or null), its figure and its reason.

    ``clones`` is what the cluster and mosaic criteria look at: on the ISH basis the cells of many
    and of few copies, else the same as ``pattern``.
    """
    out: dict[str, dict[str, Any]] = {
        "filho_2021": {
            "value": None if areas is None else areas.heterogeneous_case,
            "reason": "no areas" if areas is None else areas.reason,
        },
        "cap_2009": _cap_2009(points, settings),
    }
    out["asco_cap"] = _separate(points, pattern, settings)
    out |= _clones(clones, settings)
    for entry in out.values():
        entry["basis"] = "ish" if points.basis == "ish" else SURROGATE
    return out


def _cap_2009(points: Points, settings: Settings) -> dict[str, Any]:
    """CAP 2009: more than 5 % and fewer than 50 % of the cells with a ratio above 2.2."""
    low, high = settings.ish.cap_low, settings.ish.cap_high
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


def _separate(points: Points, pattern: PatternFacts, settings: Settings) -> dict[str, Any]:
    """ASCO/CAP: a separate population, positive cells that lie in patches."""
    patches = pattern.extras.get("patches")
    if patches is None:
        return _open(pattern)
    held = float(patches["held_positive_share"]) * int(points.positive.sum()) / points.n
    return {
        "value": held > settings.ish.separate_population,
        "fraction": held,
        "reason": f"positive cells in patches are {held:.1%} of the tumour cells",
    }


def _open(pattern: PatternFacts) -> dict[str, Any]:
    return {"value": None if pattern.type == "not_evaluable" else False, "reason": pattern.reason}


def _clones(clones: PatternFacts, settings: Settings) -> dict[str, dict[str, Any]]:
    """The cluster and mosaic criteria."""
    if clones.extras.get("patches") is None:
        return {name: _open(clones) for name in ("cluster", "mosaic")}
    hot = float(clones.hot_share or 0.0)
    mosaic, p, whom = _mosaic(clones)
    return {
        "cluster": {
            "value": hot > settings.heterogeneity.cluster_area,
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


def _mosaic(clones: PatternFacts) -> tuple[float, float, str]:
    facts = clones.extras["discordant"]
    if clones.mostly_positive:
        which, whom = "negative_among_positive", "negative cells among positive ones"
    else:
        which, whom = "positive_among_negative", "positive cells among negative ones"
    return float(facts[which]), float(facts[f"{which}_p"]), whom


def ish_verdict(case: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return Filho's verdict by a case's ISH counts; nothing where they leave it open."""
    told = {} if case is None else case["heterogeneous"]
    if told.get("filho_2021") is None:
        return {}
    reason = told["reasons"]["filho_2021"]
    return {"heterogeneous_case": told["filho_2021"], "reason": reason, "basis": "ish"}


def with_ish(
    measured: Heterogeneity | None, case: Mapping[str, Any] | None
) -> Heterogeneity | None:
    """Let the verdicts rest on ISH counts where they decide; None takes them off again.

    The definitions were made for ISH. What the measured cells alone say stays beside it, as
    ``by_cells`` of each definition; a definition that the counts leave open is left to them.

    Parameters
    ----------
    measured : Heterogeneity or None
    case : mapping or None
        The case's row of ``ish.json``.

    Returns
    -------
    Heterogeneity or None
        With the counts' areas and chances of a false alarm as ``ish``.
    """
    known = getattr(measured, "definitions", None)
    if measured is None or measured.areas is None or not known:
        return measured
    plain = {key: dict(entry.get("by_cells") or entry) for key, entry in known.items()}
    told = {} if case is None else case["heterogeneous"]
    for key in set(plain) & set(told):
        if told[key] is not None:
            fraction = case.get("cap_2009_fraction") if case and key == "cap_2009" else None
            plain[key] = {"value": told[key], "fraction": fraction, "basis": "ish",
                          "reason": told["reasons"][key], "by_cells": plain[key]}  # fmt: skip
    filho = plain["filho_2021"]
    areas = measured.areas.model_copy(
        update={"heterogeneous_case": filho["value"], "reason": filho["reason"],
                "basis": filho["basis"]}
    )  # fmt: skip
    facts = None if case is None else {k: v for k, v in case.items() if k in ISH_FACTS}
    return measured.model_copy(update={"areas": areas, "definitions": plain, "ish": facts})
