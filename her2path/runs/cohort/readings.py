"""The program as a reader: what a result, or a batch of results, says of the items of READS.csv."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from her2path.core.errors import UsageError, one_line
from her2path.core.schema import INTENSITY, PATTERNS, SCORES
from her2path.io.reads import PROGRAM, Read
from her2path.io.store import BatchStore, RunStore, read_json
from her2path.runs.cohort.tables import read_rows

__all__ = ["Readings", "finding_values"]

Tree = dict[str, Any]
#: what the score of a cell is called in a column such as percent_2+
_LEVELS = {word: k for k, s in enumerate(SCORES) for word in (s, s.rstrip("+"))}


class Readings:
    """The results in OUT, found by case, slide and region.

    Parameters
    ----------
    out : path
        Folder of a batch, or of one slide.

    Raises
    ------
    OutputError
        Where there is no complete result.
    """

    def __init__(self, out: str | Path) -> None:
        self.batch = BatchStore(out)
        self.single = None if self.batch.is_batch else RunStore(out)
        if self.single is not None:
            self.single.result()  # says so where there is none

    @cached_property
    def cases(self) -> dict[str, Tree]:
        """Case id to ``case.json`` (of one slide: its ``result.json``)."""
        if self.single is not None:
            tree = self.single.result().as_dict()
            return {str(tree["slide"]["id"]): tree}
        trees = [dict(read_json(folder / "case.json")) for folder in self.batch.case_dirs()]
        return {str(t["case_id"]): t for t in trees}

    @cached_property
    def _stores(self) -> dict[tuple[str, str], RunStore]:
        """Case and slide id to the slide's store."""
        if self.single is not None:
            name = str(self.single.result().slide.id)
            return {(name, name): self.single}
        return {
            (case, str(s["slide_id"])): self.batch.slide(str(s.get("folder") or s["slide_id"]))
            for case, tree in self.cases.items()
            for s in tree.get("slides") or []
        }

    def reads(self, reads: Sequence[Read]) -> list[Read]:
        """Return the program's read of every item that a reader has read and that has a result.

        Raises
        ------
        UsageError
            Where none has, or a reader has the program's name.
        """
        if any(r.reader == PROGRAM for r in reads):
            raise UsageError(f"the reads name the reader {PROGRAM}, which --results adds",
                             "Rename that reader, or leave --results out")  # fmt: skip
        wanted = sorted({n for r in reads for n in r.values})
        own = [self._read(item, wanted) for item in dict.fromkeys(r.item for r in reads)]
        found = [r for r in own if r is not None]
        if not found:
            there, told = (_some(names) for names in (self.cases, (r.case for r in reads)))
            raise UsageError(f"no case of the reads has a result (reads: {told}; results: {there})",
                             "Give the same case_id in both")  # fmt: skip
        return found

    def _read(self, item: tuple[str, str, str], wanted: Sequence[str]) -> Read | None:
        case, slide, region = item
        if region:
            return self._region(item, wanted)
        tree = self.cases.get(case) if not slide else self._slide(case, slide)
        if tree is None:
            return None
        score = tree.get("score") or {}
        return Read(0, case, PROGRAM, _code(score.get("ihc")), score.get("substate"), slide,
                    ish=_ish(tree), values=_values(tree, wanted))  # fmt: skip

    def _slide(self, case: str, slide: str) -> Tree | None:
        store = self._stores.get((case, slide))
        return store.result().as_dict() if store is not None and store.complete else None

    def _region(self, item: tuple[str, str, str], wanted: Sequence[str]) -> Read | None:
        case, slide, region = item
        names = [key for key in self._stores if key[0] == case and slide in ("", key[1])]
        if len(names) != 1:
            return None
        row = self._regions(names[0]).get(region)
        if row is None:
            return None
        tree = {"h_score": row.get("h_score"),
                "fractions": {p: row.get(f"fraction_{p}") for p in PATTERNS}}  # fmt: skip
        return Read(0, case, PROGRAM, _code(row.get("score")), row.get("substate"), slide, region,
                    values=_values(tree, wanted))  # fmt: skip

    def _regions(self, name: tuple[str, str]) -> dict[str, Tree]:
        """Return a slide's regions by number and by name; a name that two have is left out."""
        if name not in self._known_regions:
            table = self._stores[name].regions() if self._stores[name].complete else pa.table({})
            rows = table.to_pylist()
            names = [str(r["name"]) for r in rows]
            by_name = {n: r for n, r in zip(names, rows, strict=True) if names.count(n) == 1}
            self._known_regions[name] = by_name | {str(r["region_id"]): r for r in rows}
        return self._known_regions[name]

    @cached_property
    def _known_regions(self) -> dict[tuple[str, str], dict[str, Tree]]:
        return {}

    def columns(self, wanted: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return carried columns of ``cases.csv``, else ``slides.csv``: column to case to value."""
        found: dict[str, dict[str, str]] = {}
        for path in (self.batch.cases_csv, self.batch.slides_csv):
            rows = read_rows(path) if path.is_file() else []
            for column in wanted:
                if column not in found and rows and column in rows[0]:
                    found[column] = shared_values(rows, column)
        return found


def shared_values(rows: Sequence[dict[str, str]], column: str) -> dict[str, str]:
    """Return a column's value of each case; cases whose rows differ are ``mixed``."""
    known: dict[str, set[str]] = {}
    for row in rows:
        known.setdefault(row["case_id"], set()).add(row[column])
    return {case: next(iter(v)) if len(v) == 1 else "mixed" for case, v in known.items()}


def _some(names: Iterable[str]) -> str:
    shown = list(dict.fromkeys(names))
    return ", ".join(one_line(n, 30) for n in shown[:3]) + (", ..." if shown[3:] else "") or "none"


def _code(ihc: Any) -> int | None:
    return SCORES.index(ihc) if ihc in SCORES else None


def _ish(tree: Tree) -> bool | None:
    """Return a case's ISH status where it was counted."""
    told = (tree.get("score") or {}).get("ish_status")
    return {"positive": True, "negative": False}.get(str(told))


def _values(tree: Tree, wanted: Sequence[str]) -> dict[str, float]:
    """Return what the program has of the numbers that readers gave: h_score, percent_PATTERN.

    ``percent_0`` to ``percent_3+`` are the shares of the intensities.
    """
    fractions = tree.get("fractions") or {}
    if any(v is None for v in fractions.values()):
        fractions = {}
    found = {}
    for name in wanted:
        value = tree.get("h_score") if name == "h_score" else None
        key = name.removeprefix("percent_")
        if fractions and key in fractions:
            value = 100.0 * fractions[key]
        elif fractions and name != key and key in _LEVELS:
            value = 100.0 * sum(v for p, v in fractions.items() if INTENSITY[p] == _LEVELS[key])
        if value is not None:
            found[name] = float(value)
    return found


def finding_values(readings: Readings) -> dict[str, dict[str, float | bool]]:
    """Return what may go with an outcome, finding to case to value.

    Classes: heterogeneous areas, the layout of positive cells, each category, each cut-off of the
    score. Numbers: share of positive cells, tumour area between 5 and 50 % positive, H-score,
    receptors of the median cell.
    """
    found: dict[str, dict[str, float | bool]] = {}

    def add(finding: str, case: str, value: float | bool | None) -> None:
        if value is not None:
            found.setdefault(finding, {})[case] = value

    categories = sorted({str(t["score"]["category"]) for t in readings.cases.values()
                         if t.get("score")})  # fmt: skip
    for case, tree in readings.cases.items():
        score, spread = tree.get("score") or {}, tree.get("heterogeneity") or {}
        add("heterogeneous", case, (spread.get("areas") or {}).get("heterogeneous_case"))
        layout = (spread.get("pattern") or {}).get("type")
        for kind in ("clustered", "mosaic", "scattered"):
            known = layout not in (None, "not_evaluable")
            add(f"layout {kind}", case, layout == kind if known else None)
        for category in categories if score else ():
            add(f"category {category}", case, score["category"] == category)
        code = _code(score.get("ihc"))
        for above in range(1, len(SCORES)):
            add(f"score {SCORES[above]} or above", case, None if code is None else code >= above)
        for name in ("positive_cell_fraction", "area_fraction_5_50"):
            add(name, case, spread.get(name))
        add("h_score", case, tree.get("h_score"))
        add("receptors", case, (tree.get("receptors") or {}).get("median"))
    return found
