"""What else the manifest names: ISH counts, TMA maps, guidelines; checked before work starts."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from her2path.core.csvfile import read_sheet, same_name, tidy
from her2path.core.errors import Her2PathError, ManifestError, one_line
from her2path.core.settings import ASSAY_PARTS, Settings
from her2path.core.timepoints import time_groups
from her2path.runs.cohort.hiding import hide_names
from her2path.runs.cohort.manifest import Entry, listed
from her2path.runs.cohort.matching import find_annotations
from her2path.runs.cohort.tma import TmaMap
from her2path.scoring import guidelines, ish

__all__ = [
    "case_counts",
    "check_inputs",
    "find_annotations",
    "hide_names",
    "read_tma_layout",
    "read_tma_map",
    "settings_for",
]

MAX_TMA_BYTES = 4 << 20
#: more cores than this are on no slide
MAX_TMA_PLACES = 10_000
TMA_COLUMNS = ("row", "col", "case_id")


def settings_for(entry: Entry, settings: Settings) -> Settings:
    """Return the settings of one slide: the batch's, with what its row says.

    Raises
    ------
    SettingsError
        For a value that does not fit.
    """
    changes: dict[str, Any] = {}
    if entry.mpp is not None:
        changes["slide.mpp"] = entry.mpp
    if entry.guideline:
        changes["score.guideline"] = entry.guideline
    if entry.tma_map is not None:
        changes["regions.kind"] = "core"
    for part in ASSAY_PARTS:
        word = _assay_word(entry, part, getattr(settings.calibration.assay, part))
        if word:
            changes[f"assay.{part}"] = one_line(word, 200)
    return settings.replace(changes) if changes else settings


def _assay_word(entry: Entry, part: str, calibrated: str | None) -> str:
    """Return what a slide's settings say of its assay.

    Where names are hidden the manifest's own word stays out; whether it is the calibration's is
    said all the same.
    """
    told = entry.assay.get(part, "")
    if not (entry.hidden and told and calibrated):
        return entry.extra.get(part, "")
    return calibrated if same_name(told) == same_name(calibrated) else f"another {part}"


def check_inputs(source: object, entries: Sequence[Entry], settings: Settings) -> None:
    """Read once whatever the manifest names beside slides.

    Raises
    ------
    ManifestError
        Names the rows.
    """
    problems: list[str] = []
    known: dict[Any, str | None] = {}

    def check(entry: Entry, key: Any, look: Callable[[], object]) -> None:
        if key not in known:
            try:
                look()
                known[key] = None
            except Her2PathError as exc:
                known[key] = one_line(exc.what, 200)
        if known[key] is not None:
            problems.append(f"row {entry.row}: {known[key]}")

    for entry in entries:
        if entry.guideline:
            check(entry, ("guideline", entry.guideline), _rule_set(entry.guideline))
        if entry.tma_map is not None:
            check(entry, ("tma", entry.tma_map), _tma(entry.tma_map))
        if entry.ish is not None:
            check(
                entry,
                ("ish", entry.ish, entry.case_id),
                _counts(entry.ish, entry.case_id, settings_for(entry, settings)),
            )
    problems += _misplaced(entries)
    if problems:
        raise listed(source, problems)


def _misplaced(entries: Sequence[Entry]) -> list[str]:
    """Say of which cases the time points cannot be ordered."""
    times: dict[str, list[tuple[int, str]]] = {}
    for e in entries:
        cases = {e.case_id}
        if e.tma_map is not None:
            with contextlib.suppress(Her2PathError):  # its own fault is said already
                cases = set(read_tma_map(e.tma_map).values())
        for case in cases if e.timepoint else ():
            times.setdefault(case, []).append((e.row, e.timepoint))
    out: dict[str, None] = {}
    for found in times.values():
        try:
            time_groups(word for _, word in found)
        except ManifestError as exc:
            rows = ", ".join(str(row) for row, _ in found[:8])
            where = f"row {rows}" if len(found) == 1 else f"rows {rows}"
            out[f"{where}: {exc.what}. {exc.mend}"] = None
    return list(out)


def _rule_set(name: str) -> Callable[[], object]:
    def look() -> object:
        try:
            return guidelines.rule_set(name)
        except Her2PathError as exc:
            raise ManifestError(f"{exc.what}. {exc.mend}") from exc

    return look


def _tma(path: Path) -> Callable[[], object]:
    return lambda: read_tma_map(path)


def _counts(path: Path, case_id: str, settings: Settings) -> Callable[[], object]:
    return lambda: case_counts(path, case_id, None, settings)


def case_counts(
    path: Path, case_id: str, ihc: str | None, settings: Settings, hidden: bool = False
) -> dict[str, Any]:
    """Interpret the ISH counts of one case.

    A table of one case counts for the case whatever it calls it; one of several is looked up.
    ``hidden``: the table's own names of case, areas and slides do not come out.

    Returns
    -------
    dict
        As in ``ish.json``, with that case alone.

    Raises
    ------
    ManifestError
        For a faulty table, or one of several cases without this one.
    """
    table = ish.read_counts(path)
    names = table.column("case_id") if "case_id" in table.column_names else None
    # spellings that look alike are one case
    spelt = pa.array([tidy(str(n or "")) for n in names.to_pylist()]) if names is not None else None
    if spelt is not None and len(pc.unique(spelt)) > 1:
        mine = pc.equal(spelt, tidy(case_id))
        if not pc.any(mine).as_py():
            raise ManifestError(
                f"{path.name} has no counts of the case {case_id!r}", "Correct its case_id column"
            )
        table = table.filter(mine).replace_schema_metadata(None)
    if hidden:
        table = _renamed(table, case_id)
    return ish.interpret(table, ihc, settings, settings.score.guideline)


def _renamed(table: pa.Table, case_id: str) -> pa.Table:
    """Return counts of one case with numbers for the names of its areas and slides."""
    for column in {"case_id", "area_id", "slide_id"} & set(table.column_names):
        words = [str(v) if v is not None else "" for v in table.column(column).to_pylist()]
        numbers = {w: f"{column.removesuffix('_id')} {i}"
                   for i, w in enumerate(dict.fromkeys(w for w in words if w), 1)}  # fmt: skip
        new = [case_id if column == "case_id" else numbers.get(w, w) for w in words]
        table = table.set_column(table.schema.get_field_index(column), column, pa.array(new))
    return table


def read_tma_map(path: Path) -> dict[tuple[int, int], str]:
    """Read which case each core of a TMA belongs to; cores of no case are left out.

    Parameters and errors as in `read_tma_layout`.
    """
    return dict(read_tma_layout(path).cases)


def read_tma_layout(path: Path) -> TmaMap:
    """Read the places of a TMA's cores, and the case that each belongs to.

    Parameters
    ----------
    path : Path
        CSV with ``row``, ``col`` (from 1; a row may be a letter) and ``case_id`` (empty: a core
        that is nobody's).

    Returns
    -------
    TmaMap
        By (row, column), both from 1.

    Raises
    ------
    ManifestError
        Names the line.
    """
    sheet = read_sheet(path, TMA_COLUMNS, MAX_TMA_BYTES)
    if not set(TMA_COLUMNS) <= set(sheet.columns):
        raise ManifestError(f"{path.name} lacks row, col or case_id", "Name these columns")
    out: dict[tuple[int, int], str] = {}
    for line, row in sheet.records():
        place = _place(row["row"], row["col"])
        if place is None or place in out:
            raise ManifestError(
                f"{path.name}, line {line}: {row['row']!r}, {row['col']!r} is no core, or twice",
                "Count rows and columns from 1",
            )
        out[place] = one_line(tidy(row["case_id"]), 200)
    if not any(out.values()):
        raise ManifestError(f"{path.name} names no case", "Give row, col, case_id")
    if len(out) > MAX_TMA_PLACES:
        raise ManifestError(f"{path.name} lists {len(out)} cores", "Give a TMA map")
    return TmaMap({k: v for k, v in out.items() if v}, frozenset(out))


def _place(row: str, col: str) -> tuple[int, int] | None:
    row, col = row.strip().upper(), col.strip()
    if not re.fullmatch(r"[0-9]{1,4}", col) or not re.fullmatch(r"[0-9]{1,4}|[A-Z]{1,2}", row):
        return None
    number = int(row) if row.isdigit() else 0
    if not row.isdigit():
        for letter in row:
            number = number * 26 + ord(letter) - 64
    return (number, int(col)) if number > 0 and int(col) > 0 else None
