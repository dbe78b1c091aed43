"""Boxes and grids: every point is owned once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from her2path.core.geometry import Box, Grid, analysis_factor

sizes = st.integers(1, 900)
places = st.integers(-400, 400)
boxes = st.builds(
    lambda x, y, w, h: Box(x, y, x + w, y + h),
    places, places, st.integers(0, 300), st.integers(0, 300),
)  # fmt: skip


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


@given(boxes, boxes, places, places)
def test_a_point_lies_in_the_common_part_where_it_lies_in_both(
    a: Box, b: Box, x: int, y: int
) -> None:
    assert a.clip(b).contains(x, y) == (a.contains(x, y) and b.contains(x, y))
    assert a.clip(b).area == b.clip(a).area <= min(a.area, b.area)
    assert a.clip(a) == a
    assert a.clip(b).empty == (a.clip(b).area == 0)


@given(boxes, boxes, places, places)
def test_moving_and_cutting_may_change_places(a: Box, b: Box, dx: int, dy: int) -> None:
    assert a.shift(dx, dy).shift(-dx, -dy) == a
    assert a.shift(dx, dy).clip(b.shift(dx, dy)) == a.clip(b).shift(dx, dy)


@given(boxes, st.integers(0, 200))
def test_growing_adds_a_frame(a: Box, by: int) -> None:
    grown = a.grow(by)
    assert grown.area == (a.width + 2 * by) * (a.height + 2 * by)
    assert grown.clip(a) == a
    assert grown.grow(-by) == a


@given(sizes, sizes, st.integers(60, 900), st.integers(0, 200))
def test_neighbours_are_what_a_cores_frame_touches(w: int, h: int, block: int, pick: int) -> None:
    grid = Grid(w, h, block, 0)
    index = pick % len(grid)
    frame = grid[index].core.grow(1)
    touched = [b.index for b in grid if not b.core.clip(frame).empty]
    assert sorted(grid.neighbours(index)) == touched


@given(st.floats(0.05, 2.0))
def test_the_analysis_plane_is_never_coarser_than_it_need_be(mpp: float) -> None:
    factor = analysis_factor(mpp)
    assert factor == 1 or factor * mpp <= 0.56
    assert (factor + 1) * mpp > 0.56


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
