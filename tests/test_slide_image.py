"""Plain images: PNG, JPEG, TIFF and OME-TIFF, and colour by ICC profile."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms
from slide_samples import overwrite, texture, tile_table, write_svs

from her2path.core.errors import SlideUnreadable, UsageError
from her2path.core.geometry import Box
from her2path.io.slide import SlideRef, open_slide
from her2path.io.slide.image import MAX_IMAGE_BYTES
from her2path.io.slide.samples import to_rgb8

PIXELS = texture(90, 130)


def opened(path: Path, **options):
    return open_slide(SlideRef(str(path), mpp=0.25, **options))


def all_of(slide) -> np.ndarray:
    return slide.read(Box(0, 0, slide.info.width_px, slide.info.height_px))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPEG"])
def test_png_and_jpeg_equal_pillow(tmp_path: Path, name) -> None:
    path = tmp_path / name
    Image.fromarray(PIXELS).save(path)
    with opened(path) as slide:
        np.testing.assert_array_equal(all_of(slide), np.asarray(Image.open(path).convert("RGB")))
        assert slide.info.reader == "image"
        assert slide.info.levels == (1.0,)
        with pytest.raises(UsageError):
            opened(path, reader="direct")


def test_progressive_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(PIXELS).save(path, progressive=True)
    with opened(path) as slide:
        np.testing.assert_array_equal(all_of(slide), np.asarray(Image.open(path)))


def test_png_with_alpha_lies_over_white(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    rgba = np.dstack([PIXELS, np.full(PIXELS.shape[:2], 255, np.uint8)])
    rgba[:10, :, 3] = 0
    Image.fromarray(rgba).save(path)
    with opened(path) as slide:
        pixels = all_of(slide)
    assert (pixels[:10] == 255).all()
    np.testing.assert_array_equal(pixels[10:], PIXELS[10:])


def test_16_bit_is_scaled_from_its_full_range(tmp_path: Path) -> None:
    assert to_rgb8(np.full((1, 1, 3), 65535, np.uint16)).tolist() == [[[255] * 3]]
    wide = PIXELS.astype(np.uint16) * 257
    tiff, png = tmp_path / "a.tif", tmp_path / "a.png"
    tifffile.imwrite(tiff, wide, photometric="rgb", tile=(32, 48))
    png.write_bytes(imagecodecs.png_encode(wide))
    for path in (tiff, png):
        with opened(path) as slide:
            np.testing.assert_array_equal(all_of(slide), PIXELS)
            assert "From 16-bit values of 16 bit." in slide.info.notes[-1]


TIFFS = {
    "one strip": {},
    "strips": {"rowsperstrip": 7},
    "deflate strips": {"rowsperstrip": 7, "compression": "deflate", "predictor": True},
    "lzw strips": {"rowsperstrip": 7, "compression": "lzw"},
    "packbits": {"rowsperstrip": 7, "compression": "packbits"},
    "separate planes": {"planarconfig": "separate", "rowsperstrip": 16},
    "separate tiled planes": {"planarconfig": "separate", "tile": (32, 48)},
    "jpeg 2000 tiles": {"tile": (32, 48), "compression": "jpeg2000"},
    "zstd strips": {"rowsperstrip": 7, "compression": "zstd", "predictor": True},
    "zstd tiles": {"tile": (32, 48), "compression": "zstd"},
    "lossless WebP tiles": {
        "tile": (32, 48),
        "compression": "webp",
        "compressionargs": {"lossless": True},
    },
    "big-endian": {"byteorder": ">", "rowsperstrip": 11},
}


@pytest.mark.parametrize("options", TIFFS.values(), ids=TIFFS)
def test_tiff_layouts(tmp_path: Path, options) -> None:
    path = tmp_path / "a.tif"
    pixels = PIXELS
    if options.get("planarconfig"):
        pixels = np.ascontiguousarray(PIXELS.transpose(2, 0, 1))
    tifffile.imwrite(path, pixels, photometric="rgb", **options)
    with opened(path) as slide:
        np.testing.assert_array_equal(all_of(slide), PIXELS)
        np.testing.assert_array_equal(slide.read(Box(3, 5, 70, 60)), PIXELS[5:60, 3:70])


def test_jpeg_strips_equal_tifffile(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, photometric="ycbcr", rowsperstrip=16, compression="jpeg")
    with opened(path) as slide:
        np.testing.assert_array_equal(all_of(slide), tifffile.imread(path))
        assert slide.take_bad_boxes() == []


@pytest.mark.parametrize("compression", ["deflate", "jpeg"])
def test_ome_pyramid_in_sub_directories(tmp_path: Path, compression) -> None:
    path = tmp_path / "a.ome.tif"
    pixels = texture(512, 640)
    options = {"tile": (128, 128), "photometric": "rgb", "compression": compression}
    meta = {"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(pixels, subifds=2, metadata=meta, **options)
        tiff.write(pixels[::2, ::2], subfiletype=1, **options)
        tiff.write(pixels[::4, ::4], subfiletype=1, **options)
    with open_slide(SlideRef(str(path))) as slide, tifffile.TiffFile(path) as tiff:
        assert slide.info.levels == (1.0, 2.0, 4.0)
        for level, page in enumerate(tiff.series[0].levels):
            size = slide.info.level_sizes[level]
            np.testing.assert_array_equal(slide.level_read(level, Box(0, 0, *size)), page.asarray())
        if compression == "jpeg":
            assert slide.info.reader == "direct"


REFUSED = {
    "grey": lambda p: Image.fromarray(PIXELS[..., 0]).save(p),
    "palette": lambda p: Image.fromarray(PIXELS).quantize(16).save(p),
    "CMYK": lambda p: Image.fromarray(PIXELS).convert("CMYK").save(p),
    "1-bit": lambda p: Image.fromarray(PIXELS).convert("1").save(p),
    "grey and alpha": lambda p: Image.fromarray(PIXELS).convert("LA").save(p),
}


@pytest.mark.parametrize(("name", "suffix"), [
    ("grey", "png"), ("grey", "jpg"), ("grey", "tif"), ("palette", "png"), ("palette", "tif"),
    ("CMYK", "jpg"), ("CMYK", "tif"), ("1-bit", "png"), ("1-bit", "tif"),
    ("grey and alpha", "png"),
])  # fmt: skip
def test_what_is_not_rgb_is_refused(tmp_path: Path, name, suffix) -> None:
    path = tmp_path / f"a.{suffix}"
    REFUSED[name](path)
    with pytest.raises(SlideUnreadable, match="is not an RGB image"):
        opened(path)


@pytest.mark.parametrize(("pixels", "options", "message"), [
    (np.zeros((64, 64), np.uint8), {"tile": (32, 32)}, "not an RGB image"),
    (np.zeros((64, 64, 3), np.float32), {"photometric": "rgb"}, "not 8- or 16-bit"),
    (np.zeros((4, 64, 64, 3), np.uint8), {"photometric": "rgb"}, "stack of images"),
    (PIXELS, {"photometric": "rgb", "compression": "lzma"}, "packed by LZMA"),
], ids=["grey tiled", "float", "stack", "lzma"])  # fmt: skip
def test_tiff_kinds_that_are_refused(tmp_path: Path, pixels, options, message) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, **options)
    with pytest.raises(SlideUnreadable, match=message):
        opened(path)


def test_damaged_segments_are_filled_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, photometric="rgb", rowsperstrip=10, compression="deflate")
    offsets, _ = tile_table(path)
    overwrite(path, offsets[3], b"\x55" * 200)
    with opened(path) as slide:
        pixels = all_of(slide)
        assert slide.take_bad_boxes() == [Box(0, 30, 130, 40)]
    expected = PIXELS.copy()
    expected[30:40] = 255
    np.testing.assert_array_equal(pixels, expected)


def test_exif_orientation_is_ignored_and_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(PIXELS).save(path, exif=exif)
    with opened(path) as slide:
        assert (slide.info.width_px, slide.info.height_px) == (130, 90)
        assert any("orientation" in note for note in slide.info.notes)


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def test_png_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    head = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 100_000)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
    )
    with pytest.raises(SlideUnreadable, match="too large"):
        opened(path)


def test_jpeg_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(PIXELS).save(path)
    overwrite(path, path.read_bytes().index(b"\xff\xc0") + 5, b"\xff\xdc\xff\xdc")
    assert MAX_IMAGE_BYTES < 0xFFDC**2 * 3
    with pytest.raises(SlideUnreadable, match="too large"):
        opened(path)


def test_swollen_segment_is_not_unpacked(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.tif"
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    tifffile.imwrite(path, noise, photometric="rgb", rowsperstrip=512, compression="deflate")
    raw = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        rows, length = (tiff.pages[0].tags[k].valueoffset for k in ("RowsPerStrip", "ImageLength"))
        order = tiff.byteorder
    for at in (rows, length):
        width = "H" if struct.unpack_from(order + "H", raw, at)[0] == 512 else "I"
        overwrite(path, at, struct.pack(order + width, 64))
    with opened(path) as slide:
        monkeypatch.setattr(type(slide._source._raw), "read", None)  # must not even be read
        assert (slide.read(Box(0, 0, 9, 9)) == 255).all()
        assert slide.take_bad_boxes() == [Box(0, 0, 9, 9)]


def linear_profile() -> bytes:
    """A profile unlike sRGB: built by Little CMS from another of its own colour spaces."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    raw = bytearray(lab.tobytes())
    # swap the red and the green primaries' XYZ tags: colours change visibly
    red, green = raw.index(b"rXYZ", 128), raw.index(b"gXYZ", 128)
    raw[red : red + 4], raw[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(raw)


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "svs", "openslide"])
def test_icc_profile_is_applied_when_asked_for(tmp_path: Path, kind) -> None:
    profile = linear_profile()
    path = tmp_path / f"a.{'svs' if kind == 'openslide' else kind}"
    if kind in ("svs", "openslide"):
        write_svs(path, PIXELS, iccprofile=profile)
    elif kind == "tif":
        tifffile.imwrite(path, PIXELS, photometric="rgb", rowsperstrip=9, iccprofile=profile)
    else:
        Image.fromarray(PIXELS).save(path, icc_profile=profile)
    reader = "openslide" if kind == "openslide" else "auto"
    with opened(path, reader=reader) as off, opened(path, reader=reader, icc="apply") as on:
        stored, converted = all_of(off), all_of(on)
        assert (off.info.icc_applied, on.info.icc_applied) == (False, True)
        assert off.info.icc_profile
        assert on.info.icc_profile == off.info.icc_profile
        outside = on.read(Box(-5, -5, 0, 0))
        piece = on.read(Box(31, 17, 99, 60))
    expected = ImageCms.profileToProfile(
        Image.fromarray(stored),
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    np.testing.assert_array_equal(converted, np.asarray(expected))
    assert not np.array_equal(converted, stored)
    np.testing.assert_array_equal(piece, converted[17:60, 31:99])
    assert (outside == 255).all()


def test_icc_without_or_with_a_broken_profile_is_noted(tmp_path: Path) -> None:
    plain = write_svs(tmp_path / "a.svs", PIXELS)
    with opened(plain, icc="apply") as slide:
        assert not slide.info.icc_applied
        assert any("No ICC profile" in note for note in slide.info.notes)
    broken = write_svs(tmp_path / "b.svs", PIXELS, iccprofile=b"\x01" * 500)
    with opened(broken, icc="apply") as slide:
        assert not slide.info.icc_applied
        assert any("cannot be used" in note for note in slide.info.notes)
