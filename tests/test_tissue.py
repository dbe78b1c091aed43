"""Tissue finding: pale tissue, pen, borders, dust, shading, small fields, dark slides."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from her2path.cells.tissue import find_tissue, overview_mpp
from her2path.core.settings import TissueSettings
from her2path.phantom import make_phantom, random_spec

REAL = os.environ.get("HER2PATH_REAL_DATA")
needs_real = pytest.mark.skipif(not REAL, reason="HER2PATH_REAL_DATA is not set")
MPP = 8.0
INKS = {
    "blue": (60, 70, 190),
    "cyan": (60, 160, 220),
    "green": (40, 120, 60),
    "black": (45, 40, 50),
    "red": (190, 50, 60),
}


def disc(size: int = 300, radius: int = 100) -> np.ndarray:
    y, x = np.mgrid[0:size, 0:size]
    return (x - size // 2) ** 2 + (y - size // 2) ** 2 < radius**2


def slide(od: float = 0.05, noise: float = 0.6, grain: float = 0.3) -> np.ndarray:
    """Return a round, bluish piece of tissue of a mean OD on glass."""
    rng = np.random.default_rng(4)
    shape = disc().shape
    density = disc() * od * (1 + grain * rng.normal(0, 1, shape))
    colour = np.array([1.25, 1.2, 0.55])
    rgb = np.array([238.0, 238.0, 240.0]) * 10.0 ** -(density[..., None] * colour)
    return np.clip(rgb + rng.normal(0, noise, rgb.shape), 0, 255).astype(np.uint8)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def codes(found: object) -> set[str]:
    return {f.code for f in found.flags}  # type: ignore[attr-defined]


@pytest.mark.parametrize("od", [0.018, 0.03, 0.1, 0.4])
def test_pale_and_dark_tissue_is_found(od: float) -> None:
    found = find_tissue(slide(od), MPP, TissueSettings())
    assert overlap(found.mask, disc()) > 0.93
    assert not found.pen.any()
    assert found.area_mm2 == pytest.approx(found.mask.sum() * 64e-6)


@pytest.mark.parametrize("mpp", [2.0, 4.0, 16.0])
def test_other_resolutions(mpp: float) -> None:
    found = find_tissue(slide(0.06), mpp, TissueSettings(min_area_um2=5_000))
    assert overlap(found.mask, disc()) > 0.9


@pytest.mark.parametrize("ink", list(INKS))
def test_pen_on_glass_and_tissue_is_left_out(ink: str) -> None:
    image = slide(0.06).astype(np.float64)
    stroke = np.zeros(disc().shape, np.uint8)
    cv2.polylines(stroke, [np.array([[20, 60], [150, 130], [280, 150]])], False, 255, 16)
    soft = cv2.GaussianBlur(stroke, (0, 0), 1.0)[..., None] / 255.0
    image *= 1 - soft * (1 - np.array(INKS[ink]) / 255.0)
    found = find_tissue(image.astype(np.uint8), MPP, TissueSettings())
    assert "PEN_MARKS" in codes(found)
    assert found.mask[stroke > 0].mean() < 0.03
    clear = disc() & (cv2.dilate(stroke, np.ones((9, 9), np.uint8)) == 0)
    assert found.mask[clear].mean() > 0.9
    kept = find_tissue(image.astype(np.uint8), MPP, TissueSettings(exclude_pen=False))
    assert "PEN_MARKS" in codes(kept)


def test_strong_dab_is_not_pen() -> None:
    rng = np.random.default_rng(0)
    density = disc() * rng.uniform(0.3, 1.1, disc().shape)
    rgb = 240.0 * 10.0 ** -(density[..., None] * np.array([0.30, 0.56, 0.77]))
    found = find_tissue(rgb.astype(np.uint8), MPP, TissueSettings())
    assert not found.pen.any()
    assert overlap(found.mask, disc()) > 0.93


def test_black_borders_dust_and_lines_are_not_tissue() -> None:
    image = slide(0.05)
    image[:14] = 6
    image[:, -10:] = 12
    cv2.circle(image, (40, 250), 3, (70, 70, 70), -1)
    cv2.line(image, (20, 270), (290, 272), (205, 205, 208), 1)
    found = find_tissue(image, MPP, TissueSettings())
    assert overlap(found.mask, disc()) > 0.93
    assert "DARK_BORDER" in codes(found)


def test_shading_of_the_lamp_is_not_tissue() -> None:
    shade = np.linspace(1.0, 0.985, 300)[None, :, None]
    found = find_tissue((slide(0.05) * shade).astype(np.uint8), MPP, TissueSettings())
    assert overlap(found.mask, disc()) > 0.9


def test_small_holes_are_filled_and_large_lumens_stay_out() -> None:
    image = slide(0.08)
    cv2.circle(image, (120, 150), 4, (238, 238, 240), -1)
    cv2.circle(image, (180, 150), 25, (238, 238, 240), -1)
    found = find_tissue(image, MPP, TissueSettings())
    assert found.mask[150, 120]
    assert not found.mask[150, 180]


def test_empty_glass_has_no_tissue() -> None:
    rng = np.random.default_rng(0)
    glass = (240 + rng.normal(0, 1, (300, 300, 3))).astype(np.uint8)
    found = find_tissue(glass, MPP, TissueSettings())
    assert not found.mask.any()
    assert codes(found) == {"NO_TISSUE"}
    assert found.area_mm2 == 0.0


def test_a_dark_slide_is_flagged() -> None:
    image = np.full((300, 300, 3), 3, np.uint8)
    image[disc()] = (0, 0, 150)
    found = find_tissue(image, MPP, TissueSettings())
    assert "DARK_BACKGROUND" in codes(found)
    assert overlap(found.mask, disc()) > 0.8


def test_a_field_without_glass_is_all_tissue() -> None:
    spec = random_spec(9, width_um=700.0, height_um=700.0, margin_um=0.0, mpp=0.5)
    rgb = make_phantom(spec.model_copy(update={"lumens": 0.0})).rgb
    mpp = overview_mpp(700.0, 700.0, TissueSettings())
    k = round(mpp / spec.mpp)
    side = rgb.shape[0] // k
    view = cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA)
    found = find_tissue(view, mpp, TissueSettings())
    assert found.mask.mean() > 0.9


def test_overview_is_finer_for_small_images_only() -> None:
    settings = TissueSettings()
    assert overview_mpp(30_000, 20_000, settings) == settings.mpp
    assert overview_mpp(1_000, 1_200, settings) == pytest.approx(1_000 / 256)
    assert overview_mpp(100, 100, settings) == 2.0


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (17, 5)])
def test_tiny_overviews_do_not_fail(shape: tuple[int, int]) -> None:
    found = find_tissue(np.full((*shape, 3), 200, np.uint8), MPP, TissueSettings())
    assert found.mask.shape == shape


@pytest.mark.parametrize("seed", [0, 3])
def test_phantoms_with_artefacts(seed: int) -> None:
    spec = random_spec(
        seed, width_um=1200.0, height_um=1200.0, margin_um=120.0, mpp=0.5, folds=1, pen=2, dust=30
    )
    phantom = make_phantom(spec)
    k = 8
    side = phantom.rgb.shape[0] // k
    view = cv2.resize(phantom.rgb, (side, side), interpolation=cv2.INTER_AREA)
    found = find_tissue(view, spec.mpp * k, TissueSettings())
    truth = phantom.truth
    x, y = (truth[n].to_numpy() / (spec.mpp * k) for n in ("x_um", "y_um"))
    inside = found.mask[np.clip(y.astype(int), 0, side - 1), np.clip(x.astype(int), 0, side - 1)]
    pen = truth["under_pen"].to_numpy(zero_copy_only=False)
    assert inside[~pen].mean() > 0.93
    assert inside[pen].mean() < 0.15
    assert "PEN_MARKS" in codes(found)


@needs_real
@pytest.mark.parametrize("name", ["0_a6d0", "1_154a", "2_a559", "2_aeb2"])
def test_real_cores_are_found_whole(name: str) -> None:
    path = next(Path(str(REAL)).glob(f"her2_tma_cores/{name}*.jpg"))
    with Image.open(path) as image:
        view = np.asarray(image.convert("RGB").reduce(22))
    found = find_tissue(view, 22 * 0.25, TissueSettings())
    # a core is a disc of about 1.2 mm; gaps in one of them
    assert 0.9 < found.area_mm2 < 1.5
    assert not found.pen.any()
    rim = np.concatenate([found.mask[:2].ravel(), found.mask[:, :2].ravel()])
    # one core touches the border of its image
    assert rim.mean() < 0.15
