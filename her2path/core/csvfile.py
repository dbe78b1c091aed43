"""Tables that people hand in, through one reader: any encoding, separator and line end in use."""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from her2path.core.errors import ManifestError, one_line

__all__ = ["SEPARATORS", "Sheet", "decode", "read_sheet", "same_name", "tidy"]

SEPARATORS = ",;\t"
#: invisible characters that copying leaves at the ends of a text: zero-width and direction marks
_EDGE = "\u00ad\u200b-\u200f\u202a-\u202e\u2060\ufeff"
_OUTER = re.compile(rf"^[\s{_EDGE}]+|[\s{_EDGE}]+$")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as that of UTF-16 does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: what no text has: control characters other than tab, line ends, and DOS's end of file
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x19\x1b-\x1f\x7f]")
_SEP_LINE = re.compile(r'"?sep=([,;\t])"?', re.IGNORECASE)


@dataclass(frozen=True)
class Sheet:
    """A table as text.

    Attributes
    ----------
    columns : tuple of str
        Known columns by the name that was asked for, others as written.
    rows : tuple of (int, tuple of str)
        Line in the file, and one field a column without outer spaces; empty rows are left out.
    separator : str
        ``,``, ``;`` or a tab.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    separator: str

    def records(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield each row's line in the file, and its fields by column."""
        for line, row in self.rows:
            yield line, dict(zip(self.columns, row, strict=True))


def tidy(text: str) -> str:
    """Return a name without outer spaces, accents in their composed form (NFC).

    Two spellings of a name that nobody can tell apart become the same text.
    """
    return unicodedata.normalize("NFC", _OUTER.sub("", text))


def same_name(text: str) -> str:
    """Return what two names have in common that differ in capitals or forms of letters alone."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", tidy(text)).casefold())


def read_sheet(path: Path, known: Sequence[str], most_bytes: int) -> Sheet:
    """Read a table that somebody handed in.

    UTF-8, UTF-16 or UTF-32 with or without a byte-order mark, or Windows-1252; comma, semicolon or
    tab; lines that end in LF, CR LF or CR. Known columns are found whatever their capitals, spaces
    and underscores. Nothing is interpreted: fields stay text.

    Parameters
    ----------
    path : Path
    known : sequence of str
        Columns with a meaning.
    most_bytes : int
        A larger file is refused.

    Raises
    ------
    ManifestError
        For a file that cannot be read, is no text, has no rows, repeats a column, or has rows of
        another length.
    """
    try:
        if path.stat().st_size > most_bytes:
            raise ManifestError(f"{path} is over {most_bytes >> 20} MiB", "Give a table")
        raw = path.read_bytes()
    except OSError as exc:
        raise ManifestError(f"{path} cannot be read ({exc.strerror})", "Check the path") from exc
    text = decode(raw)
    if text is None:
        raise ManifestError(f"{path} is not a text table", "Save it as CSV, UTF-8")
    lines, separator = _lines(text, known, path)
    if not lines:
        raise ManifestError(f"{path} is empty", "Give a header line and rows")
    (_, header), body = lines[0], lines[1:]
    columns = _columns(header, known, path)
    wrong = [
        f"row {number} (line {line}) has {len(row)} fields"
        for number, (line, row) in enumerate(body, 1)
        if len(row) != len(columns)
    ]
    if wrong:
        raise ManifestError(
            f"{path}: {', '.join(wrong[:8])}, and the header {len(columns)} columns",
            "Correct these rows; put text that holds the separator in quotes",
        )
    rows = tuple((line, tuple(_OUTER.sub("", f) for f in row)) for line, row in body)
    return Sheet(columns, rows, separator)


def decode(raw: bytes) -> str | None:
    """Return bytes as text, by their byte-order mark or by what they can be; None where no text."""
    encodings = [name for bom, name in _BOMS if raw.startswith(bom)][:1]
    head = raw[:1024]
    if not encodings and b"\0" in head:
        # a header in UTF-16 has a zero before every letter, or behind it
        before, behind = (head[k::2].count(0) for k in (0, 1))
        if min(before, behind) or max(before, behind) < len(head) // 6:
            return None
        encodings = ["utf-16-be" if before else "utf-16-le"]
    for encoding in encodings or ["utf-8", "cp1252"]:
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        return None if _CONTROL.search(text) else text.rstrip("\x1a")
    return None


def _lines(text: str, known: Sequence[str], path: Path) -> tuple[list[tuple[int, list[str]]], str]:
    """Return (line, fields) of every row that is not empty, and the separator."""
    first = next((n for n, line in enumerate(_split(text)) if line.strip()), 0)
    head = _split(text)[first] if text.strip() else ""
    told = _SEP_LINE.fullmatch(head.strip(" \r\n"))  # what Excel writes to tell its own kind
    separator = told[1] if told else _separator(head, known)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if any(_OUTER.sub("", f) for f in row)]
    except csv.Error as exc:
        raise ManifestError(
            f"{path} is not valid CSV (line {reader.line_num}: {one_line(exc, 80)})",
            "Correct the line, or save the table as CSV again",
        ) from exc
    rows = rows[1:] if told else rows
    width = max((_width(row) for _, row in rows), default=0)
    # spreadsheets leave empty fields at the end of every line
    return [(n, row[:width] if len(row) > width else row) for n, row in rows], separator


def _split(text: str) -> list[str]:
    """Return the first lines of a text, as they end in any system."""
    return re.split(r"\r\n|\r|\n", text[: 1 << 16])


def _width(row: list[str]) -> int:
    return max((n for n, field in enumerate(row, 1) if _OUTER.sub("", field)), default=0)


def _separator(head: str, known: Sequence[str]) -> str:
    """Return the separator by which a header has most known columns, then most columns."""
    wanted = {_key(name) for name in known}

    def found(separator: str) -> tuple[int, int]:
        try:
            fields = next(csv.reader([head], delimiter=separator), [])
        except csv.Error:
            return 0, 0
        return sum(_key(f) in wanted for f in fields), len(fields)

    return max(SEPARATORS, key=found)


def _key(name: str) -> str:
    """Return a column's name as far as it counts: letters and digits."""
    return "".join(c for c in same_name(name) if c.isalnum())


def _columns(header: Sequence[str], known: Sequence[str], path: Path) -> tuple[str, ...]:
    meant = {_key(name): name for name in known}
    columns = tuple(meant.get(_key(h), _OUTER.sub("", h)) for h in header)
    twice = next((c for c in columns if columns.count(c) > 1), None)
    if twice is not None:
        raise ManifestError(f"{path}: the column {twice!r} stands twice", "Keep one of them")
    return columns
