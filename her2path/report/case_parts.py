"""Makers of the sections that only a case has: its slides, and change over time."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from her2path.report import plots
from her2path.report.context import CannotSay, CaseContext
from her2path.report.words import CATEGORY_WORDS

__all__ = ["slides", "timepoints"]


def slides(context: CaseContext) -> dict[str, Any]:
    """Rows of the case's slides."""
    if not context.slides:
        raise CannotSay("The case lists no slides.")
    return {"rows": [_slide_row(s) for s in context.slides]}


def _slide_row(slide: dict[str, Any]) -> dict[str, Any]:
    result = slide["result"] or {}
    score = result.get("score") or {}
    spread = result.get("heterogeneity") or {}
    return {
        "slide_id": slide["slide_id"],
        "link": slide["link"],
        "there": slide["result"] is not None,
        "status": str(result.get("status", "failed")).replace("_", " "),
        "ihc": score.get("ihc"),
        "category": CATEGORY_WORDS.get(str(score.get("category"))),
        "h_score": result.get("h_score"),
        "positive": spread.get("positive_cell_fraction"),
        "tumour": (result.get("counts") or {}).get("tumour"),
        "specimen": slide.get("specimen"),
        "timepoint": slide.get("timepoint"),
    }


def timepoints(context: CaseContext) -> dict[str, Any]:
    """Score, category and shares from one time point to the next."""
    stored = context.get("timepoints")
    rows = (stored.get("points") or stored.get("rows")) if isinstance(stored, dict) else stored
    if not rows or len(rows) < 2:
        raise CannotSay("The case has one time point only.")
    labels = [str(r.get("timepoint", r.get("name", i + 1))) for i, r in enumerate(rows)]
    figure = plots.timeline(labels, [r.get("h_score") for r in rows])
    steps = ", ".join(
        f"{name}: {'not evaluable' if r.get('h_score') is None else format(r['h_score'], '.0f')}"
        for name, r in zip(labels, rows, strict=True)
    )
    columns = [c for c in rows[0] if not isinstance(rows[0][c], (dict, list))]
    return {
        "rows": rows, "columns": columns, "alt": f"H-score over time: {steps}.",
        "svg": Markup(plots.inline_svg(figure, "timeline")),  # noqa: S704 - our own drawing
        "changes": stored.get("changes") or [] if isinstance(stored, dict) else [],
    }
