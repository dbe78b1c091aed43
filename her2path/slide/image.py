"""Plain images as sources: PNG and JPEG in memory, TIFF and OME-TIFF segment by segment."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile

from her2path.errors import SlideUnreadable
from her2path.geometry import Box
from her2path.slide.cache import Pixels, TileCache
from her2path.slide.jpegmarks import read_header, scan_is_whole
from her2path.slide.rawfile import RawFile
from her2path.slide.source import Colour, cells_of

__all__ = ["JPEG2000", "MAX_IMAGE_BYTES", "MemorySource", "TiffSource", "decode_image", "to_rgb8"]

#: the most that an image without tiles may take when decoded (512 Mpx of 8-bit RGB)
MAX_IMAGE_BYTES = 3 << 29
#: the most that an ICC profile may take
MAX_ICC_BYTES = 1 << 24
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_TILE_IT = "Save it as a tiled, pyramidal TIFF"
_RGB_IT = "Save it as 8-bit RGB"
#: TIFF compressions that cannot swell without limit: none, LZW, JPEG, deflate, PackBits, JPEG 2000
_COMPRESSIONS = {1, 5, 7, 8, 32946, 32773, 33003, 33005, 34712}
JPEG2000 = {33003, 33005, 34712}


@dataclass(frozen=True)
class Decoded:
    """A whole image in memory, with what its header says."""

    pixels: Pixels
    kind: str
    icc: bytes | None
    orientation: int
    bits: int


class MemorySource:
    """One level, held in memory."""

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(width, height) of the one level."""
        return ((self._pixels.shape[1], self._pixels.shape[0]),)

    def read_into(self, level: int, box: Box, out: Pixels) -> list[Box]:  # noqa: ARG002
        """See `Source.read_into`; everything was decoded when it was opened."""
        out[...] = self._pixels[box.y0 : box.y1, box.x0 : box.x1]
        return []

    def close(self) -> None:
        """Give back the memory."""
        self._pixels = np.zeros((0, 0, 3), np.uint8)


def to_rgb8(pixels: npt.NDArray[Any]) -> Pixels:
    """Return 8-bit RGB of 8- or 16-bit RGB or RGBA, laid over white.

    16-bit values are scaled from their full range: ``(v * 255 + 32767) // 65535``.
    """
    if pixels.dtype == np.uint16:
        scaled = np.empty(pixels.shape, np.uint8)
        for row in range(pixels.shape[0]):  # row by row: the 32-bit copy stays small
            scaled[row] = (pixels[row].astype(np.uint32) * 255 + 32767) // 65535
        pixels = scaled
    if pixels.shape[2] == 3:
        return np.ascontiguousarray(pixels, np.uint8)
    rgb = np.empty((*pixels.shape[:2], 3), np.uint8)
    for row in range(pixels.shape[0]):
        line = pixels[row].astype(np.uint32)
        alpha = line[:, 3:]
        rgb[row] = (line[:, :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return rgb


def decode_image(path: str, head: bytes) -> Decoded:
    """Decode a PNG or JPEG file.

    Parameters
    ----------
    path : str
        The file.
    head : bytes
        Its first bytes, which tell the format.

    Raises
    ------
    SlideUnreadable
        Not RGB, too large (by its header, before anything is decoded), or damaged.
    """
    if Path(path).stat().st_size > MAX_IMAGE_BYTES:
        raise SlideUnreadable(f"{path} is too large for an image without tiles", _TILE_IT)
    data = Path(path).read_bytes()
    return _decode_png(path, data) if head.startswith(PNG_MAGIC) else _decode_jpeg(path, data)


def _decode_jpeg(path: str, data: bytes) -> Decoded:
    header = read_header(data)
    if header is None:
        raise SlideUnreadable(f"{path} is a damaged JPEG", "Copy or export it again")
    if header.components != 3 or header.bits != 8:
        raise SlideUnreadable(f"{path} is not an RGB image", _RGB_IT)
    _guard_size(path, header.width, header.height, 3)
    # trailing bytes after the end are harmless: some cameras append a preview
    end = data.rfind(b"\xff\xd9", header.scan_start)
    if end < 0 or (not header.progressive and not scan_is_whole(data[: end + 2])):
        raise SlideUnreadable(f"{path} is a damaged or truncated JPEG", "Copy or export it again")
    out = np.empty((header.height, header.width, 3), np.uint8)
    try:
        imagecodecs.jpeg8_decode(data, outcolorspace="RGB", out=out)
    except (imagecodecs.Jpeg8Error, ValueError) as exc:
        raise SlideUnreadable(
            f"{path} cannot be decoded as JPEG ({exc})", "Copy or export it again"
        ) from exc
    return Decoded(out, "jpeg", header.icc, header.orientation, 8)


def _decode_png(path: str, data: bytes) -> Decoded:
    broken = SlideUnreadable(f"{path} is a damaged or truncated PNG", "Copy or export it again")
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise broken
    width, height, bits, kind = struct.unpack_from(">IIBB", data, 16)
    if kind not in (2, 6) or bits not in (8, 16):
        raise SlideUnreadable(f"{path} is not an RGB image", _RGB_IT)
    channels = 3 if kind == 2 else 4
    _guard_size(path, width, height, channels * bits // 8)
    if data.rfind(b"IEND", len(data) - 4096 if len(data) > 4096 else 0) < 0:
        raise broken
    try:
        # libspng is silent where libpng writes its warnings to stderr, but it has no 16-bit RGB
        decode = imagecodecs.spng_decode if bits == 8 else imagecodecs.png_decode
        pixels = decode(data)
    except (imagecodecs.SpngError, imagecodecs.PngError, ValueError) as exc:
        raise broken from exc
    if pixels.shape != (height, width, channels):
        raise SlideUnreadable(f"{path} is not an RGB image", _RGB_IT)
    return Decoded(to_rgb8(pixels), "png", _png_icc(data), 1, bits)


def _png_icc(data: bytes) -> bytes | None:
    """Return the profile of the ``iCCP`` chunk, or None."""
    at = 8
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if name == b"iCCP":
            body = data[at + 8 : at + 8 + size]
            packed = body[body.find(b"\0") + 2 :]
            try:
                return zlib.decompressobj().decompress(packed, MAX_ICC_BYTES) or None
            except zlib.error:
                return None
        if name == b"IDAT":
            return None
        at += 12 + size
    return None


def _guard_size(path: str, width: int, height: int, pixel_bytes: int) -> None:
    if width < 1 or height < 1:
        raise SlideUnreadable(f"{path} has no pixels", "Export it again")
    if width * height * pixel_bytes > MAX_IMAGE_BYTES:
        raise SlideUnreadable(
            f"{path} claims {width} x {height} px, too large for an image without tiles", _TILE_IT
        )


class TiffSource:
    """A TIFF or OME-TIFF and its pyramid, decoded tile by tile (or strip by strip).

    Raises
    ------
    SlideUnreadable
        Not RGB, a stack, damaged, or packed in a way that is not read.
    """

    def __init__(self, path: str, cache: TileCache, colour: Colour | None = None) -> None:
        self._cache = cache
        self._colour = colour
        self._levels = _levels(path)
        self._raw = RawFile(path)

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(width, height) of every level, level 0 first."""
        return tuple((level.width, level.height) for level in self._levels)

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

    def close(self) -> None:
        """Give back files and memory."""
        self._raw.close()
        self._cache.clear()

    def _made(self, lay: _Level, col: int, row: int) -> Pixels | None:
        try:
            planes = [self._segment(lay, lay.index(col, row, k)) for k in range(lay.planes)]
            pixels = planes[0] if lay.planes == 1 else np.concatenate(planes, axis=2)
            rgb = to_rgb8(pixels)
        except Exception:  # noqa: BLE001  (a damaged segment: whatever its codec raises)
            return None
        return rgb if self._colour is None else self._colour(rgb)

    def _segment(self, lay: _Level, index: int) -> npt.NDArray[Any]:
        count, offset = lay.counts[index], lay.offsets[index]
        shape = (lay.cell_h, lay.cell_w, lay.samples)
        if count == 0:  # left out by the writer: background
            top = 255 if lay.bits == 8 else 65535
            return np.full(shape, top, np.uint8 if top == 255 else np.uint16)
        # checked before it is read, so that a swollen segment costs nothing
        if count > lay.cell_bytes * 5 // 4 + 65536:
            raise ValueError("a segment longer than its pixels")
        data = self._raw.read(offset, count)
        if len(data) < count or not _fits(lay, data):
            raise ValueError("a damaged segment")
        decoded = lay.decode(data, index, jpegtables=lay.tables)[0]
        if decoded is None:
            raise ValueError("an empty segment")
        return np.asarray(decoded)[0]


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

    @property
    def cell_bytes(self) -> int:
        return self.cell_w * self.cell_h * self.samples * (self.bits // 8)

    def index(self, col: int, row: int, plane: int) -> int:
        cols, rows = -(-self.width // self.cell_w), -(-self.height // self.cell_h)
        return (plane * rows + row) * cols + col


def _levels(path: str) -> list[_Level]:
    try:
        with tifffile.TiffFile(path) as tiff:  # segments are decoded without it
            pages = [level.keyframe for level in tiff.series[0].levels]
            stacked = len(tiff.series[0].pages) > 1
            reason = _why_not(pages[0])
            levels = [] if reason else [_level(page) for page in pages if not _why_not(page)]
    except Exception as exc:
        raise _damaged(path, exc) from exc
    if reason:
        raise SlideUnreadable(f"{path} {reason}", _RGB_IT)
    if stacked:
        raise SlideUnreadable(f"{path} holds a stack of images", "Save one plane of it")
    for lay in levels:
        _guard_size(path, lay.width, lay.height, 0)
        if lay.cell_w * lay.cell_h * 4 * (lay.bits // 8) > MAX_IMAGE_BYTES:
            raise SlideUnreadable(
                f"{path} claims {lay.width} x {lay.height} px in one piece", _TILE_IT
            )
        if len(lay.offsets) < lay.index(0, 0, lay.planes):
            raise SlideUnreadable(f"{path} lacks parts of its image", "Copy or export it again")
    return levels


def _level(page: Any) -> _Level:
    width, height = int(page.imagewidth), int(page.imagelength)
    separate = int(page.planarconfig) == 2
    if page.is_tiled:
        cell_w, cell_h = int(page.tilewidth), int(page.tilelength)
    else:
        cell_w, cell_h = width, max(1, min(int(page.rowsperstrip), height))
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
    return ""


def _fits(lay: _Level, data: bytes) -> bool:
    """Tell whether a JPEG or JPEG 2000 segment claims no more pixels than its cell has."""
    size = None
    if lay.compression == 7:
        header = read_header(data)
        if header is None or not scan_is_whole(data, needs_end=False):
            return False
        size = header.width, header.height
    elif lay.compression in JPEG2000:
        at = data.find(b"\xff\x4f\xff\x51", 0, 4096)
        size = struct.unpack_from(">II", data, at + 8) if at >= 0 else None
        if size is None:
            return False
    return size is None or (size[0] <= lay.cell_w and size[1] <= lay.cell_h)


def _damaged(path: str, exc: Exception) -> SlideUnreadable:
    return SlideUnreadable(
        f"{path} is a damaged or truncated TIFF ({exc})", "Copy or export it again"
    )
