"""Numbers and findings as people read them; every text is escaped where it is printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from markupsafe import Markup

from her2path.outputs.palette import WORDS
from her2path.outputs.report.context import Context

__all__ = [
    "CATEGORY_WORDS",
    "FORMATS",
    "basis_sentence",
    "bind",
    "definition_words",
    "detection_sentence",
    "heterogeneity_sentence",
    "score_words",
]

CATEGORY_WORDS = {
    "positive": "HER2-positive",
    "equivocal": "HER2 equivocal: ISH needed",
    "low": "HER2-low",
    "ultralow": "HER2-ultralow",
    "null": "HER2-null",
    "negative": "HER2-negative",
}
_PATTERN_TYPES = {
    "clustered": "in patches",
    "mosaic": "intermingled with negative ones (mosaic)",
    "scattered": "few, and not in patches",
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
    return "\u2264 0.001" if value <= 0.001 else f"{value:.3f}"


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
    "mm": lambda v: f"{v / 1000:.1f} mm",
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
    """Return the heterogeneity finding in plain words; statistics stay in the appendix."""
    if context.get("heterogeneity") is None:
        return Markup("Heterogeneity was not measured.")
    v = bind(context)
    return Markup("{}: {}.{}").format(_verdict(context), _positive(context, v), _uneven(context, v))


def _verdict(context: Context) -> Markup:
    verdict = context.get("heterogeneity.areas.heterogeneous_case")
    if verdict is None:
        reason = str(context.get("heterogeneity.areas.reason") or "areas were not compared")
        # the long reason stands in the section
        short = reason.split(", since")[0].rstrip(".")
        return Markup("<strong>No verdict on heterogeneity</strong> ({})").format(short)
    return Markup("<strong>{}</strong>").format("Heterogeneous" if verdict else "Not heterogeneous")


def definition_words(context: Context) -> str:
    """Return what "positive" means here: ``intense and complete``, or ``intense``."""
    known = list(context.get("heterogeneity.positive_definition") or [])
    if set(known) == {"intense_complete", "intense_incomplete"}:
        return "intense, complete or not"
    return " or ".join(WORDS.get(k, k).replace(", ", " and ") for k in known) or "not stated"


def _positive(context: Context, v: Callable[..., Markup]) -> Markup:
    share = v("heterogeneity.positive_cell_fraction", "pct", "an unknown share")
    head = Markup("{} of tumour cells are positive ({})").format(share, definition_words(context))
    value = context.get("heterogeneity.positive_cell_fraction")
    return head + Markup(", {}").format(_lying(context, value)) if value else head


def _lying(context: Context, share: float) -> str:
    kind = str(context.get("heterogeneity.pattern.type"))
    if kind == "homogeneous":
        return "nearly throughout" if share > 0.5 else "too few to have a layout"
    return _PATTERN_TYPES.get(kind, "their layout could not be told")


def _uneven(context: Context, v: Callable[..., Markup]) -> Markup:
    """Return what weaker staining does where positive cells do not lie in patches."""
    if context.get("heterogeneity.staining.from_intensity") is None:
        return Markup("")
    words = Markup("{} of cells are {}").format(
        v("heterogeneity.staining.fraction", "pct"),
        v("heterogeneity.staining.from_intensity"),
    )
    if context.get("heterogeneity.staining.from_intensity") != "intense":
        words += " or stronger"
    if context.get("heterogeneity.staining.uneven"):
        return Markup(" Staining differs from place to place: {}, in patches.").format(words)
    if context.get("heterogeneity.staining.type") == "not_evaluable":
        return Markup("")
    return Markup(" Staining is alike in all parts: {}, not in patches.").format(words)


def basis_sentence(context: Context) -> Markup:
    """Return what the verdict rests on: the definition, its areas, and whether they differ."""
    if context.get("heterogeneity.areas") is None:
        return Markup("")
    v, at = bind(context), "heterogeneity.areas"
    ish = str(context.get(f"{at}.basis") or context.get("heterogeneity.basis")).startswith("ish")
    basis = "ISH" if ish else "IHC in place of ISH"
    counts = (v(f"{at}.{k}", "int") for k in ("n", "positive", "heterogeneous", "negative",
                                               "indeterminate"))  # fmt: skip
    text = Markup(
        "{} on areas ({}): of {}, {} positive, {} heterogeneous, {} negative, {} indeterminate."
    ).format(_RULES.get(str(context.get(f"{at}.rule")), context.get(f"{at}.rule")), basis, *counts)
    return text + _difference(context, v)


_RULES = {"filho_2021": "Filho 2021", "cap_2009": "CAP 2009"}


def _difference(context: Context, v: Callable[..., Markup]) -> Markup:
    at = "heterogeneity.areas"
    p = context.get(f"{at}.difference_p_value")
    if context.get(f"{at}.heterogeneous_case") is None or p is None:
        return Markup("")
    differ = "more than chance lets them" if p <= 0.05 else "no more than chance lets them"
    text = Markup(" Areas differ {} (p {}).").format(differ, v(f"{at}.difference_p_value", "p"))
    if context.get(f"{at}.by_share_alone") and context.get(f"{at}.heterogeneous_case"):
        text += Markup(" As many positive cells evenly mixed would be called heterogeneous too.")
    return text
