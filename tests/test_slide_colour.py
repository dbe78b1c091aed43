"""What a file says of itself is checked against its pixels: colour, order, depth, alpha."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from slide_samples import write_svs

from her2path.core.errors import SlideUnreadable
from her2path.core.geometry import Box
from her2path.io.slide import SlideRef, check_colours, open_slide
from her2path.io.slide.colour import looks_converted_twice, rgb_of_ycbcr, stored_as
from her2path.io.slide.tiff import TiffSource
from her2path.phantom import PhantomSpec, make_phantom

SIDE = 512
RES: dict[str, Any] = {
    "resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER", "metadata": None,
}  # fmt: skip
SUB = [(530, "H", 2, (1, 1), True)]


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    """A small bright-field image whose colours exist in YCbCr too, so that both are exact."""
    spec = PhantomSpec(seed=5, width_um=128, height_um=128, margin_um=10, tumour_share=0.8,
                       nest_um=60)  # fmt: skip
    pixels = np.asarray(make_phantom(spec).rgb)[:SIDE, :SIDE]
    return rgb_of_ycbcr(ycbcr(np.ascontiguousarray(pixels)))


def ycbcr(rgb: np.ndarray) -> np.ndarray:
    r, g, b = np.moveaxis(rgb.astype(np.float64), -1, 0)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    both = np.stack([y, (b - y) / 1.772 + 128, (r - y) / 1.402 + 128], axis=-1)
    return np.clip(np.rint(both), 0, 255).astype(np.uint8)


def tiles(pixels: np.ndarray, side: int = 128):
    for y in range(0, pixels.shape[0], side):
        for x in range(0, pixels.shape[1], side):
            yield np.ascontiguousarray(pixels[y : y + side, x : x + side])


def retag(path: Path, photometric: int) -> None:
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages[0].tags[262].overwrite(photometric)


def shown(path: Path, **options: Any) -> tuple[np.ndarray, list[str]]:
    with open_slide(SlideRef(str(path), **options)) as slide:
        pixels = slide.read(Box(0, 0, slide.info.width_px, slide.info.height_px))
        assert slide.take_bad_boxes() == []
        return pixels, [f.code for f in slide.info.flags]


def off(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b).mean())


def same(pixels: np.ndarray, truth: np.ndarray) -> None:
    """Equal but for the rounding of a few colours that do not exist in YCbCr."""
    assert np.abs(pixels.astype(int) - truth).max() <= 1
    assert off(pixels, truth) < 0.001


def test_conversion_equals_libjpeg(rgb) -> None:
    stream = imagecodecs.jpeg8_encode(rgb, level=95, colorspace="RGB", outcolorspace="YCBCR")
    stored = imagecodecs.jpeg8_decode(stream, colorspace="YCBCR", outcolorspace="YCBCR")
    np.testing.assert_array_equal(rgb_of_ycbcr(stored), imagecodecs.jpeg8_decode(stream))


def test_components_are_told_apart(rgb) -> None:
    assert stored_as(rgb.reshape(-1, 3)) == "rgb"
    assert stored_as(ycbcr(rgb).reshape(-1, 3)) == "ycbcr"
    assert stored_as(np.full((5000, 3), 240, np.uint8)) == "unclear"
    assert stored_as(rgb.reshape(-1, 3)[:99]) == "unclear"
    assert looks_converted_twice(rgb_of_ycbcr(rgb).reshape(-1, 3))
    assert not looks_converted_twice(rgb.reshape(-1, 3))


def test_noise_is_never_contradicted() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60_000, 3)).astype(np.uint8)
    assert stored_as(noise) == "unclear"
    assert not looks_converted_twice(noise)


# what components are stored, and what the tag says: every combination is read as what it is
CODECS = ["none", "lzw", "deflate", "zstd", "packbits"]


@pytest.mark.parametrize("tiled", [True, False])
@pytest.mark.parametrize("compression", CODECS)
@pytest.mark.parametrize("held", ["rgb", "ycbcr"])
@pytest.mark.parametrize("tag", [2, 6])
def test_every_lossless_codec_and_tag(tmp_path, rgb, tiled, compression, held, tag) -> None:
    path = tmp_path / "a.tif"
    layout: dict[str, Any] = {"tile": (128, 128)} if tiled else {"rowsperstrip": 64}
    pixels = rgb if held == "rgb" else ycbcr(rgb)
    packed = None if compression == "none" else compression
    extra = {"extratags": SUB} if tag == 6 else {}
    tifffile.imwrite(path, pixels, photometric="ycbcr" if tag == 6 else "rgb", compression=packed,
                     **layout, **extra, **RES)  # fmt: skip
    pixels, codes = shown(path)
    same(pixels, rgb)
    wrong = (held == "rgb") != (tag == 2)
    assert ("COLOUR_TAG_WRONG" in codes) == wrong


@pytest.mark.parametrize("number", [33003, 33005, 34712])
@pytest.mark.parametrize("held", ["rgb", "ycbcr", "transformed"])
@pytest.mark.parametrize("tag", [2, 6])
def test_jpeg_2000(tmp_path, rgb, number, held, tag) -> None:
    path = tmp_path / "a.tif"
    mct = held == "transformed"
    streams = (
        imagecodecs.jpeg2k_encode(t, level=0, codecformat="j2k", mct=mct, reversible=True,
                                  colorspace="RGB" if mct else "UNSPECIFIED")
        for t in tiles(ycbcr(rgb) if held == "ycbcr" else rgb)
    )  # fmt: skip
    tifffile.imwrite(path, streams, shape=rgb.shape, dtype="uint8", photometric="rgb",
                     compression=number, tile=(128, 128), **RES)  # fmt: skip
    retag(path, tag)
    pixels, codes = shown(path)
    same(pixels, rgb)
    # a stream that transforms its components says by itself that it gives RGB
    wrong = not mct and (held == "rgb") != (tag == 2)
    assert ("COLOUR_TAG_WRONG" in codes) == wrong


@pytest.mark.parametrize("aperio", [True, False])
@pytest.mark.parametrize("held", ["RGB", "YCBCR"])
@pytest.mark.parametrize("tag", [2, 6])
def test_jpeg_in_tiff(tmp_path, rgb, aperio, held, tag) -> None:
    path = tmp_path / "a.tif"
    streams = (
        imagecodecs.jpeg8_encode(t, level=98, colorspace="RGB", outcolorspace=held,
                                 subsampling="444") for t in tiles(rgb)
    )  # fmt: skip
    text = {"description": f"Aperio Image Library v12\n{SIDE}x{SIDE}|AppMag = 40|MPP = 0.25"}
    tifffile.imwrite(path, streams, shape=rgb.shape, dtype="uint8", photometric="rgb",
                     compression="jpeg", tile=(128, 128), **(text if aperio else {}),
                     **RES)  # fmt: skip
    retag(path, tag)
    pixels, codes = shown(path)
    assert off(pixels, rgb) < 1.5
    assert ("COLOUR_TAG_WRONG" in codes) == ((held == "RGB") != (tag == 2))


def test_separate_planes_of_ycbcr(tmp_path, rgb) -> None:
    path = tmp_path / "a.tif"
    planes = np.ascontiguousarray(np.moveaxis(ycbcr(rgb), 2, 0))
    tifffile.imwrite(path, planes, photometric="ycbcr", planarconfig="separate",
                     compression="lzw", extratags=SUB, **RES)  # fmt: skip
    pixels, codes = shown(path)
    same(pixels, rgb)
    assert codes == []


def test_pillow_strips_of_ycbcr(tmp_path, rgb) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(rgb).convert("YCbCr").save(path, compression="tiff_lzw", dpi=(101600, 101600))
    assert off(shown(path)[0], rgb) < 1.5


def test_subsampled_colour_that_is_not_jpeg_is_refused(tmp_path, rgb) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, ycbcr(rgb), photometric="ycbcr", compression="lzw", rowsperstrip=64,
                     extratags=[(530, "H", 2, (2, 2), True)], **RES)  # fmt: skip
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages[0].tags[530].overwrite((2, 2))
    with pytest.raises(SlideUnreadable, match="subsampled"):
        shown(path)


def test_ycbcr_in_png_and_rgb_in_jpeg(tmp_path, rgb) -> None:
    Image.fromarray(ycbcr(rgb)).save(tmp_path / "a.png")
    pixels, codes = shown(tmp_path / "a.png", mpp=0.25)
    same(pixels, rgb)
    assert "COLOUR_TAG_WRONG" in codes
    stream = imagecodecs.jpeg8_encode(rgb, level=98, colorspace="RGB", outcolorspace="RGB",
                                      subsampling="444")  # fmt: skip
    at = stream.find(b"\xff\xee")  # without Adobe's marker nothing says that it is RGB
    if at > 0:
        length = int.from_bytes(stream[at + 2 : at + 4], "big")
        stream = stream[:at] + stream[at + 2 + length :]
    for name, number in ((b"R", b"\x01"), (b"G", b"\x02"), (b"B", b"\x03")):
        stream = _component(stream, name, number)
    (tmp_path / "a.jpg").write_bytes(stream)
    pixels, codes = shown(tmp_path / "a.jpg", mpp=0.25)
    assert off(pixels, rgb) < 1.5
    assert "COLOUR_TAG_WRONG" in codes


def _component(stream: bytes, old: bytes, new: bytes) -> bytes:
    """Give a component of a JPEG another identifier, in its frame and its scan."""
    out = bytearray(stream)
    for mark, start, step in ((b"\xff\xc0", 10, 3), (b"\xff\xda", 5, 2)):
        at = out.find(mark)
        for k in range(3):
            place = at + start + step * k
            if out[place : place + 1] == old:
                out[place : place + 1] = new
    return bytes(out)


def test_colours_of_a_coarser_level_are_asked_for_themselves(tmp_path, rgb) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        options: dict[str, Any] = {"photometric": "rgb", "compression": "lzw", "tile": (128, 128)}
        tiff.write(rgb, **options, **RES)
        tiff.write(ycbcr(rgb[::2, ::2]), subfiletype=1, **options, metadata=None)
    with open_slide(SlideRef(str(path))) as slide:
        for level, truth in enumerate((rgb, rgb[::2, ::2])):
            size = slide.info.level_sizes[level]
            same(slide.level_read(level, Box(0, 0, *size)), truth)


# -- directories -----------------------------------------------------------------------------------

STEPS = {"finest first": (1, 2, 4), "smallest first": (4, 2, 1), "mixed": (2, 4, 1)}


@pytest.mark.parametrize("compression", ["jpeg", "lzw"])
@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_levels_in_any_order(tmp_path, rgb, steps, kind, compression) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        for s in steps:
            tiff.write(np.ascontiguousarray(rgb[::s, ::s]), photometric="rgb", tile=(128, 128),
                       compression=compression, subfiletype=kind if s > 1 else 0, metadata=None,
                       resolution=(40_000 // s, 40_000 // s),
                       resolutionunit="CENTIMETER")  # fmt: skip
    with open_slide(SlideRef(str(path))) as slide:
        info = slide.info
        assert (info.width_px, info.mpp) == (SIDE, 0.25)
        assert ("LEVEL_ORDER" in [f.code for f in info.flags]) == (steps[0] != 1)
        assert off(slide.read(Box(0, 0, SIDE, SIDE)), rgb) < 3
        assert off(slide.overview(128)[0].mean(axis=(0, 1)), rgb.mean(axis=(0, 1))) < 2


@pytest.mark.parametrize("name", ["macro", "Label image", "slide_thumbnail", "overview", "Preview",
                                  "Makro", "Etikett"])  # fmt: skip
@pytest.mark.parametrize("first", [True, False])
def test_ome_associated_images_are_never_the_slide(tmp_path, rgb, name, first) -> None:
    path = tmp_path / "a.ome.tif"
    big = np.ascontiguousarray(np.tile(rgb[:, ::2], (2, 3, 1)))  # larger than the scan
    images = [(name, big, 1.0), ("scan", rgb, 0.25)]
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for title, pixels, mpp in images if first else images[::-1]:
            tiff.write(pixels, photometric="rgb", tile=(128, 128), compression="lzw", metadata={
                "axes": "YXS", "Name": title, "PhysicalSizeX": mpp, "PhysicalSizeXUnit": "µm",
                "PhysicalSizeY": mpp, "PhysicalSizeYUnit": "µm"})  # fmt: skip
    pixels, codes = shown(path)
    same(pixels, rgb)
    assert "SEVERAL_IMAGES" not in codes


def test_an_image_coarser_than_any_scan_is_no_slide(tmp_path, rgb) -> None:
    path = tmp_path / "a.ome.tif"
    big = np.ascontiguousarray(np.tile(rgb[:, ::2], (2, 3, 1)))
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for pixels, mpp in ((big, 5.0), (rgb, 0.25)):
            tiff.write(pixels, photometric="rgb", tile=(128, 128), compression="lzw", metadata={
                "axes": "YXS", "PhysicalSizeX": mpp, "PhysicalSizeY": mpp})  # fmt: skip
    pixels, codes = shown(path)
    same(pixels, rgb)
    assert codes == ["LEVEL_ORDER"]


def test_aperio_levels_smallest_first(tmp_path, rgb) -> None:
    path = tmp_path / "a.svs"
    with tifffile.TiffWriter(path) as tiff:
        for s in (4, 1):
            n = SIDE // s
            tiff.write(np.ascontiguousarray(rgb[::s, ::s]), photometric="rgb", tile=(128, 128),
                       compression="lzw", metadata=None,
                       description=f"Aperio Image Library v12\n{n}x{n}|MPP = {s / 4}")  # fmt: skip
    with open_slide(SlideRef(str(path))) as slide:
        assert (slide.info.vendor, slide.info.mpp, slide.info.width_px) == ("aperio", 0.25, SIDE)
        np.testing.assert_array_equal(slide.read(Box(0, 0, SIDE, SIDE)), rgb)


def test_two_scans_in_one_file_are_told(tmp_path, rgb) -> None:
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for title in ("first", "second"):
            tiff.write(rgb, photometric="rgb", tile=(128, 128), metadata={
                "axes": "YXS", "Name": title, "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25,
            })  # fmt: skip
    assert "SEVERAL_IMAGES" in shown(path)[1]


def test_two_tiled_images_of_one_size_are_told(tmp_path, rgb) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        for pixels in (rgb, np.ascontiguousarray(rgb[::-1])):
            tiff.write(pixels, photometric="rgb", tile=(128, 128), compression="lzw", **RES)
    pixels, codes = shown(path)
    same(pixels, rgb)
    assert codes == ["SEVERAL_IMAGES"]


# -- depth, alpha, orientation ---------------------------------------------------------------------


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_16_bit_values_of_a_camera(tmp_path, rgb, bits, suffix) -> None:
    path = tmp_path / f"a.{suffix}"
    bright = np.maximum(rgb, 1)
    bright[:8, :8] = 255
    wide = (bright.astype(np.uint32) * ((1 << bits) - 1) // 255).astype(np.uint16)
    if suffix == "tif":
        tifffile.imwrite(path, wide, photometric="rgb", tile=(128, 128), **RES)
    else:
        path.write_bytes(imagecodecs.png_encode(wide))
    pixels, codes = shown(path, mpp=0.25)
    assert np.abs(pixels.astype(int) - bright).max() <= 1
    assert "SCALED_TO_8_BIT" in codes


@pytest.mark.parametrize("kind", ["assocalpha", "unassalpha", "unspecified"])
def test_a_fourth_sample(tmp_path, rgb, kind) -> None:
    path = tmp_path / "a.tif"
    alpha = np.full((SIDE, SIDE, 1), 255, np.uint8)
    alpha[:, :200] = 128
    a = alpha.astype(int)
    held = rgb.astype(int) * a // 255 if kind == "assocalpha" else rgb
    tifffile.imwrite(path, np.dstack([held.astype(np.uint8), alpha]), photometric="rgb",
                     extrasamples=[kind], compression="lzw", **RES)  # fmt: skip
    over = rgb if kind == "unspecified" else rgb * (a / 255) + 255 - a
    assert off(shown(path)[0], over) < 0.6


def test_alpha_that_is_not_premultiplied_as_it_claims(tmp_path, rgb) -> None:
    path = tmp_path / "a.tif"
    alpha = np.full((SIDE, SIDE, 1), 100, np.uint8)
    tifffile.imwrite(path, np.dstack([rgb, alpha]), photometric="rgb", compression="lzw",
                     extrasamples=["assocalpha"], **RES)  # fmt: skip
    pixels, codes = shown(path)
    assert off(pixels, rgb * (100 / 255) + 155) < 0.6
    assert "ALPHA_TAG_WRONG" in codes


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        ("tif", "unassalpha"),
        ("tif", "assocalpha"),
        ("png", ""),
    ],
)
def test_alpha_that_was_never_filled_is_none(tmp_path, rgb, suffix, kind) -> None:
    path = tmp_path / f"a.{suffix}"
    four = np.dstack([rgb, np.zeros((SIDE, SIDE, 1), np.uint8)])
    if suffix == "png":
        path.write_bytes(imagecodecs.png_encode(four))
    else:
        tifffile.imwrite(path, four, photometric="rgb", compression="lzw", tile=(128, 128),
                         extrasamples=[kind], **RES)  # fmt: skip
    pixels, codes = shown(path, mpp=0.25)
    same(pixels, rgb)
    assert "ALPHA_TAG_WRONG" in codes


def test_transparent_pixels_of_a_tiff_are_told(tmp_path, rgb) -> None:
    path = tmp_path / "a.tif"
    alpha = np.full((SIDE, SIDE, 1), 255, np.uint8)
    alpha[:, :100] = 0
    tifffile.imwrite(path, np.dstack([rgb, alpha]), photometric="rgb", compression="lzw",
                     tile=(128, 128), extrasamples=["unassalpha"], **RES)  # fmt: skip
    pixels, codes = shown(path)
    assert (pixels[:, :100] == 255).all()
    assert codes == ["TRANSPARENT_PIXELS"]


@pytest.mark.parametrize("turned", [1, 6])
def test_orientation_of_a_png_is_told(tmp_path, rgb, turned) -> None:
    path = tmp_path / "a.png"
    exif = Image.Exif()
    exif[274] = turned
    Image.fromarray(rgb).save(path, exif=exif)
    pixels, codes = shown(path, mpp=0.25)
    same(pixels, rgb)
    assert ("ORIENTATION_IGNORED" in codes) == (turned == 6)


def test_tiff_orientation_is_told(tmp_path, rgb) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, rgb, photometric="rgb", tile=(128, 128), compression="lzw",
                     extratags=[(274, "H", 1, 3, True)], **RES)  # fmt: skip
    pixels, codes = shown(path)
    same(pixels, rgb)
    assert codes == ["ORIENTATION_IGNORED"]


def test_a_picture_before_others_in_one_file(tmp_path, rgb) -> None:
    path = tmp_path / "a.jpg"
    im = Image.fromarray(rgb)
    im.save(tmp_path / "a.mpo", format="MPO", save_all=True, append_images=[im], quality=95)
    (tmp_path / "a.mpo").rename(path)
    pixels, codes = shown(path, mpp=0.25)
    assert off(pixels, rgb) < 3
    assert "SEVERAL_IMAGES" in codes


# -- a second opinion ------------------------------------------------------------------------------


def test_two_readers_that_agree_are_believed(tmp_path, rgb) -> None:
    path = write_svs(tmp_path / "a.svs", rgb, photometric="rgb")
    with open_slide(SlideRef(str(path))) as slide:
        check_colours(slide, [Box(0, 0, 512, 512)])


def test_two_readers_that_differ_end_the_slide(tmp_path, rgb, monkeypatch) -> None:
    path = write_svs(tmp_path / "a.svs", rgb, photometric="rgb")
    made = TiffSource._made
    monkeypatch.setattr(TiffSource, "_made", lambda *a: 255 - made(*a))
    with open_slide(SlideRef(str(path))) as slide:
        with pytest.raises(SlideUnreadable, match="different colours") as caught:
            check_colours(slide, [Box(0, 0, 512, 512)])
        assert caught.value.exit_code == 3


# -- DICOM -----------------------------------------------------------------------------------------


def write_dicom(folder: Path, streams: list[bytes], syntax: str, photometric: str) -> Path:
    """Write one DICOM whole-slide instance of encapsulated tiles, 128 px each."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.encaps import encapsulate
    from pydicom.uid import generate_uid

    ds, meta = pydicom.Dataset(), pydicom.dataset.FileMetaDataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.77.1.6", generate_uid()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = ds.SOPClassUID, syntax
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.Modality, ds.ImageType = "SM", ["DERIVED", "PRIMARY", "VOLUME", "NONE"]
    ds.Rows = ds.Columns = 128
    ds.TotalPixelMatrixColumns = ds.TotalPixelMatrixRows = SIDE
    ds.NumberOfFrames, ds.SamplesPerPixel, ds.PlanarConfiguration = len(streams), 3, 0
    ds.PhotometricInterpretation, ds.PixelRepresentation = photometric, 0
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.DimensionOrganizationType = 7, "TILED_FULL"
    ds.TotalPixelMatrixFocalPlanes = ds.NumberOfOpticalPaths = 1
    measures = pydicom.Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.00025, 0.00025], 0.001
    shared = pydicom.Dataset()
    shared.PixelMeasuresSequence = [measures]
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PixelData = encapsulate(streams)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.file_meta = meta
    folder.mkdir(exist_ok=True)
    path = folder / f"{ds.SOPInstanceUID}.dcm"
    ds.save_as(path, enforce_file_format=True)
    return path


JPEG_SYNTAX, J2K_SYNTAX = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.91"


def jpegs(rgb: np.ndarray, held: str) -> list[bytes]:
    return [imagecodecs.jpeg8_encode(t, level=98, colorspace="RGB", outcolorspace=held,
                                     subsampling="444") for t in tiles(rgb)]  # fmt: skip


@pytest.mark.parametrize(("held", "tag", "wrong"), [
    ("YCBCR", "YBR_FULL_422", False), ("YCBCR", "RGB", True), ("RGB", "RGB", False),
])  # fmt: skip
def test_jpeg_in_dicom(tmp_path, rgb, held, tag, wrong) -> None:
    path = write_dicom(tmp_path / "d", jpegs(rgb, held), JPEG_SYNTAX, tag)
    pixels, codes = shown(path)
    assert off(pixels, rgb) < 1.5
    assert ("COLOUR_TAG_WRONG" in codes) == wrong


def test_rgb_called_ycbcr_in_dicom_ends_with_one_line(tmp_path, rgb) -> None:
    path = write_dicom(tmp_path / "d", jpegs(rgb, "RGB"), JPEG_SYNTAX, "YBR_FULL_422")
    with pytest.raises(SlideUnreadable, match="photometric interpretation") as caught:
        shown(path)
    assert caught.value.exit_code == 3


def test_jpeg_2000_in_dicom_without_the_transform_that_its_tag_names(tmp_path, rgb) -> None:
    streams = [
        imagecodecs.jpeg2k_encode(t, level=0, codecformat="j2k", mct=False, reversible=True,
                                  colorspace="UNSPECIFIED") for t in tiles(ycbcr(rgb))
    ]  # fmt: skip
    pixels, codes = shown(write_dicom(tmp_path / "d", streams, J2K_SYNTAX, "YBR_ICT"))
    same(pixels, rgb)
    assert codes == ["COLOUR_TAG_WRONG"]


def test_a_folder_with_two_dicom_series_is_refused(tmp_path, rgb) -> None:
    for _ in range(2):
        write_dicom(tmp_path / "d", jpegs(rgb, "YCBCR"), JPEG_SYNTAX, "YBR_FULL_422")
    with pytest.raises(SlideUnreadable, match="2 DICOM slides") as caught:
        open_slide(SlideRef(str(tmp_path / "d")))
    assert caught.value.exit_code == 3
