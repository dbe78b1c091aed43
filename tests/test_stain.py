"""Stain calibration: unmixing, white point, vectors and their guards, what is refused."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import skimage.color
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from her2path.cells.stain import (
    StainModel,
    estimate,
    is_h_dab,
    mix,
    reduce_unmix,
    sample_boxes,
    unmix,
)
from her2path.cells.stain.model import angle_deg
from her2path.core.errors import SettingsError
from her2path.core.geometry import Box
from her2path.core.settings import StainSettings
from her2path.phantom import PhantomSpec, make_phantom, random_spec

REAL = os.environ.get("HER2PATH_REAL_DATA")
needs_real = pytest.mark.skipif(not REAL, reason="HER2PATH_REAL_DATA is not set")

MODEL = StainModel((240.0, 241.0, 243.0), (0.6515, 0.7016, 0.2907), (0.2690, 0.5679, 0.7771))


def noise_image(seed: int, shape: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (*shape, 3), dtype=np.uint8)


def tiles_of(rgb: np.ndarray, side: int = 512) -> list[np.ndarray]:
    rows, cols = range(0, rgb.shape[0], side), range(0, rgb.shape[1], side)
    return [rgb[y : y + side, x : x + side] for y in rows for x in cols]


# -- unmixing ------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    h=st.floats(0.0, 0.9),
    d=st.floats(0.0, 0.9),
    tilt=st.floats(-0.06, 0.06),
    white=st.floats(215.0, 255.0),
)
def test_unmix_undoes_mix(h: float, d: float, tilt: float, white: float) -> None:
    hema = np.array([0.65 + tilt, 0.70, 0.29])
    dab = np.array([0.27, 0.57 - tilt, 0.78])
    model = StainModel(
        (white, white, white),
        tuple(hema / np.linalg.norm(hema)),
        tuple(dab / np.linalg.norm(dab)),
    )
    rgb = mix(np.full((2, 3), h), np.full((2, 3), d), model)
    got_h, got_d = unmix(rgb, model)
    # half a grey level at the darkest channel, through the inverse matrix
    step = 0.5 / np.log(10) / max(1.0, float(rgb.min())) * np.abs(model.inverse()).sum()
    assert np.abs(got_h - h).max() <= step + 1e-4
    assert np.abs(got_d - d).max() <= step + 1e-4


def test_agrees_with_scikit_image_up_to_its_scale() -> None:
    rng = np.random.default_rng(3)
    rgb = rng.integers(40, 255, (24, 31, 3), dtype=np.uint8)
    model = StainModel((255.0, 255.0, 255.0), MODEL.hematoxylin, MODEL.dab)
    h, d = unmix(rgb, model)
    stains = skimage.color.separate_stains(rgb, model.inverse())
    # scikit-image divides by ln(1e-6), which is one sixth of base-10 OD, and clips at zero
    assert np.allclose(np.maximum(h, 0), 6 * stains[..., 0], atol=2e-5)
    assert np.allclose(np.maximum(d, 0), 6 * stains[..., 1], atol=2e-5)


@pytest.mark.parametrize("factor", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(40, 60), (41, 59), (7, 3)])
def test_reducing_is_averaging_then_unmixing(factor: int, shape: tuple[int, int]) -> None:
    rgb = noise_image(factor, shape)
    h, d = reduce_unmix(rgb, factor, MODEL)
    rows, cols = -(-shape[0] // factor), -(-shape[1] // factor)
    small = np.empty((rows, cols, 3), np.uint8)
    for j in range(rows):
        for i in range(cols):
            cell = rgb[j * factor : (j + 1) * factor, i * factor : (i + 1) * factor]
            n = cell.shape[0] * cell.shape[1]
            total = cell.reshape(n, 3).astype(np.int64).sum(axis=0)
            small[j, i] = (total + n // 2) // n
    want_h, want_d = unmix(small, MODEL)
    assert np.array_equal(h, want_h)
    assert np.array_equal(d, want_d)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_a_part_gives_the_same_bits_as_the_whole(factor: int) -> None:
    rgb = noise_image(9, (180, 240))
    h, d = reduce_unmix(rgb, factor, MODEL)
    part_h, part_d = reduce_unmix(rgb[12:96, 30:162], factor, MODEL)
    window = np.s_[12 // factor : 96 // factor, 30 // factor : 162 // factor]
    assert np.array_equal(h[window], part_h)
    assert np.array_equal(d[window], part_d)


def test_a_model_travels_between_processes() -> None:
    twin = pickle.loads(pickle.dumps(MODEL))
    assert all(np.array_equal(a, b) for a, b in zip(twin.tables(), MODEL.tables(), strict=True))


def test_equal_vectors_are_an_error() -> None:
    with pytest.raises(SettingsError, match="nearly the same"):
        StainModel(MODEL.white_point, MODEL.dab, MODEL.dab).tables()


# -- estimate ------------------------------------------------------------------------------------

STAINED = [1, 6, 12, 17]


@pytest.mark.parametrize("seed", STAINED)
def test_vectors_of_stained_phantoms(seed: int) -> None:
    spec = random_spec(seed, width_um=330.0, height_um=330.0)
    model = estimate(tiles_of(make_phantom(spec).rgb), spec.mpp, StainSettings())
    assert model.method == "estimated"
    assert angle_deg(model.hematoxylin, spec.hematoxylin) < 4.0
    assert angle_deg(model.dab, spec.dab) < 4.0
    assert np.abs(np.subtract(model.white_point, spec.white)).max() < 2.5


def test_without_dab_its_vector_is_the_fixed_one_and_flagged() -> None:
    fixed = {"width_um": 300.0, "height_um": 300.0, "mpp": 0.5, "red_cells": 0.0, "refractile": 0.0}
    spec = PhantomSpec(seed=5, mixture={"none": 1.0}, blush=0.0, precipitate=0.0, **fixed)
    model = estimate(tiles_of(make_phantom(spec).rgb), spec.mpp, StainSettings())
    assert angle_deg(model.dab, StainSettings().dab) < 0.01
    assert "STAIN_DAB_FALLBACK" in {f.code for f in model.flags}
    assert angle_deg(model.hematoxylin, spec.hematoxylin) < 4.0


def test_dab_alone_keeps_the_fixed_hematoxylin() -> None:
    rng = np.random.default_rng(0)
    d = np.abs(rng.normal(0.4, 0.2, (512, 512)))
    d[:, :128] = 0.0
    rgb = mix(np.zeros_like(d), d, MODEL)
    model = estimate([rgb], 0.5, StainSettings())
    assert angle_deg(model.hematoxylin, StainSettings().hematoxylin) < 0.01
    assert angle_deg(model.dab, MODEL.dab) < 2.0
    assert {f.code for f in model.flags} >= {"STAIN_H_FALLBACK"}
    assert is_h_dab([rgb], model)[0]


def test_grey_noise_falls_back_and_is_refused() -> None:
    rng = np.random.default_rng(0)
    grey = rng.normal(160, 40, (512, 512)).clip(30, 240).astype(np.uint8)
    rgb = np.repeat(grey[..., None], 3, axis=2)
    model = estimate([rgb], 0.5, StainSettings())
    assert model.method == "fallback"
    assert "STAIN_FALLBACK" in {f.code for f in model.flags}
    fits, reason = is_h_dab([rgb], model)
    assert not fits
    assert "no colour" in reason


def test_settings_win_over_the_estimate() -> None:
    wanted = StainSettings(
        method="fixed",
        hematoxylin=(1.3, 1.4, 0.58),
        dab=(0.3, 0.5, 0.8),
        white_point=(230.0, 231.0, 232.0),
    )
    model = estimate([noise_image(0, (64, 64))], 0.25, wanted)
    assert model.method == "fixed"
    assert model.white_point == (230.0, 231.0, 232.0)
    assert np.allclose(np.linalg.norm(model.hematoxylin), 1.0)
    assert angle_deg(model.hematoxylin, (1.3, 1.4, 0.58)) < 1e-3


def test_no_tiles_give_a_flagged_default() -> None:
    model = estimate([], 0.25, StainSettings())
    assert model.method == "fallback"
    assert {f.code for f in model.flags} == {"WHITE_FALLBACK", "STAIN_FALLBACK"}


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 4, 10, 15, 21, 27, 33, 39])
def test_phantoms_are_h_dab(seed: int) -> None:
    spec = random_spec(seed, width_um=260.0, height_um=260.0)
    tiles = tiles_of(make_phantom(spec).rgb)
    assert is_h_dab(tiles, estimate(tiles, spec.mpp, StainSettings())) == (True, "")


def flat(colour: tuple[int, int, int], share: float = 0.6) -> list[np.ndarray]:
    """Return a tile of blotches of a colour on glass."""
    rng = np.random.default_rng(1)
    tile = np.full((512, 512, 3), 242, np.uint8)
    dots = rng.random((512, 512)) < share
    tile[dots] = colour
    return [np.clip(tile + rng.integers(-3, 4, tile.shape), 0, 255).astype(np.uint8)]


@pytest.mark.parametrize(
    ("name", "tiles"),
    [
        ("eosin", flat((236, 140, 190))),
        ("fast red", flat((220, 60, 120))),
        ("green", flat((110, 200, 120))),
        ("dark", [np.random.default_rng(0).integers(0, 20, (512, 512, 3), dtype=np.uint8)]),
    ],
)
def test_other_stains_are_refused(name: str, tiles: list[np.ndarray]) -> None:
    fits, reason = is_h_dab(tiles, estimate(tiles, 0.5, StainSettings()))
    assert not fits, name
    assert reason


def test_immunohistochemistry_of_scikit_image_is_h_dab() -> None:
    rgb = skimage.data.immunohistochemistry()
    assert is_h_dab([rgb], estimate([rgb], 0.5, StainSettings()))[0]


REAL_H_DAB = [
    *(f"her2_tma_cores/{n}*.jpg" for n in ("0_a6d0", "1_154a", "2_a559", "2_aeb2")),
    *(f"membrane_dab/cldn18_{n}.png" for n in ("512", "negative_512", "complete_ring_1024")),
]


@needs_real
@pytest.mark.parametrize("pattern", REAL_H_DAB)
def test_real_h_dab_passes(pattern: str) -> None:
    path = next(Path(str(REAL)).glob(pattern))
    rgb = np.asarray(Image.open(path).convert("RGB"))
    tiles = tiles_of(rgb)[::4] if rgb.shape[0] > 2000 else [rgb]
    model = estimate(tiles, 0.25, StainSettings())
    assert is_h_dab(tiles, model) == (True, "")
    assert angle_deg(model.hematoxylin, model.dab) >= 22.0
    assert model.dab[0] <= 0.40


@needs_real
def test_vectors_of_the_stained_core_are_the_scanner_s() -> None:
    path = next(Path(str(REAL)).glob("her2_tma_cores/2_a559*.jpg"))
    rgb = np.asarray(Image.open(path).convert("RGB"))
    model = estimate(tiles_of(rgb)[::3], 0.25, StainSettings())
    assert angle_deg(model.hematoxylin, (0.66, 0.63, 0.41)) < 4.0
    assert angle_deg(model.dab, (0.33, 0.55, 0.77)) < 4.0
    assert np.abs(np.subtract(model.white_point, (234, 233, 242))).max() < 2.0


@needs_real
@pytest.mark.parametrize(
    "name",
    ["CMU-1-Small-Region.svs", "he_multiframe.dcm", "no_mpp_j2k.svs", "fluorescence_dapi_40x.ndpi"],
)
def test_real_slides_of_other_stains_are_refused(name: str) -> None:
    import openslide

    with openslide.OpenSlide(Path(str(REAL)) / "slides" / name) as slide:
        width, height = slide.dimensions
        size = (min(width, 2048), min(height, 2048))
        at = ((width - size[0]) // 2, (height - size[1]) // 2)
        rgb = np.asarray(slide.read_region(at, 0, size).convert("RGB"))
    tiles = tiles_of(rgb)
    fits, reason = is_h_dab(tiles, estimate(tiles, 0.5, StainSettings()))
    assert not fits
    assert reason


# -- sample --------------------------------------------------------------------------------------


def blob() -> np.ndarray:
    y, x = np.mgrid[0:500, 0:700]
    return ((x - 300) ** 2 + (y - 240) ** 2 < 180**2) | ((x - 600) ** 2 + (y - 400) ** 2 < 60**2)


def test_boxes_lie_in_the_tissue_and_are_the_same_each_time() -> None:
    mask = blob()
    chosen = sample_boxes(mask, 8.0, 0.25, StainSettings())
    assert chosen == sample_boxes(mask, 8.0, 0.25, StainSettings())
    assert len(chosen) == StainSettings().sample_tiles
    assert len(set(chosen)) == len(chosen)
    scale = 0.25 / 8.0
    cover = [
        mask[int(b.y0 * scale) : int(b.y1 * scale), int(b.x0 * scale) : int(b.x1 * scale)].mean()
        for b in chosen
    ]
    assert min(cover) > 0
    assert np.mean(np.array(cover) > 0.5) > 0.8


def test_another_seed_chooses_other_boxes() -> None:
    mask = blob()
    a = sample_boxes(mask, 8.0, 0.25, StainSettings(seed=0))
    b = sample_boxes(mask, 8.0, 0.25, StainSettings(seed=1))
    assert a != b


def test_boxes_are_spread_over_the_tissue() -> None:
    chosen = sample_boxes(blob(), 8.0, 0.25, StainSettings())
    x = np.array([b.x0 for b in chosen]) * 0.25 / 8
    assert (x < 250).any()
    assert (x > 560).any()


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (40, 2)])
def test_tiny_masks_give_boxes_or_none(shape: tuple[int, int]) -> None:
    boxes = sample_boxes(np.ones(shape, bool), 8.0, 0.25, StainSettings())
    assert boxes
    assert all(not b.empty and b.x0 >= 0 and b.y0 >= 0 for b in boxes)
    assert sample_boxes(np.zeros(shape, bool), 8.0, 0.25, StainSettings()) == []


def test_a_box_is_a_box() -> None:
    assert all(isinstance(b, Box) for b in sample_boxes(blob(), 8.0, 0.5, StainSettings()))
