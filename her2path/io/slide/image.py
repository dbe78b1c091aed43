"""Plain images as sources: PNG and JPEG, held in memory."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import imagecodecs
import numpy as np

from her2path.core.errors import SlideUnreadable
from her2path.core.flags import flag
from her2path.core.geometry import Box
from her2path.core.results import QcFlag
from her2path.io.slide.cache import Pixels
from her2path.io.slide.colour import looks_converted_twice, rgb_of_ycbcr, stored_as
from her2path.io.slide.jpegmarks import (
    JpegHeader,
    end_of_image,
    exif_orientation,
    read_header,
    scan_is_whole,
)
from her2path.io.slide.mpp import Pair, plausible, tag_mpp
from her2path.io.slide.samples import Alpha, depth_of, is_blank, to_rgb8
from her2path.io.slide.source import Colour

__all__ = [
    "MAX_IMAGE_BYTES", "PNG_MAGIC", "RGB_IT", "TILE_IT", "Decoded", "MemorySource", "decode_image",
    "guard_size",
]  # fmt: skip

#: the most that an image without tiles may take when decoded (512 Mpx of 8-bit RGB)
MAX_IMAGE_BYTES = 3 << 29
#: the most that an ICC profile may take
MAX_ICC_BYTES = 1 << 24
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
TILE_IT = "Save it as a tiled, pyramidal TIFF"
RGB_IT = "Save it as 8-bit RGB"


@dataclass(frozen=True)
class Decoded:
    """A whole image in memory, with what its header says."""

    pixels: Pixels
    kind: str
    icc: bytes | None
    orientation: int = 1
    mpp: Pair | None = None
    flags: list[QcFlag] = field(default_factory=list)


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

    def take_as_ycbcr(self, levels: frozenset[int]) -> None:
        """See `Source.take_as_ycbcr`; pixels are converted at once, strip by strip."""
        if 0 in levels:
            self.convert(rgb_of_ycbcr)

    def convert(self, colour: Colour) -> None:
        """Change the colour of all pixels, in place."""
        for y in range(0, self._pixels.shape[0], 512):
            self._pixels[y : y + 512] = colour(self._pixels[y : y + 512])

    def close(self) -> None:
        """Give back the memory."""
        self._pixels = np.zeros((0, 0, 3), np.uint8)


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
        raise SlideUnreadable(f"{path} is too large for an image without tiles", TILE_IT)
    data = Path(path).read_bytes()
    return _decode_png(path, data) if head.startswith(PNG_MAGIC) else _decode_jpeg(path, data)


def _decode_jpeg(path: str, data: bytes) -> Decoded:
    header = read_header(data)
    if header is None:
        raise SlideUnreadable(f"{path} is a damaged JPEG", "Copy or export it again")
    if header.components != 3 or header.bits != 8:
        raise SlideUnreadable(f"{path} is not an RGB image", RGB_IT)
    guard_size(path, header.width, header.height, 3)
    end = end_of_image(data, header.scan_start)
    if end is None or (not header.progressive and not scan_is_whole(data[:end])):
        raise SlideUnreadable(f"{path} is a damaged or truncated JPEG", "Copy or export it again")
    flags = [flag("SEVERAL_IMAGES")] if data.find(b"\xff\xd8\xff", end) >= 0 else []
    try:
        out = _jpeg_pixels(data[:end], header, flags)
    except (imagecodecs.Jpeg8Error, ValueError) as exc:
        raise SlideUnreadable(
            f"{path} cannot be decoded as JPEG ({exc})", "Copy or export it again"
        ) from exc
    return Decoded(out, "jpeg", header.icc, header.orientation, _density(header), flags)


def _jpeg_pixels(data: bytes, header: JpegHeader, flags: list[QcFlag]) -> Pixels:
    """Decode a JPEG; its components are RGB where its pixels, not its markers, say so."""
    out = np.empty((header.height, header.width, 3), np.uint8)
    imagecodecs.jpeg8_decode(data, outcolorspace="RGB", out=out)
    step = max(1, out.shape[0] // 200)
    if looks_converted_twice(out[::step].reshape(-1, 3)):
        stored = imagecodecs.jpeg8_decode(data, colorspace="RGB", outcolorspace="RGB")
        if stored_as(stored[::step].reshape(-1, 3)) == "rgb":
            flags.append(flag("COLOUR_TAG_WRONG", "The JPEG stream holds RGB and does not say so."))
            return np.asarray(stored, np.uint8)
    return out


def _density(header: JpegHeader) -> Pair | None:
    """Return the pixel size by the JFIF density where it is one of microscopy."""
    if header.density is None or header.density[0] not in (1, 2):
        return None
    unit, x, y = header.density
    return tag_mpp((x, 1), (y, 1), unit + 1)


def _decode_png(path: str, data: bytes) -> Decoded:
    broken = SlideUnreadable(f"{path} is a damaged or truncated PNG", "Copy or export it again")
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise broken
    width, height, bits, kind = struct.unpack_from(">IIBB", data, 16)
    if kind not in (2, 6) or bits not in (8, 16):
        raise SlideUnreadable(f"{path} is not an RGB image", RGB_IT)
    channels = 3 if kind == 2 else 4
    guard_size(path, width, height, channels * bits // 8)
    if data.rfind(b"IEND", len(data) - 4096 if len(data) > 4096 else 0) < 0:
        raise broken
    try:
        # libspng is silent where libpng writes its warnings to stderr, but it has no 16-bit RGB
        decode = imagecodecs.spng_decode if bits == 8 else imagecodecs.png_decode
        pixels = decode(data)
    except (imagecodecs.SpngError, imagecodecs.PngError, ValueError) as exc:
        raise broken from exc
    if pixels.shape != (height, width, channels):
        raise SlideUnreadable(f"{path} is not an RGB image", RGB_IT)
    chunks, flags, depth = _png_chunks(data), [], 16
    if bits == 16:
        depth = depth_of(int(pixels[..., :3].max()), max(chunks.get(b"sBIT", b"\x08")[:3]))
        flags.append(flag("SCALED_TO_8_BIT", f"From 16-bit values of {depth} bit."))
    alpha: Alpha = "straight"
    if channels == 4 and is_blank(pixels):
        alpha = "none"
        flags.append(flag("ALPHA_TAG_WRONG", "It is zero everywhere."))
    elif channels == 4 and int(pixels[..., 3].min()) < (1 << bits) - 1:
        flags.append(flag("TRANSPARENT_PIXELS"))
    if bits == 16 and channels == 4:
        pixels[..., 3] >>= 16 - depth  # alpha has the full range whatever the colours have
    rgb = to_rgb8(pixels, alpha, depth)
    turned = exif_orientation(chunks.get(b"eXIf", b""))
    return Decoded(rgb, "png", _profile(chunks), turned, _pitch(chunks), flags)


def _png_chunks(data: bytes) -> dict[bytes, bytes]:
    """Return the chunks before the pixels that say something about them."""
    found: dict[bytes, bytes] = {}
    at = 8
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if name == b"IDAT":
            break
        if name in (b"iCCP", b"pHYs", b"sBIT", b"eXIf"):
            found.setdefault(name, data[at + 8 : at + 8 + size])
        at += 12 + size
    return {name: body for name, body in found.items() if body}


def _profile(chunks: dict[bytes, bytes]) -> bytes | None:
    """Return the profile of the ``iCCP`` chunk, or None."""
    body = chunks.get(b"iCCP", b"")
    try:
        packed = body[body.find(b"\0") + 2 :]
        return zlib.decompressobj().decompress(packed, MAX_ICC_BYTES) or None if body else None
    except zlib.error:
        return None


def _pitch(chunks: dict[bytes, bytes]) -> Pair | None:
    """Return the pixel size by the ``pHYs`` chunk (pixels a metre), where one of microscopy."""
    body = chunks.get(b"pHYs", b"")
    if len(body) != 9 or body[8] != 1:
        return None
    x, y = struct.unpack_from(">II", body)
    pair = (1e6 / x, 1e6 / y) if x and y else None
    return pair if pair is not None and all(plausible(v) for v in pair) else None


def guard_size(path: str, width: int, height: int, pixel_bytes: int) -> None:
    """Refuse an image without pixels, or of more than `MAX_IMAGE_BYTES`.

    Raises
    ------
    SlideUnreadable
        In either case.
    """
    if width < 1 or height < 1:
        raise SlideUnreadable(f"{path} has no pixels", "Export it again")
    if width * height * pixel_bytes > MAX_IMAGE_BYTES:
        raise SlideUnreadable(
            f"{path} claims {width} x {height} px, too large for an image without tiles", TILE_IT
        )
