"""What else the manifest names: ISH counts, TMA maps, guidelines; checked before work starts."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from her2path import guidelines, ish
from her2path.cohort.manifest import Entry, listed
from her2path.csvfile import read_sheet, tidy
from her2path.errors import Her2PathError, ManifestError, one_line
from her2path.settings import Settings
from her2path.slide.files import sha256_quick
from her2path.timepoints import time_groups

__all__ = ["case_counts", "check_inputs", "find_annotations", "hide_names", "read_tma_map",
           "settings_for"]

MAX_TMA_BYTES = 4 << 20
TMA_COLUMNS = ("row", "col", "case_id")
_ANNOTATION_SUFFIXES = (".geojson", ".json", ".xml")


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
    return settings.replace(changes) if changes else settings


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
            check(entry, ("ish", entry.ish, entry.case_id),
                  _counts(entry.ish, entry.case_id, settings_for(entry, settings)))
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


def case_counts(path: Path, case_id: str, ihc: str | None, settings: Settings) -> dict[str, Any]:
    """Interpret the ISH counts of one case.

    A table of one case counts for the case whatever it calls it; one of several is looked up.

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
    return ish.interpret(table, ihc, settings, settings.score.guideline)


def read_tma_map(path: Path) -> dict[tuple[int, int], str]:
    """Read which case each core of a TMA belongs to.

    Parameters
    ----------
    path : Path
        CSV with ``row``, ``col`` (from 1; a row may be a letter) and ``case_id`` (empty: left out).

    Returns
    -------
    dict
        Case by (row, column), both from 1.

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
    return {k: v for k, v in out.items() if v}


def _place(row: str, col: str) -> tuple[int, int] | None:
    row, col = row.strip().upper(), col.strip()
    if not re.fullmatch(r"[0-9]{1,4}", col) or not re.fullmatch(r"[0-9]{1,4}|[A-Z]{1,2}", row):
        return None
    number = int(row) if row.isdigit() else 0
    if not row.isdigit():
        for letter in row:
            number = number * 26 + ord(letter) - 64
    return (number, int(col)) if number > 0 and int(col) > 0 else None


def find_annotations(entries: Sequence[Entry], folder: Path) -> list[Entry]:
    """Give every slide without annotations the file of its name in a folder, where there is one.

    Raises
    ------
    ManifestError
        Where ``folder`` is none.
    """
    if not folder.is_dir():
        raise ManifestError(
            f"{folder} is not a folder",
            "In a batch --annotations names a folder of <slide_id>.geojson",
        )
    files = {p.stem: p for s in _ANNOTATION_SUFFIXES for p in sorted(folder.glob(f"*{s}"))}
    return [
        e if e.annotations is not None else replace(
            e, annotations=files.get(e.slide_id) or files.get(e.slide.stem)
        )
        for e in entries
    ]


def hide_names(entries: Sequence[Entry]) -> list[Entry]:
    """Replace ids that are file names by fingerprints, and drop free text.

    A case id that the manifest gives stays: it is the user's own pseudonym.

    Raises
    ------
    InputError
        Where a slide cannot be read at all.
    """
    out: list[Entry] = []
    taken: set[str] = set()
    for e in entries:
        # what cannot be read will fail, and is named by its row; a pipe would be waited for
        name = f"slide-row{e.row}"
        with contextlib.suppress(OSError):
            if e.slide.is_file():
                name = f"slide-{sha256_quick(str(e.slide))[:12]}"
        if name in taken:
            name = f"{name}-row{e.row}"
        taken.add(name)
        case = e.case_id if e.case_id != e.slide.stem else name.replace("slide", "case", 1)
        kept = {k: v for k, v in e.extra.items() if k in ("scanner", "batch")}
        out.append(replace(e, slide_id=name, folder=name, case_id=case, extra=kept))
    return out
