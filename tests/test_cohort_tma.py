"""A TMA's map on the cores found: in the one place where it fits, or nowhere."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from her2path.core.errors import ManifestError
from her2path.runs.cohort.inputs import read_tma_layout, read_tma_map
from her2path.runs.cohort.tma import TmaMap, check_cores

Places = set[tuple[int, int]]


def rect(rows: int, cols: int) -> Places:
    return {(r, c) for r in range(1, rows + 1) for c in range(1, cols + 1)}


def map_of(places: Places) -> TmaMap:
    return TmaMap({p: f"{p}" for p in places}, frozenset(places))


def anew(places: Places) -> Places:
    """Number places from the first row and column that is there, as cores are found."""
    r, c = min(p[0] for p in places) - 1, min(p[1] for p in places) - 1
    return {(a - r, b - c) for a, b in places}


@pytest.mark.parametrize(
    ("listed", "there", "shift"),
    [(rect(3, 3), rect(3, 3), (0, 0)),
     (rect(1, 1), rect(1, 1), (0, 0)),
     (rect(1, 4), rect(1, 4), (0, 0)),
     (rect(8, 12), rect(8, 12) - {(1, 1), (4, 4), (8, 12)}, (0, 0)),
     # the map says itself that the first column is gone
     (rect(3, 3) - {(1, 1), (2, 1), (3, 1)}, rect(3, 3) - {(1, 1), (2, 1), (3, 1)}, (0, 1)),
     # an orientation core sticks out
     (rect(4, 4) | {(5, 1)}, rect(4, 4) | {(5, 1)}, (0, 0))],
)  # fmt: skip
def test_a_map_that_fits_in_one_way(listed: Places, there: Places, shift: tuple[int, int]) -> None:
    assert map_of(listed).shift(anew(there)) == shift


@pytest.mark.parametrize(
    ("listed", "found", "why"),
    [(rect(3, 3), rect(3, 2), "fits in"),  # a column is gone: the first or the last
     (rect(3, 3), rect(2, 3), "fits in"),
     (rect(3, 3), rect(3, 4), "has no core"),  # a control core beside the array
     (rect(3, 3), anew(rect(3, 3) | {(1, 0)}), "has no core"),
     (rect(3, 3), rect(3, 3) | {(2, 5)}, "has no core"),
     # the last column gone and one control core left of A1: by its size alone it would fit
     (rect(3, 3), anew((rect(3, 3) - {(1, 3), (2, 3), (3, 3)}) | {(1, 0)}), "fits in"),
     ({(1, 1), (5, 5)}, {(1, 1)}, "fits in"),
     ({(1, 1), (2, 12)}, rect(8, 12), "has no core"),  # a map that lists a few cores only
     (rect(3, 3), set(), "no core was found")],
)  # fmt: skip
def test_a_map_that_does_not_fit_is_refused(listed: Places, found: Places, why: str) -> None:
    with pytest.raises(ManifestError, match=why):
        map_of(listed).shift(found)


def test_the_names_of_cores_are_placed_by_the_map() -> None:
    regions = pa.table({"kind": ["core"] * 2, "name": ["A1", "B1"]})
    assert check_cores(regions, map_of({(3, 4), (4, 4)})) == {"A1": (3, 4), "B1": (4, 4)}
    with pytest.raises(ManifestError, match=r"regions\.kind=core"):
        check_cores(pa.table({"kind": ["grid"], "name": ["r1 c1"]}), map_of({(1, 1)}))


def test_places_of_nobody_are_places_of_the_map(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("row,col,case_id\n1,1,\n1,2,x\n")
    assert read_tma_layout(path) == TmaMap({(1, 2): "x"}, frozenset({(1, 1), (1, 2)}))
    assert read_tma_map(path) == {(1, 2): "x"}
    path.write_text("row,col,case_id\n" + "".join(f"{i},1,x\n" for i in range(1, 10_000))
                    + "".join(f"{i},2,x\n" for i in range(1, 9)))  # fmt: skip
    with pytest.raises(ManifestError, match="10007 cores"):
        read_tma_layout(path)
