"""The direct path: OpenSlide's pixels, bit for bit, and damage told apart."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from slide_samples import drop_tile, overwrite, texture, tile_table, write_svs

from her2path.core.errors import SlideUnreadable, UsageError
from her2path.core.geometry import Box
from her2path.io.slide import SlideRef, open_slide
from her2path.io.slide import opening as opening_module
from her2path.io.slide.cache import TileCache
from her2path.io.slide.jpegmarks import scan_is_whole
from her2path.io.slide.jpegtiles import JpegTiles

LAYOUTS = [
    pytest.param({"photometric": "ycbcr", "subsampling": (2, 2)}, id="ycbcr-420"),
    pytest.param({"photometric": "ycbcr", "subsampling": (2, 1)}, id="ycbcr-422"),
    pytest.param({"photometric": "ycbcr", "subsampling": (1, 1)}, id="ycbcr-444"),
    pytest.param({"photometric": "rgb"}, id="rgb-444"),
    pytest.param({"photometric": "ycbcr", "tile": (128, 512)}, id="oblong tiles"),
    pytest.param({"photometric": "ycbcr", "tile": (16, 16)}, id="tiny tiles"),
    pytest.param({"photometric": "ycbcr", "tile": (1024, 1024)}, id="one tile"),
    pytest.param({"photometric": "ycbcr", "bigtiff": True}, id="BigTIFF"),
    pytest.param({"photometric": "ycbcr", "description": "plain"}, id="generic tiled TIFF"),
]


def whole(slide) -> Box:
    return Box(0, 0, slide.info.width_px, slide.info.height_px)


def bare(path: Path) -> np.ndarray:
    with openslide.OpenSlide(path) as handle:
        return np.asarray(handle.read_region((0, 0), 0, handle.dimensions).convert("RGB"))


@pytest.mark.parametrize("options", LAYOUTS)
def test_whole_slide_equals_openslide(tmp_path: Path, options: dict) -> None:
    path = write_svs(tmp_path / "a.svs", texture(700, 900), **options)
    with (
        open_slide(SlideRef(str(path), mpp=0.25, reader="direct")) as direct,
        open_slide(SlideRef(str(path), mpp=0.25, reader="openslide")) as other,
    ):
        assert (direct.info.reader, other.info.reader) == ("direct", "openslide")
        pixels = direct.read(whole(direct))
        np.testing.assert_array_equal(pixels, bare(path))
        np.testing.assert_array_equal(pixels, other.read(whole(other)))
        np.testing.assert_array_equal(direct.overview(100)[0], other.overview(100)[0])
        assert direct.take_bad_boxes() == []


def pyramid(path: Path, pixels: np.ndarray, factor: int = 4) -> Path:
    """Write an Aperio-style SVS with a second level of every `factor`-th pixel."""
    write_svs(path, pixels)
    options = {"tile": (256, 256), "compression": "jpeg", "photometric": "ycbcr"}
    with tifffile.TiffWriter(path, append=True) as tiff:
        tiff.write(np.ascontiguousarray(pixels[::factor, ::factor]), **options, metadata=None)
    return path


@pytest.mark.parametrize("shape", [(2400, 2000), (2399, 2001)], ids=["divides", "does not divide"])
def test_coarser_levels_equal_openslide(tmp_path: Path, shape: tuple[int, int]) -> None:
    path = pyramid(tmp_path / "a.svs", texture(*shape))
    refs = [SlideRef(str(path), reader=r) for r in ("direct", "openslide")]
    with open_slide(refs[0]) as direct, open_slide(refs[1]) as other:
        assert len(direct.info.levels) == 2
        box = Box(3, 5, 480, 570)
        np.testing.assert_array_equal(direct.level_read(1, box), other.level_read(1, box))
        np.testing.assert_array_equal(direct.overview(90, 2)[0], other.overview(90)[0])
        used = direct._source._levels[1]
        assert (used is not None) == (shape == (2400, 2000))


def test_a_damaged_coarser_tile_is_left_to_openslide(tmp_path: Path) -> None:
    path = pyramid(tmp_path / "a.svs", texture(2400, 2000))
    with tifffile.TiffFile(path) as tiff:
        at, size = (int(v[4]) for v in (tiff.pages[1].dataoffsets, tiff.pages[1].databytecounts))
    overwrite(path, at + size // 2, b"\xff\xd9" * 20)
    refs = [SlideRef(str(path), reader=r) for r in ("direct", "openslide")]
    with open_slide(refs[0]) as direct, open_slide(refs[1]) as other:
        whole_level = Box(0, 0, 500, 600)
        seen = direct.level_read(1, whole_level)
        np.testing.assert_array_equal(seen, other.level_read(1, whole_level))


def test_other_compressions_fall_back_to_openslide(tmp_path: Path) -> None:
    pixels = texture(300, 300)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, tile=(128, 128), photometric="rgb", compression="deflate")
    with open_slide(SlideRef(str(path), mpp=0.5)) as slide:
        assert slide.info.reader == "openslide"
        assert slide.info.notes == (
            "The pixel size was given by the user. --mpp 0.5; the file states none.",
        )
        np.testing.assert_array_equal(slide.read(whole(slide)), pixels)
    with pytest.raises(UsageError, match="not JPEG"):
        open_slide(SlideRef(str(path), mpp=0.5, reader="direct"))


def test_a_difference_from_openslide_falls_back(tmp_path: Path, monkeypatch) -> None:
    path = write_svs(tmp_path / "a.svs", texture(300, 300))
    decode = opening_module.JpegTiles.decode

    def tampered(self, index, out=None):
        tile = decode(self, index, out)
        tile[5, 5, 1] ^= 1
        return tile

    monkeypatch.setattr(opening_module.JpegTiles, "decode", tampered)
    with open_slide(SlideRef(str(path))) as slide:
        assert slide.info.reader == "openslide"
        assert [f.code for f in slide.info.flags] == ["READERS_DIFFER"]
        np.testing.assert_array_equal(slide.read(whole(slide)), bare(path))
    with pytest.raises(UsageError):
        open_slide(SlideRef(str(path), reader="direct"))


def test_missing_tiles_are_background_not_damage(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", texture(700, 900))
    drop_tile(path, 5)
    for reader in ("direct", "openslide"):
        with open_slide(SlideRef(str(path), reader=reader)) as slide:
            pixels = slide.read(whole(slide))
            assert (pixels[256:512, 256:512] == 255).all()
            assert slide.take_bad_boxes() == []
            np.testing.assert_array_equal(pixels, _over_white(path))


def _over_white(path: Path) -> np.ndarray:
    with openslide.OpenSlide(path) as handle:
        rgba = np.asarray(handle.read_region((0, 0), 0, handle.dimensions))
    pixels = rgba[..., :3].copy()
    pixels[rgba[..., 3] == 0] = 255
    return pixels


def _noise(path: Path, offset: int, count: int) -> None:
    overwrite(path, offset, np.random.default_rng(3).integers(0, 256, count, np.uint8).tobytes())


DAMAGE = {
    "all of it": (0.0, 1.0),
    "from the middle": (0.5, 0.5),
    "a piece in the middle": (0.5, 0.3),
}


@pytest.mark.parametrize("part", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("reader", ["direct", "openslide"])
def test_damaged_tiles_are_filled_and_reported(tmp_path: Path, part, reader) -> None:
    path = write_svs(tmp_path / "a.svs", texture(700, 900))
    good = bare(path)
    offsets, counts = tile_table(path)
    for index in (1, 6):
        _noise(path, offsets[index] + int(part[0] * counts[index]), int(part[1] * counts[index]))
    bad = [Box(256, 0, 512, 256), Box(512, 256, 768, 512)]
    expected = good.copy()
    for box in bad:
        expected[box.y0 : box.y1, box.x0 : box.x1] = 255
    with open_slide(SlideRef(str(path), reader=reader)) as slide:
        for _ in range(2):  # the second read knows already
            np.testing.assert_array_equal(slide.read(whole(slide)), expected)
            assert slide.take_bad_boxes() == sorted(bad)
            assert slide.take_bad_boxes() == []
        slide.read(Box(500, 0, 520, 100))
        assert slide.take_bad_boxes() == [Box(500, 0, 512, 100)]
        slide.read_down(Box(0, 512, 512, 700), 4)
        assert slide.take_bad_boxes() == []


def test_bad_boxes_belong_to_the_thread_that_read_them(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", texture(300, 600))
    _noise(path, tile_table(path)[0][0], 2000)
    with open_slide(SlideRef(str(path))) as slide:
        found: list[list[Box]] = []

        def work() -> None:
            slide.read(Box(0, 0, 10, 10))
            found.append(slide.take_bad_boxes())

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert found == [[Box(0, 0, 10, 10)]]
        assert slide.take_bad_boxes() == []


def test_a_file_cut_in_its_pixels_is_refused_or_reports_what_is_lost(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", texture(700, 900))
    offsets, _ = tile_table(path)
    raw = path.read_bytes()
    path.write_bytes(raw[: offsets[10] + 100])
    with pytest.raises(SlideUnreadable, match="damaged or truncated"):
        open_slide(SlideRef(str(path)))
    tiles = JpegTiles(str(path))
    assert [tiles.whole(k) for k in range(12)] == [True] * 10 + [False] * 2
    assert tiles.decode(10) is None
    tiles.close()


def test_a_tile_that_claims_another_size_is_bad_and_costs_no_memory(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", texture(300, 600))
    offsets, counts = tile_table(path)
    raw = path.read_bytes()
    frame = raw.index(b"\xff\xc0", offsets[0], offsets[0] + counts[0])
    overwrite(path, frame + 5, b"\xff\xdc\xff\xdc")
    with open_slide(SlideRef(str(path))) as slide:
        assert (slide.read(Box(0, 0, 64, 64)) == 255).all()
        assert slide.take_bad_boxes() == [Box(0, 0, 64, 64)]


def test_threads_read_what_one_thread_reads(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", texture(1100, 1300))
    boxes = [
        Box(x, y, x + 300, y + 300) for y in range(-50, 1100, 250) for x in range(-50, 1300, 250)
    ]
    for reader in ("direct", "openslide"):
        with open_slide(SlideRef(str(path), reader=reader, cache_mb=1)) as slide:
            one = [slide.read(b) for b in boxes]
            with ThreadPoolExecutor(4) as pool:
                for a, b in zip(one * 2, pool.map(slide.read, boxes * 2), strict=True):
                    np.testing.assert_array_equal(a, b)


def test_cache_is_bounded_and_drops_the_oldest() -> None:
    cache = TileCache(3000)
    made: list[int] = []

    def make(key: int):
        made.append(key)
        return np.zeros(1000, np.uint8)

    for key in (0, 1, 2, 0, 3, 0, 1):
        cache.get(key, lambda k=key: make(k))
        assert cache.nbytes <= 3000
    assert made == [0, 1, 2, 3, 1]
    cache.get("huge", lambda: np.zeros(4000, np.uint8))
    assert cache.peek("huge") == (False, None)
    cache.get("bad", lambda: None)
    assert cache.peek("bad") == (True, None)


def test_cache_of_a_slide_stays_within_its_bound(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", texture(1500, 1500))
    with open_slide(SlideRef(str(path), cache_mb=1)) as slide:
        for y in range(0, 1500, 100):
            slide.read(Box(0, y, 1500, y + 100))
        assert 0 < slide._source.cache.nbytes <= 1 << 20


def test_cache_never_decodes_a_tile_twice_at_a_time() -> None:
    cache = TileCache(1 << 20)
    started, go, made = threading.Event(), threading.Event(), []

    def slow():
        made.append(1)
        started.set()
        assert go.wait(10)
        return np.ones(10, np.uint8)

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(cache.get, "k", slow)
        assert started.wait(10)
        rest = [pool.submit(cache.get, "k", slow) for _ in range(3)]
        go.set()
        assert all(f.result() is first.result() for f in rest)
    assert len(made) == 1


def test_cache_hands_an_error_on_and_forgets_it() -> None:
    cache = TileCache(1000)

    def fails():
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        cache.get("k", fails)
    assert cache.get("k", lambda: np.ones(1, np.uint8)) is not None


def test_marker_check_knows_whole_and_damaged_streams(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", texture(256, 256))
    offsets, counts = tile_table(path)
    data = path.read_bytes()[offsets[0] : offsets[0] + counts[0]]
    assert scan_is_whole(data)
    assert scan_is_whole(data + b"\0")
    assert not scan_is_whole(data[: len(data) // 2])
    assert scan_is_whole(data[: len(data) // 2], needs_end=False)
    assert not scan_is_whole(data[:100])
    assert not scan_is_whole(b"")
    assert not scan_is_whole(b"\0" * 1000)
    assert not scan_is_whole(data[:-1000] + b"\xff\x55" + data[-998:])
