"""The rows of a batch's index, from the stored results: a worklist."""

from __future__ import annotations

import base64
import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from her2path.core.errors import OutputError
from her2path.io.store import BatchStore, RunStore, read_json
from her2path.outputs.report.needs import needs_a_look
from her2path.outputs.report.words import CATEGORY_WORDS, percent
from her2path.runs.cohort.signed import Signed, in_words, signed_reads
from her2path.runs.cohort.tables import read_rows

__all__ = ["index_values"]

#: key, heading, kind
COLUMNS = (
    ("name", "Name", "text"),
    ("ihc", "Score", "text"),
    ("probability", "Probability", "number"),
    ("category", "Category", "text"),
    ("reader", "Readers", "text"),
    ("need", "Needs a look", "rank"),
    ("flags", "Warnings", "text"),
    ("h_score", "H-score", "number"),
    ("positive", "Positive cells", "number"),
    ("heterogeneous", "Heterogeneous", "text"),
    ("layout", "Layout", "text"),
    ("tumour", "Tumour cells", "number"),
    ("status", "Status", "text"),
)
_OF_SLIDES = (("case", "Case", "text"), ("specimen", "Specimen", "text"))
SLIDE_COLUMNS = (COLUMNS[0], *_OF_SLIDES, *COLUMNS[1:])
#: thumbnails are left out of an index of more slides: it would be too heavy to open
MOST_THUMBNAILS = 1000
_THUMB_PX = 112
#: place in the order of what needs a look: nothing does
_NO_NEED = 9
Tree = dict[str, Any]


def index_values(store: BatchStore, thumbnails: bool = False) -> dict[str, Any]:
    """Return the template's variables for a batch; what needs a look comes first.

    Parameters
    ----------
    store : BatchStore
    thumbnails : bool
        Whether slides carry their picture, as a data address.
    """
    signed = signed_reads(store.out)
    stores, known, staining = store.slides(), _known(store), _staining(store)
    trees = [_tree(s) for s in stores]
    shared = _shared([t for t in trees if t is not None])
    slides = [_slide_row(s, tree, known.get(s.out.name, {}), signed, shared)
              for s, tree in zip(stores, trees, strict=True)]  # fmt: skip
    cases = [_case_row(folder, signed, shared) for folder in store.case_dirs()]
    failures = _failures(store)
    for row in slides:
        told = staining.get(row["folder"])
        row["flags"] = " ".join(filter(None, (row["flags"], told))) or None
    with_pictures = thumbnails and len(stores) <= MOST_THUMBNAILS
    for row, one in zip(slides, stores, strict=True):
        row["thumbnail"] = _thumbnail(one) if with_pictures else None
    scores = Counter(r["ihc"] for r in (cases or slides) if r["ihc"])
    totals = [("Cases", len(cases)), ("Slides", len(slides)), ("Failed", len(failures)),
              ("Not evaluable", sum(r["status"] == "not evaluable" for r in slides)),
              ("Slides to look at", sum(r["need"] is not None for r in slides))]  # fmt: skip
    totals += [(f"Score {s}", scores[s]) for s in ("0", "1+", "2+", "3+")]
    return {"title": f"Batch {store.out.resolve().name}", "columns": COLUMNS,
            "slide_columns": SLIDE_COLUMNS, "cases": _in_order(cases), "slides": _in_order(slides),
            "failures": failures, "totals": totals, "shared": list(shared.values()),
            "pictures": with_pictures, "drift": (store.out / "drift.json").is_file()}  # fmt: skip


def _in_order(rows: list[Tree]) -> list[Tree]:
    return sorted(rows, key=lambda r: (r["need_raw"], r["order"], r["name"]))


def _known(store: BatchStore) -> dict[str, dict[str, str]]:
    rows = read_rows(store.slides_csv) if store.slides_csv.is_file() else []
    return {r.get("folder", ""): {**r, "place": str(i)} for i, r in enumerate(rows)}


def _staining(store: BatchStore) -> dict[str, str]:
    """Return what the batch's controls tell of slides, by folder: no slide's own result has it."""
    path = store.out / "drift.json"
    found = read_json(path).get("staining", []) if path.is_file() else []
    return {str(s["folder"]): str(s["message"]) for s in found}


def _tree(store: RunStore) -> Tree | None:
    try:
        return store.result().as_dict()
    except OutputError:
        return None


def _warnings(tree: Tree) -> dict[str, str]:
    flags = (tree.get("qc") or {}).get("flags") or []
    return {f["code"]: f["message"] for f in flags if f["severity"] != "info"}


def _shared(trees: Sequence[Tree]) -> dict[str, str]:
    """Return the warnings that every evaluable slide has in the same words: said once for all."""
    good = [_warnings(t) for t in trees if t.get("score")]
    if len(good) < 2:
        return {}
    return {c: m for c, m in good[0].items() if all(w.get(c) == m for w in good)}


def _case_row(
    folder: Path, signed: Mapping[tuple[str, str], list[Signed]], shared: Mapping[str, str]
) -> Tree:
    link = f"cases/{quote(folder.name)}/report.html"
    try:
        tree = read_json(folder / "case.json")
    except OutputError as exc:
        return _damaged(folder.name, str(exc))
    there = (folder / "report.html").is_file()
    name = str(tree.get("case_id") or folder.name)
    said = [s for (case, _), group in signed.items() if case == name for s in group]
    return _row(tree, name, link if there else None, said, shared)


def _slide_row(
    store: RunStore, tree: Tree | None, known: Mapping[str, str],
    signed: Mapping[tuple[str, str], list[Signed]], shared: Mapping[str, str],
) -> Tree:  # fmt: skip
    name = store.out.name
    extra = {"folder": name, "case": known.get("case_id") or None,
             "specimen": known.get("specimen") or None,
             "order": int(known.get("place", 0))}  # fmt: skip
    if tree is None:
        return _damaged(name, f"{store.result_path} is damaged") | extra
    link = f"slides/{quote(name)}/report.html" if store.report_path.is_file() else None
    slide_id = known.get("slide_id") or str(tree["slide"]["id"] or name)
    said = signed.get((known.get("case_id") or slide_id, slide_id), [])
    shown = str(tree["slide"]["id"] or name)
    return _row(tree, shown, link, said, shared) | extra


def _damaged(name: str, why: str) -> Tree:
    row = _row({}, name, None, (), {})
    return row | {"status": "damaged", "need": "damaged", "need_raw": -1, "flags": why}


def _row(
    tree: Tree, name: str, link: str | None, signed: Sequence[Signed], shared: Mapping[str, str]
) -> Tree:
    score = tree.get("score") or {}
    spread = tree.get("heterogeneity") or {}
    verdict = (spread.get("areas") or {}).get("heterogeneous_case")
    positive, h_score = spread.get("positive_cell_fraction"), tree.get("h_score")
    tumour = (tree.get("counts") or {}).get("tumour")
    category = score.get("category")
    substate = score.get("substate")
    substate = f" ({substate})" if substate and substate != category else ""
    likely = (score.get("probability") or {}).get(score.get("ihc"))
    needs = needs_a_look(tree, signed)
    own = [m for code, m in _warnings(tree).items() if code not in shared]
    return {
        "name": name, "link": link, "order": 0, "thumbnail": None,
        "status": str(tree.get("status", "unknown")).replace("_", " "),
        "ihc": score.get("ihc"), "category": CATEGORY_WORDS.get(str(category), "") + substate,
        "probability": None if likely is None else percent(likely), "probability_raw": likely,
        "h_score": None if h_score is None else f"{h_score:.0f}", "h_score_raw": h_score,
        "positive": None if positive is None else percent(positive), "positive_raw": positive,
        "heterogeneous": {True: "yes", False: "no", None: None}[verdict],
        "layout": (spread.get("pattern") or {}).get("type"),
        "tumour": None if tumour is None else f"{tumour:,}".replace(",", " "), "tumour_raw": tumour,
        "reader": in_words(list(signed)) or None,
        "need": "; ".join(words for _, words in needs) or None,
        "need_raw": needs[0][0] if needs else _NO_NEED,
        "flags": " ".join(own) or None,
    }  # fmt: skip


def _thumbnail(store: RunStore) -> str | None:
    """Return a small picture of the slide as a data address; None where there is none."""
    try:
        with Image.open(store.thumbnail_path) as image:
            image.draft("RGB", (2 * _THUMB_PX, 2 * _THUMB_PX))
            small = image.convert("RGB")
            small.thumbnail((_THUMB_PX, _THUMB_PX))
    except (OSError, ValueError):
        return None
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=70)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _failures(store: BatchStore) -> list[dict[str, str]]:
    if not store.failures_csv.is_file():
        return []
    with store.failures_csv.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: str(r.get(k) or "") for k in ("slide", "stage", "error")} for r in rows]
