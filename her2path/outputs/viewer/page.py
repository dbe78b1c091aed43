"""The pages: a slide with what stands beside it, and the worklist of a batch."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import jinja2

from her2path import __version__
from her2path.cells.qc import CODES
from her2path.core.results import Result
from her2path.core.schema import CELL_TYPES, PATTERNS
from her2path.outputs.palette import PATTERN_COLOURS, SCORE_COLOURS, WORDS
from her2path.outputs.report.index import index_values
from her2path.outputs.report.words import CATEGORY_WORDS
from her2path.outputs.viewer.desk import SlideView, Viewer
from her2path.outputs.viewer.ledger import REGION_CLASSES
from her2path.outputs.viewer.reading import facts_of
from her2path.outputs.viewer.tiles import LAYERS

__all__ = ["asset", "slide_page", "worklist_page"]

LAYER_WORDS = {
    "cells": "cells", "heat": "heat map", "regions": "regions by area class",
    "tumour": "tumour as the program sees it", "tissue": "tissue found",
    "qc": "left out by quality control", "annotations": "annotations given",
}  # fmt: skip
#: what a reader may say, by the strata of the guideline
_WITH_SUBSTATE = (("0/null", "0 null"), ("0/ultralow", "0 ultralow"), ("0", "0"))
_FIVE = (("0", "0"), ("0+", "0+"))
_ABOVE = (("1+", "1+"), ("2+", "2+"), ("3+", "3+"), ("", "not readable"))
STATE_WORDS = {"unread": "to read", "begun": "begun", "given": "to keep or change",
               "decided": "read", "signed": "signed off"}  # fmt: skip


def asset(name: str) -> str:
    """Return one of our own files; the worklist sorts as the index does."""
    if name == "worklist.js":
        return (
            resources.files("her2path.outputs.report")
            .joinpath("assets", "index.js")
            .read_text("utf-8")
        )
    return (
        resources.files("her2path.outputs.viewer")
        .joinpath("assets", name)
        .read_text(encoding="utf-8")
    )


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        loader=jinja2.PackageLoader("her2path.outputs.viewer", "assets"),
    )  # fmt: skip


def slide_page(viewer: Viewer, number: int, view: SlideView) -> str:
    """Return a slide's page; without anything that the program found where that is hidden."""
    hidden, plane = viewer.hides(number), view.tiles.plane
    base = "" if viewer.batch is None else f"/slide/{number}"
    read = viewer.reading(number)
    facts: dict[str, Any] = {
        "width": plane.width_px, "height": plane.height_px, "mpp": plane.mpp,
        "zMax": plane.z_max, "base": base, "hidden": hidden, "version": view.version,
        "slide": view.item.slide_id, "reading": None if read is None else facts_of(read),
        "editable": viewer.log is None,
    }  # fmt: skip
    if not hidden:
        facts["views"] = list(view.tiles.views)
    return _environment().get_template("viewer.html.j2").render(
        facts=facts, token=viewer.token, why_no_slide=view.tiles.why_no_slide, item=view.item,
        hidden=hidden, reader=viewer.log.reader if viewer.log is not None else None, read=read,
        said=None if hidden else _machine(view.result),
        choices=_choices(view.store.settings().score.guideline),
        place=number + 1, total=len(viewer.items), batch=viewer.batch is not None,
        measures=() if hidden else view.tiles.measures.labels(),
        views=view.tiles.views, layers=LAYERS, layer_words=LAYER_WORDS,
        patterns=PATTERNS, words=WORDS, colours=PATTERN_COLOURS, scores=SCORE_COLOURS,
        codes=list(CODES.values()), cell_types=CELL_TYPES, region_classes=REGION_CLASSES,
        version=__version__,
    )  # fmt: skip


def _choices(guideline: str) -> tuple[tuple[str, str], ...]:
    if guideline == "international_2026":
        return _FIVE + _ABOVE
    if guideline in ("asco_cap_2018", "asco_cap_2023"):
        return _WITH_SUBSTATE + _ABOVE
    return (("0", "0"), *_ABOVE)


def _machine(result: Result) -> dict[str, Any]:
    """Return what the program says of a slide, in words."""
    score, extra = result.score, result.model_extra or {}
    flags = [f.message for f in result.qc.flags if f.severity != "info"]
    if score is None:
        return {"ihc": None, "words": "not evaluable", "probability": None, "flags": flags,
                "h_score": None, "corrections": None}  # fmt: skip
    substate = f" ({score.substate})" if score.substate else ""
    category = CATEGORY_WORDS.get(score.category, score.category)
    likely = (score.probability or {}).get(score.ihc)
    return {"ihc": score.ihc, "words": f"{score.ihc}{substate}, {category}", "flags": flags,
            "probability": None if likely is None else f"{100 * likely:.0f} %",
            "h_score": None if result.h_score is None else f"{result.h_score:.0f}",
            "corrections": extra.get("corrections")}  # fmt: skip


def worklist_page(viewer: Viewer) -> str:
    """Return a batch's worklist: a reader's own, or every slide with what is known of it."""
    if viewer.log is not None:
        return _reader_page(viewer)
    assert viewer.batch is not None
    place = {i.out.name: n for n, i in enumerate(viewer.items)}
    values = index_values(viewer.batch)
    rows = [{**r, "number": place[r["folder"]]} for r in values["slides"] if r["folder"] in place]
    return _environment().get_template("worklist.html.j2").render(
        title=viewer.out.resolve().name, rows=rows, columns=values["slide_columns"],
        shared=values["shared"], scores=SCORE_COLOURS, reader=None,
    )  # fmt: skip


def _reader_page(viewer: Viewer) -> str:
    assert viewer.log is not None
    reads = viewer.log.readings()
    rows = []
    for number, item in enumerate(viewer.items):
        read = reads.get(item.key)
        state: str = "unread" if read is None else read.state
        if read is not None and state == "unread" and read.draft:
            state = "begun"
        rows.append({
            "number": number, "slide": item.slide_id, "case": item.case_id,
            "specimen": item.specimen, "state": state, "state_words": STATE_WORDS[state],
            "own": None if read is None or read.before is None else _own(read.before, read.after),
        })  # fmt: skip
    left = [r for r in rows if r["state"] in ("unread", "begun")]
    undecided = [r for r in rows if r["state"] == "given"]
    return _environment().get_template("worklist.html.j2").render(
        title=viewer.out.resolve().name, rows=rows, reader=viewer.log.reader, left=len(left),
        round=viewer.log.round, undecided=len(undecided),
        following=next(iter(left or undecided), None),
    )  # fmt: skip


def _own(before: str, after: str | None) -> str:
    first = before or "not readable"
    return first if after is None or after == before else f"{first} → {after or 'not readable'}"
