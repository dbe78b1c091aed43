"""Numbers and findings as people read them; every text is escaped where it is printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from markupsafe import Markup

from her2path.palette import WORDS
from her2path.report.context import Context

__all__ = [
    "CATEGORY_WORDS", "FORMATS", "bind", "detection_sentence", "heterogeneity_sentence",
    "score_words",
]  # fmt: skip

CATEGORY_WORDS = {
    "positive": "HER2-positive",
    "equivocal": "HER2 equivocal: ISH needed",
    "low": "HER2-low",
    "ultralow": "HER2-ultralow",
    "null": "HER2-null",
    "negative": "HER2-negative",
}
_PATTERN_TYPES = {
    "homogeneous": "spread evenly",
    "clustered": "lying in clusters",
    "mosaic": "intermingled with negative ones (mosaic)",
    "scattered": "scattered singly",
}


def percent(value: float) -> str:
    """Return a fraction as percent: one decimal, and never 0 or 100 for what is neither."""
    if 0 < value < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= value < 1:
        return "> 99.9 %"
    return f"{100 * value:.1f} %"


def p_value(value: float) -> str:
    """Return a p-value."""
    return "0.001 or less" if value <= 0.001 else f"{value:.3f}"


def _duration(value: float) -> str:
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"


FORMATS: dict[str, Callable[[Any], str]] = {
    "pct": percent,
    "p": p_value,
    "int": lambda v: f"{int(v):,}".replace(",", " "),
    "num0": lambda v: f"{v:.0f}",
    "num1": lambda v: f"{v:.1f}",
    "num2": lambda v: f"{v:.2f}",
    "num3": lambda v: f"{v:.3f}",
    "mm2": lambda v: f"{v:.2f} mm²",
    "mpp": lambda v: f"{v:.4g} µm/px",
    "time": _duration,
    "text": str,
    "bool": lambda v: "yes" if v else "no",
    "list": lambda v: ", ".join(WORDS.get(x, str(x)) for x in v),
    "vector": lambda v: ", ".join(f"{x:.4g}" for x in v),
}


def bind(context: Context) -> Callable[..., Markup]:
    """Return the template function ``v(path, format, missing)``.

    It prints a value of the result as ``<data value=... data-field=...>``, so that a page's
    numbers can be compared with the file they come from.
    """

    def value(path: str, form: str = "text", missing: str = "not given") -> Markup:
        raw = context.get(path)
        if raw is None:
            return Markup('<span class="none">{}</span>').format(missing)
        return Markup('<data value="{}" data-field="{}">{}</data>').format(
            _plain(raw), path, FORMATS[form](raw)
        )

    return value


def _plain(raw: Any) -> str:
    if isinstance(raw, bool):
        return "true" if raw else "false"
    return repr(raw) if isinstance(raw, (int, float)) else str(raw)


def score_words(context: Context) -> str:
    """Return the score as a headline: ``2+``, ``0 (ultralow)`` or ``not evaluable``."""
    ihc = context.get("score.ihc")
    if ihc is None:
        return "not evaluable"
    substate = context.get("score.substate")
    return f"{ihc} ({substate})" if substate else str(ihc)


def detection_sentence(context: Context) -> Markup | None:
    """Return what the slide shows of faint membranes; None where nobody looked."""
    if context.get("sensitivity") is None:
        return None
    v = bind(context)
    if context.get("sensitivity.faint_found") is None:
        reason = str(context.get("sensitivity.reason") or "it was not measured").rstrip(".")
        return Markup("Detection limit: not measured ({}).").format(reason)
    seen = [
        Markup("membranes of OD {} are seen in {} of the cells").format(v(at, "num3"), share)
        if context.get(at) is not None
        else Markup("no OD tried is seen in {} of the cells").format(share)
        for at, share in (("sensitivity.od_50", "half"), ("sensitivity.od_95", "95 %"))
    ]
    return Markup(
        "Detection limit of this slide: {}, {}. It would show {} of faint membranes; {} of cells "
        "without one read stained ({} cells tried)."
    ).format(
        *seen, v("sensitivity.faint_found", "pct"), v("sensitivity.blank_rate", "pct"),
        v("sensitivity.cells", "int"),
    )  # fmt: skip


def heterogeneity_sentence(context: Context) -> Markup:
    """Return the heterogeneity finding in one sentence, with its numbers."""
    if context.get("heterogeneity") is None:
        return Markup("Heterogeneity was not measured.")
    v = bind(context)
    return Markup("{}: {}; {}.").format(_verdict(context), _areas(context, v), _cells(context, v))


def _verdict(context: Context) -> Markup:
    verdict = context.get("heterogeneity.areas.heterogeneous_case")
    if verdict is None:
        reason = context.get("heterogeneity.areas.reason") or "areas were not compared"
        return Markup("<strong>No verdict</strong> ({})").format(str(reason).rstrip("."))
    word = "Heterogeneous" if verdict else "Not heterogeneous"
    basis = "ISH areas" if context.get("heterogeneity.basis") == "ish" else "IHC areas, a surrogate"
    return Markup("<strong>{}</strong> ({}, on {})").format(
        word, _rule(context.get("heterogeneity.areas.rule")), basis
    )


def _rule(name: str | None) -> str:
    return {"filho_2021": "Filho 2021", "cap_2009": "CAP 2009"}.get(str(name), str(name))


def _areas(context: Context, v: Callable[..., Markup]) -> Markup:
    if context.get("heterogeneity.areas") is None:
        return Markup("no areas")
    at = "heterogeneity.areas"
    return Markup(
        "of {} areas {} are positive, {} heterogeneous, {} negative, {} indeterminate"
    ).format(*(v(f"{at}.{k}", "int")
               for k in ("n", "positive", "heterogeneous", "negative", "indeterminate")))


def _cells(context: Context, v: Callable[..., Markup]) -> Markup:
    """Return the cells' part; cells at moderate complete or above are always told beside it."""
    found = _positive(context, v)
    fractions = context.get("fractions") or {}
    strong = [fractions.get(k) for k in ("moderate_complete", "intense_complete")]
    known = [float(v) for v in strong if v is not None]
    if len(known) < len(strong):
        return found
    return found + Markup("; {} are moderate complete or above").format(percent(sum(known)))


def _positive(context: Context, v: Callable[..., Markup]) -> Markup:
    share = v("heterogeneity.positive_cell_fraction", "pct", "an unknown share")
    kind = context.get("heterogeneity.pattern.type")
    if not context.get("heterogeneity.positive_cell_fraction"):
        return Markup("{} of tumour cells are positive").format(share)
    lying = _PATTERN_TYPES.get(str(kind), "their layout could not be told")
    tail = Markup("")
    if context.get("heterogeneity.pattern.moran_i") is not None:
        tail = Markup(" (Moran's I {}").format(v("heterogeneity.pattern.moran_i", "num2"))
        if context.get("heterogeneity.pattern.p_value") is not None:
            tail += Markup(", p = {}").format(v("heterogeneity.pattern.p_value", "p"))
        tail += Markup(")")
    return Markup("{} of tumour cells are positive, {}{}").format(share, lying, tail)
