"""The white point: of glass where there is some, of the brightest pixels where there is none."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from her2path.cells.tissue import find_tissue
from her2path.cells.white import glass_level
from her2path.core.settings import TissueSettings

REAL = os.environ.get("HER2PATH_REAL_DATA")
needs_real = pytest.mark.skipif(not REAL, reason="HER2PATH_REAL_DATA is not set")
WHITE = 240.0
RNG_SEED = 3


def tissue(noise: float, od: float = 0.05, side: int = 512) -> np.ndarray:
    """Return rough tissue without glass: smooth patches of stroma, brighter specks of gaps."""
    rng = np.random.default_rng(RNG_SEED)
    grain = cv2.GaussianBlur(rng.normal(0, 1, (side, side)).astype(np.float32), (0, 0), 2.5)
    density = od * (1.0 + 2.0 * grain / grain.std() * 0.3)
    gaps = cv2.GaussianBlur(rng.normal(0, 1, (side, side)).astype(np.float32), (0, 0), 6.0)
    density[gaps > 2.4 * gaps.std()] = 0.0
    grey = WHITE * 10.0 ** -np.maximum(density, 0.0)
    rgb = np.repeat(grey[..., None], 3, axis=2) + rng.normal(0, noise, (side, side, 3))
    return np.clip(rgb, 0, 255).astype(np.uint8)


def on_glass(noise: float) -> np.ndarray:
    rng = np.random.default_rng(RNG_SEED + 1)
    rgb = np.clip(WHITE + rng.normal(0, noise, (1024, 512, 3)), 0, 255).astype(np.uint8)
    rgb[:512] = tissue(noise)
    return rgb


@pytest.mark.parametrize("noise", [0.5, 2.0, 5.0])
def test_glass_is_the_white_point_however_noisy_the_scan(noise: float) -> None:
    found = glass_level([on_glass(noise)])
    assert found.glass
    assert np.allclose(found.level, WHITE, atol=1.0)


@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_pale_stroma_is_not_taken_for_glass(noise: float) -> None:
    rgb = tissue(noise)
    assert np.mean(rgb) < WHITE - 20  # what the smoothest blocks would say
    found = glass_level([rgb])
    assert np.allclose(found.level, WHITE, atol=6.0)


@needs_real
@pytest.mark.parametrize("um", [0.5, 2.0])
@pytest.mark.parametrize("name", ["0_a6d0", "0_ccb6", "1_154a", "2_0123", "2_a559", "2_aeb2"])
def test_the_middle_of_a_core_has_the_white_point_of_the_whole(name: str, um: float) -> None:
    path = next(Path(str(REAL)).glob(f"her2_tma_cores/{name}*.jpg"))
    with Image.open(path) as image:
        rgb = np.asarray(image.convert("RGB"))
    whole = glass_level([cv2.resize(rgb, None, fx=0.125, fy=0.125, interpolation=cv2.INTER_AREA)])
    assert whole.glass
    middle = rgb.shape[0] // 2
    crop = rgb[middle - 700 : middle + 700, middle - 700 : middle + 700]
    scale = 0.25 / um
    view = cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    # 5 grey levels are 0.009 OD; stroma taken for glass was off by up to 20
    np.testing.assert_allclose(glass_level([view]).level, whole.level, atol=5.0)


@needs_real
def test_pale_and_brown_fields_side_by_side_are_all_tissue() -> None:
    """Without glass the paler half once went missing, without a word."""
    parts = []
    for name in ("2_0123", "2_a559", "1_154a", "0_ccb6"):
        with Image.open(next(Path(str(REAL)).glob(f"her2_tma_cores/{name}*.jpg"))) as image:
            rgb = np.asarray(image.convert("RGB"))[1800:3848, 1800:3848]
        parts.append(cv2.resize(rgb, (64, 64), interpolation=cv2.INTER_AREA))
    view = np.vstack([np.hstack(parts[:2]), np.hstack(parts[2:])])
    found = find_tissue(np.tile(view, (4, 4, 1)), 8.0, TissueSettings())
    assert found.mask.mean() > 0.9
