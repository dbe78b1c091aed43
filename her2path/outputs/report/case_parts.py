"""Makers of the sections that only a case has: its slides, and change over time."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from her2path.outputs.report import canvas, plots
from her2path.outputs.report.context import CannotSay, CaseContext
from her2path.outputs.report.words import CATEGORY_WORDS

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
    """Score, category and shares at each time point, and what changed between them."""
    rows = context.get("timepoints") or []
    if len(rows) < 2:
        raise CannotSay("The case has one time point only.")
    labels = [str(r.get("timepoint") or i + 1) for i, r in enumerate(rows)]
    h_score = [r.get("h_score") for r in rows]
    figure = plots.timeline(labels, h_score, [_band(r, "h_score") for r in rows])
    steps = ", ".join(
        f"{name}: {'not evaluable' if v is None else format(v, '.0f')}"
        for name, v in zip(labels, h_score, strict=True)
    )
    return {
        "rows": [_point(r, label) for r, label in zip(rows, labels, strict=True)],
        "changes": [_change(c) for c in context.get("changes") or []],
        "alt": f"H-score over time: {steps}.",
        "svg": Markup(canvas.inline_svg(figure, "timeline")),
    }


def _band(row: dict[str, Any], name: str) -> tuple[float, float] | None:
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    return None if low is None or high is None else (float(low), float(high))


def _point(row: dict[str, Any], label: str) -> dict[str, Any]:
    category = str(row.get("category"))
    return {
        "label": label,
        "slides": row.get("name"),
        "ihc": row.get("ihc"),
        "category": CATEGORY_WORDS.get(category, "–"),
        "h_score": row.get("h_score"),
        "h_band": _band(row, "h_score"),
        "positive": row.get("positive_cell_fraction"),
        "p_band": _band(row, "positive_cell_fraction"),
        "heterogeneous": row.get("heterogeneous_case"),
        "cells": row.get("cells"),
    }


def _change(row: dict[str, Any]) -> dict[str, Any]:
    numbers = row.get("changes") or {}
    return {
        "title": f"{row.get('from')} to {row.get('to')}",
        "scores": f"{row.get('score_before')} to {row.get('score_after')}",
        "conversion": row.get("conversion") if row.get("converted") else None,
        "chance": row.get("conversion_probability"),
        "band": numbers.get("area_fraction_5_50") or {},
        "diversity": numbers.get("rao_q") or {},
        "h_score": numbers.get("h_score") or {},
        "positive": numbers.get("positive_cell_fraction") or {},
    }
