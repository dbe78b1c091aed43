"""Tables of a batch: rows are appended as slides end, and sorted once when all have ended.

Whoever opens them in a spreadsheet runs nothing: text that looks like a formula is disarmed, and
every separator that a spreadsheet may take for one is quoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from her2path.core.csvfile import read_sheet
from her2path.core.errors import one_line
from her2path.io.store import disk_errors, write_text

__all__ = ["Table", "csv_line", "field", "read_rows"]

#: a spreadsheet would run text that begins with one of these
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")
#: plain numbers begin with a sign too, and do no harm
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?%?")
_QUOTED = re.compile(r"""[,;\t"' |]""")
#: the longest text of one field
MAX_FIELD = 1000
#: the largest table that is read back
MAX_BYTES = 1 << 30


def field(value: Any) -> str:
    """Return one value as CSV text: empty for None, one line, never a formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        return str(value)
    text = one_line(value, MAX_FIELD)
    if text.startswith(FORMULA) and not _NUMBER.fullmatch(text):
        text = f"'{text}"
    if _QUOTED.search(text):
        doubled = text.replace('"', '""')
        return f'"{doubled}"'
    return text


def csv_line(values: Iterable[Any]) -> str:
    """Return one CSV line with its line feed."""
    return ",".join(field(v) for v in values) + "\n"


class Table:
    """A CSV file that grows by one line a row.

    Parameters
    ----------
    path : Path
        The file; begun anew.
    columns : sequence of str
        Columns, in order; a row's other values are left out.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, list(dict.fromkeys(columns))
        self._lines: list[tuple[int, str]] = []
        self._head = csv_line(self.columns)
        write_text(path, self._head)

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, place: int, row: Mapping[str, Any]) -> None:
        """Append a row; ``place`` is where it will stand in the end.

        Raises
        ------
        DiskFull, OutputError
        """
        line = csv_line(row.get(c) for c in self.columns)
        self._lines.append((place, line))
        with disk_errors(self.path), self.path.open("a", encoding="utf-8", newline="") as file:
            file.write(line)

    def replace(self, place: int, row: Mapping[str, Any]) -> None:
        """Say another thing of a place once all have ended; written by `finish`."""
        line = csv_line(row.get(c) for c in self.columns)
        self._lines = [(p, line if p == place else known) for p, known in self._lines]

    def finish(self) -> None:
        """Put the rows into their final order, so that it does not tell how the run went."""
        self._lines.sort(key=lambda entry: entry[0])
        write_text(self.path, self._head + "".join(line for _, line in self._lines))


def read_rows(path: Path, known: Sequence[str] = ()) -> list[dict[str, str]]:
    """Read a table of a batch back, disarmed text as it was; ``known`` are columns with a meaning.

    Raises
    ------
    ManifestError
        Where it cannot be read.
    """
    # whoever looked at it in a spreadsheet may have saved it with other marks
    sheet = read_sheet(path, known, MAX_BYTES)
    return [{k: _armed(v) for k, v in row.items()} for _, row in sheet.records()]


def _armed(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA) else text
