"""Real files, where they are at hand (HER2PATH_REAL_DATA)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import openslide
import pytest

from her2path.core.errors import MppMissing
from her2path.core.geometry import Box
from her2path.io.annotations import SlideCentre
from her2path.io.slide import SlideRef, open_slide

DATA = Path(os.environ.get("HER2PATH_REAL_DATA", "")) / "slides"
pytestmark = pytest.mark.skipif(
    "HER2PATH_REAL_DATA" not in os.environ, reason="HER2PATH_REAL_DATA is unset"
)


def over_white(path: Path) -> np.ndarray:
    with openslide.OpenSlide(path) as handle:
        rgba = np.asarray(handle.read_region((0, 0), 0, handle.dimensions))
    pixels = rgba[..., :3].copy()
    pixels[rgba[..., 3] == 0] = 255
    return pixels


@pytest.mark.parametrize(("name", "mpp", "readers"), [
    ("CMU-1-Small-Region.svs", None, ("direct", "openslide")),
    ("fluorescence_dapi_40x.ndpi", None, ("openslide",)),
    ("he_multiframe.dcm", 0.5, ("openslide",)),
    ("no_mpp_j2k.svs", 0.5, ("openslide",)),
])  # fmt: skip
def test_whole_slide_equals_openslide(name, mpp, readers) -> None:
    path = DATA / name
    expected = over_white(path)
    for reader in readers:
        with open_slide(SlideRef(str(path), mpp=mpp, reader=reader)) as slide:
            h, w = slide.info.height_px, slide.info.width_px
            np.testing.assert_array_equal(slide.read(Box(0, 0, w, h)), expected)
            assert slide.take_bad_boxes() == []
            assert max(slide.overview(256)[0].shape) <= 256
    with open_slide(SlideRef(str(path), mpp=mpp)) as slide:
        assert slide.info.reader == readers[0]


def test_cmu_is_read_directly() -> None:
    with open_slide(SlideRef(str(DATA / "CMU-1-Small-Region.svs"))) as slide:
        info = slide.info
        assert (info.reader, info.vendor, info.mpp) == ("direct", "aperio", 0.499)
        assert info.objective_power == 20.0
        assert not any("User" in k or "ScanScope" in k for k in info.properties_safe)


@pytest.mark.parametrize("name", ["no_mpp_j2k.svs", "he_multiframe.dcm"])
def test_missing_or_absurd_mpp_names_the_option(name) -> None:
    with pytest.raises(MppMissing, match="--mpp") as caught:
        open_slide(SlideRef(str(DATA / name)))
    assert caught.value.exit_code == 3


def test_dicom_may_be_given_as_its_folder(tmp_path: Path) -> None:
    shutil.copy(DATA / "he_multiframe.dcm", tmp_path / "1.dcm")
    with open_slide(SlideRef(str(tmp_path), mpp=0.5)) as slide:
        assert (slide.info.width_px, slide.info.height_px) == (1152, 700)


def test_icc_profile_of_a_real_slide() -> None:
    path = str(DATA / "no_mpp_j2k.svs")
    box = Box(2000, 1500, 2200, 1700)
    with (
        open_slide(SlideRef(path, mpp=0.5)) as off,
        open_slide(SlideRef(path, mpp=0.5, icc="apply")) as on,
    ):
        assert "sRGB" in str(on.info.icc_profile)
        # the profile is sRGB itself: the conversion changes next to nothing
        assert np.abs(on.read(box).astype(int) - off.read(box)).max() <= 2


def test_a_hamamatsu_slide_tells_where_the_glass_has_its_centre() -> None:
    with open_slide(SlideRef(str(DATA / "fluorescence_dapi_40x.ndpi"))) as slide:
        info = slide.info
        centre = SlideCentre.of(info.properties_safe, (info.file_width_px, info.file_height_px))
        assert centre is not None
        assert centre.offset_nm == (12_538_720.0, -96_063.0)
        middle = centre.to_px([centre.offset_nm])
        assert middle.tolist() == [[info.file_width_px / 2, info.file_height_px / 2]]
