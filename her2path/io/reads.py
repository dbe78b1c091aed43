"""READS.csv: what readers said of cases, slides and regions, checked row by row.

One row a read: ``case_id, reader, score``; optionally ``slide_id, region_id, read_no, h_score,
percent_*, ish``. Empty means missing. Every other column is kept as text, so that it may divide
the cases into strata. Rows are named by their line in the file, the header being line 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from her2path.core.csvfile import read_sheet, tidy
from her2path.core.errors import ManifestError, one_line
from her2path.core.numerals import decimal_mark, to_number

__all__ = ["ISH", "PROGRAM", "REFERENCE", "Read", "outcome_of", "read_outcome", "read_reads",
           "read_table", "reads_of"]  # fmt: skip

#: the reader whose reads are the adjudicated ones, and the reader that the program is
REFERENCE, PROGRAM = "reference", "her2path"
#: stands for the ISH status where it is compared with reads
ISH = "ish"
NEEDED = ("case_id", "reader", "score")
#: columns with a meaning; `time` to `comment` are the viewer's log
KNOWN = (*NEEDED, "slide_id", "region_id", "read_no", "h_score", "ish", "time", "seconds",
         "score_before", "score_after", "comment")  # fmt: skip
MAX_BYTES = 256 << 20
_SCORES: dict[str, tuple[int, str | None]] = {
    "0": (0, None), "null": (0, "null"), "0/null": (0, "null"), "0+": (0, "0+"),
    "ultralow": (0, "ultralow"), "0/ultralow": (0, "ultralow"), "1": (1, None), "1+": (1, None),
    "2": (2, None), "2+": (2, None), "3": (3, None), "3+": (3, None),
}  # fmt: skip
_ISH = {
    "positive": True, "pos": True, "+": True, "amplified": True,
    "negative": False, "neg": False, "-": False, "not amplified": False, "non-amplified": False,
    "equivocal": None,
}  # fmt: skip
#: columns that name what was read, and by whom
_NAMES = ("case_id", "reader", "slide_id", "region_id")
_PERCENT = re.compile(r"^percent[\s_-]+")
_WHOLE = re.compile(r"\d{1,6}(?:[.,]0+)?")


@dataclass(frozen=True)
class Read:
    """One read.

    Attributes
    ----------
    row : int
        Line in the file; 0 for a read of the program.
    case, slide, region, reader : str
        Of what, and by whom; slide and region may be empty.
    read_no : int
        1, 2, ... where a reader read the same twice.
    score : int or None
        0..3; None is missing.
    substate : str or None
        ``null`` or ``ultralow`` under a score of 0, where it was told.
    ish : bool or None
        Whether ISH was positive; None where it is not known or equivocal.
    values : dict
        ``h_score`` (0..300) and ``percent_*`` (0..100), where given.
    extra : dict
        Further columns, as text.
    """

    row: int
    case: str
    reader: str
    score: int | None = None
    substate: str | None = None
    slide: str = ""
    region: str = ""
    read_no: int = 1
    ish: bool | None = None
    values: dict[str, float] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def item(self) -> tuple[str, str, str]:
        """What was read: case, slide, region."""
        return self.case, self.slide, self.region


def read_reads(path: str | Path) -> list[Read]:
    """Read READS.csv; encodings and separators as `csvfile.read_sheet` takes them.

    Raises
    ------
    ManifestError
        For a file that cannot be read, and for rows that cannot be used; names them.
    """
    path = Path(path)
    return _checked(read_table(path, NEEDED), path.name)


def reads_of(table: Any) -> list[Read]:
    """Check reads that are at hand.

    Parameters
    ----------
    table : pyarrow.Table, pandas.DataFrame, dict of lists, or iterable of dicts
        The columns of READS.csv.

    Raises
    ------
    ManifestError
        As `read_reads`; the first row counts as line 2.
    """
    rows = [(n, _named((str(k).strip().lower(), _text(v)) for k, v in row.items()))
            for n, row in enumerate(_records(table), 2)]  # fmt: skip
    known = rows[0][1] if rows else {}
    missing = [name for name in NEEDED if name not in known]
    if missing:
        raise ManifestError(f"the reads have no column {', '.join(missing)}",
                            f"Needed: {', '.join(NEEDED)}")  # fmt: skip
    return _checked(rows, "reads")


def _records(table: Any) -> Iterable[Mapping[str, Any]]:
    if hasattr(table, "to_pylist"):
        return list(table.to_pylist())
    if hasattr(table, "iterrows"):
        return list(table.to_dict("records"))
    if isinstance(table, Mapping):
        columns = {k: list(v) for k, v in table.items()}
        if len({len(v) for v in columns.values()}) > 1:
            raise ManifestError("the reads' columns differ in length", "Correct the table")
        return [dict(zip(columns, row, strict=True))
                for row in zip(*columns.values(), strict=True)]  # fmt: skip
    return list(table)


def _text(value: Any) -> str:
    if value is None or value != value:  # NaN alone differs from itself
        return ""
    return str(value).strip()


def _named(fields: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return a row's fields by column; names that nobody can tell apart become one."""
    return {column: tidy(text) if column in _NAMES else text for column, text in fields}


# -- rows --------------------------------------------------------------------------------------


def _checked(rows: list[tuple[int, dict[str, str]]], name: str) -> list[Read]:
    problems: list[str] = []
    mark = decimal_mark(t for _, row in rows for c, t in row.items() if _most(c) is not None)
    reads = [r for r in (_read(n, row, mark, problems) for n, row in rows) if r is not None]
    reads = _one_slide(reads)
    _refuse_twins(reads, problems)
    _refuse_capitals(reads, problems)
    _one_ish(reads, problems)
    if problems:
        shown = "; ".join(problems[:8])
        more = f"; and {len(problems) - 8} more" if problems[8:] else ""
        raise ManifestError(f"{name}: {shown}{more}", "Correct these rows")
    if not reads:
        raise ManifestError(f"{name} holds no read", "Give one row a read")
    return _five_strata(reads)


def _read(row: int, values: dict[str, str], mark: str | None, problems: list[str]) -> Read | None:
    before = len(problems)

    def complain(column: str, text: str) -> None:
        problems.append(f"row {row}, column {column}: {text}")

    for column in ("case_id", "reader"):
        if not values.get(column):
            complain(column, "empty")
    score, substate = _score(values.get("score", ""), complain)
    number = values.get("read_no", "")
    if number and not (_WHOLE.fullmatch(number) and _whole(number) >= 1):
        complain("read_no", f"{one_line(number, 40)!r} is not 1, 2, ...")
    ish = values.get("ish", "")
    if ish and ish.lower() not in _ISH:
        complain("ish", f"{one_line(ish, 40)!r} is not positive, negative or equivocal")
    numbers = _numbers(values, mark, complain)
    if len(problems) > before:
        return None
    extra = {k: v for k, v in values.items() if k not in KNOWN and not k.startswith("percent_")}
    return Read(
        row, values["case_id"], values["reader"], score, substate, values.get("slide_id", ""),
        values.get("region_id", ""), _whole(number) if number else 1, _ISH.get(ish.lower()),
        numbers, extra,
    )  # fmt: skip


def _score(text: str, complain: Any) -> tuple[int | None, str | None]:
    if not text:
        return None, None
    word = text.lower().replace(" ", "").removeprefix("her2-")
    word = re.sub(r"^([0-3])[.,]0+$", r"\1", word)
    if word not in _SCORES:
        complain("score", f"{one_line(text, 40)!r} is not 0, 1+, 2+, 3+, null, ultralow or empty")
        return None, None
    return _SCORES[word]


def _whole(text: str) -> int:
    return int(re.split("[.,]", text)[0])


def _most(column: str) -> float | None:
    """Return the largest number that a column may hold; None where it holds none."""
    if column == "h_score":
        return 300.0
    return 100.0 if column.startswith("percent_") else None


def _numbers(values: dict[str, str], mark: str | None, complain: Any) -> dict[str, float]:
    found = {}
    for column, text in values.items():
        most = _most(column)
        if not text or most is None:
            continue
        try:
            value = float(to_number(text, mark, least=0.0, most=most))
        except ValueError:
            value = -1.0
        if not 0 <= value <= most:
            complain(column, f"{one_line(text, 40)!r} is not a number from 0 to {most:g}")
        else:
            found[column] = value
    return found


def _one_slide(reads: list[Read]) -> list[Read]:
    """Fill an empty slide_id where all reads of the case that name one name the same."""
    named: dict[str, set[str]] = {}
    for r in reads:
        if r.slide:
            named.setdefault(r.case, set()).add(r.slide)
    only = {case: next(iter(slides)) for case, slides in named.items() if len(slides) == 1}
    return [Read(**{**vars(r), "slide": only[r.case]}) if not r.slide and r.case in only else r
            for r in reads]  # fmt: skip


def _five_strata(reads: list[Read]) -> list[Read]:
    """Settle what 0 and 0+ mean: a reader who writes 0+ reads on five strata, where 0 is null."""
    five = {r.reader for r in reads if r.substate == "0+"}
    meant = {"0+": "ultralow", None: "null"}
    return [Read(**{**vars(r), "substate": meant.get(r.substate, r.substate)})
            if r.score == 0 and r.reader in five else r
            for r in reads]  # fmt: skip


def _refuse_twins(reads: list[Read], problems: list[str]) -> None:
    first: dict[Any, int] = {}
    for r in reads:
        key = (*r.item, r.reader, r.read_no)
        if key in first:
            problems.append(f"rows {first[key]} and {r.row}: {one_line(r.reader, 40)} reads case "
                            f"{one_line(r.case, 40)} twice (give them read_no)")  # fmt: skip
        first.setdefault(key, r.row)


def _refuse_capitals(reads: list[Read], problems: list[str]) -> None:
    for kind in ("case", "reader"):
        spelt: dict[str, tuple[str, int]] = {}
        for r in reads:
            name = getattr(r, kind)
            known, row = spelt.setdefault(name.casefold(), (name, r.row))
            if known != name:
                problems.append(f"rows {row} and {r.row}: {kind} {one_line(known, 40)!r} and "
                                f"{one_line(name, 40)!r} differ in capitals")  # fmt: skip


def _one_ish(reads: list[Read], problems: list[str]) -> None:
    known: dict[tuple[str, str, str], tuple[bool, int]] = {}
    for r in reads:
        if r.ish is None:
            continue
        status, row = known.setdefault(r.item, (r.ish, r.row))
        if status != r.ish:
            problems.append(f"rows {row} and {r.row}: case {one_line(r.case, 40)} is ISH-positive "
                            "in one and negative in the other")  # fmt: skip


# -- outcome -----------------------------------------------------------------------------------


def read_outcome(path: str | Path, column: str) -> dict[str, bool]:
    """Read a table of outcomes: ``case_id`` and a column of 0 and 1; empty is missing.

    Raises
    ------
    ManifestError
        For a file or column that is not there, and rows that are neither 0 nor 1.
    """
    path = Path(path)
    name = column.strip().lower()
    return outcome_of(read_table(path, ("case_id", name)), name, path.name)


def outcome_of(rows: list[tuple[int, dict[str, str]]], column: str, name: str) -> dict[str, bool]:
    """Return the outcome of each case from rows of text; see `read_outcome`."""
    found: dict[str, tuple[bool, int]] = {}
    problems = []
    for number, row in rows:
        case, text = tidy(row.get("case_id", "")), row.get(column, "")
        if not text:
            continue
        if not case or text.replace(",", ".") not in ("0", "1", "0.0", "1.0"):
            problems.append(f"row {number}: {one_line(text, 40)!r} is not 0 or 1" if case
                            else f"row {number}: case_id is empty")  # fmt: skip
            continue
        value, first = found.setdefault(case, (text[0] == "1", number))
        if value != (text[0] == "1"):
            problems.append(f"rows {first} and {number}: case {one_line(case, 40)} is 0 and 1")
    if problems:
        more = f"; and {len(problems) - 8} more" if problems[8:] else ""
        raise ManifestError(f"{name}: {'; '.join(problems[:8])}{more}", "Correct these rows")
    return {case: value for case, (value, _) in found.items()}


# -- the file ----------------------------------------------------------------------------------


def read_table(
    path: Path, needed: tuple[str, ...], known: tuple[str, ...] = KNOWN
) -> list[tuple[int, dict[str, str]]]:
    """Return a table's rows as text, each with its line; column names in small letters.

    Parameters
    ----------
    path : Path
    needed : tuple of str
        Columns that must be there.
    known : tuple of str
        Further columns that are found whatever their capitals, spaces and underscores.

    Raises
    ------
    ManifestError
        Where it cannot be read, lacks a needed column, or has a row of another length.
    """
    sheet = read_sheet(path, (*dict.fromkeys((*needed, *known)),), MAX_BYTES)
    header = [_PERCENT.sub("percent_", c.lower()) for c in sheet.columns]
    missing = [n for n in needed if n not in header]
    if missing:
        raise ManifestError(
            f"{path.name} has no column {', '.join(missing)} (it has "
            f"{one_line(', '.join(header), 200)})",
            f"Needed: {', '.join(needed)}",
        )
    if len(set(header)) != len(header):
        raise ManifestError(f"{path.name} names a column twice", "Give every column one name")
    return [(n, _named(zip(header, row, strict=True))) for n, row in sheet.rows]
