"""How a border looks: both stains sampled across it, and the small network on top of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from her2path.membrane import _lines, _looks, _network
from her2path.membrane._inputs import PLACES
from her2path.membrane.columns import RAW_COLUMNS
from her2path.membrane.rays import looks_of, profiles
from her2path.membrane.weights import weights

MPP, FACTOR, SIDE = 0.25, 2, 160
TURN = np.arange(48) * (2 * np.pi / 48)


def picture(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rgb = rng.integers(20, 255, (SIDE, SIDE, 3)).astype(np.uint8)
    return rgb, rng.normal(0, 0.3, (2, 3, 256)).astype(np.float32)


def read(rgb: np.ndarray, luts: np.ndarray, cell: SimpleNamespace) -> np.ndarray:
    return profiles(rgb, luts, FACTOR, MPP, cell, cell.radii)


def circles(at: list[tuple[float, float]], radius: float = 12.0) -> SimpleNamespace:
    x, y = (np.array(v, np.float32) for v in zip(*at, strict=True))
    return SimpleNamespace(x=x, y=y, radii=np.full((len(at), 48), radius, np.float32))


@pytest.mark.parametrize("at", [(40.0, 40.0), (40.25, 39.75), (6.0, 70.0)])
def test_profiles_are_the_means_of_three_straight_cuts(at: tuple[float, float]) -> None:
    rgb, luts = picture()
    cell = circles([at])
    off = (np.arange(_network.LOOK_TAPS) - _looks.MIDDLE) * _lines.LOOK_STEP_UM / MPP
    reach = cell.radii[0, 0] * FACTOR + off[None, :]
    centre = [(v + 0.5) * FACTOR - 0.5 for v in at]
    points = [centre[1] + np.sin(TURN)[:, None] * reach, centre[0] + np.cos(TURN)[:, None] * reach]
    for stain in range(2):
        od = sum(luts[stain, c][rgb[..., c]] for c in range(3)).astype(float)
        rays = map_coordinates(od, points, order=1, mode="nearest")
        expected = 0.5 * rays + 0.25 * (np.roll(rays, 1, 0) + np.roll(rays, -1, 0))
        assert read(rgb, luts, cell)[0, stain] == pytest.approx(expected[::2], abs=1e-4)


def test_a_cell_reads_the_same_wherever_the_block_begins() -> None:
    rgb, luts = picture(1)
    whole = read(rgb, luts, circles([(40.0, 40.0), (60.5, 35.25)]))
    cut = np.ascontiguousarray(rgb[10:, 14:])
    part = read(cut, luts, circles([(53.5, 30.25), (33.0, 35.0)]))
    assert np.array_equal(part[::-1], whole)


def squashed(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt(1 + x * x)


def test_looks_equal_plain_matrices() -> None:
    rng = np.random.default_rng(2)
    seen = rng.normal(0.2, 0.2, (3, 2, PLACES, _network.LOOK_TAPS)).astype(np.float32)
    noise = np.array([0.01, 0.05, 0.2], np.float32)
    grain = np.sqrt((noise / 1.3) ** 2 + 1e-4)[:, None, None]
    h, d = seen[:, 0], seen[:, 1]
    rise = d - d[..., 1:4].mean(-1, keepdims=True)
    fall, dark = h - h[..., 5:8].mean(-1, keepdims=True), 0.5 * d + 0.64 * h
    dark = dark - dark[..., 5:8].mean(-1, keepdims=True)
    shape = rise / (np.abs(rise).max(-1, keepdims=True) + 2 * grain)
    kinds = [shape, *(squashed(v) for v in (rise / (2 * grain), fall / 0.12, dark / 0.08))]
    z = np.concatenate(kinds, -1)
    look, bias, near, near_bias, far, far_bias = weights().look
    z = squashed(z @ look + bias)
    for w, b in ((near, near_bias), (far, far_bias)):
        z = squashed(np.concatenate([np.roll(z, 1, 1), z, np.roll(z, -1, 1)], -1) @ w + b)
    assert np.abs(z).max() > 0.5
    counts = looks_of(seen, noise).reshape(3, PLACES, _network.LOOKS)
    assert np.abs(counts - 127 * z).max() <= 0.51


def test_cells_not_wanted_have_no_look() -> None:
    seen = np.random.default_rng(3).random((2, 2, PLACES, _network.LOOK_TAPS)).astype(np.float32)
    noise, wanted = np.full(2, 0.02, np.float32), np.array([False, True])
    some, every = looks_of(seen, noise, wanted), looks_of(seen, noise)
    assert not some[0].any()
    assert every[0].any()
    assert np.array_equal(some[1], every[1])


def test_looks_of_a_place_and_of_both_rings_are_added() -> None:
    rng = np.random.default_rng(4)
    looks = rng.integers(-127, 128, (3, PLACES * _network.LOOKS)).astype(np.int8)
    partner = np.where(rng.random((3, PLACES)) < 0.6, 5, -1).astype(np.int32)
    by_place, by_cell = (rng.normal(0, 0.3, s).astype(np.float32) for s in SEEN)
    out = np.ones((3, _network.HIDDEN, PLACES), np.float32)
    wanted = np.array([True, False, True])
    _looks.add_looks(looks, partner, (by_place, by_cell), wanted, out)
    z, free = looks.reshape(3, PLACES, -1) / 127.0, (partner < 0)[..., None]
    means = np.concatenate([z.mean(1), (z * free).sum(1) / (free.sum(1) + 1)], 1)
    added = z @ by_place + (means @ by_cell)[:, None]
    expected = 1 + np.where(wanted[:, None, None], added, 0).transpose(0, 2, 1)
    assert out == pytest.approx(expected, abs=1e-4)


SEEN = (_network.SHAPES["look_place"], _network.SHAPES["look_cell"])


def test_the_column_holds_a_look_for_every_place() -> None:
    column = next(c for c in RAW_COLUMNS if c.name == "line_look")
    assert column.type.list_size == PLACES * _network.LOOKS
