"""Counts tables: read from a file or a table, checked row by row, every error with its place.

Rows are numbered from 1 (the first below the header); for a file the line stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa

from her2path.core.csvfile import read_sheet, tidy
from her2path.core.errors import ManifestError, UsageError, one_line
from her2path.core.numerals import Ambiguous, decimal_mark, readings, to_number, to_whole
from her2path.scoring.guidelines.tables import column, column_names
from her2path.scoring.ish.words import parse_ihc

__all__ = ["CellRow", "SummaryRow", "parse_counts", "read_counts"]

CELL_COLUMNS = ("case_id", "area_id", "cell_id", "her2", "cep17")
SUMMARY_COLUMNS = ("case_id", "area_id", "cells", "mean_her2")
#: metadata key of a table that came from a file: the line of each row
LINES = b"her2path_lines"
MAX_BYTES = 256 << 20
#: more signals than any nucleus holds: a typing error
MAX_SIGNALS = 10_000
#: no slide is longer, µm
MAX_UM = 1e7
#: no mean reaches a thousand: 7.500 is seven and a half, where nothing else says otherwise
MAX_MEAN = 999
#: columns of numbers
NUMBERS = ("her2", "cep17", "cells", "mean_her2", "mean_cep17", "ratio", "x_um", "y_um")
#: columns with a meaning
KNOWN = ("case_id", "slide_id", "area_id", "cell_id", "ihc", "count_no", *NUMBERS)


@dataclass(frozen=True)
class _Place:
    case: str
    slide: str
    area: str
    count_no: int
    ihc: str | None


@dataclass(frozen=True)
class CellRow(_Place):
    """One counted cell; ``cep17`` is None for a single probe, ``at`` (x, y in µm) if not given."""

    her2: int
    cep17: int | None
    at: tuple[float, float] | None = None


@dataclass(frozen=True)
class SummaryRow(_Place):
    """One area of which only means are known; ``cep17`` is None for a single probe."""

    cells: int
    mean_her2: Fraction
    mean_cep17: Fraction | None


def read_counts(path: str | Path) -> pa.Table:
    """Read COUNTS.csv as text columns; encodings and separators as `csvfile.read_sheet` takes them.

    Nothing is interpreted: names that look like formulae or numbers stay text.

    Raises
    ------
    ManifestError
        For a file that cannot be read, has no header, repeats a column, or has a row of another
        length.
    """
    sheet = read_sheet(Path(path), KNOWN, MAX_BYTES)
    names = [c if c in KNOWN else c.lower() for c in sheet.columns]
    columns = {n: pa.array([row[i] for _, row in sheet.rows], pa.string())
               for i, n in enumerate(names)}  # fmt: skip
    lines = ",".join(str(line) for line, _ in sheet.rows).encode()
    return pa.table(columns).replace_schema_metadata({LINES: lines})


def parse_counts(table: Any) -> list[CellRow] | list[SummaryRow]:
    """Check a counts table and return its rows in their order.

    Parameters
    ----------
    table : pyarrow.Table, pandas.DataFrame or dict of arrays
        The columns of COUNTS.csv (one row a cell), or of the summary table (one row an area).

    Raises
    ------
    ManifestError
        For missing columns, and for values that are text, negative, absurd, empty or repeated;
        names row and column.
    """
    try:
        known = column_names(table)
    except UsageError as exc:
        raise ManifestError(exc.what, exc.mend) from exc
    summary = "her2" not in known and "mean_her2" in known
    wanted = SUMMARY_COLUMNS if summary else CELL_COLUMNS
    missing = [name for name in wanted if name not in known]
    if summary and not {"ratio", "mean_cep17"} & set(known):
        missing.append("ratio")
    if missing:
        hint = "cep17 may be left empty for a single probe" if "cep17" in missing else ""
        raise ManifestError(
            f"the counts table has no column {', '.join(missing)} (it has {', '.join(known)})",
            hint or f"Needed: {', '.join(wanted)}",
        )
    reader = _Rows(table, known)
    if not reader.size:
        raise ManifestError("the counts table has no rows", "Give one row a cell")
    return reader.summaries() if summary else reader.cells()


class _Rows:
    """Access to a table's values by row, with the place for messages."""

    def __init__(self, table: Any, known: tuple[str, ...]) -> None:
        self.values = {n: column(table, n).tolist() for n in KNOWN if n in known}
        sizes = {len(v) for v in self.values.values()}
        if len(sizes) != 1:
            raise ManifestError("the counts table's columns differ in length", "Correct the table")
        self.size = sizes.pop()
        metadata = getattr(getattr(table, "schema", None), "metadata", None) or {}
        lines = metadata.get(LINES, b"").decode()
        self.lines = lines.split(",") if lines else []
        #: ``.`` or ``,``, where the table's own numbers tell
        self.mark = decimal_mark(
            v for n in NUMBERS for v in self.values.get(n, ()) if isinstance(v, str)
        )

    def where(self, i: int, name: str = "") -> str:
        row = (
            f"row {i + 1} (line {self.lines[i]})"
            if len(self.lines) == self.size
            else f"row {i + 1}"
        )
        return f"{row}, column {name}" if name else row

    def text(self, i: int, name: str) -> str:
        value = self.values[name][i] if name in self.values else None
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return ""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return tidy(str(value))

    def mark_of(self, i: int, name: str) -> str | None:
        """Return the decimal mark of a value: the table's, or a point where it is no text."""
        return self.mark if isinstance(self.values[name][i], str) else "."

    def name(self, i: int, column_name: str) -> str:
        text = self.text(i, column_name)
        if not text:
            raise ManifestError(f"{self.where(i, column_name)}: empty", "Give every row a name")
        return text

    def whole(self, i: int, name: str, least: int = 0, most: int = MAX_SIGNALS) -> int:
        text = self.text(i, name)
        try:
            value = to_whole(text, self.mark_of(i, name))
        except Ambiguous as exc:
            raise self.two_ways(i, name, exc) from exc
        except ValueError as exc:
            said = f"{one_line(text, 40)!r} is not a whole number" if text else "empty"
            raise ManifestError(f"{self.where(i, name)}: {said}", "Give a count") from exc
        if not least <= value <= most:
            said = "is negative" if value < 0 else f"is outside {least} to {most}"
            raise ManifestError(f"{self.where(i, name)}: {value} {said}", "Correct the count")
        return value

    def two_ways(self, i: int, name: str, exc: Ambiguous) -> ManifestError:
        return ManifestError(
            f"{self.where(i, name)}: {one_line(exc, 100)}",
            "Write thousands without a mark between, and decimals alike in all rows",
        )

    def number(self, i: int, name: str, most: float) -> Fraction:
        """Return a number with decimals; of two readings the one up to ``most`` is meant."""
        text = self.text(i, name)
        mark = self.mark_of(i, name)
        try:
            value = to_number(text, mark, least=-most, most=most)
        except Ambiguous as exc:
            raise self.two_ways(i, name, exc) from exc
        if mark == "," and "." in text and abs(value) > most:
            # a thousand by the table's comma, which no such figure reaches: a slip of the mark
            raise self.two_ways(i, name, Ambiguous(text, set(readings(text).values())))
        return value

    def decimal(self, i: int, name: str) -> Fraction | None:
        text = self.text(i, name)
        if not text:
            return None
        try:
            value = self.number(i, name, MAX_MEAN)
        except ValueError as exc:
            raise ManifestError(
                f"{self.where(i, name)}: {one_line(text, 40)!r} is not a number", "Give a number"
            ) from exc
        if not 0 <= value <= MAX_SIGNALS:
            said = "is negative" if value < 0 else f"is above {MAX_SIGNALS}"
            raise ManifestError(f"{self.where(i, name)}: {text} {said}", "Correct the number")
        return value

    def place(self, i: int) -> _Place:
        count_no = self.whole(i, "count_no", 1, 9) if self.text(i, "count_no") else 1
        ihc = self.text(i, "ihc")
        try:
            read = parse_ihc(ihc) if ihc else None
        except UsageError as exc:
            raise ManifestError(f"{self.where(i, 'ihc')}: {exc.what}", exc.mend) from exc
        case, area = self.name(i, "case_id"), self.name(i, "area_id")
        return _Place(case, self.text(i, "slide_id"), area, count_no, read)

    def cells(self) -> list[CellRow]:
        rows = [self._cell(i) for i in range(self.size)]
        names = [(r.case, r.slide, r.area, r.count_no, self.text(i, "cell_id"))
                 for i, r in enumerate(rows)]  # fmt: skip
        self._no_twins(names, "cell_id", lambda n: f"cell {n[4]!r} of area {n[2]!r}")
        self._one_probe(rows)
        self._one_ihc(rows)
        return rows

    def _cell(self, i: int) -> CellRow:
        place = self.place(i)
        self.name(i, "cell_id")
        cep17 = self.whole(i, "cep17") if self.text(i, "cep17") else None
        return CellRow(**vars(place), her2=self.whole(i, "her2"), cep17=cep17, at=self._at(i))

    def _at(self, i: int) -> tuple[float, float] | None:
        texts = [self.text(i, name) for name in ("x_um", "y_um")]
        if not any(texts):
            return None
        x, y = (self._coordinate(i, name) for name in ("x_um", "y_um"))
        return x, y

    def _coordinate(self, i: int, name: str) -> float:
        text = self.text(i, name)
        try:
            value = float(self.number(i, name, MAX_UM))
        except ValueError:
            value = math.inf
        if abs(value) > MAX_UM:
            said = f"{one_line(text, 40)!r} is no position" if text else "empty"
            raise ManifestError(
                f"{self.where(i, name)}: {said}",
                "Give x_um and y_um (µm) for a cell, or leave both empty",
            )
        return value

    def summaries(self) -> list[SummaryRow]:
        rows = [self._summary(i) for i in range(self.size)]
        names = [(r.case, r.slide, r.area, r.count_no) for r in rows]
        self._no_twins(names, "area_id", lambda n: f"area {n[2]!r}")
        self._one_probe(rows)
        self._one_ihc(rows)
        return rows

    def _summary(self, i: int) -> SummaryRow:
        place, cells = self.place(i), self.whole(i, "cells", 0, 10**9)
        mean = self.decimal(i, "mean_her2")
        if mean is None:
            raise ManifestError(f"{self.where(i, 'mean_her2')}: empty", "Give the mean")
        return SummaryRow(
            **vars(place), cells=cells, mean_her2=mean, mean_cep17=self._cep17(i, mean)
        )

    def _cep17(self, i: int, mean_her2: Fraction) -> Fraction | None:
        ratio, given = self.decimal(i, "ratio"), self.decimal(i, "mean_cep17")
        if ratio is not None and ratio > 0 and mean_her2 > 0:
            return mean_her2 / ratio
        if given:
            return given
        if ratio is None and given is None:
            return None
        name = "mean_cep17" if given is not None or "mean_cep17" in self.values else "ratio"
        raise ManifestError(
            f"{self.where(i, name)}: 0 gives no mean of CEP17", "Give mean_cep17 above 0"
        )

    def _no_twins(self, names: list[Any], column_name: str, words: Callable[[Any], str]) -> None:
        first: dict[Any, int] = {}
        for i, name in enumerate(names):
            if name in first:
                raise ManifestError(
                    f"{self.where(i, column_name)}: {words(name)} of case {name[0]!r} stands in "
                    f"{self.where(first[name])} already",
                    "Give every one its own name, or another count_no for a recount",
                )
            first[name] = i

    def _one_probe(self, rows: list[Any]) -> None:
        """Refuse cases in which CEP17 is given for some rows of a count and not for others."""
        names = ("cep17", "mean_cep17")
        dual = {(r.case, r.count_no) for r in rows if _cep17_of(r) is not None}
        for i, r in enumerate(rows):
            if _cep17_of(r) is None and (r.case, r.count_no) in dual:
                name = names[isinstance(r, SummaryRow)]
                raise ManifestError(
                    f"{self.where(i, name)}: empty, while other rows of case {r.case!r} have it",
                    "Give it in every row (dual probe) or in none (single probe)",
                )

    def _one_ihc(self, rows: list[Any]) -> None:
        seen: dict[str, str] = {}
        for i, r in enumerate(rows):
            if r.ihc and seen.setdefault(r.case, r.ihc) != r.ihc:
                raise ManifestError(
                    f"{self.where(i, 'ihc')}: {r.ihc} where case {r.case!r} had {seen[r.case]}",
                    "Give one IHC score a case",
                )


def _cep17_of(row: CellRow | SummaryRow) -> Any:
    return row.cep17 if isinstance(row, CellRow) else row.mean_cep17
