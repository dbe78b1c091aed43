"""Pixel size: file, --mpp, --force-mpp."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import tifffile
from slide_samples import texture, write_svs

from her2path.core.errors import MppMissing, UsageError
from her2path.io.slide import SlideRef, open_slide
from her2path.io.slide.mpp import aperio_mpp, choose_mpp, ome_mpp, property_mpp, tag_mpp

#: name: (file's, --mpp, force, expected or error)
CASES = {
    "file alone": ((0.25, 0.25), None, False, (0.25, 0.25)),
    "file wins": ((0.25, 0.25), 0.5, False, (0.25, 0.25)),
    "forced": ((0.25, 0.25), 0.5, True, (0.5, 0.5)),
    "filled in": (None, 0.5, False, (0.5, 0.5)),
    "missing": (None, None, False, MppMissing),
    "absurd": ((28.9, 28.9), None, False, MppMissing),
    "absurd, filled in": ((28.9, 28.9), 0.4, False, (0.4, 0.4)),
    "zero": ((0.0, 0.0), None, False, MppMissing),
    "not a number": ((math.nan, 0.25), None, False, MppMissing),
    "one side absurd": ((0.25, 3.0), None, False, MppMissing),
    "coarse is the caller's business": ((1.0, 1.0), None, False, (1.0, 1.0)),
    "scanner's 0.5025": ((0.5025, 0.5025), None, False, (0.5025, 0.5025)),
    "lower end": ((0.1, 0.1), None, False, (0.1, 0.1)),
    "upper end": ((2.0, 2.0), None, False, (2.0, 2.0)),
    "oblong": ((0.25, 0.3), None, False, (0.25, 0.3)),
}


@pytest.mark.parametrize(("found", "mpp", "force", "expected"), CASES.values(), ids=CASES)
def test_choice(found, mpp, force, expected) -> None:
    ref = SlideRef("a.svs", mpp=mpp, force_mpp=force)
    if isinstance(expected, tuple):
        assert choose_mpp(ref, found)[0] == expected
    else:
        with pytest.raises(expected, match="--mpp") as caught:
            choose_mpp(ref, found)
        assert caught.value.exit_code == 3
        assert "\n" not in str(caught.value)


def test_what_was_overridden_or_kept_is_noted() -> None:
    _, (kept,) = choose_mpp(SlideRef("a", mpp=0.5), (0.25, 0.25))
    assert (kept.code, kept.severity) == ("MPP_NOT_USED", "warning")
    assert "0.25 µm was kept" in kept.message
    _, (over,) = choose_mpp(SlideRef("a", mpp=0.5, force_mpp=True), (0.25, 0.25))
    assert over.code == "MPP_OVERRIDDEN"
    assert "0.25 µm was overridden" in over.message
    _, (given,) = choose_mpp(SlideRef("a", mpp=0.5), None)
    assert given.code == "MPP_OVERRIDDEN"
    assert "states none" in given.message
    codes = [f.code for f in choose_mpp(SlideRef("a", mpp=0.25), (0.25, 0.5))[1]]
    assert codes == ["MPP_NOT_USED", "ANISOTROPIC_MPP"]
    assert choose_mpp(SlideRef("a", mpp=0.25), (0.2501, 0.2501))[1] == []


@pytest.mark.parametrize("mpp", [0.09, 2.01, -1.0, 0.0, math.nan, math.inf])
def test_a_wrong_option_is_a_usage_error(tmp_path: Path, mpp) -> None:
    path = write_svs(tmp_path / "a.svs", texture(64, 64))
    with pytest.raises(UsageError, match="--mpp") as caught:
        open_slide(SlideRef(str(path), mpp=mpp))
    assert caught.value.exit_code == 2


def test_force_needs_a_value(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--force-mpp"):
        open_slide(SlideRef(str(tmp_path), force_mpp=True))


def test_svs_without_mpp_is_an_error_that_names_the_option(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", texture(64, 64), mpp=None)
    with pytest.raises(MppMissing, match="--mpp"):
        open_slide(SlideRef(str(path)))
    with open_slide(SlideRef(str(path), mpp=0.3)) as slide:
        assert slide.info.mpp == 0.3


@pytest.mark.parametrize(("dpi", "unit", "expected"), [
    (72, "INCH", None), (96, "INCH", None), (300, "INCH", None), (118, "CENTIMETER", None),
    (40_000, "CENTIMETER", 0.25), (101_600, "INCH", 0.25), (40_000, "NONE", None),
])  # fmt: skip
@pytest.mark.parametrize("tiled", [True, False])
def test_tiff_resolution_counts_only_where_plausible(tmp_path, dpi, unit, expected, tiled) -> None:
    path = tmp_path / "a.tif"
    options = {"tile": (64, 64)} if tiled else {"rowsperstrip": 16}
    tifffile.imwrite(path, texture(64, 64), photometric="rgb", resolution=(dpi, dpi),
                     resolutionunit=unit, **options)  # fmt: skip
    if expected is None:
        with pytest.raises(MppMissing):
            open_slide(SlideRef(str(path)))
    else:
        with open_slide(SlideRef(str(path))) as slide:
            assert slide.info.mpp == pytest.approx(expected)


@pytest.mark.parametrize(("x", "xu", "y", "yu", "expected"), [
    ("0.25", None, "0.25", None, (0.25, 0.25)),
    ("250", "nm", "0.00025", "mm", (0.25, 0.25)),
    ("0,25", "µm", "0,25", "Âµm", (0.25, 0.25)),
    ("2.5e-10", "km", "250000000", "fm", (0.25, 0.25)),
    ("0.0000025", "dm", "0.00984252", "thou", (0.25, 0.25)),
    ("0.000708661", "pt", "250000", "PM", (0.25, 0.25)),
    ("1", "reference frame", "1", "reference frame", None),
    ("0.25", "µm", None, None, None),
    ("0.25", "pixel", "0.25", "pixel", None),
    ("0", None, "0", None, None),
    ("1e", None, "1", None, None),
])  # fmt: skip
def test_ome_xml(x, xu, y, yu, expected) -> None:
    parts = "".join(
        f' {name}="{value}"'
        for name, value in [("PhysicalSizeX", x), ("PhysicalSizeXUnit", xu),
                            ("PhysicalSizeY", y), ("PhysicalSizeYUnit", yu)]
        if value is not None
    )  # fmt: skip
    found = ome_mpp(f'<OME><Image><Pixels SizeX="9"{parts}></Pixels></Image></OME>')
    assert found == (None if expected is None else pytest.approx(expected))


def test_aperio_as_people_write_it() -> None:
    for text in ("Aperio x|MPP = 0.25", "Aperio x|AppMag = 40|mpp=0,25", "Aperio x|Mpp = 2.5e-1"):
        assert aperio_mpp(text) == (0.25, 0.25)
    assert aperio_mpp("Aperio x|AppMag = 40") is None


def test_helpers_pass_over_nonsense() -> None:
    assert property_mpp({"openslide.mpp-x": "a", "openslide.mpp-y": "1"}) is None
    assert property_mpp({}) is None
    assert tag_mpp((0, 1), (1, 1), 3) is None
    assert tag_mpp(None, None, 3) is None
    assert ome_mpp("<" * 10_000) is None


def test_ome_tiff_pixel_size(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, texture(100, 120), photometric="rgb", tile=(32, 32),
                     metadata={"axes": "YXS", "PhysicalSizeX": 0.23, "PhysicalSizeY": 0.23,
                               "PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"})  # fmt: skip
    with open_slide(SlideRef(str(path))) as slide:
        assert slide.info.mpp == 0.23
        np.testing.assert_array_equal(slide.overview(500)[0], texture(100, 120))
