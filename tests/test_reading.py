"""Reading: what the nets see, where nuclei are, and what a cell says, wherever blocks are cut."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.special import expit

from her2path.cells import analysis, reach, reading
from her2path.cells.reading import cells, finder, inputs, nets
from her2path.cells.reading import doubles as reading_doubles
from her2path.cells.rings import RAYS
from her2path.core.errors import ProgramFault
from her2path.core.geometry import analysis_factor
from her2path.core.settings import Settings
from her2path.runs.case.plan import measured_sha256

MPP_A = 0.5
#: a pixel size that no grid line falls in step with
ODD = 0.4628
NUCLEI = Settings().nuclei
TURN = np.arange(RAYS) * (2 * np.pi / RAYS)


def smooth(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Planes (3, H, W) of smooth clouds as dark as stain: hematoxylin, DAB, residual."""
    rng = np.random.default_rng(seed)
    clouds = [gaussian_filter(rng.normal(size=shape), s) for s in (4.0, 2.0, 2.0)]
    gains = (0.35, 0.15, 0.03)
    planes = [g * c / c.std() for g, c in zip(gains, clouds, strict=True)]
    return np.asarray(planes, np.float32)


def spots(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Planes (3, H, W) with round dark nuclei in brown rings, on noise."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    planes = np.zeros((3, *shape), np.float32)
    for y in np.arange(10, shape[0], 26):
        for x in np.arange(10, shape[1], 26):
            cy, cx = np.add((y, x), rng.uniform(-5, 5, 2))
            far = np.hypot(yy - cy, xx - cx)
            planes[0] += rng.uniform(0.2, 0.5) * expit((rng.uniform(6, 9) - far) / 0.8)
            planes[1] += rng.uniform(0.0, 0.3) * np.exp(-(((far - 12) / 1.5) ** 2))
    return planes + rng.normal(0, 0.01, planes.shape).astype(np.float32)


def seen(planes: np.ndarray, y: np.ndarray, x: np.ndarray, mode: str) -> np.ndarray:
    """Every plane at points, bilinear."""
    return np.stack([
        map_coordinates(p, np.stack([y, x]), order=1, mode=mode, output=np.float64)
        for p in planes.astype(np.float64)
    ])  # fmt: skip


def channels(stains: np.ndarray) -> np.ndarray:
    """Hematoxylin, DAB twice and residual, scaled and clipped."""
    parts = zip(
        (0, 1, 1, 2), inputs.INPUT_GAIN, inputs.LOWEST_INPUT, inputs.HIGHEST_INPUT, strict=True
    )
    return np.stack([np.clip(stains[p] * gain, low, high) for p, gain, low, high in parts])


# The finder's grid


def grid_reference(
    planes: np.ndarray, mpp_a: float, origin: tuple[int, int], box: tuple[int, int, int, int]
) -> np.ndarray:
    row, column, rows, columns = box
    total = 0.0
    for v in (-inputs.SPREAD_UM, inputs.SPREAD_UM):
        for u in (-inputs.SPREAD_UM, inputs.SPREAD_UM):
            y = (np.arange(row, row + rows) + 0.5) * inputs.GRID_UM + v
            x = (np.arange(column, column + columns) + 0.5) * inputs.GRID_UM + u
            at_y, at_x = (c / mpp_a - 0.5 - o for c, o in ((y, origin[0]), (x, origin[1])))
            total = total + 0.25 * seen(
                planes, *np.meshgrid(at_y, at_x, indexing="ij"), mode="grid-constant"
            )
    return channels(total)


@pytest.mark.parametrize("mpp_a", [0.4, 0.46, ODD, 0.5, 0.7])
def test_the_grid_is_the_mean_of_four_bilinear_samples(mpp_a: float) -> None:
    planes = 1.5 * smooth((60, 75), 1)
    origin, box = (1001, 498), (int(1001 * mpp_a / 0.8) - 4, int(498 * mpp_a / 0.8) + 3, 30, 37)
    got = inputs.grid_inputs(planes, mpp_a, origin, box)
    assert got.shape == (inputs.CHANNELS, 30, 37)
    assert got.dtype == np.float32
    assert got == pytest.approx(grid_reference(planes, mpp_a, origin, box), abs=2e-5)
    # the clipping takes part
    assert (got[0] == inputs.LOWEST_INPUT[0]).any()


def test_beyond_the_planes_lies_glass() -> None:
    planes = np.full((3, 20, 20), 0.4, np.float32)
    assert not inputs.grid_inputs(planes, MPP_A, (400, 400), (0, 0, 16, 16)).any()
    beside = inputs.grid_inputs(planes, MPP_A, (0, 0), (-8, 4, 24, 4))
    assert not beside[:, :7].any()
    assert beside[0, 9:19] == pytest.approx(1.0)
    assert not beside[:, 22:].any()


@given(
    st.integers(0, 40), st.integers(0, 40), st.integers(-7, 900), st.sampled_from([0.4, ODD, 0.5])
)
@examples(max_examples=25)
def test_the_grid_is_the_same_bits_wherever_the_block_is_cut(
    top: int, left: int, at: int, mpp_a: float
) -> None:
    planes = smooth((120, 130), 2)
    box = (int((at + 60) * mpp_a / 0.8), int((2 * at + 60) * mpp_a / 0.8), 9, 10)
    whole = inputs.grid_inputs(planes, mpp_a, (at, 2 * at), box)
    cut = inputs.grid_inputs(planes[:, top:-5, left:], mpp_a, (at + top, 2 * at + left), box)
    assert np.array_equal(whole, cut)


# Around a cell


def test_polar_stain_is_bilinear_along_the_directions() -> None:
    planes = smooth((110, 120), 3)
    rng = np.random.default_rng(4)
    x, y = (rng.integers(16 * 31, 16 * 78, 20) / 16 for _ in "xy")
    angles = inputs.place_angles()
    got = inputs.polar_stains(planes, x, y, MPP_A, angles)
    r = (np.arange(inputs.RADII) + 0.5) * inputs.STEP_UM / MPP_A
    at_x = x[:, None, None] + r * np.cos(angles)[:, None]
    at_y = y[:, None, None] + r * np.sin(angles)[:, None]
    expected = seen(planes, at_y, at_x, "nearest").transpose(1, 0, 2, 3)
    assert got.shape == (20, 3, inputs.PLACES, inputs.RADII)
    assert got == pytest.approx(expected, abs=2e-4)


def test_beyond_the_border_polar_stain_is_the_borders() -> None:
    planes = smooth((40, 44), 5)
    x, y = np.array([2.0, 41.5, 20.0, 20.0, 0.0]), np.array([20.0, 20.0, 1.25, 38.0, 0.0])
    angles = inputs.place_angles()
    got = inputs.polar_stains(planes, x, y, MPP_A, angles)
    r = (np.arange(inputs.RADII) + 0.5) * inputs.STEP_UM / MPP_A
    at_x = x[:, None, None] + r * np.cos(angles)[:, None]
    at_y = y[:, None, None] + r * np.sin(angles)[:, None]
    expected = seen(planes, at_y, at_x, "nearest").transpose(1, 0, 2, 3)
    assert got == pytest.approx(expected, abs=2e-4)


def test_channels_are_scaled_and_clipped_stain() -> None:
    stains = np.random.default_rng(6).normal(0.2, 0.6, (7, 3, 30, 32)).astype(np.float32)
    got = inputs.to_channels(stains)
    assert got.dtype == np.float32
    assert got.transpose(1, 0, 2, 3) == pytest.approx(channels(stains.transpose(1, 0, 2, 3)))
    assert all((got[:, c] == inputs.HIGHEST_INPUT[c]).any() for c in range(inputs.CHANNELS))


def test_polar_stain_is_the_same_bits_wherever_the_block_is_cut() -> None:
    planes = smooth((150, 150), 7)
    rng = np.random.default_rng(8)
    x, y = (rng.integers(16 * 60, 16 * 90, 30) / 16 for _ in "xy")
    angles = inputs.place_angles()
    whole = inputs.polar_stains(planes, x, y, MPP_A, angles)
    cut = inputs.polar_stains(planes[:, 17:-3, 22:-11], x - 22, y - 17, MPP_A, angles)
    assert np.array_equal(whole, cut)


# Finds


def brute_peaks(heat: np.ndarray, least: float, apart: float) -> list[tuple[int, int]]:
    """Points that no higher point, and no equal one before them, lies within reach of."""
    rows, columns = np.indices(heat.shape)
    found = []
    for j, i in np.ndindex(heat.shape):
        value = heat[j, i]
        near = (rows - j) ** 2 + (columns - i) ** 2 <= apart**2
        before = (rows < j) | ((rows == j) & (columns < i))
        if value >= least and not (near & ((heat > value) | (before & (heat == value)))).any():
            found.append((j, i))
    return found


@pytest.mark.parametrize("levels", [3, 12, 4000])
@pytest.mark.parametrize("apart", [1.0, 3.25])
def test_peaks_are_the_highest_within_reach_ties_too(levels: int, apart: float) -> None:
    rng = np.random.default_rng(levels)
    # few levels, or none smoothed: plenty of equals
    heat = gaussian_filter(rng.normal(size=(37, 41)), 0.8)
    heat = np.rint(levels * (heat - heat.min()) / np.ptp(heat)).astype(np.float32) / levels
    found = np.empty((heat.size, 2), np.int64)
    place = np.empty((heat.size, 2))
    count = finder._peaks(heat, 0.45, apart, found, place)
    assert [tuple(p) for p in found[:count]] == brute_peaks(heat, 0.45, apart)


def drawn_net(heat_of: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], Any]:
    """A net that gives a heat of the window (4, R, C), and the window itself as kind."""

    def run(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        m, half = finder.MARGIN, slice(finder.MARGIN, -finder.MARGIN, 2)
        return heat_of(x)[m:-m, m:-m], x[:3, half, half], np.repeat(x[:1, half, half], 24, axis=0)

    return run


def test_a_nucleus_is_where_the_heat_is_highest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder, "run_finder", drawn_net(lambda x: 10 * x[0] - 5))
    origin, y_px, x_px = (640, 1283), 100.3, 131.7
    yy, xx = np.mgrid[:220, :240]
    planes = np.zeros((3, 220, 240), np.float32)
    planes[0] = 0.8 - 0.002 * ((yy - y_px) ** 2 + (xx - x_px) ** 2).clip(max=350)
    found = finder.find_peaks(planes, MPP_A, origin, 0.0)
    assert found.x == pytest.approx([(origin[1] + x_px + 0.5) * MPP_A], abs=0.04)
    assert found.y == pytest.approx([(origin[0] + y_px + 0.5) * MPP_A], abs=0.04)
    assert found.heat == pytest.approx(10 * 2.5 * 0.8 - 5, abs=0.3)
    # what the net says of the point's square of two by two
    assert found.kind[0, 0] == pytest.approx(2.5 * 0.8, abs=0.05)
    assert found.features[0] == pytest.approx(np.full(24, found.kind[0, 0]))


def test_there_is_room_for_peaks_as_dense_as_they_can_lie() -> None:
    side = 64
    jj, ii = np.mgrid[:side, :side]
    # the densest lattice whose points lie farther apart than the reach: 3 rows, 4 columns, shifted
    heat = np.where((ii - 2 * (jj // 3 % 2)) % 4 == 0, 1.0, 0.0) * (jj % 3 == 0)
    found = np.empty((side * side // 8 + 16, 2), np.int64)
    count = finder._peaks(
        heat.astype(np.float32), 0.5, finder.APART_UM / inputs.GRID_UM, found,
        np.empty((len(found), 2)),
    )  # fmt: skip
    assert count == int(heat.sum()) < len(found)


def test_windows_tile_a_span_in_whole_grains() -> None:
    for low, high in ((0, 8), (-16, 504), (8, 1040), (1024, 2080)):
        cuts = finder._windows(low, high)
        assert (cuts[0][0], cuts[-1][1]) == (low, high)
        assert all(a[1] == b[0] for a, b in itertools.pairwise(cuts))
        assert all(0 < b - a <= finder.WINDOW and a % 8 == b % 8 == 0 for a, b in cuts)


def far_in(found: finder.Peaks, box: tuple[int, int, int, int], mpp_a: float) -> finder.Peaks:
    """Finds that no edge of a block's box (y0, x0, y1, x1; pixels) comes near."""
    y0, x0, y1, x1 = (v * mpp_a for v in box)
    m = finder.MARGIN_UM
    inside = (found.x >= x0 + m) & (found.x < x1 - m) & (found.y >= y0 + m) & (found.y < y1 - m)
    return found.take(inside)


#: rows and columns (y0, x0, y1, x1) of a plane of 520 x 560
CUTS = ((0, 0, 520, 560), (37, 11, 520, 560), (0, 90, 301, 480), (111, 203, 420, 560))


def same_finds(planes: np.ndarray, mpp_a: float, at: tuple[int, int], least: float) -> int:
    """Compare the finds of all cuts with those of the whole; return how many were compared."""
    whole = finder.find_peaks(planes, mpp_a, at, least)
    compared = 0
    for y0, x0, y1, x1 in CUTS:
        origin = at[0] + y0, at[1] + x0
        cut = finder.find_peaks(planes[:, y0:y1, x0:x1], mpp_a, origin, least)
        box = (*origin, at[0] + y1, at[1] + x1)
        a, b = far_in(whole, box, mpp_a), far_in(cut, box, mpp_a)
        compared += len(a.x)
        for name in a.__dataclass_fields__:
            assert np.array_equal(getattr(a, name), getattr(b, name)), (name, y0, x0)
    return compared


@pytest.mark.parametrize(("mpp_a", "at"), [(0.5, (0, 0)), (ODD, (8191, 4093)), (0.46, (77, 4001))])
def test_finds_are_the_same_bits_wherever_the_block_is_cut(
    mpp_a: float, at: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # every peak counts, however low: the more are compared
    monkeypatch.setattr(finder, "LOWEST", -15.0)
    assert same_finds(smooth((520, 560), 9), mpp_a, at, -15.0) > 200


@pytest.mark.parametrize(("mpp_a", "at"), [(0.5, (0, 0)), (ODD, (8191, 4093)), (0.46, (77, 4001))])
@pytest.mark.parametrize("core", [((90, 333), (101, 420)), ((0, 200), (300, 560))])
def test_finds_of_a_core_are_the_same_bits_as_those_of_the_whole(
    core: tuple[tuple[int, int], tuple[int, int]],
    mpp_a: float,
    at: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(finder, "LOWEST", -15.0)
    planes = smooth((520, 560), 9)
    whole = finder.find_peaks(planes, mpp_a, at, -15.0)
    part = finder.find_peaks(planes, mpp_a, at, -15.0, core)
    (y0, y1), (x0, x1) = core
    bounds = [(at[0] + y0, at[0] + y1), (at[1] + x0, at[1] + x1)]
    inside = [
        np.logical_and.reduce(
            [(v >= low * mpp_a) & (v < high * mpp_a)
             for v, (low, high) in zip((found.y, found.x), bounds, strict=True)]
        )
        for found in (whole, part)
    ]  # fmt: skip
    assert inside[0].sum() > 50
    assert len(part.x) < len(whole.x)
    for name in whole.__dataclass_fields__:
        one, other = getattr(whole, name)[inside[0]], getattr(part, name)[inside[1]]
        assert np.array_equal(one, other), name


def test_finds_are_the_same_bits_for_windows_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder, "LOWEST", -15.0)
    planes = spots((400, 360), 10)
    whole = finder.find_peaks(planes, MPP_A, (64, 72), -15.0)
    assert len(whole.x) > 50
    for side in (64, 104):
        monkeypatch.setattr(finder, "WINDOW", side)
        again = finder.find_peaks(planes, MPP_A, (64, 72), -15.0)
        for name in whole.__dataclass_fields__:
            assert np.array_equal(getattr(whole, name), getattr(again, name)), name


def test_what_a_pale_spot_is_does_not_depend_on_the_window_it_lies_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # brown without any blue, once in a block of its own, once with dark tissue in the same window
    monkeypatch.setattr(finder, "run_finder", drawn_net(lambda x: 10 * x[1] - 5))
    planes = np.zeros((3, 300, 620), np.float32)
    yy, xx = np.mgrid[:300, :620]
    planes[1] = 0.2 * np.exp(-((yy - 150) ** 2 + (xx - 450) ** 2) / 60)
    planes[0, :, :80] = 0.4
    whole = finder.find_peaks(planes, MPP_A, (0, 0), 0.0)
    cut = finder.find_peaks(planes[:, :, 320:], MPP_A, (0, 320), 0.0)
    assert whole.x.tolist() == cut.x.tolist()


def test_glass_holds_nothing() -> None:
    none = finder.find_peaks(np.zeros((3, 200, 300), np.float32), MPP_A, (0, 0), -15.0)
    assert none.x.shape == none.y.shape == none.heat.shape == (0,)
    assert (none.kind.shape, none.features.shape) == ((0, 3), (0, 24))


# The reader


def test_what_a_cell_reads_does_not_hang_on_its_company() -> None:
    rng = np.random.default_rng(11)
    n = 2 * nets.BATCH + 7
    x = rng.normal(0.5, 0.7, (n, 4, inputs.PLACES + 2 * inputs.WRAP, inputs.RADII))
    x, near = x.astype(np.float32), rng.normal(size=(n, 24)).astype(np.float32)
    whole = nets.run_reader(x, near)
    assert [v.shape[0] for v in whole] == [n, n, n]
    assert whole[0].shape[1:3] == (2, inputs.PLACES)
    assert (whole[1].shape[1:], whole[2].shape[1:]) == ((inputs.PLACES,), (5,))
    for chosen in (
        np.array([5]), np.arange(nets.BATCH), rng.permutation(n), rng.permutation(n)[:65],
        np.arange(n)[::-1],
    ):  # fmt: skip
        some = nets.run_reader(x[chosen], near[chosen])
        for a, b in zip(some, whole, strict=True):
            assert np.array_equal(a, b[chosen])


def test_no_cells_have_the_shapes_of_many() -> None:
    x = np.zeros((1, 4, inputs.PLACES + 2 * inputs.WRAP, inputs.RADII), np.float32)
    near = np.zeros((1, 24), np.float32)
    for one, none in zip(nets.run_reader(x, near), nets.run_reader(x[:0], near[:0]), strict=True):
        assert none.shape == (0, *one.shape[1:])
        assert none.dtype == one.dtype


def test_a_sharp_ring_of_logits_gives_its_radius() -> None:
    x = np.zeros((1, 4, inputs.PLACES + 2 * inputs.WRAP, inputs.RADII), np.float32)
    bins = nets.run_reader(x, np.zeros((1, 24), np.float32))[0].shape[3]
    step = inputs.RADIUS_UM / bins
    at = np.arange(2, bins - 2)
    logits = np.zeros((len(at), inputs.PLACES, bins), np.float32)
    logits[np.arange(len(at)), :, at] = 20.0
    got = cells._radii(logits)
    assert got.dtype == np.float32
    assert got == pytest.approx(np.repeat((at[:, None] + 0.5) * step, inputs.PLACES, 1), abs=0.01)
    # between two bins, and along an ellipse
    angle = inputs.place_angles()
    radius = 5.0 + 0.8 * np.cos(2 * angle)
    centre = (np.arange(bins) + 0.5) * step
    hill = -(((centre - radius[:, None]) / 0.7) ** 2)
    assert cells._radii(hill[None].astype(np.float32))[0] == pytest.approx(radius, abs=0.12)


def test_one_doubtful_place_does_not_tear_the_ring() -> None:
    bins = 16
    step = inputs.RADIUS_UM / bins
    logits = np.zeros((1, inputs.PLACES, bins), np.float32)
    logits[:, :, 5] = 6.0
    logits[0, 7] = 0.0
    logits[0, 7, 13] = 0.5
    assert cells._radii(logits)[0] == pytest.approx(5.5 * step, abs=0.35 * step)


def test_radii_do_not_hang_on_the_scale_or_company_of_the_logits() -> None:
    rng = np.random.default_rng(12)
    logits = rng.normal(0, 3, (40, inputs.PLACES, 16)).astype(np.float32)
    whole = cells._radii(logits)
    assert np.array_equal(cells._radii(logits[7:8]), whole[7:8])
    assert cells._radii(logits + np.float32(64)) == pytest.approx(whole, abs=1e-3)
    assert cells._radii(logits[:0]).shape == (0, inputs.PLACES)


def test_measures_of_a_disc_and_an_ellipse() -> None:
    angle = inputs.place_angles()
    a, b = 5.0, 3.0
    tilt = np.deg2rad(25.0)
    ellipse = a * b / np.hypot(b * np.cos(angle - tilt), a * np.sin(angle - tilt))
    nucleus = np.stack([np.full(inputs.PLACES, 4.0), ellipse]).astype(np.float32)
    radius = (np.arange(inputs.RADII) + 0.5) * inputs.STEP_UM
    inside = radius < nucleus[:, :, None]
    stains = np.zeros((2, 3, inputs.PLACES, inputs.RADII), np.float32)
    stains[:, 0], stains[:, 1] = np.where(inside, 0.4, 0.05), np.where(inside, 0.1, 0.7)
    area, h, d, elongation = cells._measures(nucleus, stains)
    assert area == pytest.approx([np.pi * 16, np.pi * a * b], rel=0.03)
    assert elongation == pytest.approx([1.0, a / b], rel=0.03)
    assert h == pytest.approx(0.4, rel=1e-3)
    assert d == pytest.approx(0.1, rel=1e-3)
    for alone, among in zip(
        cells._measures(nucleus[1:], stains[1:]), (area, h, d, elongation), strict=True
    ):
        assert np.array_equal(alone, among[1:])


def test_a_mean_is_weighted_by_area() -> None:
    nucleus = np.full((1, inputs.PLACES), 4.0, np.float32)
    radius = (np.arange(inputs.RADII) + 0.5) * inputs.STEP_UM
    stains = np.zeros((1, 3, inputs.PLACES, inputs.RADII), np.float32)
    stains[:, 0] = radius < 2.0
    # a quarter of the disc
    assert cells._measures(nucleus, stains)[1] == pytest.approx(0.25, abs=0.06)


# Cells of a block


def ids(found: reading.Cells, origin: tuple[int, int]) -> np.ndarray:
    return np.stack([found.y + origin[0], found.x + origin[1]], axis=1)


def test_cells_are_the_same_bits_wherever_the_block_is_cut() -> None:
    planes = spots((520, 560), 13)
    at, halo = (2049, 777), reading.HALO_UM / MPP_A
    # as sensitive as may be: whatever nets ship, there is something to compare
    eager = NUCLEI.model_copy(update={"sensitivity": 9.0})
    whole = reading.read_cells(planes, MPP_A, at, eager)
    place = ids(whole, at)
    compared = 0
    for y0, x0, y1, x1 in CUTS:
        origin = at[0] + y0, at[1] + x0
        cut = reading.read_cells(planes[:, y0:y1, x0:x1], MPP_A, origin, eager)
        low = np.array(origin) + halo
        high = np.array([at[0] + y1, at[1] + x1]) - halo
        mine, other = (
            ((p >= low) & (p < high)).all(axis=1) for p in (place, ids(cut, origin))
        )  # fmt: skip
        compared += mine.sum()
        assert np.array_equal(place[mine], ids(cut, origin)[other])
        for name in whole.__dataclass_fields__:
            if name not in ("x", "y"):
                a, b = getattr(whole, name)[mine], getattr(cut, name)[other]
                assert np.array_equal(a, b), (name, y0, x0)
    assert compared > 50


@given(y0=st.integers(0, 90), x0=st.integers(0, 90), side=st.integers(220, 330))
@examples(max_examples=4, deadline=None)
def test_what_the_stages_reach_together_is_all_that_a_find_needs(
    y0: int, x0: int, side: int
) -> None:
    at, eager = (2049, 777), NUCLEI.model_copy(update={"sensitivity": 9.0})
    planes, whole = read_spots()
    cut = reading.read_cells(planes[:, y0 : y0 + side, x0 : x0 + side], MPP_A,
                             (at[0] + y0, at[1] + x0), eager)  # fmt: skip
    halo = reach.total_um(reach.finding(MPP_A)) / MPP_A
    low = np.array([at[0] + y0, at[1] + x0]) + halo
    high = np.array([at[0] + y0, at[1] + x0]) + side - halo
    place, other_place = ids(whole, at), ids(cut, (at[0] + y0, at[1] + x0))
    mine, other = (((p >= low) & (p < high)).all(axis=1) for p in (place, other_place))
    assert mine.sum() > 5
    assert np.array_equal(place[mine], other_place[other])
    for name in set(whole.__dataclass_fields__) - {"x", "y"}:
        assert np.array_equal(getattr(whole, name)[mine], getattr(cut, name)[other]), name


@functools.cache
def read_spots() -> tuple[np.ndarray, reading.Cells]:
    """Planes of a block and its cells, read as sensitively as may be."""
    planes = spots((420, 420), 23)
    eager = NUCLEI.model_copy(update={"sensitivity": 9.0})
    return planes, reading.read_cells(planes, MPP_A, (2049, 777), eager)


@given(mpp=st.floats(0.1, 0.505))
def test_a_blocks_halo_holds_what_the_stages_reach(mpp: float) -> None:
    mpp_a = mpp * analysis_factor(mpp)
    for stages in (reach.finding(mpp_a), reach.measuring(mpp_a)):
        assert reach.total_um(stages) <= analysis.HALO_UM
    assert reach.total_um(reach.sharing()) == analysis.REACH_UM


def test_cells_are_what_their_fields_say() -> None:
    planes = spots((300, 300), 14)
    eager = NUCLEI.model_copy(update={"sensitivity": 9.0})
    found = reading.read_cells(planes, MPP_A, (0, 0), eager)
    n = len(found)
    assert n > 10
    assert np.array_equal(found.x * 16, np.rint(found.x * 16))
    assert found.nucleus.shape == found.border.shape == (n, 48)
    assert found.own.shape == (n, inputs.PLACES)
    assert ((found.own >= 0) & (found.own <= 1)).all()
    assert found.kind.sum(axis=1) == pytest.approx(np.ones(n), abs=1e-5)
    assert (found.kind[:, 2] < 0.5).all()
    assert (found.border > found.nucleus).all()
    assert (found.border * MPP_A <= inputs.RADIUS_UM).all()
    some = found.take(np.arange(n)[::-1])
    assert np.array_equal(some.nucleus, found.nucleus[::-1])


def test_only_wanted_cells_are_read_and_the_same() -> None:
    planes = spots((300, 300), 14)
    eager = NUCLEI.model_copy(update={"sensitivity": 9.0})
    found = reading.read_cells(planes, MPP_A, (0, 0), eager)
    left = reading.read_cells(planes, MPP_A, (0, 0), eager, lambda x, y: (x < 150) & (y > 60))
    mine = (found.x < 150) & (found.y > 60)
    assert 0 < mine.sum() < len(found)
    for name in found.__dataclass_fields__:
        assert np.array_equal(getattr(left, name), getattr(found, name)[mine]), name


def test_more_sensitivity_never_finds_less() -> None:
    planes = spots((300, 300), 14)
    found = [
        len(reading.read_cells(planes, MPP_A, (0, 0), NUCLEI.model_copy(update={"sensitivity": s})))
        for s in (0.4, 1.0, 3.0, 9.0)
    ]
    assert found == sorted(found)


@pytest.mark.parametrize("shape", [(2, 40, 40), (40, 40), (4, 40, 40), (1, 3, 40, 40)])
def test_planes_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="are needed"):
        reading.read_cells(np.zeros(shape, np.float32), MPP_A, (0, 0), NUCLEI)


@pytest.mark.parametrize("mpp_a", [0.0, -0.5, float("nan")])
def test_a_pixel_without_a_size_is_refused(mpp_a: float) -> None:
    with pytest.raises(ValueError, match="not above 0"):
        reading.read_cells(np.zeros((3, 40, 40), np.float32), mpp_a, (0, 0), NUCLEI)


# Second finds


def rings_at(x: list[float], y: list[float], radius: list[float]) -> tuple[np.ndarray, ...]:
    """Centres and round borders, µm, and identities in the order of rows."""
    border = np.repeat(np.array(radius)[:, None], RAYS, axis=1)
    return np.array(x), np.array(y), border, np.arange(len(x), dtype=np.int64)


def doubles(rings: tuple[np.ndarray, ...], heat: list[float]) -> list[bool]:
    x, y, border, number = rings
    return reading.are_doubles(x, y, border, np.array(heat), number).tolist()


def ellipse_seen_from(x: float, y: float, a: float, b: float) -> np.ndarray:
    """Radii (48,) of an ellipse around the origin, seen from a point inside of it."""
    c, s = np.cos(TURN), np.sin(TURN)
    p, q = c * c / a**2 + s * s / b**2, x * c / a**2 + y * s / b**2
    return (-q + np.sqrt(q * q - p * (x * x / a**2 + y * y / b**2 - 1))) / p


def test_of_two_finds_of_a_long_cell_the_surer_one_stands() -> None:
    x, y, _, number = rings_at([47.5, 52.0], [50.0, 50.5], [1.0, 1.0])
    seen_from = zip(x - 50, y - 50, strict=True)
    twice = x, y, np.stack([ellipse_seen_from(u, v, 9.0, 6.0) for u, v in seen_from]), number
    assert doubles(twice, [2.0, 1.0]) == [False, True]
    assert doubles(twice, [1.0, 2.0]) == [True, False]
    # of equals the first
    assert doubles(twice, [1.0, 1.0]) == [False, True]


@pytest.mark.parametrize(
    ("apart", "radius"),
    [(12.0, 6.0), (6.5, 6.0), (5.0, 6.0), (1.0, 2.5)],
    ids=["neighbours", "crowded", "overlapping", "small in large"],
)
def test_two_cells_stay_two(apart: float, radius: float) -> None:
    assert doubles(rings_at([50.0, 50.0 + apart], [50.0, 50.0], [6.0, radius]), [2.0, 1.0]) == [
        False, False,
    ]  # fmt: skip


def test_no_finds_no_doubles() -> None:
    assert doubles(rings_at([], [], []), []) == []
    assert doubles(rings_at([3.0], [4.0], [6.0]), [1.0]) == [False]


def crowd(seed: int) -> tuple[np.ndarray, ...]:
    """Many cells, most found twice: x, y, border (µm), heat, identity."""
    rng = np.random.default_rng(seed)
    n = 400
    x, y = (rng.integers(0, 32 * 190, n) / 32 for _ in "xy")
    off = rng.integers(-70, 71, (2, n)) / 32
    long, short = rng.uniform(5, 9, n), rng.uniform(4, 6, n)
    border = [
        ellipse_seen_from(u, v, a, b)
        for sign in (0, 1)
        for u, v, a, b in zip(*(sign * off), long, short, strict=True)
    ]
    border = np.rint(100 * np.array(border) * rng.uniform(0.95, 1.05, (2 * n, 1))) / 100
    heat = np.rint(4 * rng.normal(size=2 * n)) / 4
    return np.append(x, x + off[0]), np.append(y, y + off[1]), border, heat, rng.permutation(2 * n)


def test_doubles_are_those_of_every_pair() -> None:
    x, y, border, heat, number = crowd(15)

    def inside(dx: np.ndarray, dy: np.ndarray, radii: np.ndarray) -> np.ndarray:
        ray = np.floor(np.arctan2(dy, dx) * RAYS / (2 * np.pi) + 0.5).astype(int) % RAYS
        return dx**2 + dy**2 < radii[ray] ** 2

    expected = np.zeros(len(x), bool)
    for i in range(len(x)):
        for j in np.flatnonzero(np.hypot(x - x[i], y - y[i]) < reading_doubles.REACH_UM):
            surer = heat[j] > heat[i] or (heat[j] == heat[i] and number[j] < number[i])
            dx, dy = x[j] - x[i], y[j] - y[i]
            if j == i or not surer:
                continue
            shares = []
            for a, b, sign in ((j, i, 1), (i, j, -1)):
                r = reading_doubles.SMALLER * border[a]
                covered = inside(
                    sign * dx + r * np.cos(TURN), sign * dy + r * np.sin(TURN), border[b]
                )
                shares.append(covered.mean() * inside(sign * dx, sign * dy, border[b]))
            expected[i] |= min(shares) >= reading_doubles.MOST
    got = reading.are_doubles(x, y, border, heat, number)
    assert 20 < expected.sum() < len(x) - 20
    assert np.array_equal(got, expected)


def test_doubles_are_the_same_in_any_order_and_cut() -> None:
    x, y, border, heat, number = crowd(16)
    whole = reading.are_doubles(x, y, border, heat, number)
    turned = np.random.default_rng(17).permutation(len(x))
    again = reading.are_doubles(x[turned], y[turned], border[turned], heat[turned], number[turned])
    assert np.array_equal(again, whole[turned])
    reach = reading_doubles.REACH_UM
    near = np.flatnonzero((x > 40) & (x < 110) & (y > 55))
    part = reading.are_doubles(x[near], y[near], border[near], heat[near], number[near])
    core = (x[near] > 40 + reach) & (x[near] < 110 - reach) & (y[near] > 55 + reach)
    assert core.sum() > 50
    assert np.array_equal(part[core], whole[near][core])


# The files of the nets


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the nets' folder that stands in for it; no session is open."""
    folder = tmp_path / "weights"
    shutil.copytree(nets.FOLDER, folder)
    monkeypatch.setattr(nets, "FOLDER", folder)
    monkeypatch.setattr(nets, "_sessions", {})
    return folder


@pytest.mark.parametrize("net", nets.NETS)
def test_the_shipped_files_are_those_of_their_cards(net: str) -> None:
    card = nets.card(net)
    assert card["name"] == net
    assert card["sha256"] == hashlib.sha256((nets.FOLDER / f"{net}.onnx").read_bytes()).hexdigest()
    assert card["licence"] == "Apache-2.0"
    assert card["made_by"]


@pytest.mark.parametrize("net", nets.NETS)
def test_a_net_that_is_not_its_cards_is_a_fault(net: str, copied: Path) -> None:
    card = copied / f"{net}.json"
    facts = json.loads(card.read_text(encoding="utf-8"))
    card.write_text(json.dumps(facts | {"sha256": "0" * 64}), encoding="utf-8")
    with pytest.raises(ProgramFault, match=f"{net}.onnx") as caught:
        nets._session(net)
    assert caught.value.exit_code == 5
    assert "\n" not in str(caught.value)
    card.write_text(json.dumps(facts), encoding="utf-8")
    assert nets._session(net) is nets._session(net)


def test_a_fork_opens_its_own_sessions(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = nets._session("reader")
    monkeypatch.setattr(nets.os, "getpid", lambda: -1)
    assert nets._session("reader") is not mine


@pytest.mark.parametrize("net", nets.NETS)
def test_the_hash_of_the_nets_follows_each_file(net: str, copied: Path) -> None:
    hash_of = nets.weights_sha256.__wrapped__
    before = hash_of()
    assert before == nets.weights_sha256()
    with (copied / f"{net}.onnx").open("ab") as file:
        file.write(b"\0")
    assert hash_of() != before


def test_measured_cells_follow_the_nets(monkeypatch: pytest.MonkeyPatch) -> None:
    slide = SimpleNamespace(sha256_quick="1" * 64, mpp_x=0.25, mpp_y=0.25)
    before = measured_sha256(slide, None)
    assert measured_sha256(slide, None) == before
    monkeypatch.setattr(reading, "weights_sha256", lambda: "f" * 64)
    assert measured_sha256(slide, None) != before
