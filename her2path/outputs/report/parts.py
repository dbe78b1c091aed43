"""The makers of a report's sections: from the context to a template's variables."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from her2path.core.schema import PATTERNS
from her2path.outputs.palette import PATTERN_COLOURS, WORDS
from her2path.outputs.report import canvas, maps, plots, words
from her2path.outputs.report.context import CannotSay, CaseContext, Context, SlideContext
from her2path.scoring import guidelines

__all__ = [
    "bystander",
    "cnn",
    "heterogeneity",
    "ish",
    "methods",
    "patterns",
    "provenance",
    "region_maps",
    "statistics",
    "strength",
    "trace",
    "virtual_biopsy",
    "what_if",
]

Values = dict[str, Any]
#: columns of the regions that are mapped, and their headings
MAPS = {"score": "Score of each region", "positive_fraction": "Positive cells in each region"}
#: those that say the same in another way: drawn for papers only
MORE_MAPS = ("area_class", "category", "gi_z")
_CAPTIONS = {
    "score": "",
    "positive_fraction": "+ positive, ± heterogeneous, – negative by the limits of a heterogeneous "
    "area.",
}
#: definitions of heterogeneity as people name them
DEFINITIONS = {
    "filho_2021": "Filho 2021: an area that is heterogeneous or negative",
    "cap_2009": "CAP 2009: 5 to 50 % positive cells",
    "asco_cap": "ASCO/CAP: a separate positive population above 10 %",
    "cluster": "Patches of positive cells above 10 % of the tumour",
    "mosaic": "Mosaic: positive cells intermingled",
}
#: rows of the region table in a page; the rest is in regions.parquet
_REGION_ROWS = 200


def svg(figure: Any, name: str) -> Markup:
    """Return a figure as markup for a page."""
    return Markup(canvas.inline_svg(figure, name))


def region_maps(context: SlideContext) -> Values:
    """Score and positive fraction of the regions, and the patches, on the tissue's picture."""
    rows = context.regions
    if all(r["score"] is None for r in rows):
        raise CannotSay("No region holds enough tumour cells." + context.why_not_evaluable)
    made = []
    for what, title in MAPS.items():
        known = [r for r in rows if r.get(what) is not None]
        if known:
            figure = svg(region_figure(context, what), f"map-{what}")
            made.append({"title": title, "svg": figure, "alt": _map_alt(known, what, title),
                         "caption": _CAPTIONS[what]})  # fmt: skip
    if context.get("heterogeneity.pattern.spots"):
        made.append(_patches(context))
    missing = [r for r in rows if r.get("score") is None]
    classes = [r["area_class"] for r in rows if r["area_class"] != "indeterminate"]
    told = ", ".join(f"{classes.count(c)} {c}" for c in ("negative", "heterogeneous", "positive"))
    histogram = svg(histogram_figure(context), "histogram") if len(classes) > FEW_AREAS else None
    return {
        "histogram": histogram,
        "histogram_alt": f"Histogram of {len(classes)} areas: {told}.",
        "maps": made,
        "rows": rows[:_REGION_ROWS],
        "n": len(rows),
        "few": len(missing),
        "kind": rows[0]["kind"],
    }


#: so few areas are read off the map; a histogram of them says nothing more
FEW_AREAS = 12


def _patches(context: SlideContext) -> Values:
    balance = context.get("heterogeneity.pattern.spots.balance")
    hot, cold = (sum(sign * b > 0.5 for b in balance) for sign in (1, -1))
    alt = f"Map of {len(balance)} bins: {hot} lie in positive patches, {cold} in negative ones."
    return {"title": "Patches of positive and of negative cells", "alt": alt,
            "caption": "Gi*, false discovery rate 5 %.",
            "svg": svg(spots_figure(context), "map-spots")}  # fmt: skip


def spots_figure(context: SlideContext) -> Any:
    """Draw the map of significant patches of positive and negative cells."""
    facts = context.need("heterogeneity.pattern.spots", "There are no patches to show.")
    return maps.spots(facts, _ground(context))


def _ground(context: SlideContext) -> maps.Ground:
    """Return what maps are drawn on: the slide's size, its picture, and the part with regions."""
    mpp, width = context.get("slide.mpp"), context.get("slide.width_px")
    height = context.get("slide.height_px")
    if None in (mpp, width, height):
        raise CannotSay("The size of the slide is not known.")
    x, y = (context.get(f"slide.mpp_{k}") or mpp for k in "xy")
    try:
        picture = context.thumbnail
    except CannotSay:
        picture = None
    return maps.Ground((width * x / 1000, height * y / 1000), picture)


def region_figure(context: SlideContext, what: str) -> Any:
    """Draw the map of one column of the regions."""
    ground = _ground(context)
    if all(r.get(what) is None for r in context.regions):
        raise CannotSay("No region holds enough tumour cells." + context.why_not_evaluable)
    return maps.region_map(context.regions, what, ground)


def _map_alt(rows: list[Values], what: str, title: str) -> str:
    values = [r[what] for r in rows]
    if isinstance(values[0], str):
        counts = [f"{values.count(v)} {v}" for v in sorted(set(values))]
        return f"Map of {len(values)} regions by {title.lower()}: {', '.join(counts)}."
    return (
        f"Map of {len(values)} regions by {title.lower()}, "
        f"from {min(values):.2f} to {max(values):.2f}."
    )


def intervals(context: Context) -> dict[str, tuple[float, float]]:
    """Return the patterns' 95 % intervals by spatial bootstrap; empty where there are none.

    A case's shares are of all its slides together, and so are their intervals.
    """
    score = "score_pooled" if context.kind == "case" else "score"
    stored = context.get(f"{score}.uncertainty.intervals") or {}
    return {k: (float(v[0]), float(v[1])) for k, v in stored.items() if k in PATTERNS and v}


def patterns(context: Context) -> Values:
    """Shares of the seven patterns and the H-score."""
    values = context.need("fractions", "No fractions were measured.")
    known = intervals(context)
    figure = fractions_figure(context)
    shares = ", ".join(f"{WORDS[p]} {100 * (values[p] or 0):.1f} %" for p in PATTERNS)
    return {
        "svg": svg(figure, "fractions"),
        "alt": f"Bars: {shares}.",
        "intervals": known,
        "patterns": [(p, WORDS[p], PATTERN_COLOURS[p]) for p in PATTERNS],
    }


def fractions_figure(context: Context) -> Any:
    """Draw the shares of the seven patterns."""
    values = context.need("fractions", "No fractions were measured.")
    return plots.fractions({p: values[p] or 0.0 for p in PATTERNS}, intervals(context))


def strength_figure(context: SlideContext) -> Any:
    """Draw the histograms of the stained tumour cells."""
    membrane, tumour = context.settings.membrane, context.tumour
    intensity = tumour["intensity"].to_numpy()
    if not (intensity > 0).any():
        raise CannotSay("No tumour cell has a stained membrane.")
    label = f"{_named(membrane.measure)} of the stained part, {_unit(membrane.measure)}"
    return plots.histograms(
        tumour[membrane.measure].to_numpy(),
        tumour["completeness"].to_numpy(),
        intensity,
        (membrane.cutoffs, membrane.complete_at),
        label,
    )


def _named(measure: str) -> str:
    return "membrane OD" if measure == "membrane_od" else "membrane mass (OD·µm)"


def _unit(measure: str) -> str:
    return "OD" if measure == "membrane_od" else "OD·µm"


def strength(context: SlideContext) -> Values:
    """Histograms of the membrane measure and of completeness."""
    membrane = context.settings.membrane
    figure = strength_figure(context)
    stained = context.tumour["intensity"].to_numpy() > 0
    unit = _unit(membrane.measure)
    middle = float(np.median(context.tumour[membrane.measure].to_numpy()[stained]))
    whole = float(np.median(context.tumour["completeness"].to_numpy()[stained]))
    return {
        "svg": svg(figure, "strength"),
        "n": int(stained.sum()),
        "median": middle,
        "unit": unit,
        "completeness": whole,
        "cutoffs": membrane.cutoffs,
        "complete_at": membrane.complete_at,
        "alt": f"Histograms of {int(stained.sum())} stained tumour cells: median strength "
        f"{middle:.2f} {unit}, median completeness {whole:.2f}.",
    }


def heterogeneity(context: Context) -> Values:
    """The verdict in words, and what other definitions say."""
    tree = context.need("heterogeneity", "Heterogeneity was not measured.")
    return {
        "definitions": [
            (DEFINITIONS.get(k, k), k, d) for k, d in (tree.get("definitions") or {}).items()
        ]
    }


def statistics(context: Context) -> Values:
    """Areas, shares, pattern, diversity."""
    tree = context.need("heterogeneity", "Heterogeneity was not measured.")
    shares = tree.get("low_vs_null") or {}
    try:
        drawn = svg(variogram_figure(context), "variogram")
    except CannotSay:
        drawn = None
    return {
        "variogram": drawn,
        "intervals": (tree.get("intervals") or {}) | more_intervals(tree),
        "categories": (tree.get("intervals") or {}).get("area_category") or {},
        "cell_fraction": shares.get("cell_fraction") or {},
        "area_fraction": shares.get("area_fraction") or {},
        "definition": words.definition_words(context),
    }


def more_intervals(tree: Values) -> Values:
    """Return the intervals that stand beside their figures, by the names of the table's rows."""
    places = {
        "nugget_share": ("variogram", "nugget_share_interval"),
        "range_um": ("variogram", "range_interval_um"),
        "between_share": ("between_areas", "between_share_interval"),
        "icc": ("between_areas", "icc_interval"),
        "proximity": ("bystander", "proximity_interval"),
    }
    return {name: (tree.get(part) or {}).get(key) for name, (part, key) in places.items()}


def variogram_figure(context: Context) -> Any:
    """Draw the variogram of positive cells."""
    lags = context.need("heterogeneity.variogram.lag_um", "No variogram was measured.")
    values = context.get("heterogeneity.variogram.semivariance") or []
    if len(values) != len(lags) or all(v is None for v in values):
        raise CannotSay("No variogram was measured.")
    return plots.variogram(context.need("heterogeneity.variogram", "No variogram was measured."))


def histogram_figure(context: SlideContext) -> Any:
    """Draw the histogram of the regions' positive fractions."""
    limits = context.settings.heterogeneity
    known = [r["positive_fraction"] for r in context.regions
             if r["area_class"] != "indeterminate"]  # fmt: skip
    if not known:
        raise CannotSay("No region holds enough tumour cells." + context.why_not_evaluable)
    return plots.area_histogram(known, (limits.area_low, limits.area_high))


def bystander(context: Context) -> Values:
    """Coverage curve."""
    figure = bystander_figure(context)
    coverage = context.get("heterogeneity.bystander.coverage")
    radius = context.get("heterogeneity.bystander.radius_um")
    known = {int(r): c for r, c in zip(radius, coverage, strict=True)}
    picked = [(r, known[r]) for r in (0, 25, 50, 100, 200) if r in known]
    steps = ", ".join(f"{100 * c:.0f} % within {r} µm" for r, c in picked)
    return {
        "svg": svg(figure, "bystander"),
        "points": picked,
        "definition": words.definition_words(context),
        "alt": f"Curve: tumour cells that are positive or near a positive one: {steps}.",
    }


def bystander_figure(context: Context) -> Any:
    """Draw the coverage curve."""
    coverage = context.need(
        "heterogeneity.bystander.coverage", "There is no positive tumour cell to start from."
    )
    low, high = (context.get(f"heterogeneity.bystander.coverage_{k}") for k in ("low", "high"))
    band = (low, high) if low and high else None
    return plots.bystander(context.get("heterogeneity.bystander.radius_um"), coverage, band)


def virtual_biopsy(context: Context) -> Values:
    """How often cores of this slide would have told the same."""
    facts = context.need("heterogeneity.virtual_biopsy", "No virtual biopsies were drawn.")
    rows = facts.get("table") or []
    if not rows:
        reason = facts.get("reason") or "no reason given"
        raise CannotSay(f"{reason[:1].upper()}{reason[1:]}.")
    scores = sorted({k for r in rows for k in (r.get("scores") or {})})
    agrees, finds = (any(r.get(key) is not None for r in rows)
                     for key in ("agreement", "finds_heterogeneity"))  # fmt: skip
    return {"facts": facts, "rows": rows, "scores": scores, "agrees": agrees, "finds": finds}


def trace(context: Context) -> Values:
    """The decision, step by step."""
    score = context.need("score", "No score was given.")
    distances = context.get("score.uncertainty.distances") or []
    return {"steps": list(score.get("trace") or ()), "distances": distances}


def what_if(context: SlideContext) -> Values:
    """The score of the same cells under every shipped rule set."""
    context.need("score", "No score was given.")
    tumour = context.tumour
    mpp = {k: context.get(f"slide.mpp_{k}") or context.get("slide.mpp") for k in "xy"}
    where = {f"{k}_um": tumour[f"{k}_px"].to_numpy() * mpp[k] for k in "xy"} if mpp["x"] else {}
    rows = guidelines.what_if({"pattern": tumour["pattern"], **where}, context.settings)
    return {"rows": rows, "used": context.get("score.guideline")}


def ish(context: SlideContext | CaseContext) -> Values:
    """ISH results, where counts were given."""
    stored = context.ish()
    if not stored:
        raise CannotSay("No ISH counts were given.")
    return {"cases": stored.get("cases") or [], "areas": stored.get("areas") or []}


def cnn(context: Context) -> Values:
    """The neural network's second look."""
    context.need("cnn", "It was not asked for (score with --cnn to have it).")
    return {}


def methods(context: SlideContext) -> Values:
    """Stain, calibration and every setting."""
    tree = context.settings.model_dump(mode="json")
    rows = [
        (f"{section}.{key}", value)
        for section, part in tree.items()
        if isinstance(part, dict)
        for key, value in part.items()
    ]
    rows += [(k, v) for k, v in tree.items() if not isinstance(v, dict)]
    return {
        "settings": [(k, "" if v is None else str(v)) for k, v in rows],
        "stain": context.get("stain"),
    }


def provenance(context: Context) -> Values:
    """Where the numbers come from."""
    context.need("provenance", "It was not recorded.")
    return {"packages": sorted((context.get("provenance.packages") or {}).items())}
