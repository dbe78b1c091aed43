"""The membrane: lines measured on drawn rings, and shared lines attributed in hand-made nests."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from her2path.cells import membrane, stain
from her2path.cells.membrane import _joint, _kernels, _lines, attribution
from her2path.cells.membrane._lines import Line, Ring
from her2path.cells.membrane.columns import RAW_COLUMNS, SCALES, pack, unpack
from her2path.cells.reading.inputs import PLACES
from her2path.cells.rings import RAYS
from her2path.core.geometry import FIXED

WHITE = 240.0
MODEL = stain.StainModel(
    (WHITE,) * 3, (0.65, 0.70, 0.29), (0.27, 0.57, 0.78), "fixed", (), {}
)  # fmt: skip
#: integral of a Gaussian over its peak times its full width at half maximum
GAUSS = 1.0645
TURN = np.arange(RAYS) * (2 * np.pi / RAYS)
OFF_UM = (np.arange(_lines.TAPS) - _lines.HALF) * _lines.STEP_UM


# One line


def bump(crest: float, width: float, off: float = 0.0) -> np.ndarray:
    """Line across the border: crest OD, full width at half maximum and place, µm."""
    return crest * np.exp(-4 * np.log(2) * ((OFF_UM - off) / width) ** 2)


def read(profile: np.ndarray, base: float = 0.0) -> dict[str, float]:
    out = np.empty(4)
    _lines.read_line(np.asarray(profile, np.float64), np.empty(_lines.TAPS), base, out)
    at = {
        "off": Line.PLACE_UM, "crest": Line.CREST_OD, "mass": Line.MASS_OD_UM,
        "width": Line.WIDTH_UM,
    }  # fmt: skip
    return {name: float(out[k]) for name, k in at.items()}


#: full width of the kernel that a profile is smoothed with, µm
SMOOTHED = 2.3548 * _lines.STEP_UM * np.sqrt(0.5)


@pytest.mark.parametrize("crest", [0.03, 0.15, 0.45, 1.2])
@pytest.mark.parametrize("width", [0.7, 1.0, 2.1])
@pytest.mark.parametrize("base", [0.0, 0.12])
def test_a_line_is_read_over_the_cytoplasm(crest: float, width: float, base: float) -> None:
    got = read(base + bump(crest, width), base)
    assert got["off"] == 0
    assert got["mass"] == pytest.approx(crest * width * GAUSS, rel=0.05)
    broad = np.hypot(width, SMOOTHED)
    assert got["crest"] == pytest.approx(crest * width / broad, rel=0.04)
    assert got["width"] == pytest.approx(broad, rel=0.06)


@pytest.mark.parametrize("off", [-1.0, -0.5, 0.25, 0.75, 1.25])
def test_a_line_beside_the_border_is_found_where_it_lies(off: float) -> None:
    got, middle = read(bump(0.3, 0.9, off)), read(bump(0.3, 0.9))
    assert got["off"] == pytest.approx(off)
    for name in ("crest", "mass", "width"):
        assert got[name] == pytest.approx(middle[name], rel=0.02), name


def test_a_line_beyond_reach_is_another_cells() -> None:
    got = read(bump(0.3, 0.7, 2.5))
    assert abs(got["off"]) <= _lines.CREST_TAPS * _lines.STEP_UM
    assert got["crest"] < 0.02 * 0.3
    assert got["mass"] < 0.02 * 0.3 * 0.7


def test_of_two_equals_the_one_nearer_to_the_border_is_read() -> None:
    assert read(bump(0.3, 0.5, -0.5) + bump(0.3, 0.5, 1.25))["off"] == -0.5
    # a much darker one farther off wins
    assert read(bump(0.1, 0.5, -0.25) + bump(0.4, 0.5, 1.25))["off"] == 1.25


def test_one_of_two_lines_does_not_take_the_others_mass() -> None:
    alone = read(bump(0.6, 0.8))
    beside = read(bump(0.6, 0.8) + bump(0.9, 0.8, 2.2))
    assert beside["mass"] == pytest.approx(alone["mass"], rel=0.1)
    assert beside["width"] == pytest.approx(alone["width"], rel=0.1)


def test_what_does_not_rise_above_the_cytoplasm_is_no_line() -> None:
    for profile in (np.full(_lines.TAPS, 0.1), 0.1 - bump(0.1, 0.8), bump(0.08, 0.8)):
        got = read(profile, 0.1)
        assert (got["crest"], got["mass"], got["width"]) == (0, 0, 0)


def test_mass_and_crest_are_proportional_to_the_stain() -> None:
    weak, twice = (read(bump(c, 0.8)) for c in (0.02, 0.04))
    assert twice["mass"] == pytest.approx(2 * weak["mass"], rel=1e-6)
    assert twice["crest"] == pytest.approx(2 * weak["crest"], rel=1e-6)
    assert twice["width"] == pytest.approx(weak["width"], rel=1e-6)


@pytest.mark.parametrize("crest", [0.05, 0.5])
def test_mass_stands_blur_far_better_than_the_crest(crest: float) -> None:
    def blurred(sigma: float) -> np.ndarray:
        width = np.hypot(0.7, 2.3548 * sigma)
        return bump(crest * 0.7 / width, width)

    sharp, soft = read(blurred(0.15)), read(blurred(0.40))
    assert soft["crest"] < 0.8 * sharp["crest"]
    assert soft["mass"] == pytest.approx(sharp["mass"], rel=0.05)


def test_a_middle_is_that_of_the_sorted_values() -> None:
    rng = np.random.default_rng(2)
    for n in (1, 2, 5, 8, 47):
        values = rng.normal(size=48)
        expected = np.sort(values[:n])[int(0.5 * (n - 1) + 0.5)]
        assert _kernels.middle_of(values.copy(), n) == expected
    assert _kernels.middle_of(rng.normal(size=3), 0) == 0


def test_normals_of_a_circle_point_outwards_and_of_an_ellipse_across_it() -> None:
    ring = np.full((len(Ring), RAYS), 20.0)
    nx, ny = ring[Ring.NORMAL_X], ring[Ring.NORMAL_Y]
    _kernels.ring_normals(ring)
    assert nx == pytest.approx(np.cos(TURN), abs=1e-9)
    a, b = 30.0, 20.0
    radius = a * b / np.hypot(b * np.cos(TURN), a * np.sin(TURN))
    ring[Ring.RADIUS] = radius
    _kernels.ring_normals(ring)
    true = np.stack([radius * np.cos(TURN) / a**2, radius * np.sin(TURN) / b**2])
    true /= np.hypot(*true)
    assert true[0] * nx + true[1] * ny == pytest.approx(np.ones(RAYS), abs=2e-3)


# Rings in pixels


def drawn(
    mpp: float, dab_of: Callable[[np.ndarray, np.ndarray], np.ndarray], blur_um: float = 0.0
) -> np.ndarray:
    """Pixels of a plane of 60 x 60 µm; `dab_of` takes x, y in µm from the middle."""
    side = 2 * round(30 / mpp)
    at = (np.arange(side) + 0.5) * mpp - 30.0
    od = dab_of(*np.meshgrid(at, at, indexing="xy"))
    if blur_um:
        od = -np.log10(gaussian_filter(10.0**-od, blur_um / mpp))
    return stain.mix(np.zeros_like(od), od, MODEL)


def ring_of(crest: float, width: float, radius: float) -> Callable[..., np.ndarray]:
    def dab(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return crest * np.exp(-4 * np.log(2) * ((np.hypot(x, y) - radius) / width) ** 2)

    return dab


def cell(mpp_a: float, border_um: float, nucleus_um: float = 3.5) -> SimpleNamespace:
    """One cell in the middle of the plane, with its rings in analysis pixels."""
    # an analysis pixel's middle lies at half a pixel
    at = np.array([30.0 / mpp_a - 0.5])
    at = np.rint(at * 16) / 16
    return SimpleNamespace(
        x=at, y=at, nucleus=np.full((1, RAYS), nucleus_um / mpp_a, np.float32),
        border=np.full((1, RAYS), border_um / mpp_a, np.float32),
        own=np.full((1, PLACES), 0.9, np.float32),
    )  # fmt: skip


def measured(
    rgb: np.ndarray, mpp: float, cells: SimpleNamespace, factor: int = 2
) -> dict[str, np.ndarray]:
    raw = membrane.measure_rays(rgb, MODEL.tables()[1], factor, mpp, cells)
    return {k: unpack(k, v) if k in SCALES else v for k, v in raw.items()}


@pytest.mark.parametrize(("crest", "width"), [(0.06, 0.7), (0.2, 1.0), (0.8, 1.4)])
@pytest.mark.parametrize("border", [6.0, 6.4, 5.6])
def test_a_drawn_ring_is_measured(crest: float, width: float, border: float) -> None:
    got = measured(drawn(0.25, ring_of(crest, width, 6.0)), 0.25, cell(0.5, border))
    # a crest costs the more, the farther it lies off the border: a faint broad one moves a little
    assert got["line_r"].mean() == pytest.approx(6.0, abs=0.15)
    assert np.abs(got["line_r"] - 6.0).max() < 0.4
    broad = np.hypot(width, SMOOTHED)
    # of a broad line something is taken for cytoplasm, 1.2 to 1.7 µm inside of the border
    true = crest * width * GAUSS
    assert (0.75 if width > 1.2 else 0.88) * true < np.median(got["line_mass"]) < 1.05 * true
    assert np.median(got["line_crest"]) == pytest.approx(crest * width / broad, rel=0.15)
    assert np.median(got["line_width"]) == pytest.approx(broad, rel=0.15)
    assert got["line_own"] == pytest.approx(np.full((1, PLACES), 0.9), abs=1 / 255)


@pytest.mark.parametrize(("mpp", "factor"), [(0.2, 2), (0.23, 2), (0.25, 2), (0.46, 1), (0.5, 1)])
def test_mass_is_the_same_at_any_pixel_size(mpp: float, factor: int) -> None:
    got = measured(drawn(mpp, ring_of(0.3, 1.0, 6.0)), mpp, cell(mpp * factor, 6.0), factor)
    assert np.median(got["line_mass"]) == pytest.approx(0.3 * GAUSS, rel=0.1)
    assert got["line_r"].mean() == pytest.approx(6.0, abs=0.15)


@pytest.mark.parametrize(("crest", "width"), [(0.08, 0.7), (0.3, 1.0), (0.7, 1.6)])
def test_blur_lowers_the_crest_and_hardly_the_mass(crest: float, width: float) -> None:
    sharp, soft = (
        measured(drawn(0.25, ring_of(crest, width, 6.5), sigma), 0.25, cell(0.5, 6.5, 2.0))
        for sigma in (0.15, 0.42)
    )
    sharp_mass, soft_mass = (np.median(v["line_mass"]) for v in (sharp, soft))
    lost = 1 - np.median(soft["line_crest"]) / np.median(sharp["line_crest"])
    assert lost > 0.08
    assert abs(1 - soft_mass / sharp_mass) < min(0.1, lost)


def test_half_a_ring_is_measured_where_it_lies() -> None:
    def half(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return ring_of(0.4, 1.0, 6.0)(x, y) * (x > 0)

    mass = measured(drawn(0.25, half), 0.25, cell(0.5, 6.0))["line_mass"][0]
    right = np.cos(TURN) > 0.2
    left = np.cos(TURN) < -0.2
    assert mass[right] == pytest.approx(np.full(right.sum(), 0.4 * GAUSS), rel=0.15)
    assert np.abs(mass[left]).max() < 0.02


def test_cytoplasm_is_read_between_nucleus_and_line() -> None:
    def blush(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        far = np.hypot(x, y)
        return 0.15 * ((far > 3.5) & (far < 6.0)) + ring_of(0.5, 0.8, 6.5)(x, y)

    rgb = drawn(0.25, blush)
    assert measured(rgb, 0.25, cell(0.5, 6.5))["cytoplasm_od"] == pytest.approx([0.15], abs=0.02)
    # where the nucleus fills its cell, the line's inner side stands in
    tight = measured(rgb, 0.25, cell(0.5, 6.5, nucleus_um=5.5))["cytoplasm_od"]
    assert tight == pytest.approx([0.15], abs=0.06)


def test_rays_are_the_same_bits_wherever_the_block_is_cut() -> None:
    rng = np.random.default_rng(3)
    rgb = drawn(0.25, ring_of(0.4, 1.0, 6.0))
    rgb = (rgb - rng.integers(0, 20, rgb.shape)).astype(np.uint8)
    n = 12
    x, y = (50 + rng.integers(0, 320, n) / 16 for _ in "xy")
    rings = rng.uniform(10, 14, (n, RAYS)).astype(np.float32)
    own = rng.random((n, PLACES)).astype(np.float32)
    cells = SimpleNamespace(x=x, y=y, nucleus=0.6 * rings, border=rings, own=own)
    whole = membrane.measure_rays(rgb, MODEL.tables()[1], 2, 0.25, cells)
    for top, left in ((14, 6), (30, 38)):
        here = SimpleNamespace(
            x=x - left / 2, y=y - top / 2, nucleus=0.6 * rings, border=rings, own=own
        )
        cut = membrane.measure_rays(rgb[top:, left:], MODEL.tables()[1], 2, 0.25, here)
        for name, values in whole.items():
            assert np.array_equal(values, cut[name]), name


def test_the_edge_of_the_plane_reads_like_its_inside() -> None:
    # the quick way for cells well inside gives what the careful one gives
    rgb = drawn(0.25, ring_of(0.4, 1.0, 6.0))
    whole = measured(rgb, 0.25, cell(0.5, 6.0))
    just = SimpleNamespace(**vars(cell(0.5, 6.0)))
    cut = 2 * int((30 - 6 - _lines.HALF * _lines.STEP_UM) / 0.5) - 2
    just.x, just.y = just.x - cut / 2, just.y - cut / 2
    close = measured(rgb[cut:, cut:], 0.25, just)
    for name, values in whole.items():
        assert np.array_equal(values, close[name]), name


def test_no_cells_and_wrong_shapes() -> None:
    rgb = drawn(0.25, ring_of(0.4, 1.0, 6.0))
    none = np.zeros((0, RAYS), np.float32)
    nobody = SimpleNamespace(
        x=np.zeros(0), y=np.zeros(0), nucleus=none, border=none,
        own=np.zeros((0, PLACES), np.float32),
    )  # fmt: skip
    found = membrane.measure_rays(rgb, MODEL.tables()[1], 2, 0.25, nobody)
    assert {k: len(v) for k, v in found.items()} == {c.name: 0 for c in RAW_COLUMNS}
    for wrong, dab in ((rgb[..., 0], MODEL.tables()[1]), (rgb, MODEL.tables()[1][:2])):
        with pytest.raises(ValueError, match="not"):
            membrane.measure_rays(wrong, dab, 2, 0.25, cell(0.5, 6.0))


@pytest.mark.parametrize("name", SCALES)
def test_fixed_point_keeps_values_to_a_count_and_clips(name: str) -> None:
    dtype = pack(name, np.zeros((1, 4), np.float32)).dtype
    top = np.iinfo(dtype).max * SCALES[name]
    values = np.linspace(0, top, 48, dtype=np.float32)[None]
    assert np.abs(unpack(name, pack(name, values)) - values).max() <= 0.51 * SCALES[name]
    beyond = pack(name, np.array([[-1e9, 1e9]], np.float32))
    assert beyond.tolist() == [[np.iinfo(dtype).min, np.iinfo(dtype).max]]


# Nests of hexagonal cells

MPP_A = 0.5
APOTHEM = 6.0


def hexagons(rings: int, apothem: float = APOTHEM) -> np.ndarray:
    """Centres (µm) of a hexagonal nest; the middle one first."""
    span = range(-rings, rings + 1)
    at = [(q, r) for q in span for r in span if abs(q + r) <= rings]
    at.sort(key=lambda c: (max(abs(c[0]), abs(c[1]), abs(c[0] + c[1])), c))
    pitch = 2 * apothem
    return np.array([(pitch * (q + r / 2), pitch * r * np.sqrt(3) / 2) for q, r in at]) + 200.0


def nest(
    centres: np.ndarray,
    crest: np.ndarray,
    own: np.ndarray | None = None,
    evidence: np.ndarray | None = None,
    apothem: float = APOTHEM,
) -> dict[str, np.ndarray]:
    """Raw table of hexagonal cells whose own crests (N, 48) add up on shared lines.

    `own` (N, 24) is what the reader says, by default the truth; so is the evidence. Lines are
    1.2 µm wide.
    """
    n = len(centres)
    if own is None:
        own = 0.98 * (crest[:, ::2] > 0)
    if evidence is None:
        evidence = np.where((crest > 0).any(axis=1), 6.0, -6.0)
    # flat sides face the six neighbours: side s covers the rays around s * 60 degrees
    radius = np.roll(apothem / np.cos((TURN % (np.pi / 3)) - np.pi / 6), -4)
    line = crest.copy()
    for i in range(n):
        for s in range(6):
            side = np.array([np.cos(s * np.pi / 3), np.sin(s * np.pi / 3)])
            j = np.flatnonzero(np.hypot(*(centres - centres[i] - 2 * apothem * side).T) < 2.0)
            if j.size:
                for t in range(-4, 4):
                    line[i, (8 * s + t) % 48] += crest[j[0], (8 * s + 24 - t) % 48]
    full = np.ones((n, RAYS), np.float32)
    fx = np.rint(centres * 16 / MPP_A).astype(np.int64)
    return {
        "cell_id": fx[:, 1] * (1 << 31) + fx[:, 0],
        "x_fx": fx[:, 0],
        "y_fx": fx[:, 1],
        "line_r": pack("line_r", (radius * full).astype(np.float32)),
        "line_mass": pack("line_mass", (line * 1.2 * GAUSS).astype(np.float32)),
        "line_crest": pack("line_crest", line.astype(np.float32)),
        "line_width": pack("line_width", 1.2 * full),
        "line_own": pack("line_own", own.astype(np.float32)),
        "cytoplasm_od": np.zeros(n, np.float32),
        "evidence": np.asarray(evidence, np.float32),
    }


def solve(raw: dict[str, np.ndarray], core: np.ndarray | None = None) -> dict[str, np.ndarray]:
    core = np.ones(raw["cell_id"].size, bool) if core is None else core
    return membrane.resolve(raw, MPP_A, core)


def test_a_line_keeps_a_part_of_the_blush_it_lies_on() -> None:
    raw = nest(hexagons(0), np.full((1, RAYS), 0.1))
    bare = solve(raw)
    blushed = solve(raw | {"cytoplasm_od": np.full(1, 0.05, np.float32)})
    assert blushed["membrane_od"] == pytest.approx(bare["membrane_od"] + 0.4 * 0.05, abs=1e-6)
    assert blushed["membrane_od_ring"] == pytest.approx(
        blushed["membrane_od"] * blushed["completeness"], rel=1e-5
    )
    # a DAB plane below zero is no negative line
    below = solve(raw | {"cytoplasm_od": np.full(1, -0.05, np.float32)})
    assert below["membrane_od"] == bare["membrane_od"]
    # and what is unstained has none, however brown its cytoplasm
    plain = nest(hexagons(0), np.zeros((1, RAYS))) | {"cytoplasm_od": np.full(1, 0.2, np.float32)}
    assert solve(plain)["membrane_od"] == 0.0


def rough(crest: np.ndarray, seed: int, share: float = 0.15) -> np.ndarray:
    return crest * np.random.default_rng(seed).lognormal(0, share, crest.shape)


def test_the_hand_made_table_has_every_raw_column() -> None:
    raw = nest(hexagons(1), np.zeros((7, RAYS)))
    assert {c.name for c in RAW_COLUMNS} <= set(raw)
    for column in RAW_COLUMNS:
        kind = column.type
        value = kind if raw[column.name].ndim == 1 else kind.value_type
        assert raw[column.name].dtype == value.to_pandas_dtype(), column.name
        if raw[column.name].ndim == 2:
            assert raw[column.name].shape[1] == kind.list_size, column.name


STAINED = (
    "membrane_od", "membrane_od_ring", "membrane_mass", "completeness", "membrane_width_um"
)  # fmt: skip


def test_an_unstained_nest_is_unstained() -> None:
    # what the pixels hold does not count where the reader sees no staining
    own = np.full((19, PLACES), 0.4)
    found = solve(nest(hexagons(2), np.full((19, RAYS), 0.2), own, np.full(19, -4.0)))
    for name in STAINED:
        assert not found[name].any(), name
    assert not found["uncertain"].any()
    assert found["cytoplasm_od"] == pytest.approx(np.zeros(19))


@pytest.mark.parametrize("crest", [0.03, 0.2, 1.0])
def test_a_lone_ring_keeps_its_line(crest: float) -> None:
    found = solve(nest(hexagons(0), rough(np.full((1, RAYS), crest), 1)))
    assert found["completeness"][0] > 0.95
    assert found["membrane_od"][0] == pytest.approx(crest, rel=0.1)
    assert found["membrane_mass"][0] == pytest.approx(crest * 1.2 * GAUSS, rel=0.06)
    assert found["membrane_width_um"][0] == pytest.approx(1.2, abs=0.02)
    assert found["shared_fraction"][0] == 0
    assert not found["uncertain"][0]


@pytest.mark.parametrize("start", [0, 11, 30])
def test_half_a_ring_is_half_complete_and_as_dark(start: int) -> None:
    crest = np.zeros((1, RAYS))
    crest[0, (start + np.arange(24)) % 48] = 0.4
    found = solve(nest(hexagons(0), crest))
    assert found["completeness"][0] == pytest.approx(0.5, abs=0.06)
    assert found["membrane_od"][0] == pytest.approx(0.4, rel=0.05)
    assert found["membrane_od_ring"][0] == pytest.approx(
        found["membrane_od"][0] * found["completeness"][0], rel=1e-5
    )


@pytest.mark.parametrize("crest", [0.03, 0.2, 0.8])
def test_two_like_cells_have_half_of_their_line_each(crest: float) -> None:
    raw = nest(hexagons(1)[:2], np.full((2, RAYS), crest))
    assert raw["line_crest"].max() == pytest.approx(2 * crest / SCALES["line_crest"], rel=0.01)
    found = solve(raw)
    for name, true in (("membrane_od", crest), ("membrane_mass", crest * 1.2 * GAUSS)):
        assert found[name] == pytest.approx([true, true], rel=0.12), name
        assert found[name][0] == pytest.approx(found[name][1], rel=1e-5), name
    assert (found["completeness"] > 0.95).all()
    assert found["shared_fraction"] == pytest.approx([1 / 6, 1 / 6], abs=0.1)


@pytest.mark.parametrize("crest", [0.03, 0.2, 0.8])
def test_in_a_nest_of_like_cells_each_has_half_of_every_line(crest: float) -> None:
    found = solve(nest(hexagons(2), np.full((19, RAYS), crest)))
    inner = slice(0, 7)
    assert found["membrane_od"][inner] == pytest.approx(np.full(7, crest), rel=0.08)
    assert found["membrane_mass"][inner] == pytest.approx(np.full(7, crest * 1.2 * GAUSS), rel=0.08)
    assert found["shared_fraction"][inner] == pytest.approx(np.ones(7))
    # at the rim the shared half of the border says how dark the line is, for all of it
    assert (found["membrane_od"] > 0.9 * crest).all()
    assert (found["membrane_od"] < 1.6 * crest).all()


def test_beside_unstained_cells_a_stained_one_keeps_all_of_its_line() -> None:
    crest = np.zeros((7, RAYS))
    crest[0] = 0.5
    found = solve(nest(hexagons(1), crest))
    assert found["membrane_od"][0] == pytest.approx(0.5, rel=0.05)
    assert found["membrane_mass"][0] == pytest.approx(0.5 * 1.2 * GAUSS, rel=0.05)
    for name in STAINED:
        assert not found[name][1:].any(), name


def test_an_unstained_cell_amid_stained_ones_takes_nothing_of_theirs() -> None:
    crest = np.full((19, RAYS), 0.4)
    with_all = solve(nest(hexagons(2), crest))
    crest[0] = 0
    found = solve(nest(hexagons(2), crest))
    for name in STAINED:
        assert found[name][0] == 0, name
    assert found["membrane_od"][1:7] == pytest.approx(with_all["membrane_od"][1:7], rel=0.25)


@pytest.mark.parametrize(("weak", "strong"), [(0.05, 0.2), (0.1, 0.4), (0.3, 0.9)])
def test_a_weak_cell_beside_a_strong_one_is_told_by_its_free_border(
    weak: float, strong: float
) -> None:
    crest = np.full((2, RAYS), weak)
    crest[1] = strong
    found = solve(nest(hexagons(1)[:2], crest))
    assert found["membrane_od"] == pytest.approx([weak, strong], rel=0.2)


@pytest.mark.parametrize(("weak", "strong"), [(0.05, 0.2), (0.1, 0.4), (0.3, 0.9)])
def test_a_weak_cell_amid_strong_ones_reads_darker_but_weaker_than_they(
    weak: float, strong: float
) -> None:
    crest = np.full((19, RAYS), strong)
    crest[0] = weak
    found = solve(nest(hexagons(2), crest))["membrane_od"]
    assert weak < found[0] < 0.75 * found[1:7].min()
    assert found[1:7] == pytest.approx(np.full(6, strong), rel=0.12)


def test_completeness_is_what_the_reader_says_of_the_border() -> None:
    own = np.zeros((1, PLACES))
    own[0, :18] = 0.8
    found = solve(nest(hexagons(0), np.full((1, RAYS), 0.5), own))
    assert found["completeness"][0] == pytest.approx(0.75 * 0.8, abs=0.03)


def test_more_stain_never_reads_less() -> None:
    found = [
        solve(nest(hexagons(1), np.full((7, RAYS), crest)))
        for crest in (0.015, 0.03, 0.06, 0.1, 0.2, 0.4, 0.8, 1.6)
    ]
    for name in ("membrane_od", "membrane_mass", "membrane_od_ring"):
        assert (np.diff([f[name][0] for f in found]) > 0).all(), name


@pytest.mark.parametrize("beyond", [-4.0, -1.2, -0.9, 0.9, 1.2, 4.0])
def test_odds_near_the_limit_are_uncertain(beyond: float) -> None:
    evidence = np.array([attribution.STAINED_LOG_ODDS + beyond])
    found = solve(nest(hexagons(0), np.full((1, RAYS), 0.2), evidence=evidence))
    assert found["uncertain"][0] == (abs(beyond) < attribution.UNCERTAIN_LOG_ODDS)
    assert (found["membrane_od"][0] > 0) == (beyond > 0)


def test_what_much_stronger_lines_hide_is_uncertain() -> None:
    crest = np.full((7, RAYS), 0.8)
    crest[0] = 0.03
    own = np.full((7, PLACES), 0.98)
    own[0] = 0.3
    found = solve(nest(hexagons(1), crest, own))
    assert found["uncertain"].tolist() == [True] + [False] * 6
    # one strong neighbour covers a sixth of the border: the rest of it can be seen
    alone = solve(nest(hexagons(1)[:2], crest[:2], own[:2]))
    assert not alone["uncertain"].any()


def draw_tissue(seed: int, apothem: float) -> dict[str, np.ndarray]:
    """A field of 600 µm of cells of all strengths, read with doubt."""
    rng = np.random.default_rng(seed)
    centres = hexagons(int(170 / apothem), apothem)
    centres = centres + rng.normal(0, 0.3, centres.shape)
    n = len(centres)
    level = rng.choice([0.0, 0.05, 0.2, 0.8], (n, 1))
    crest = level * (rng.random((n, RAYS)) < 0.8)
    own = np.clip(0.9 * (crest[:, ::2] > 0) + rng.normal(0, 0.1, (n, PLACES)), 0, 1)
    evidence = rng.normal(4 * (level[:, 0] > 0) - 1, 2)
    raw = nest(centres, rough(crest, seed, 0.3), own, evidence, apothem)
    radius = raw["line_r"] * rng.normal(1, 0.04, (n, RAYS))
    raw["line_r"] = np.rint(radius).astype(np.int16)
    return raw


@pytest.mark.parametrize("apothem", [6.0, 11.4, 14.4])
def test_any_cut_with_the_reach_around_it_gives_the_same_bits(apothem: float) -> None:
    raw = draw_tissue(5, apothem)
    whole = solve(raw)
    x, y = raw["x_fx"] * MPP_A / 16, raw["y_fx"] * MPP_A / 16
    rng = np.random.default_rng(6)
    reach, compared = membrane.REACH_UM, 0
    for x0, y0 in ((180.0, 175.0), (30.0, 150.0), (220.0, 330.0), (350.0, 60.0)):
        core = (x >= x0) & (x < x0 + 40) & (y >= y0) & (y < y0 + 40)
        near = (x >= x0 - reach) & (x < x0 + 40 + reach)
        near &= (y >= y0 - reach) & (y < y0 + 40 + reach)
        assert not near.all()
        part = rng.permutation(np.flatnonzero(near))
        found = solve({k: v[part] for k, v in raw.items()}, core[part])
        chosen = part[core[part]]
        compared += len(chosen)
        for name, values in found.items():
            assert np.array_equal(values, whole[name][chosen]), name
    assert compared >= 4


@given(
    apothem=st.floats(5.0, 14.9),
    corner=st.tuples(st.floats(0.0, 300.0), st.floats(0.0, 300.0)),
    side_um=st.floats(30.0, 150.0),
)
@settings(max_examples=12, deadline=None)
def test_radii_and_block_sizes_change_no_bit(
    apothem: float, corner: tuple[float, float], side_um: float
) -> None:
    raw = draw_tissue(7, apothem)
    whole = solve(raw)
    place = np.stack([raw["x_fx"], raw["y_fx"]], axis=1) * (MPP_A / FIXED)
    low, high = np.array(corner), np.array(corner) + side_um
    core = ((place >= low) & (place < high)).all(axis=1)
    near = ((place >= low - membrane.REACH_UM) & (place < high + membrane.REACH_UM)).all(axis=1)
    found = solve({k: v[near] for k, v in raw.items()}, core[near])
    for name, values in found.items():
        assert np.array_equal(values, whole[name][core]), name


def test_what_lies_beyond_reach_changes_nothing() -> None:
    # cells in a row, each sharing its line with the next at the largest distance that is linked
    n, pitch = 40, 0.98 * attribution.LINK_UM
    centres = np.stack([np.arange(n) * pitch, np.full(n, 50.0)], axis=1)
    raw = nest(centres, rough(np.full((n, RAYS), 0.4), 3), apothem=pitch / 2)
    before = solve(raw)
    assert (before["shared_fraction"][1:-1] > 0.1).all()
    far = np.arange(n) * pitch > membrane.REACH_UM
    cut = solve({k: v[~far] for k, v in raw.items()})
    raw["line_crest"][far] //= 4
    raw["line_own"][far] //= 2
    after = solve(raw)
    assert (after["membrane_od"][far] < before["membrane_od"][far]).all()
    for name, values in before.items():
        assert values[0] == after[name][0] == cut[name][0], name


def test_the_order_of_the_cells_is_nothing() -> None:
    raw = draw_tissue(7, 11.4)
    whole = solve(raw)
    turned = np.random.default_rng(8).permutation(len(raw["cell_id"]))
    found = solve({k: v[turned] for k, v in raw.items()})
    for name, values in found.items():
        assert np.array_equal(values, whole[name][turned]), name


def test_nothing_in_nothing_out() -> None:
    raw = nest(hexagons(1), np.zeros((7, RAYS)))
    empty = solve({k: v[:0] for k, v in raw.items()})
    assert all(v.size == 0 for v in empty.values())
    none = solve(raw, np.zeros(7, bool))
    assert none.keys() == empty.keys() == solve(raw).keys()
    assert {k: v.dtype for k, v in none.items()} == {k: v.dtype for k, v in empty.items()}


# The parts of it


def test_thinning_is_a_weighted_mean_round_every_second_ray() -> None:
    counts = np.random.default_rng(3).integers(-90, 900, (4, RAYS)).astype(np.float64)
    out = np.empty((4, PLACES))
    attribution.thin(counts, 0.01, out)
    value = counts * 0.01
    expected = 0.5 * value + 0.25 * (np.roll(value, 1, 1) + np.roll(value, -1, 1))
    assert out == pytest.approx(expected[:, ::2])


def test_lengths_of_a_ring_add_up_to_its_perimeter() -> None:
    lengths = _joint.ring_lengths(np.full((1, PLACES), 5.0))
    assert lengths.sum() == pytest.approx(PLACES * 2 * 5.0 * np.sin(np.pi / PLACES))
    assert np.ptp(lengths) < 1e-9


def linked(x_um: list[float], radius: list[float]) -> tuple[np.ndarray, ...]:
    """Links of cells in a row: partner, junction, overlap."""
    n = len(x_um)
    at = np.rint(np.array(x_um) * 16).astype(np.int64)
    r = np.repeat(np.array(radius)[:, None], PLACES, axis=1)
    links = np.empty((n, PLACES), _joint.LINK)
    _joint.link_places(np.stack([at, 0 * at]), 1 / FIXED, r, attribution.LINK_UM, links)
    return tuple(links[name] for name in ("partner", "junction", "overlap"))


def test_touching_cells_are_linked_place_to_place() -> None:
    partner, _, overlap = linked([0.0, 12.0], [6.0, 6.0])
    # the right side of the one lies on the left side of the other, and the other way round
    assert partner[0, 0] == PLACES + PLACES // 2
    assert partner[1, PLACES // 2] == 0
    assert overlap[0, 0] == overlap[1, PLACES // 2] == 1
    assert (partner[0, 6:19] == -1).all()
    assert (partner[1, [0, 1, 2, 22, 23]] == -1).all()


@pytest.mark.parametrize("gap", [0.0, 0.5, 0.8, 1.2, 1.6])
def test_overlap_fades_with_the_gap(gap: float) -> None:
    partner, _, overlap = linked([0.0, 12.0 + gap], [6.0, 6.0])
    fades = (_joint.GAP_UM - gap) / (_joint.GAP_UM - _joint.SAME_UM)
    assert overlap[0, 0] == pytest.approx(min(max(fades, 0.0), 1.0), abs=0.06)
    assert partner[0, 0] >= 0


def test_apart_cells_are_not_linked() -> None:
    partner, junction, overlap = linked([0.0, 14.0], [6.0, 6.0])
    assert (partner == -1).all()
    assert not junction.any()
    assert not overlap.any()


def test_three_cells_meet_at_a_junction() -> None:
    # the middle one and two neighbours of it that touch each other
    centres = hexagons(1)
    others = np.flatnonzero(np.hypot(*(centres - centres[1]).T) < 2.1 * APOTHEM)
    raw = nest(centres[[0, *others[others > 0][:2]]], np.full((3, RAYS), 0.3))
    r = np.empty((3, PLACES))
    attribution.thin(raw["line_r"].astype(float), SCALES["line_r"], r)
    links = np.empty((3, PLACES), _joint.LINK)
    at = np.stack([raw["x_fx"], raw["y_fx"]])
    _joint.link_places(at, MPP_A / FIXED, r, attribution.LINK_UM, links)
    shared, junction = links["partner"] >= 0, links["junction"] > 0
    assert (junction <= shared).all()
    assert (junction.sum(axis=1) >= 1).all()
    assert (junction.sum(axis=1) < shared.sum(axis=1)).all()


def to_links(partner: np.ndarray, overlap: np.ndarray) -> np.ndarray:
    links = np.zeros(partner.shape, _joint.LINK)
    links["partner"], links["overlap"] = partner, overlap
    return links


def pair() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two cells that share one place: what the reader says, links, strengths."""
    own = np.full((2, PLACES), 0.8)
    own[1] = 0.4
    partner = np.full((2, PLACES), -1, np.int32)
    partner[0, 0], partner[1, 12] = PLACES + 12, 0
    return own, to_links(partner, np.where(partner >= 0, 1.0, 0.0)), np.array([0.64, 0.16])


def test_a_share_is_what_each_cell_is_expected_to_bring() -> None:
    own, links, strength = pair()
    share, times = attribution.share_of(0, 0, own, links, strength)
    back, again = attribution.share_of(1, 12, own, links, strength)
    # the reader's word times the root of the strength
    mine, other = 0.8 * 0.8, 0.4 * 0.4
    assert share == pytest.approx(mine / (mine + other), abs=0.01)
    assert share + back == pytest.approx(1.0, abs=0.03)
    # how much stronger the partner's line is
    assert (times, again) == pytest.approx((0.125, 8.0))
    assert attribution.share_of(0, 5, own, links, strength) == (1.0, 0.0)


def test_a_share_grows_with_the_own_and_falls_with_the_partners_strength() -> None:
    own, links, strength = pair()
    for mine, other in ((0.1, 0.1), (0.4, 0.1), (0.1, 0.4)):
        shares = [
            attribution.share_of(0, 0, own, links, np.array(s))[0]
            for s in ((mine, other), (2 * mine, other), (mine, 2 * other))
        ]
        assert shares[2] < shares[0] < shares[1]
    links["overlap"][0, 0] = 0.0
    assert attribution.share_of(0, 0, own, links, strength)[0] == 1.0


@pytest.mark.parametrize("stained", [0.0, 0.3, 1.0])
def test_a_lines_crest_is_what_a_share_of_the_ring_exceeds(stained: float) -> None:
    crest = np.random.default_rng(10).random(PLACES)
    got = attribution.exceeded(crest, stained, np.empty(PLACES))
    level = 1.0 - attribution.CREST_SHARE * (0.5 + 0.5 * stained)
    assert got == pytest.approx(np.quantile(crest, level))


def test_strengths_settle_like_a_plain_iteration() -> None:
    rng = np.random.default_rng(9)
    n = 5
    crest, own, trust = (rng.random((n, PLACES)) for _ in range(3))
    partner = np.full((n, PLACES), -1, np.int64)
    for i in range(n):
        partner[i, :8] = (i + 1) % n * PLACES + rng.integers(0, PLACES, 8)
    overlap = np.where(partner >= 0, rng.random((n, PLACES)), 0.0)
    strength = np.zeros(n)
    attribution.settle(crest, own, trust, to_links(partner, overlap), strength)

    has, j, s = partner >= 0, np.maximum(partner, 0) // PLACES, np.maximum(partner, 0) % PLACES
    weight = trust * own**2
    levels = 1.0 - attribution.CREST_SHARE * (0.5 + 0.5 * own.mean(axis=1))
    seen = np.array([np.quantile(c, q) for c, q in zip(crest, levels, strict=True)])
    level = 0.5 * seen
    for _ in range(attribution.ROUNDS):
        root = np.sqrt(level)
        mine = own * root[:, None] + attribution.SHARE_FLOOR
        share = np.where(has, mine / (mine + overlap * own[j, s] * root[j]), 1.0)
        level = seen * (weight * share).sum(1) / weight.sum(1)
    assert strength == pytest.approx(level, rel=1e-4)
