"""Borders and rays in the pixels: drawn cells, exact cuts, plain references."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from her2path import cells, membrane
from her2path.cells import _limits, _profiles, _rings
from her2path.membrane import _lines
from her2path.membrane.columns import RAW_COLUMNS, unpack
from her2path.settings import CellSettings, MembraneSettings

MPP, FACTOR, SIDE = 0.25, 2, 480
H, D = np.array([0.65, 0.70, 0.29]), np.array([0.27, 0.57, 0.78])
MIX = np.stack([H, D, np.cross(H, D) / np.linalg.norm(np.cross(H, D))])
LOG = -np.log10(np.maximum(np.arange(256), 1) / 243.0)
#: OD of hematoxylin and of DAB of a grey level, by channel
LUTS = (np.linalg.inv(MIX)[:, :2].T[:, :, None] * LOG).astype(np.float32)
DAB = LUTS[1]
RADIUS = 7.0


def tissue(
    at_um: list[tuple[float, float]], dab: np.ndarray, nucleus_od: float = 0.4
) -> tuple[np.ndarray, SimpleNamespace]:
    """Paint nuclei and a DAB plane (OD, level 0) into light; return RGB and nuclei."""
    y, x = np.mgrid[:SIDE, :SIDE] * MPP
    h = np.full((SIDE, SIDE), 0.05)
    for cx, cy in at_um:
        h[np.hypot(x - cx, y - cy) < 3.5] = nucleus_od
    light = 243.0 * 10 ** -(h[..., None] * H + dab[..., None] * D)
    light = gaussian_filter(light, (0.8, 0.8, 0))
    noise = np.random.default_rng(0).normal(0, 1.0, light.shape)
    rgb = np.clip(light + noise, 0, 255).astype(np.uint8)
    centre = np.array(at_um) / (MPP * FACTOR) - 0.25
    nuclei = SimpleNamespace(
        x=(np.rint(centre[:, 0] * 16) / 16).astype(np.float32),
        y=(np.rint(centre[:, 1] * 16) / 16).astype(np.float32),
        radii=np.full((len(at_um), 48), 3.5 / (MPP * FACTOR), np.float32),
    )
    return rgb, nuclei


def ring(cx: float, cy: float, od: float, fwhm: float = 1.0, radius: float = RADIUS) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] * MPP
    return od * np.exp(-4 * np.log(2) * ((np.hypot(x - cx, y - cy) - radius) / fwhm) ** 2)


def analysis(rgb: np.ndarray) -> np.ndarray:
    f = FACTOR
    height, width = rgb.shape[0] // f, rgb.shape[1] // f
    small = rgb.reshape(height, f, width, f, 3).astype(np.uint32).sum((1, 3))
    small = (small + f * f // 2) // (f * f)
    return DAB[0][small[..., 0]] + DAB[1][small[..., 1]] + DAB[2][small[..., 2]]


def measure(rgb: np.ndarray, nuclei: SimpleNamespace) -> tuple[cells.Borders, dict]:
    d = analysis(rgb)
    borders = cells.grow_cells(nuclei, d, np.zeros_like(d), MPP * FACTOR, CellSettings())
    return borders, membrane.measure_rays(
        rgb, LUTS, FACTOR, MPP, nuclei, borders, MembraneSettings()
    )


def resolve(raw: dict, nuclei: SimpleNamespace) -> dict:
    x, y = (np.rint(v * 16).astype(np.int64) for v in (nuclei.x, nuclei.y))
    raw = raw | {"x_fx": x, "y_fx": y, "cell_id": y * (1 << 30) + x}
    return membrane.resolve(raw, MPP * FACTOR, np.ones(x.size, bool), MembraneSettings())


MIDDLE = [(60.0, 60.0)]


@pytest.mark.parametrize(("od", "fwhm"), [(0.15, 0.7), (0.4, 1.0), (1.0, 2.0)])
def test_a_ring_is_found_and_its_mass_read(od: float, fwhm: float) -> None:
    rgb, nuclei = tissue(MIDDLE, ring(60, 60, od, fwhm))
    borders, raw = measure(rgb, nuclei)
    assert (borders.kind == 1).all()
    assert unpack("line_r", raw["line_r"]) == pytest.approx(np.full((1, 48), RADIUS), abs=0.4)
    mass = unpack("line_mass", raw["line_mass"])
    assert np.median(mass) == pytest.approx(od * fwhm * 1.0645, rel=0.2)
    found = resolve(raw, nuclei)
    assert found["completeness"][0] > 0.95
    assert found["membrane_od"][0] == pytest.approx(od, rel=0.25)


def test_unstained_cell_is_its_nucleus_and_some() -> None:
    rgb, nuclei = tissue(MIDDLE, np.zeros((SIDE, SIDE)))
    borders, raw = measure(rgb, nuclei)
    assert not (borders.kind == 1).any()
    expected = 3.5 + CellSettings().expansion_um
    assert borders.radii * MPP * FACTOR == pytest.approx(np.full((1, 48), expected), abs=0.3)
    assert resolve(raw, nuclei)["completeness"][0] == 0


def test_unstained_neighbours_part_at_the_middle() -> None:
    rgb, nuclei = tissue([(54.0, 60.0), (64.0, 60.0)], np.zeros((SIDE, SIDE)))
    borders, _ = measure(rgb, nuclei)
    assert borders.radii[0, 0] * MPP * FACTOR == pytest.approx(5.0, abs=0.4)
    assert borders.radii[1, 24] * MPP * FACTOR == pytest.approx(5.0, abs=0.4)
    assert borders.kind[0, 0] == 2


def test_the_first_strong_line_outward_wins() -> None:
    rgb, nuclei = tissue(MIDDLE, ring(60, 60, 0.4) + ring(60, 60, 1.2, 2.0, 13.0))
    borders, raw = measure(rgb, nuclei)
    assert borders.radii * MPP * FACTOR == pytest.approx(np.full((1, 48), RADIUS), abs=0.5)
    assert (raw["line_kind"] == 5).all()  # a line, and another one behind


def test_half_a_ring() -> None:
    d = ring(60, 60, 0.5)
    d[:, 240:] = 0
    rgb, nuclei = tissue(MIDDLE, d)
    assert resolve(measure(rgb, nuclei)[1], nuclei)["completeness"][0] == pytest.approx(
        0.5, abs=0.08
    )


def not_membranes() -> dict[str, np.ndarray]:
    y, x = np.mgrid[:SIDE, :SIDE] * MPP
    r = np.hypot(x - 60, y - 60)
    rough = gaussian_filter(np.random.default_rng(1).normal(0, 1, (SIDE, SIDE)), 1.5)
    return {
        "blush": np.where(r < RADIUS, 0.3, 0.0),
        "blush with texture": np.where(r < RADIUS, 0.2 + 0.25 * rough, 0.0),
        "nuclear DAB": np.where(r < 3.5, 0.5, 0.0),
        "background": np.full((SIDE, SIDE), 0.15),
        "a fold's slope": 0.01 * x,
    }


@pytest.mark.parametrize("name", list(not_membranes()))
def test_what_is_no_membrane(name: str) -> None:
    rgb, nuclei = tissue(MIDDLE, not_membranes()[name])
    assert resolve(measure(rgb, nuclei)[1], nuclei)["completeness"][0] < 0.1


def test_grey_edges_are_no_membrane() -> None:
    rgb, nuclei = tissue(MIDDLE, np.zeros((SIDE, SIDE)))
    dark = 10 ** -ring(60, 60, 0.25)[..., None]
    grey = (rgb * dark).astype(np.uint8)
    assert resolve(measure(grey, nuclei)[1], nuclei)["completeness"][0] < 0.1


def test_raw_columns_have_their_types() -> None:
    rgb, nuclei = tissue(MIDDLE, ring(60, 60, 0.5))
    raw = measure(rgb, nuclei)[1]
    assert list(raw) == [c.name for c in RAW_COLUMNS]
    for column in RAW_COLUMNS:
        kind = getattr(column.type, "value_type", column.type).to_pandas_dtype()
        assert raw[column.name].dtype == kind
        size = getattr(column.type, "list_size", None)
        assert raw[column.name].shape[1:] == ((size,) if size else ())


def crowd() -> tuple[np.ndarray, SimpleNamespace]:
    rng = np.random.default_rng(3)
    grid = [(x, y) for x in range(6, 118, 12) for y in range(6, 118, 12)]
    at = [(x + rng.uniform(-2, 2), y + rng.uniform(-2, 2)) for x, y in grid]
    d = np.zeros((SIDE, SIDE))
    for cx, cy in at:
        d += ring(cx, cy, rng.choice([0.0, 0.15, 0.5, 1.0]), 1.2, rng.uniform(4.5, 7))
    return tissue(at, d)


def test_a_cut_with_its_halo_gives_the_same_bits() -> None:
    rgb, nuclei = crowd()
    borders, raw = measure(rgb, nuclei)
    halo = int(np.ceil(membrane.HALO_UM / (MPP * FACTOR)))
    side = SIDE // FACTOR
    rng = np.random.default_rng(4)
    for _ in range(4):
        x0, y0 = rng.integers(60, 150, 2)
        left, top = max(x0 - halo, 0), max(y0 - halo, 0)
        right, bottom = min(x0 + 30 + halo, side), min(y0 + 30 + halo, side)
        read = (nuclei.x >= left) & (nuclei.x < right) & (nuclei.y >= top) & (nuclei.y < bottom)
        part = np.flatnonzero(read)
        rng.shuffle(part)
        some = SimpleNamespace(
            x=nuclei.x[part] - left, y=nuclei.y[part] - top, radii=nuclei.radii[part]
        )
        cut = rgb[FACTOR * top : FACTOR * bottom, FACTOR * left : FACTOR * right]
        own_borders, own_raw = measure(cut, some)
        core = (nuclei.x[part] >= x0) & (nuclei.x[part] < x0 + 30)
        core &= (nuclei.y[part] >= y0) & (nuclei.y[part] < y0 + 30)
        assert core.any()
        assert np.array_equal(own_borders.radii[core], borders.radii[part[core]])
        assert np.array_equal(own_borders.kind[core], borders.kind[part[core]])
        for name, values in own_raw.items():
            assert np.array_equal(values[core], raw[name][part[core]]), name


def test_unwanted_cells_only_stand_in_the_way() -> None:
    rgb, nuclei = crowd()
    borders, raw = measure(rgb, nuclei)
    d = analysis(rgb)
    wanted = np.arange(nuclei.x.size) % 3 == 0
    some = cells.grow_cells(nuclei, d, np.zeros_like(d), MPP * FACTOR, CellSettings(), wanted)
    assert np.array_equal(some.radii[wanted], borders.radii[wanted])
    assert np.array_equal(some.radii[~wanted], nuclei.radii[~wanted])
    part = membrane.measure_rays(rgb, LUTS, FACTOR, MPP, nuclei, some, MembraneSettings(), wanted)
    for name, values in part.items():
        assert np.array_equal(values[wanted], raw[name][wanted]), name
    assert not part["line_mass"][~wanted].any()


def test_sampling_equals_scipy() -> None:
    rgb, _ = crowd()
    d = DAB[0][rgb[..., 0]] + DAB[1][rgb[..., 1]] + DAB[2][rgb[..., 2]]
    points = np.random.default_rng(5).uniform(-3, SIDE + 2, (200, 2))
    expected = map_coordinates(d.astype(float), points.T, order=1, mode="nearest")
    read = [_lines.sample_od(rgb, DAB, 0, 0, y, x) for y, x in points]
    assert read == pytest.approx(expected, abs=1e-5)
    small = analysis(rgb).astype(np.float32)
    expected = map_coordinates(small.astype(float), points.T / 2, order=1, mode="nearest")
    read = [_profiles.bilinear_at(small, 0, 0, x / 2, y / 2) for y, x in points]
    assert read == pytest.approx(expected, abs=1e-5)


def plain_ring(cost: np.ndarray, bend: float) -> np.ndarray:
    """Shortest closed path by trying every start: the reference of the unrolled programme."""
    rays, n = cost.shape
    jump = bend * np.abs(np.arange(n)[:, None] - np.arange(n)[None, :])
    best, path = np.inf, np.zeros(rays, int)
    for start in range(n):
        total = np.full(n, np.inf)
        total[start] = cost[0, start]
        back = []
        for k in range(1, rays):
            step = total[:, None] + jump
            back.append(step.argmin(0))
            total = step.min(0) + cost[k]
        closed = total + jump[:, start]
        if closed.min() < best:
            best, at = closed.min(), int(closed.argmin())
            path[rays - 1] = at
            for k in range(rays - 2, -1, -1):
                path[k] = at = back[k][at]
    return path


@pytest.mark.parametrize("seed", range(5))
def test_the_ring_is_the_cheapest_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, bend = 24, 0.056
    cost = rng.random((48, n)) * 0.2 - np.exp(-((np.arange(n) - rng.uniform(6, 18)) ** 2) / 8)
    costs = rng.random((48, n, _rings.LANES))
    lanes = {0: cost, 3: cost[:, ::-1], _rings.LANES - 1: np.roll(cost, 5, axis=0)}
    for lane, own in lanes.items():
        costs[:, :, lane] = own
    path = np.zeros((_rings.LANES, 48), np.int64)
    space = _rings.ring_space(n + 4)
    _rings.best_rings(costs.reshape(48, -1).astype(np.float32), bend, space, path)
    for lane, own in lanes.items():
        assert np.array_equal(path[lane], plain_ring(own, bend))


def test_neighbour_limits_equal_the_power_lines() -> None:
    _, nuclei = crowd()
    x, y = nuclei.x.astype(float), nuclei.y.astype(float)
    size = np.random.default_rng(6).uniform(5, 9, x.size)
    bins = (*_limits.bin_points(x, y, 64.0), 64.0)
    soft, hard = np.empty(48), np.empty(48)
    i = 40
    _limits.neighbour_limits(i, x, y, size, bins, soft, hard)
    turn = np.arange(48) * 2 * np.pi / 48
    dx, dy = np.delete(x - x[i], i), np.delete(y - y[i], i)
    far2, others = dx**2 + dy**2, np.delete(size, i)
    along = np.cos(turn)[:, None] * dx + np.sin(turn)[:, None] * dy
    power = np.maximum((far2 + size[i] ** 2 - others**2) / 2, 0.15 * far2)
    ahead = (along > 0.05) & (far2 <= 64.0**2)
    reach = np.where(ahead, power / np.where(ahead, along, 1), _limits.FAR)
    assert soft == pytest.approx(reach.min(1))
    assert (hard >= 0).all()


def test_no_nuclei() -> None:
    rgb, nuclei = tissue(MIDDLE, np.zeros((SIDE, SIDE)))
    nobody = SimpleNamespace(x=nuclei.x[:0], y=nuclei.y[:0], radii=nuclei.radii[:0])
    borders, raw = measure(rgb, nobody)
    assert borders.radii.shape == (0, 48)
    assert all(v.shape[0] == 0 for v in raw.values())


def test_wrong_shapes_are_told() -> None:
    rgb, nuclei = tissue(MIDDLE, np.zeros((SIDE, SIDE)))
    d = analysis(rgb)
    with pytest.raises(ValueError, match="one shape"):
        cells.grow_cells(nuclei, d, d[1:], 0.5, CellSettings())
    short = SimpleNamespace(x=nuclei.x, y=nuclei.y, radii=nuclei.radii[:, :40])
    with pytest.raises(ValueError, match="48 radii"):
        cells.grow_cells(short, d, d, 0.5, CellSettings())
    borders = cells.grow_cells(nuclei, d, d, 0.5, CellSettings())
    with pytest.raises(ValueError, match="luts"):
        membrane.measure_rays(rgb, DAB, 2, 0.25, nuclei, borders, MembraneSettings())
