"""Drift: what should stay the same from slide to slide, over a batch's slides and days."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from her2path.core.errors import ManifestError, UsageError
from her2path.core.results import Result
from her2path.core.schema import SCORES
from her2path.core.settings import QcSettings
from her2path.core.timepoints import time_groups
from her2path.io.reads import Read
from her2path.io.store import BatchStore, write_json, write_text
from her2path.runs.cohort.staining import against_controls
from her2path.runs.cohort.tables import csv_line
from her2path.scoring.agreement import AgreeOptions
from her2path.scoring.agreement import measure as agreement
from her2path.scoring.westgard import WARNING, broken, limits_of

__all__ = ["COLUMNS", "drift_of", "write_drift"]

Tree = dict[str, Any]
COLUMNS = ("slide_id", "case_id", "date", "batch", "scanner", "quantity", "unit", "value", "mean",
           "sd", "z", "rules", "outside")  # fmt: skip
#: columns of the manifest that a slide is placed by
_PLACES = ("slide_id", "case_id", "folder", "date", "batch", "scanner", "stainer", "specimen",
           "timepoint")  # fmt: skip
MAX_RATIO = QcSettings().max_staining_ratio
#: draws of the agreement between scanners
DRAWS = 500

Look = Callable[[Result], float | None]


def _stain(name: str, part: int) -> Look:
    def look(r: Result) -> float | None:
        fixed = r.stain is None or r.stain.method != "estimated"
        return None if fixed else float(getattr(r.stain, name)[part])

    return look


def _detection(name: str) -> Look:
    def look(r: Result) -> float | None:
        found = getattr(r, "sensitivity", None)
        value = found.get(name) if isinstance(found, Mapping) else getattr(found, name, None)
        return None if value is None else float(value)

    return look


#: quantity, unit and where a result has it; control areas come on top
QUANTITIES: tuple[tuple[str, str, Look], ...] = (
    ("white point", "grey level", lambda r: sum(r.stain.white_point) / 3 if r.stain else None),
    ("hematoxylin, red part", "of OD", _stain("hematoxylin", 0)),
    ("hematoxylin, blue part", "of OD", _stain("hematoxylin", 2)),
    ("DAB, red part", "of OD", _stain("dab", 0)),
    ("DAB, blue part", "of OD", _stain("dab", 2)),
    ("focus", "fine / coarse contrast", lambda r: r.qc.focus),
    ("nuclear contrast", "OD", lambda r: r.qc.nuclear_contrast),
    ("detection limit, 50 %", "OD", _detection("od_50")),
    ("detection limit, 95 %", "OD", _detection("od_95")),
)


def write_drift(
    store: BatchStore, rows: Sequence[Mapping[str, Any]], max_ratio: float = MAX_RATIO
) -> dict[str, str]:
    """Write ``drift.csv`` and ``drift.json``.

    Parameters
    ----------
    store : BatchStore
    rows : sequence of mapping
        The slides' rows of ``slides.csv``, in the manifest's order.
    max_ratio : float
        ``qc.max_staining_ratio``.

    Returns
    -------
    dict of str to str
        Code of the flag of over- or under-staining, by the slide's folder.
    """
    slides = []
    for row in rows:
        place = store.slide(str(row["folder"]))
        if place.complete:
            slides.append(({k: str(row.get(k) or "") for k in _PLACES}, place.result()))
    tree = drift_of(slides, max_ratio)
    write_text(store.out / "drift.csv", csv_line(COLUMNS) + "".join(map(csv_line, _lines(tree))))
    write_json(store.out / "drift.json", tree)
    return {s["folder"]: s["code"] for s in tree["staining"]}


def drift_of(
    slides: Sequence[tuple[Mapping[str, str], Result]], max_ratio: float = MAX_RATIO
) -> Tree:
    """Return the tree of ``drift.json``.

    Parameters
    ----------
    slides : sequence of (mapping, Result)
        What the manifest says of each slide, and its result.
    max_ratio : float
        ``qc.max_staining_ratio``.
    """
    ordered, remark = _in_time(slides)
    quantities = [q for q in (_series(name, unit, look, ordered)
                              for name, unit, look in _looks(ordered)) if q]  # fmt: skip
    outside: dict[str, list[str]] = {}
    for quantity in quantities:
        for point in quantity["points"]:
            if point["outside"]:
                outside.setdefault(point["slide_id"], []).append(quantity["quantity"])
    return {
        "slides": [dict(row) for row, _ in ordered], "order": remark, "quantities": quantities,
        "outside": [{"slide_id": k, "quantities": v} for k, v in outside.items()],
        "scanners": _scanners(ordered), "staining": _staining(ordered, max_ratio),
    }  # fmt: skip


def _staining(slides: Sequence[tuple[Mapping[str, str], Result]], max_ratio: float) -> list[Tree]:
    """Return the slides that stain otherwise than the batch's controls, with code and sentence."""
    return [
        {"slide_id": row["slide_id"], "folder": row.get("folder", ""), "code": told.code,
         "message": told.message}
        for (row, _), told in zip(slides, against_controls(slides, max_ratio), strict=True) if told
    ]  # fmt: skip


def _in_time(
    slides: Sequence[tuple[Mapping[str, str], Result]],
) -> tuple[list[tuple[Mapping[str, str], Result]], str]:
    """Return the slides by date, else as listed; and which of the two it was."""
    words = [row.get("date", "") for row, _ in slides]
    if not slides or not all(words):
        return list(slides), "as in the manifest (it has no date of every slide)"
    try:
        groups = time_groups(words)
    except ManifestError as exc:
        return list(slides), f"as in the manifest (dates: {exc.what})"
    place = {word: i for i, group in enumerate(groups) for word in group}
    order = sorted(range(len(slides)), key=lambda i: place[words[i]])
    return [slides[i] for i in order], "by date"


def _looks(
    slides: Sequence[tuple[Mapping[str, str], Result]],
) -> Iterator[tuple[str, str, Look]]:
    """Yield what is looked at: the control areas that any slide has, then `QUANTITIES`."""
    known: dict[tuple[str | None, float | None], None] = {}
    for _, result in slides:
        for c in result.calibration.controls if result.calibration else ():
            known.setdefault((c.level, c.receptors))
    for level, receptors in sorted(known, key=lambda k: (k[0] or "9", k[1] or 0.0)):
        name = f"control {level}" if level else f"control {receptors:.0f} receptors"
        yield name, "OD", _control(level, receptors)
    yield from QUANTITIES


def _control(level: str | None, receptors: float | None) -> Look:
    def look(r: Result) -> float | None:
        mine = [c.median for c in (r.calibration.controls if r.calibration else ())
                if (c.level, c.receptors) == (level, receptors) and c.median]  # fmt: skip
        return sum(mine) / len(mine) if mine else None

    return look


def _series(
    name: str, unit: str, look: Look, slides: Sequence[tuple[Mapping[str, str], Result]]
) -> Tree | None:
    """Return one quantity over the slides, with limits and broken rules; None without a value."""
    found = [look(result) for _, result in slides]
    values = np.array([math.nan if v is None else v for v in found])
    if not np.isfinite(values).any():
        return None
    limits = limits_of(values)
    rules = broken(values, limits) if limits else [()] * len(values)
    points = []
    for (row, _), value, mine in zip(slides, found, rules, strict=True):
        z = (value - limits.mean) / limits.sd if limits and value is not None else None
        points.append({"slide_id": row["slide_id"], "value": value, "z": z, "rules": list(mine),
                       "outside": any(r != WARNING for r in mine)})  # fmt: skip
    return {
        "quantity": name, "unit": unit, "points": points,
        "mean": limits.mean if limits else None, "sd": limits.sd if limits else None,
        "n": limits.n if limits else 0,
    }  # fmt: skip


def _scanners(slides: Sequence[tuple[Mapping[str, str], Result]]) -> Tree:
    """Return the agreement of slides that were scanned on two scanners, or why there is none."""
    seen: dict[tuple[str, str], list[Read]] = {}
    for row, result in slides:
        if not row.get("scanner") or result.score is None:
            continue
        # one case's sample is one thing that was scanned, whatever its files are called
        item = "/".join(filter(None, (row["case_id"], row.get("specimen"), row.get("timepoint"))))
        values = {} if result.h_score is None else {"h_score": result.h_score}
        read = Read(0, item, row["scanner"], SCORES.index(result.score.ihc), values=values)
        seen.setdefault((item, row["scanner"]), []).append(read)
    several = sorted({item for (item, _), reads in seen.items() if len(reads) > 1})
    reads = [r[0] for (item, _), r in seen.items() if item not in several]
    counts: dict[str, int] = {}
    for r in reads:
        counts[r.case] = counts.get(r.case, 0) + 1
    twice = [r for r in reads if counts[r.case] > 1]
    facts: Tree = {"samples": sum(v > 1 for v in counts.values()), "left_out": several,
                   "pairs": [], "reason": None}  # fmt: skip
    if not twice:
        return facts | {"reason": "no sample was scanned on two scanners (column scanner)"}
    try:
        return facts | {"pairs": agreement(twice, AgreeOptions(draws=DRAWS))["pairs"]}
    except UsageError as exc:
        return facts | {"reason": exc.what}


def _lines(tree: Tree) -> Iterator[tuple[Any, ...]]:
    rows = {row["slide_id"]: row for row in tree["slides"]}
    for q in tree["quantities"]:
        for p in q["points"]:
            row = rows[p["slide_id"]]
            yield (*(row.get(k) or None for k in COLUMNS[:5]), q["quantity"], q["unit"],
                   p["value"], q["mean"], q["sd"], p["z"], " ".join(p["rules"]) or None,
                   p["outside"])  # fmt: skip
