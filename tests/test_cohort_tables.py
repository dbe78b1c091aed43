"""Tables of a batch: safe in a spreadsheet, appended, the same whatever order slides end in."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from her2path.cohort.tables import FORMULA, Table, csv_line, field, read_rows
from her2path.errors import DiskFull

ROWS = [{"a": "x", "b": 1.5}, {"a": '=cmd|"/c calc"!A1', "b": None}, {"a": "y;=1+1", "b": True}]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""), (True, "true"), (0.1, "0.1"), (7, "7"), ("1+", "1+"), ("-3.5", "-3.5"),
        ("HER2-null", "HER2-null"), ("=1+1", "'=1+1"), ("+cmd", "'+cmd"), ("@SUM", "'@SUM"),
        ("\t=1", "'=1"), ("a,b", '"a,b"'), ('say "x"', '"say ""x"""'), ("a\nb", '"a b"'),
        ("a;=1", '"a;=1"'), ("nul\0", "nul?"), ("‮exe", "?exe"), ("😀", "😀"),
    ],
)  # fmt: skip
def test_field(value: object, text: str) -> None:
    found = field(value)
    assert found == (f'"{text}"' if text.startswith("'") else text)


@given(st.lists(st.text(max_size=30), min_size=1, max_size=4))
def test_no_text_becomes_a_formula_or_breaks_a_row(values: list[str]) -> None:
    line = csv_line([*values, "end"])
    assert line.count("\n") == 1
    (row,) = csv.reader([line], strict=True)
    assert len(row) == len(values) + 1
    for cell in row[:-1]:
        assert not cell.startswith(FORMULA) or cell.lstrip("+-").replace(".", "")[:1].isdigit()


def test_rows_come_into_order_whatever_order_they_came_in(tmp_path: Path) -> None:
    texts = []
    for order in ((0, 1, 2), (2, 0, 1)):
        table = Table(tmp_path / "t.csv", ("a", "b", "a"))
        for place in order:
            table.add(place, ROWS[place])
        assert len(table) == 3
        table.finish()
        texts.append(table.path.read_bytes())
    assert texts[0] == texts[1]
    back = read_rows(tmp_path / "t.csv")
    assert [r["a"] for r in back] == [r["a"] for r in ROWS]


def test_a_row_is_appended_not_rewritten(tmp_path: Path) -> None:
    table = Table(tmp_path / "t.csv", ("a", "b"))
    before = table.path.stat().st_ino
    for place in range(300):
        table.add(place, {"a": place})
    assert table.path.stat().st_ino == before
    assert len(table.path.read_text().splitlines()) == 301


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    table = Table(tmp_path / "t.csv", ("a",))
    table.path.unlink()
    table.path.symlink_to("/dev/full")
    with pytest.raises(DiskFull):
        table.add(0, {"a": "x"})
