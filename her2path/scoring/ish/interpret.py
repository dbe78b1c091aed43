"""The door: a counts table in, ``ish.json`` out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from her2path.core.settings import Settings, load_settings
from her2path.scoring.guidelines import category_from_score, rule_set
from her2path.scoring.guidelines.ruleset import RuleSet
from her2path.scoring.ish.figures import Figures, figures
from her2path.scoring.ish.heterogeneous import AreaRead, Bases, area_facts, heterogeneous
from her2path.scoring.ish.read import CellRow, SummaryRow, parse_counts
from her2path.scoring.ish.status import case_status, status_of
from her2path.scoring.ish.words import parse_ihc

__all__ = ["interpret", "point_tables"]

Rows = list[CellRow | SummaryRow]
AreaKey = tuple[str, str]


def interpret(
    counts: Any,
    ihc: str | Mapping[str, str] | None = None,
    settings: Settings | None = None,
    guideline: str | Path | RuleSet = "asco_cap_2018",
) -> dict[str, Any]:
    """Interpret ISH counts per area and per case.

    Parameters
    ----------
    counts : pyarrow.Table, pandas.DataFrame or dict of arrays
        The columns of COUNTS.csv (one row a cell) or of the summary table (one row an area).
    ihc : str or mapping of case_id to str, optional
        IHC score (``0``, ``1+``, ``2+``, ``3+``; ``0/null`` and ``0/ultralow`` tell the substate);
        wins over the table's ``ihc`` column.
    settings : Settings, optional
        Ratio of an amplified cell, minimum of cells, limits of area classes.
    guideline : str, path or RuleSet
        Whose ISH rules are used.

    Returns
    -------
    dict
        ``{"areas": [...], "cases": [...]}`` as in ``ish.json``; areas and cases in the table's
        order. Copies a cell, ratios and shares 0..1; unknown figures are None.

    Raises
    ------
    ManifestError
        For a faulty table; names row and column.
    UsageError
        For an unknown IHC score or guideline.
    """
    rows = parse_counts(counts)
    read = _cases(rows, ihc, settings or load_settings(), rule_set(guideline))
    order = dict.fromkeys((row.case, (row.slide, row.area)) for row in rows)
    areas = [read[case].area_row(key) for case, key in order]
    return {"areas": areas, "cases": [case.row() for case in read.values()]}


def point_tables(
    counts: Any,
    ihc: str | Mapping[str, str] | None = None,
    settings: Settings | None = None,
    guideline: str | Path | RuleSet = "asco_cap_2018",
) -> dict[str, dict[str, list[Any]]]:
    """Return each case's cells as a table for `heterogeneity.measure`.

    Parameters as in `interpret`. Cells are those that the case's figures rest on (of areas that
    were counted twice, the count that decides). Cases of which only means or one probe are known,
    or without an evaluable cell, are left out.

    Returns
    -------
    dict of case_id to columns
        ``area_id``, ``her2``, ``cep17``; ``slide_id`` where given; ``x_um``, ``y_um`` where every
        cell has a position.
    """
    read = _cases(parse_counts(counts), ihc, settings or load_settings(), rule_set(guideline))
    tables = {name: case.points() for name, case in read.items()}
    return {name: table for name, table in tables.items() if table is not None}


def _cases(
    rows: Sequence[CellRow | SummaryRow], ihc: str | Mapping[str, str] | None, settings: Settings,
    rules: RuleSet,
) -> dict[str, _Case]:  # fmt: skip
    cases: dict[str, Rows] = {}
    for row in rows:
        cases.setdefault(row.case, []).append(row)
    return {name: _Case(name, own, _ihc_of(name, own, ihc), settings, rules)
            for name, own in cases.items()}  # fmt: skip


def _ihc_of(name: str, rows: Rows, given: str | Mapping[str, str] | None) -> str | None:
    own = given.get(name) if isinstance(given, Mapping) else given
    if own is not None:
        return parse_ihc(own)
    return next((r.ihc for r in rows if r.ihc), None)


class _Case:
    """One case: its counts, its areas, its verdicts."""

    def __init__(
        self, name: str, rows: Rows, ihc: str | None, settings: Settings, rules: RuleSet
    ) -> None:
        self.name, self.settings, self.rules = name, settings, rules
        self.ihc, _, self.substate = (ihc or "").partition("/")
        numbers = sorted({r.count_no for r in rows})
        first = figures([r for r in rows if r.count_no == numbers[0]], settings)
        later = [r for r in rows if r.count_no == numbers[-1]] if len(numbers) > 1 else []
        again = figures(later, settings) if later else None
        self.first, self.counts = first, len(numbers)
        self.status, self.comment, recounted = case_status(
            first, again, self.ihc or None, rules.ish, settings.ish.min_cells
        )
        self.figures = again if recounted and again is not None else first
        self.decides = numbers[-1] if recounted else numbers[0]
        self.chosen = self._chosen(rows)
        self.areas = {key: figures(own, settings) for key, own in self.chosen.items()}

    def _chosen(self, rows: Rows) -> dict[AreaKey, Rows]:
        """Rows by area: of the count that decides, else of the first that the area has."""
        by_area: dict[AreaKey, Rows] = {}
        for row in rows:
            by_area.setdefault((row.slide, row.area), []).append(row)
        out = {}
        for key, mine in by_area.items():
            numbers = {r.count_no for r in mine}
            number = self.decides if self.decides in numbers else min(numbers)
            out[key] = [r for r in mine if r.count_no == number]
        return out

    def points(self) -> dict[str, list[Any]] | None:
        """Return the cells as columns; None without an evaluable cell of two probes."""
        rows = [r for own in self.chosen.values() for r in own if isinstance(r, CellRow)]
        if not any(r.cep17 for r in rows):
            return None
        table: dict[str, list[Any]] = {
            "area_id": [f"{r.slide}: {r.area}" if r.slide else r.area for r in rows],
            "her2": [r.her2 for r in rows],
            "cep17": [r.cep17 for r in rows],
        }
        if any(r.slide for r in rows):
            table["slide_id"] = [r.slide for r in rows]
        at = [r.at for r in rows if r.at is not None]
        if len(at) == len(rows):
            table["x_um"], table["y_um"] = ([place[i] for place in at] for i in (0, 1))
        return table

    def _own_status(self, found: Figures) -> str:
        status, _ = status_of(found, self.ihc or None, self.rules.ish, self.decides > 1)
        few = found.cells < self.settings.ish.min_cells
        return "not_evaluable" if few else status

    def area_row(self, key: AreaKey) -> dict[str, Any]:
        slide, area = key
        found = self.areas[key]
        head = {"case_id": self.name, "area_id": area}
        if slide:
            head["slide_id"] = slide
        return head | found.row(self.settings) | {"status": self._own_status(found)}

    def category(self) -> str | None:
        return category_from_score(self.ihc or None, self.substate or None, self.rules, self.status)

    def row(self) -> dict[str, Any]:
        bases = Bases(self.category(), self.status, self.ihc or None)
        reads = [
            AreaRead(key[1], found.area(self.settings)[0], self._own_status(found))
            for key, found in self.areas.items()
        ]
        return (
            {"case_id": self.name}
            | self.figures.row(self.settings)
            | {
                "status": self.status,
                "comment": self.comment,
                "category": bases.category,
                "category_basis": bases.words,
                "heterogeneous": heterogeneous(self.figures, bases, reads, self.settings),
                **area_facts(list(self.areas.values()), self.settings),
                "ihc": self.ihc or None,
                "guideline": self.rules.name,
                "probe": "single" if self.figures.sum_cep17 is None else "dual",
                "areas": len(self.areas),
                "first_group": self.first.group,
                "count_no": self.decides,
            }
        )
