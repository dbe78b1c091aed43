"""Boxes and grids: every point is owned once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from her2path.core.geometry import Box, Grid, analysis_factor

sizes = st.integers(1, 900)


@given(sizes, sizes, st.integers(60, 900), st.integers(0, 200), st.sampled_from([1, 2, 32, 64]))
def test_cores_partition_the_plane(w: int, h: int, block: int, halo: int, align: int) -> None:
    grid = Grid(w, h, block, halo, align)
    assert sum(b.core.area for b in grid) == w * h
    cores = [b.core for b in grid]
    assert all(c.clip(Box(0, 0, w, h)) == c for c in cores)
    assert len({(c.x0, c.y0) for c in cores}) == len(cores)


@given(sizes, sizes, st.integers(60, 900), st.integers(0, 200), st.sampled_from([1, 2, 64]))
def test_reads_are_aligned_and_cover_the_halo(
    w: int, h: int, block: int, halo: int, align: int
) -> None:
    for b in Grid(w, h, block, halo, align):
        assert b.read.x0 % align == b.read.y0 % align == 0
        assert b.read.width % align == b.read.height % align == 0
        assert b.read.x0 <= b.core.x0 - halo
        assert b.read.x1 >= b.core.x1 + halo


@given(sizes, sizes, st.integers(60, 900), st.integers(0, 899), st.integers(0, 899))
def test_a_point_has_one_owner(w: int, h: int, block: int, x: int, y: int) -> None:
    owners = [b for b in Grid(w, h, block, 0) if b.core.contains(x, y)]
    assert len(owners) == (1 if x < w and y < h else 0)


def test_neighbours_of_a_corner_an_edge_and_the_middle() -> None:
    grid = Grid(300, 300, 100, 0)
    assert grid.neighbours(0) == [0, 1, 3, 4]
    assert grid.neighbours(1) == [0, 1, 2, 3, 4, 5]
    assert grid.neighbours(4) == list(range(9))


def test_block_names_are_unique_and_sort_by_row() -> None:
    names = [b.name for b in Grid(5000, 5000, 512, 8)]
    assert len(set(names)) == len(names)
    assert names == sorted(names)


def test_an_index_outside_is_refused() -> None:
    with pytest.raises(IndexError):
        Grid(10, 10, 5, 0)[4]


@pytest.mark.parametrize(
    ("mpp", "factor"),
    [(0.1, 5), (0.125, 4), (0.2, 2), (0.23, 2), (0.25, 2), (0.28, 2), (0.3, 1), (0.5, 1), (0.6, 1)],
)
def test_the_analysis_plane_is_about_half_a_micrometre(mpp: float, factor: int) -> None:
    assert analysis_factor(mpp) == factor


def test_empty_boxes_have_no_area() -> None:
    assert Box(5, 5, 5, 9).empty
    assert Box(0, 0, 10, 10).clip(Box(20, 20, 30, 30)).area == 0
    assert Box(0, 0, 4, 4).shift(2, 3) == Box(2, 3, 6, 7)
