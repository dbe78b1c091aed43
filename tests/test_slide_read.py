"""What a slide gives to read: the plane, averages, overviews, handles."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slide_samples import texture, write_svs

from her2path.core.errors import UsageError
from her2path.core.geometry import Box
from her2path.io.slide import SlideRef, get_slide, open_slide
from her2path.io.slide import opening as opening_module
from her2path.io.slide.reader import MAX_FACTOR
from her2path.io.slide.resample import argb_over, block_mean

H, W = 500, 700
ANISOTROPIC = "anisotropic"
KINDS = ["direct", "openslide", "image", ANISOTROPIC]


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """One slide of every kind of source, and its whole plane."""
    folder = tmp_path_factory.mktemp("slides")
    svs = write_svs(folder / "a.svs", texture(H, W))
    strips = folder / "strips.tif"
    tifffile.imwrite(strips, texture(H, W), rowsperstrip=37, compression="deflate",
                     photometric="rgb")  # fmt: skip
    oblong = folder / "oblong.tif"
    tifffile.imwrite(oblong, texture(H, W), tile=(128, 128), photometric="rgb",
                     compression="jpeg", resolution=(1e4 / 0.3, 1e4 / 0.25),
                     resolutionunit="CENTIMETER")  # fmt: skip
    opened = {
        "direct": open_slide(SlideRef(str(svs), reader="direct")),
        "openslide": open_slide(SlideRef(str(svs), reader="openslide")),
        "image": open_slide(SlideRef(str(strips), mpp=0.25)),
        ANISOTROPIC: open_slide(SlideRef(str(oblong))),
    }
    whole = {k: s.read(Box(0, 0, s.info.width_px, s.info.height_px)) for k, s in opened.items()}
    yield opened, whole
    for slide in opened.values():
        slide.close()


def padded(whole: np.ndarray, box: Box) -> np.ndarray:
    """Cut a box out of the whole plane, white outside."""
    out = np.full((box.height, box.width, 3), 255, np.uint8)
    inside = box.clip(Box(0, 0, whole.shape[1], whole.shape[0]))
    to = inside.shift(-box.x0, -box.y0)
    out[to.y0 : to.y1, to.x0 : to.x1] = whole[inside.y0 : inside.y1, inside.x0 : inside.x1]
    return out


BOXES = st.builds(
    lambda x, y, w, h: Box(x, y, x + w, y + h),
    st.integers(-80, 900), st.integers(-80, 700), st.integers(1, 400), st.integers(1, 300),
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@given(box=BOXES)
@settings(max_examples=40, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
def test_any_box_equals_its_part_of_the_whole(slides, kind, box) -> None:
    opened, whole = slides
    np.testing.assert_array_equal(opened[kind].read(box), padded(whole[kind], box))


@pytest.mark.parametrize("kind", KINDS)
@given(factor=st.sampled_from([1, 2, 3, 4, 7, 16, 60]), col=st.integers(-2, 9),
       row=st.integers(-2, 9), cols=st.integers(1, 30), rows=st.integers(1, 30))  # fmt: skip
@settings(max_examples=40, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
def test_read_down_is_the_rounded_area_average(slides, kind, factor, col, row, cols, rows) -> None:
    opened, whole = slides
    x, y = col * factor, row * factor
    box = Box(x, y, x + cols * factor, y + rows * factor)
    full = padded(whole[kind], box).reshape(rows, factor, cols, factor, 3).astype(np.int64)
    expected = (full.sum(axis=(1, 3)) + factor * factor // 2) // (factor * factor)
    np.testing.assert_array_equal(opened[kind].read_down(box, factor), expected)


def test_read_down_in_strips_equals_one_piece(slides, monkeypatch) -> None:
    opened, _ = slides
    box = Box(-8, -16, 800, 640)
    one = opened["direct"].read_down(box, 8)
    monkeypatch.setattr("her2path.io.slide.reader.STRIP_PX", 1)
    np.testing.assert_array_equal(opened["direct"].read_down(box, 8), one)


def test_read_down_refuses_what_it_cannot_do(slides) -> None:
    slide = slides[0]["direct"]
    with pytest.raises(UsageError, match="not aligned"):
        slide.read_down(Box(0, 1, 4, 5), 4)
    for factor in (0, -2, MAX_FACTOR + 1):
        with pytest.raises(UsageError, match="reduction"):
            slide.read_down(Box(0, 0, 4, 4), factor)


def test_largest_reduction_does_not_overflow() -> None:
    src = np.full((MAX_FACTOR, MAX_FACTOR, 3), 255, np.uint8)
    out = np.zeros((1, 1, 3), np.uint8)
    block_mean(src, MAX_FACTOR, out)
    assert (out == 255).all()


def test_empty_and_outside_boxes(slides) -> None:
    slide = slides[0]["direct"]
    assert slide.read(Box(5, 5, 5, 9)).shape == (4, 0, 3)
    assert slide.read(Box(9, 9, 5, 5)).shape == (0, 0, 3)
    assert (slide.read(Box(10_000, -500, 10_010, -490)) == 255).all()


def test_oblong_pixels_are_squared(slides) -> None:
    slide, whole = slides[0][ANISOTROPIC], slides[1][ANISOTROPIC]
    info = slide.info
    assert info.anisotropic
    assert info.mpp == pytest.approx(0.25, abs=1e-6)
    assert (info.width_px, info.height_px) == (round(W * 1.2), H)
    assert info.to_file_px(info.width_px, 7.0) == pytest.approx((W, 7.0))
    # an independent bilinear interpolation along x, in floating point
    with open_slide(SlideRef(info.path, mpp=0.25, force_mpp=True)) as own:
        file_px = own.read(Box(0, 0, W, H)).astype(float)
    at = np.clip((np.arange(info.width_px) + 0.5) / 1.2 - 0.5, 0, W - 1)
    left = np.minimum(np.floor(at).astype(int), W - 2)
    share = (at - left)[None, :, None]
    expected = file_px[:, left] * (1 - share) + file_px[:, left + 1] * share
    assert np.abs(whole - expected).max() <= 1.0
    assert any("resampled" in note for note in info.notes)


def test_one_percent_is_still_square(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, texture(64, 64), tile=(64, 64), photometric="rgb",
                     resolution=(1e4 / 0.25, 1e4 / 0.252), resolutionunit="CENTIMETER")  # fmt: skip
    with open_slide(SlideRef(str(path))) as slide:
        assert slide.info.mpp == pytest.approx(0.251, abs=1e-5)
        assert not slide.info.anisotropic


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_px", [50, 333, 5000])
def test_overview_shows_the_whole_slide(slides, kind, max_px) -> None:
    slide, whole = slides[0][kind], slides[1][kind]
    small, down = slide.overview(max_px)
    h, w = whole.shape[:2]
    assert max(small.shape[:2]) <= max(max_px, 1)
    assert small.shape[:2] == (-(-h // round(down)), -(-w // round(down)))
    j, i = small.shape[0] // 2, small.shape[1] // 2
    f = round(down)
    block = whole[j * f : (j + 1) * f, i * f : (i + 1) * f].reshape(-1, 3).mean(axis=0)
    assert np.abs(small[j, i] - block).max() <= 0.51


@pytest.mark.parametrize("reader", ["direct", "openslide"])
def test_levels_of_a_pyramid(tmp_path: Path, reader) -> None:
    path = tmp_path / "p.svs"
    pixels = texture(1000, 1400)
    text = "Aperio Image Library v12\n1400x1000 [0,0 1400x1000] (256x256)|AppMag = 20|MPP = 0.5"
    with tifffile.TiffWriter(path) as tiff:
        for step in (1, 2, 4):
            tiff.write(pixels[::step, ::step], tile=(256, 256), photometric="ycbcr",
                       compression="jpeg", description=text, metadata=None)  # fmt: skip
    with open_slide(SlideRef(str(path), reader=reader)) as slide:
        assert slide.info.levels == (1.0, 2.0, 4.0)
        assert slide.info.level_sizes == ((1400, 1000), (700, 500), (350, 250))
        level = slide.level_read(2, Box(-10, 0, 340, 250))
        assert (level[:, :10] == 255).all()
        with tifffile.TiffFile(path) as tiff:
            np.testing.assert_array_equal(level[:, 10:], tiff.pages[2].asarray()[:, :340])
        small, down = slide.overview(350)
        np.testing.assert_array_equal(small, slide.level_read(2, Box(0, 0, 350, 250)))
        assert down == 4.0


def test_bounds_and_background_come_from_the_file(tmp_path: Path, monkeypatch) -> None:
    path = write_svs(tmp_path / "a.svs", texture(H, W))
    true = opening_module._properties

    def with_bounds(ref, file):
        properties, icc = true(ref, file)
        extra = {"openslide.bounds-x": "100", "openslide.bounds-y": "50",
                 "openslide.bounds-width": "300", "openslide.bounds-height": "9999",
                 "openslide.background-color": "E0F0FF"}  # fmt: skip
        return properties | extra, icc

    monkeypatch.setattr(opening_module, "_properties", with_bounds)
    with open_slide(SlideRef(str(path))) as slide:
        assert slide.info.tissue_bounds == Box(100, 50, 400, H)
        assert slide.info.background == (0xE0, 0xF0, 0xFF)
        edge = slide.read(Box(W - 1, 0, W + 2, 1))
        assert edge[0, 1:].tolist() == [[0xE0, 0xF0, 0xFF]] * 2


def test_transparent_pixels_become_background() -> None:
    argb = np.array([[0x00000000, 0xFF0A141E, 0x80400000]], np.uint32)
    out = np.zeros((1, 3, 3), np.uint8)
    assert argb_over(argb, (200, 210, 255), out) == 2
    half = [min(255, 0x40 + (127 * 200 + 127) // 255), (127 * 210 + 127) // 255, 127]
    assert out[0].tolist() == [[200, 210, 255], [10, 20, 30], half]


def test_info_is_technical_only(slides) -> None:
    info = slides[0]["direct"].info
    assert info.properties_safe["aperio.AppMag"] == "40"
    assert not any("Description" in k or "comment" in k for k in info.properties_safe)
    assert info.objective_power == 40.0
    assert len(info.sha256_quick) == 64


def test_ref_and_info_travel_but_a_slide_does_not(slides) -> None:
    slide = slides[0]["direct"]
    ref = SlideRef("a.svs", mpp=0.25)
    assert pickle.loads(pickle.dumps(ref)) == ref
    assert hash(ref) == hash(SlideRef("a.svs", mpp=0.25))
    assert pickle.loads(pickle.dumps(slide.info)) == slide.info
    with pytest.raises(TypeError, match="SlideRef"):
        pickle.dumps(slide)
    with pytest.raises(dataclasses.FrozenInstanceError):
        ref.path = "b.svs"


def test_get_slide_opens_once_and_keeps_four(tmp_path: Path) -> None:
    refs = [SlideRef(str(write_svs(tmp_path / f"{k}.svs", texture(64, 64, k)))) for k in range(6)]
    first = get_slide(refs[0])
    assert get_slide(refs[0]) is first
    for ref in refs[1:]:
        get_slide(ref)
    assert len(opening_module._registry.slides) == 4
    assert first.read(Box(0, 0, 4, 4)).shape == (4, 4, 3)  # still usable by who holds it
    assert get_slide(refs[0]) is not first


def test_a_forked_child_opens_its_own_handle(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", texture(300, 300))
    code = f"""
import os, sys, hashlib
from her2path.core.geometry import Box
from her2path.io.slide import SlideRef, get_slide
ref = SlideRef({str(path)!r}, reader="openslide")
mine = get_slide(ref)
want = mine.read(Box(0, 0, 300, 300)).tobytes()
pid = os.fork()
if pid == 0:
    theirs = get_slide(ref)
    ok = theirs is not mine and theirs.read(Box(0, 0, 300, 300)).tobytes() == want
    os._exit(0 if ok else 1)
status = os.waitpid(pid, 0)[1]
sys.exit(0 if status == 0 and get_slide(ref) is mine else 1)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
