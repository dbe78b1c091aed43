"""Tables of a batch: safe in a spreadsheet, appended, the same whatever order slides end in."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from cohort_samples import manifest
from fake_run import Plane, make_run
from hypothesis import given
from hypothesis import strategies as st

from her2path.core.errors import DiskFull, ManifestError
from her2path.io.store import RunStore
from her2path.runs.cohort import collect
from her2path.runs.cohort.manifest import safe_name
from her2path.runs.cohort.tables import FORMULA, Table, csv_line, field, read_rows

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


# -- results that were made elsewhere --------------------------------------------------------------


def _results(home: Path, names: dict[str, str]) -> Path:
    """Write results of slides that were not evaluable, by folder and slide id."""
    seed = make_run(home / "seed", "not_evaluable", plane=Plane(512, 512))
    for folder, slide_id in names.items():
        store = RunStore(home / "in" / folder).create()
        tree = json.loads(seed.result_path.read_text())
        tree["slide"]["id"] = slide_id
        store.result_path.write_text(json.dumps(tree))
        store.settings_path.write_text(seed.settings_path.read_text())
    return home / "in"


def _joined(home: Path, rows: list[dict[str, str]]) -> tuple[list[str], list[str]]:
    """Return slide ids with and without a result."""
    result = collect([home / "in"], home / "out", manifest(home, rows))
    done = [r["slide_id"] for r in read_rows(result.out / "slides.csv")]
    return done, [r["slide"] for r in read_rows(result.out / "failures.csv")]


TWO = [{"slide": "x/1.svs", "slide_id": "A"}, {"slide": "y/1.svs", "slide_id": "B=b"}]


def test_results_are_known_by_folder_before_anything_else(tmp_path: Path) -> None:
    # as a batch, a person and a workflow manager name folders; the slides' own ids say nothing
    for number, name in enumerate((safe_name("B=b"), "B=b", "B_b")):
        home = tmp_path / str(number)
        _results(home, {"A": "1", name: "1"})
        assert _joined(home, TWO) == (["A", "B=b"], [])


def test_a_missing_result_is_not_replaced_by_another_of_its_name(tmp_path: Path) -> None:
    _results(tmp_path, {"A": "1"})
    assert _joined(tmp_path, TWO) == (["A"], ["B=b"])


def test_which_result_is_meant_is_never_guessed(tmp_path: Path) -> None:
    _results(tmp_path, {"p": "1", "q": "1"})
    with pytest.raises(ManifestError, match="row 2, 3: which result is meant by '1'"):
        _joined(tmp_path, TWO)


def test_a_folder_that_is_named_twice_counts_once(tmp_path: Path) -> None:
    home = _results(tmp_path, {"A": "1"})
    result = collect([home, home / "A"], tmp_path / "out", manifest(tmp_path, TWO[:1]))
    assert result.run["counts"]["done"] == 1


def test_links_to_results_are_followed_and_links_in_them_are_not(tmp_path: Path) -> None:
    away = _results(tmp_path / "away", {"A": "1"})
    (tmp_path / "secret").write_text("x")
    (away / "A" / "report.html").symlink_to(tmp_path / "secret")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "A").symlink_to(away / "A")
    assert _joined(tmp_path, TWO[:1]) == (["A"], [])
    made = tmp_path / "out" / "slides" / "A"
    assert not made.is_symlink()
    assert {p.name for p in made.iterdir()} == {"result.json", "settings.yaml"}
