"""A TIFF or OME-TIFF of whatever compression, decoded segment by segment.

Components are read as stored, and what they are (RGB or YCbCr) is told by the pixels where these
contradict the photometric tag.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile

from her2path.core.errors import SlideUnreadable, one_line
from her2path.core.flags import flag
from her2path.core.geometry import Box
from her2path.core.results import QcFlag
from her2path.io.slide.cache import Pixels, TileCache
from her2path.io.slide.colour import Stored, rgb_of_ycbcr, stored_as
from her2path.io.slide.directories import find_pyramid
from her2path.io.slide.image import MAX_IMAGE_BYTES, RGB_IT, TILE_IT, guard_size
from her2path.io.slide.jpegmarks import read_header, scan_is_whole
from her2path.io.slide.rawfile import RawFile
from her2path.io.slide.samples import Alpha, Depth, depth_of, is_blank, to_rgb8
from her2path.io.slide.source import Colour, cells_of

__all__ = ["JPEG2000", "TiffSource"]

JPEG, ZSTD, WEBP = 7, {50000, 34926}, {50001, 34927}
JPEG2000 = {33003, 33004, 33005, 34712}
#: TIFF compressions that are read, and cannot swell without limit
_COMPRESSIONS = {1, 5, 7, 8, 32946, 32773} | ZSTD | WEBP | JPEG2000
#: segments that the pixels are asked on, at most, and pixels that are enough
_ASKED_SEGMENTS, _ASKED_PIXELS = 64, 60_000
_ALPHA: dict[int, Alpha] = {1: "premultiplied", 2: "straight"}


@dataclass(frozen=True)
class _Level:
    #: tifffile's decoder of one segment, and the JPEG tables that segments share
    decode: Callable[..., Any]
    tables: bytes | None
    compression: int
    bits: int
    width: int
    height: int
    cell_w: int
    cell_h: int
    #: samples in one segment, and segments that make up a pixel (separate planes)
    samples: int
    planes: int
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    #: what the components are, as the tags say and as they are read
    declared: Stored
    stored: Stored
    alpha: Alpha
    depth: Depth

    @property
    def cell_bytes(self) -> int:
        return self.cell_w * self.cell_h * self.samples * (self.bits // 8)

    @property
    def shape(self) -> tuple[int, int]:
        """Columns and rows of segments."""
        return -(-self.width // self.cell_w), -(-self.height // self.cell_h)

    def index(self, col: int, row: int, plane: int) -> int:
        cols, rows = self.shape
        return (plane * rows + row) * cols + col


class TiffSource:
    """The pyramid of a TIFF or OME-TIFF.

    Parameters
    ----------
    path : str
        The file.
    cache : TileCache
        Of decoded segments.
    colour : Colour, optional
        Applied to RGB.

    Attributes
    ----------
    flags : list of QcFlag
        Where the pixels contradict the tags, what was done about it.

    Raises
    ------
    SlideUnreadable
        Not RGB, a stack, damaged, or packed in a way that is not read.
    """

    def __init__(self, path: str, cache: TileCache, colour: Colour | None = None) -> None:
        self._cache = cache
        self._colour = colour
        self.flags: list[QcFlag] = []
        self._levels = _levels(path)
        self._raw = RawFile(path)
        try:
            self._levels = [self._asked(k, level) for k, level in enumerate(self._levels)]
        except BaseException:
            self._raw.close()
            raise

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(width, height) of every level, level 0 first."""
        return tuple((level.width, level.height) for level in self._levels)

    @property
    def stored(self) -> tuple[Stored, ...]:
        """What the components of every level are read as."""
        return tuple(level.stored for level in self._levels)

    def read_into(self, level: int, box: Box, out: Pixels) -> list[Box]:
        """See `Source.read_into`."""
        lay, bad = self._levels[level], []
        for col, row, part in cells_of(box, lay.cell_w, lay.cell_h):
            tile = self._cache.get((level, col, row), partial(self._made, lay, col, row))
            to = part.shift(-box.x0, -box.y0)
            if tile is None:
                out[to.y0 : to.y1, to.x0 : to.x1] = 255
                bad.append(part)
                continue
            x, y = part.x0 - col * lay.cell_w, part.y0 - row * lay.cell_h
            out[to.y0 : to.y1, to.x0 : to.x1] = tile[y : y + part.height, x : x + part.width]
        return bad

    def take_as_ycbcr(self, levels: frozenset[int]) -> None:
        """See `Source.take_as_ycbcr`."""
        for k in levels:
            self._levels[k] = replace(self._levels[k], stored="ycbcr")
        self._cache.clear()

    def close(self) -> None:
        """Give back files and memory."""
        self._raw.close()
        self._cache.clear()

    def _made(self, lay: _Level, col: int, row: int) -> Pixels | None:
        try:
            rgb = to_rgb8(self._components(lay, col, row), lay.alpha, lay.depth)
        except Exception:  # noqa: BLE001  (a damaged segment: whatever its codec raises)
            return None
        if lay.stored == "ycbcr" and not _by_libjpeg(lay):
            rgb = rgb_of_ycbcr(rgb)
        return rgb if self._colour is None else self._colour(rgb)

    def _components(
        self, lay: _Level, col: int, row: int, as_stored: bool = False
    ) -> npt.NDArray[Any]:
        segments = [
            self._segment(lay, lay.index(col, row, k), as_stored) for k in range(lay.planes)
        ]
        return segments[0] if lay.planes == 1 else np.concatenate(segments, axis=2)

    def _segment(self, lay: _Level, index: int, as_stored: bool) -> npt.NDArray[Any]:
        count, offset = lay.counts[index], lay.offsets[index]
        shape = (lay.cell_h, lay.cell_w, lay.samples)
        if count == 0:  # left out by the writer: background
            return _left_out(lay, shape)
        # checked before it is read, so that a swollen segment costs nothing
        if count > lay.cell_bytes * 5 // 4 + 65536:
            raise ValueError("a segment longer than its pixels")
        data = self._raw.read(offset, count)
        if len(data) < count or not _fits(lay, data):
            raise ValueError("a damaged segment")
        if _by_libjpeg(lay):
            stored = "YCBCR" if lay.stored == "ycbcr" else "RGB"
            return np.asarray(imagecodecs.jpeg8_decode(
                data, tables=lay.tables, colorspace=stored,
                outcolorspace=stored if as_stored else "RGB",
            ))  # fmt: skip
        if lay.compression in JPEG2000 and lay.planes == 1:
            return np.asarray(imagecodecs.jpeg2k_decode(data))
        decoded = lay.decode(data, index, jpegtables=lay.tables)[0]
        if decoded is None:
            raise ValueError("an empty segment")
        return np.asarray(decoded)[0]

    # -- what the pixels say -----------------------------------------------------------------------

    def _asked(self, number: int, lay: _Level) -> _Level:
        """Return a level as its pixels tell it to be read."""
        sample = self._sample(lay)
        if sample is None or sample.ndim != 2 or sample.shape[1] < 3:
            return lay  # damaged: what its segments say does not fit its tags
        lay = self._by_bits(number, lay, sample)
        if lay.alpha != "none" and sample.shape[1] == 4:
            lay = self._by_alpha(number, lay, sample)
        if lay.compression in WEBP:
            return lay  # its decoder always gives RGB
        mct = lay.compression in JPEG2000 and self._transforms(lay)
        declared: Stored = "rgb" if mct else lay.declared
        said = stored_as(to_rgb8(sample[:, None, :3], "none", lay.depth)[:, 0])
        if said == "unclear" or said == declared:
            return replace(lay, stored=declared)
        if number == 0:
            words = {"rgb": "RGB", "ycbcr": "YCbCr"}
            self.flags.append(flag(
                "COLOUR_TAG_WRONG",
                f"Said to be {words[declared]}, and read as {words[said]}, which its pixels are.",
            ))  # fmt: skip
        return replace(lay, stored=said)

    def _sample(self, lay: _Level) -> npt.NDArray[Any] | None:
        """Return components as stored, (n, samples), of segments spread over a level."""
        cols, rows = lay.shape
        held = [k for k in range(cols * rows) if lay.counts[k]]
        if not held:
            return None
        step = max(1, len(held) // _ASKED_SEGMENTS)
        # far apart first, so that a few large segments are not all of one corner
        order = sorted(held[step // 2 :: step], key=lambda k: (k * 0.6180339887) % 1.0)
        found: list[npt.NDArray[Any]] = []
        for k in order[:_ASKED_SEGMENTS]:
            row, col = divmod(k, cols)
            try:
                part = self._components(lay, col, row, as_stored=True)
            except Exception:  # noqa: BLE001  (a damaged segment: whatever its codec raises)
                continue
            part = part[: lay.height - row * lay.cell_h, : lay.width - col * lay.cell_w]
            flat = part.reshape(-1, part.shape[2])
            found.append(flat[:: max(1, len(flat) // (_ASKED_PIXELS // 6))])
            if sum(len(f) for f in found) >= _ASKED_PIXELS:
                break
        if not found:
            return None
        flat = np.concatenate(found)
        top = np.iinfo(flat.dtype).max
        return flat[~(flat[:, :3] == top).all(axis=1)]  # clipped white tells nothing

    def _by_bits(self, number: int, lay: _Level, sample: npt.NDArray[Any]) -> _Level:
        if lay.bits != 16 or not len(sample):
            return lay
        depth = depth_of(int(sample[:, :3].max()), lay.depth)
        if number == 0:
            self.flags.append(flag("SCALED_TO_8_BIT", f"From 16-bit values of {depth} bit."))
        return replace(lay, depth=depth)

    def _by_alpha(self, number: int, lay: _Level, sample: npt.NDArray[Any]) -> _Level:
        """Take alpha as straight where colours exceed it, which premultiplied ones cannot.

        Where it is zero everywhere it is none.
        """
        if is_blank(sample):
            if number == 0:
                self.flags.append(flag("ALPHA_TAG_WRONG", "It is zero everywhere."))
            return replace(lay, alpha="none")
        if number == 0 and sample.size and sample[:, 3].min() < np.iinfo(sample.dtype).max:
            self.flags.append(flag("TRANSPARENT_PIXELS"))
        exceeded = lay.alpha == "premultiplied" and sample.size and (
            (sample[:, :3].max(axis=1) > sample[:, 3]).mean() >= 0.01
        )  # fmt: skip
        if not exceeded:
            return lay
        if number == 0:
            self.flags.append(flag("ALPHA_TAG_WRONG"))
        return replace(lay, alpha="straight")

    def _transforms(self, lay: _Level) -> bool:
        """Tell whether JPEG 2000 streams say that they transform components: they give RGB then."""
        index = next(k for k, count in enumerate(lay.counts) if count)
        head = self._raw.read(lay.offsets[index], min(lay.counts[index], 4096))
        at = head.find(b"\xff\x52")
        return at >= 0 and len(head) > at + 8 and head[at + 8] == 1


def _by_libjpeg(lay: _Level) -> bool:
    """Tell whether segments are JPEG of three interleaved components, which libjpeg converts."""
    return lay.compression == JPEG and lay.planes == 1 and lay.samples == 3 and lay.bits == 8


def _left_out(lay: _Level, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return background, in the level's own components."""
    top = (1 << lay.depth) - 1 if lay.bits == 16 else 255
    blank = np.full(shape, top, np.uint8 if lay.bits == 8 else np.uint16)
    if lay.stored == "ycbcr" and not _by_libjpeg(lay) and lay.planes == 1:
        blank[..., 1:3] = top // 2 + 1
    return blank


def _levels(path: str) -> list[_Level]:
    try:
        with tifffile.TiffFile(path) as tiff:  # segments are decoded without it
            pyramid = find_pyramid(tiff)
            for page in pyramid.pages:
                if int(page.compression) != JPEG and page.tags.get(530) is None:
                    page.subsampling = (1, 1)  # the standard's default is (2, 2), and nobody's
            reason = _why_not(pyramid.pages[0])
            good = [page for page in pyramid.pages if not _why_not(page)]
            levels = [] if reason else [_level(page) for page in good]
    except Exception as exc:
        raise _damaged(path, exc) from exc
    if reason:
        raise SlideUnreadable(f"{path} {reason}", RGB_IT)
    if pyramid.stacked:
        raise SlideUnreadable(f"{path} holds a stack of images", "Save one plane of it")
    for lay in levels:
        guard_size(path, lay.width, lay.height, 0)
        if lay.cell_w * lay.cell_h * 4 * (lay.bits // 8) > MAX_IMAGE_BYTES:
            raise SlideUnreadable(
                f"{path} claims {lay.width} x {lay.height} px in one piece", TILE_IT
            )
        if min(len(lay.offsets), len(lay.counts)) < lay.index(0, 0, lay.planes):
            raise SlideUnreadable(f"{path} lacks parts of its image", "Copy or export it again")
    return levels


def _level(page: Any) -> _Level:
    width, height = int(page.imagewidth), int(page.imagelength)
    separate = int(page.planarconfig) == 2
    if page.is_tiled:
        cell_w, cell_h = int(page.tilewidth), int(page.tilelength)
    else:
        cell_w, cell_h = width, max(1, min(int(page.rowsperstrip), height))
    declared: Stored = "ycbcr" if int(page.photometric) == 6 else "rgb"
    extra = tuple(int(v) for v in page.extrasamples)
    top = page.tags.get(281)  # MaxSampleValue
    value = top.value if top is not None else 0
    value = max(value) if isinstance(value, tuple) else value
    return _Level(
        decode=page.decode,  # looked up while the file is open: it reads a tile's head
        tables=page.jpegtables,
        compression=int(page.compression),
        bits=int(page.bitspersample),
        width=width,
        height=height,
        cell_w=max(1, cell_w),
        cell_h=max(1, cell_h),
        samples=1 if separate else int(page.samplesperpixel),
        planes=int(page.samplesperpixel) if separate else 1,
        offsets=tuple(int(v) for v in page.dataoffsets),
        counts=tuple(int(v) for v in page.databytecounts),
        declared=declared,
        stored=declared,
        alpha=_ALPHA.get(extra[0], "none") if extra else "none",
        depth=depth_of(int(value), 8) if int(page.bitspersample) == 16 and value else 8,
    )


def _why_not(page: Any) -> str:
    """Return why a page is not read, or an empty string."""
    if int(page.photometric) not in (2, 6) or page.samplesperpixel not in (3, 4):
        return "is not an RGB image"
    if page.bitspersample not in (8, 16) or page.sampleformat != 1:
        return "is not 8- or 16-bit"
    if int(page.compression) not in _COMPRESSIONS:
        return f"is packed by {getattr(page.compression, 'name', page.compression)}, not read here"
    if page.imagedepth != 1 or page.tiledepth != 1:
        return "is a volume"
    if page.is_subsampled and int(page.compression) not in {JPEG, *JPEG2000}:
        return "has subsampled colour that is not JPEG, not read here"
    return ""


def _fits(lay: _Level, data: bytes) -> bool:
    """Tell whether a segment of an image codec claims no more pixels than its cell has."""
    size: tuple[int, int] | None = None
    if lay.compression == JPEG:
        header = read_header(data)
        if header is None or not scan_is_whole(data, needs_end=False):
            return False
        size = header.width, header.height
    elif lay.compression in JPEG2000:
        at = data.find(b"\xff\x4f\xff\x51", 0, 4096)
        size = struct.unpack_from(">II", data, at + 8) if at >= 0 else None
        if size is None:
            return False
    elif lay.compression in WEBP:
        size = _webp_size(data)
        if size is None:
            return False
    return size is None or (size[0] <= lay.cell_w and size[1] <= lay.cell_h)


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Return (width, height) by the header of a WebP stream, or None where it has none."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[k : k + 3], "little") + 1 for k in (24, 27))
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (int.from_bytes(data[k : k + 2], "little") & 0x3FFF for k in (26, 28))
    else:
        return None
    return width, height


def _damaged(path: str, exc: Exception) -> SlideUnreadable:
    return SlideUnreadable(
        f"{path} is a damaged or truncated TIFF ({one_line(exc, 120)})", "Copy or export it again"
    )
