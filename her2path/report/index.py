"""The rows of a batch's index, from the stored results."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

from her2path.errors import OutputError
from her2path.report.words import CATEGORY_WORDS, percent
from her2path.store import BatchStore, RunStore, read_json

__all__ = ["index_values"]

#: key, heading, kind
COLUMNS = (
    ("name", "Name", "text"),
    ("status", "Status", "text"),
    ("ihc", "Score", "text"),
    ("category", "Category", "text"),
    ("h_score", "H-score", "number"),
    ("positive", "Positive cells", "number"),
    ("heterogeneous", "Heterogeneous", "text"),
    ("layout", "Layout", "text"),
    ("tumour", "Tumour cells", "number"),
    ("flags", "Flags", "text"),
)


def index_values(store: BatchStore) -> dict[str, Any]:
    """Return the template's variables for a batch."""
    cases = [_case_row(folder) for folder in store.case_dirs()]
    slides = [_slide_row(s) for s in store.slides()]
    failures = _failures(store)
    scores = Counter(r["ihc"] for r in (cases or slides) if r["ihc"])
    totals = [("Cases", len(cases)), ("Slides", len(slides)), ("Failed", len(failures)),
              ("Not evaluable", sum(r["status"] == "not evaluable" for r in slides))]
    totals += [(f"Score {s}", scores[s]) for s in ("0", "1+", "2+", "3+")]
    return {"title": f"Batch {store.out.resolve().name}", "columns": COLUMNS, "cases": cases,
            "slides": slides, "failures": failures, "totals": totals,
            "drift": (store.out / "drift.json").is_file()}


def _case_row(folder: Path) -> dict[str, Any]:
    link = f"cases/{quote(folder.name)}/report.html"
    try:
        tree = read_json(folder / "case.json")
    except OutputError as exc:
        return {**_row({}, folder.name, None), "status": "damaged", "flags": str(exc)}
    there = (folder / "report.html").is_file()
    return _row(tree, str(tree.get("case_id") or folder.name), link if there else None)


def _slide_row(store: RunStore) -> dict[str, Any]:
    name = store.out.name
    try:
        link = f"slides/{quote(name)}/report.html" if store.report_path.is_file() else None
        tree = store.result().as_dict()
        return _row(tree, str(tree["slide"]["id"] or name), link)
    except OutputError as exc:
        return {**_row({}, name, None), "status": "damaged", "flags": str(exc)}


def _row(tree: dict[str, Any], name: str, link: str | None) -> dict[str, Any]:
    score = tree.get("score") or {}
    spread = tree.get("heterogeneity") or {}
    verdict = (spread.get("areas") or {}).get("heterogeneous_case")
    positive, h_score = spread.get("positive_cell_fraction"), tree.get("h_score")
    tumour = (tree.get("counts") or {}).get("tumour")
    flags = (tree.get("qc") or {}).get("flags") or []
    category = score.get("category")
    substate = f" ({score['substate']})" if score.get("substate") else ""
    return {
        "name": name, "link": link,
        "status": str(tree.get("status", "unknown")).replace("_", " "),
        "ihc": score.get("ihc"), "category": CATEGORY_WORDS.get(str(category), "") + substate,
        "h_score": None if h_score is None else f"{h_score:.0f}", "h_score_raw": h_score,
        "positive": None if positive is None else percent(positive), "positive_raw": positive,
        "heterogeneous": {True: "yes", False: "no", None: None}[verdict],
        "layout": (spread.get("pattern") or {}).get("type"),
        "tumour": None if tumour is None else f"{tumour:,}".replace(",", " "), "tumour_raw": tumour,
        "flags": ", ".join(f["code"] for f in flags if f["severity"] != "info") or None,
    }


def _failures(store: BatchStore) -> list[dict[str, str]]:
    if not store.failures_csv.is_file():
        return []
    with store.failures_csv.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: str(r.get(k) or "") for k in ("slide", "stage", "error")} for r in rows]
