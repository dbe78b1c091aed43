"""Opening a slide: which decoder reads it, and what is known of it."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openslide

from her2path.errors import SlideUnreadable, UsageError, one_line
from her2path.geometry import Box
from her2path.slide.cache import TileCache
from her2path.slide.files import SUFFIXES, resolve, sha256_quick
from her2path.slide.icc import BadProfile, ToSrgb, profile_name
from her2path.slide.image import JPEG2000, PNG_MAGIC, MemorySource, TiffSource, decode_image
from her2path.slide.jpegtiles import JPEG, DirectSource, JpegTiles, NotDirect, agrees
from her2path.slide.mpp import Pair, check_ref, choose_mpp, property_mpp
from her2path.slide.openslide_source import OpenSlideSource
from her2path.slide.plane import level_planes, scaled
from her2path.slide.properties import objective_power, safe_properties
from her2path.slide.reader import Slide
from her2path.slide.ref import SlideInfo, SlideRef
from her2path.slide.source import Colour, Source
from her2path.slide.tiffhead import TiffHead, read_tiff_head

__all__ = ["get_slide", "open_slide", "openslide_version"]

#: no slide is longer than this: 75 mm at 0.1 µm/px
MAX_SIDE_PX = 1_000_000
#: a tile that takes more than this (px) is no tile
MAX_TILE_PX = 1 << 26
OPEN_SLIDES = 4
WHITE = (255, 255, 255)
#: vendors whose raw tiles OpenSlide shows as they are
_DIRECT_VENDORS = {"aperio", "generic-tiff"}
_TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BOUNDS = ("x", "y", "width", "height")
_SCALED = "16-bit values were scaled to 8 bit from their full range."
_COPY_AGAIN = "Copy it again from the scanner"


@dataclass
class _Found:
    """What a decoder found out, before the pixel size is settled."""

    source: Source
    reader: str
    vendor: str
    mpp: Pair | None
    background: tuple[int, int, int] = WHITE
    properties: Mapping[str, str] = field(default_factory=dict)
    icc: bytes | None = None
    icc_applied: bool = False
    notes: list[str] = field(default_factory=list)


def open_slide(ref: SlideRef) -> Slide:
    """Open a slide or image.

    Parameters
    ----------
    ref : SlideRef
        Path and how to read it.

    Raises
    ------
    SlideUnreadable
        Missing, damaged, absurd, or of a kind that is not read.
    MppMissing
        The file states no pixel size, or one outside 0.1-2.0 µm, and ``ref.mpp`` is None.
    UsageError
        ``ref`` itself is wrong: ``mpp`` outside the range, ``direct`` where it is not possible.
    """
    check_ref(ref)
    path = resolve(ref.path)
    try:
        found = _find(ref, path)
    except OSError as exc:
        raise SlideUnreadable(f"{ref.path} cannot be read ({exc})", "Check the file") from exc
    try:
        return _slide(ref, path, found)
    except BaseException:
        found.source.close()
        raise


def _slide(ref: SlideRef, path: str, found: _Found) -> Slide:
    (mpp_x, mpp_y), remarks = choose_mpp(ref, found.mpp)
    planes = level_planes(found.source.sizes, mpp_x, mpp_y)
    full = planes[0]
    if mpp_x != mpp_y:
        remarks.append(
            f"Pixels of {mpp_x:.4g} x {mpp_y:.4g} µm were resampled to squares of "
            f"{min(mpp_x, mpp_y):.4g} µm."
        )
    bounds = _bounds(found.properties)
    if bounds is not None:
        bounds = scaled(bounds, full.width / full.file_width, full.height / full.file_height).clip(
            full.extent
        )
    info = SlideInfo(
        path=ref.path,
        vendor=found.vendor,
        mpp=min(mpp_x, mpp_y),
        mpp_x=mpp_x,
        mpp_y=mpp_y,
        width_px=full.width,
        height_px=full.height,
        bounds=bounds if bounds is not None and not bounds.empty else None,
        levels=tuple(
            1.0 if p is full else (full.width / p.width + full.height / p.height) / 2
            for p in planes
        ),
        level_sizes=tuple((p.width, p.height) for p in planes),
        objective_power=objective_power(found.properties),
        reader=found.reader,
        background=found.background,
        sha256_quick=sha256_quick(path),
        file_width_px=full.file_width,
        file_height_px=full.file_height,
        icc_profile=profile_name(found.icc) if found.icc else None,
        icc_applied=found.icc_applied,
        notes=tuple(found.notes + remarks),
        properties_safe=safe_properties(found.properties),
    )
    return Slide(info, found.source, planes)


def _find(ref: SlideRef, path: str) -> _Found:
    with Path(path).open("rb") as file:
        head = file.read(16)
    vendor = openslide.OpenSlide.detect_format(path)
    tiff = read_tiff_head(path) if head[:4] in _TIFF_MAGICS else None
    if vendor == "generic-tiff" and tiff is not None and _better_as_image(ref, tiff):
        vendor = None
    if vendor is not None:
        return _find_openslide(ref, path, vendor, tiff)
    if ref.reader != "auto":
        raise UsageError(
            f"{ref.path} cannot be read by the reader '{ref.reader}'", "Use slide.reader auto"
        )
    if tiff is not None:
        return _find_tiff(ref, path, tiff)
    if head.startswith((PNG_MAGIC, b"\xff\xd8\xff")) and Path(path).suffix.lower() != ".mrxs":
        return _find_image(ref, path, head)
    raise SlideUnreadable(
        f"{ref.path} is not a slide or image that can be read, or it is damaged",
        f"{_COPY_AGAIN}, or convert it to one of {' '.join(SUFFIXES)}",
    )


def _better_as_image(ref: SlideRef, tiff: TiffHead) -> bool:
    """Tell whether a TIFF of no vendor is read as a plain image, not by OpenSlide."""
    if not tiff.plain_rgb:
        return True  # OpenSlide would show grey, 16-bit and the like as something else
    if tiff.compression in JPEG2000:
        return True  # OpenSlide knows it in Aperio's files only
    return tiff.hidden_levels and tiff.compression != JPEG and ref.reader == "auto"


def _find_openslide(ref: SlideRef, path: str, vendor: str, tiff: TiffHead | None) -> _Found:
    properties, icc = _properties(ref, path)
    notes: list[str] = []
    colour = _colour(ref, icc, notes)
    background = _background(properties)
    cache_bytes = ref.cache_mb << 20
    mpp = property_mpp(properties) or (tiff.mpp if tiff else None)
    tiles = _tiles(ref, path, vendor, notes)
    source: Source = OpenSlideSource(path, cache_bytes, background, colour, tiles)
    reader = "openslide"
    if tiles is not None and ref.reader != "openslide":
        if _checked(path, background, tiles):
            cache = TileCache(cache_bytes)
            if vendor == "generic-tiff" and tiff is not None and tiff.levels > len(source.sizes):
                source.close()
                tiles = JpegTiles(path)
                source = TiffSource(path, TileCache(cache_bytes), colour)
            source = DirectSource(path, tiles, source, cache, background, colour)
            reader = "direct"
        else:
            notes.append("Raw tiles differ from OpenSlide's pixels: read by OpenSlide.")
    if ref.reader == "direct" and reader != "direct":
        source.close()
        raise UsageError(
            f"{ref.path} cannot be read by the reader 'direct'", "Use slide.reader auto"
        )
    return _Found(
        source, reader, vendor, mpp, background, properties, icc, colour is not None, notes
    )


def _properties(ref: SlideRef, path: str) -> tuple[dict[str, str], bytes | None]:
    """Return OpenSlide's properties and ICC profile of a file that is not absurd."""
    try:
        with openslide.OpenSlide(path) as handle:
            properties = _readable(handle.properties)
            sizes = list(handle.level_dimensions)
            icc = openslide.lowlevel.read_icc_profile(handle._osr) if _has_icc(properties) else None
    except (openslide.OpenSlideError, UnicodeError) as exc:
        raise SlideUnreadable(
            f"{ref.path} is damaged or truncated ({one_line(exc, 120)})", _COPY_AGAIN
        ) from exc
    if not sizes or min(min(s) for s in sizes) < 1 or max(sizes[0]) > MAX_SIDE_PX:
        size = " x ".join(str(v) for v in sizes[0]) if sizes else "no"
        raise SlideUnreadable(f"{ref.path} claims absurd dimensions, {size} px", _COPY_AGAIN)
    for level in range(len(sizes)):
        sides = [properties.get(f"openslide.level[{level}].tile-{s}") for s in ("width", "height")]
        if None not in sides and int(sides[0] or 0) * int(sides[1] or 0) > MAX_TILE_PX:
            raise SlideUnreadable(f"{ref.path} claims absurd tiles", _COPY_AGAIN)
    return properties, icc


def _readable(properties: Mapping[str, str]) -> dict[str, str]:
    """Return the properties whose text can be read; in damaged files some cannot."""
    found = {}
    for name in properties:
        try:
            found[name] = properties[name]
        except (KeyError, UnicodeError):
            continue
    return found


def _has_icc(properties: Mapping[str, str]) -> bool:
    try:
        return 0 < int(properties.get("openslide.icc-size", "0")) <= 1 << 24
    except ValueError:
        return False


def _tiles(ref: SlideRef, path: str, vendor: str, notes: list[str]) -> JpegTiles | None:
    """Return the tile directory where the direct path can use it."""
    if vendor not in _DIRECT_VENDORS:
        return None
    try:
        return JpegTiles(path)
    except NotDirect as exc:
        if ref.reader == "direct":
            raise UsageError(
                f"{ref.path} cannot be read by the reader 'direct': {exc}", "Use slide.reader auto"
            ) from exc
        notes.append(f"Read by OpenSlide: {one_line(exc, 80)}.")
        return None


def _checked(path: str, background: tuple[int, int, int], tiles: JpegTiles) -> bool:
    """Compare some raw tiles with OpenSlide's pixels."""
    plain = OpenSlideSource(path, 1 << 20, background)
    try:
        return agrees(tiles, plain)
    finally:
        plain.close()


def _find_tiff(ref: SlideRef, path: str, tiff: TiffHead) -> _Found:
    notes: list[str] = []
    colour = _colour(ref, tiff.icc, notes)
    source = TiffSource(path, TileCache(ref.cache_mb << 20), colour)
    if max(source.sizes[0]) > MAX_SIDE_PX:
        source.close()
        raise SlideUnreadable(f"{ref.path} claims absurd dimensions", _COPY_AGAIN)
    if tiff.bits == 16:
        notes.append(_SCALED)
    vendor = "ome-tiff" if tiff.ome else "tiff"
    return _Found(source, "image", vendor, tiff.mpp, WHITE, {}, tiff.icc, colour is not None, notes)


def _find_image(ref: SlideRef, path: str, head: bytes) -> _Found:
    image, notes = decode_image(path, head), []
    if image.orientation != 1:
        notes.append("The Exif orientation was ignored: pixels are read as stored.")
    if image.bits == 16:
        notes.append(_SCALED)
    colour = _colour(ref, image.icc, notes)
    pixels = image.pixels
    if colour is not None:
        for y in range(0, pixels.shape[0], 512):  # strip by strip, in place
            pixels[y : y + 512] = colour(pixels[y : y + 512])
    source = MemorySource(pixels)
    return _Found(
        source, "image", image.kind, None, WHITE, {}, image.icc, colour is not None, notes
    )


def _colour(ref: SlideRef, icc: bytes | None, notes: list[str]) -> Colour | None:
    """Return the conversion to sRGB where it is asked for and possible; note where it is not."""
    if ref.icc == "off":
        return None
    if icc is None:
        notes.append("No ICC profile in the file: colours are as stored.")
        return None
    try:
        return ToSrgb(icc)
    except BadProfile:
        notes.append("The file's ICC profile cannot be used: colours are as stored.")
        return None


def _background(properties: Mapping[str, str]) -> tuple[int, int, int]:
    text = properties.get("openslide.background-color", "")
    try:
        value = int(text, 16) if len(text) == 6 else 0xFFFFFF
    except ValueError:
        value = 0xFFFFFF
    return value >> 16, value >> 8 & 255, value & 255


def _bounds(properties: Mapping[str, str]) -> Box | None:
    try:
        x, y, w, h = (
            int(properties[f"openslide.bounds-{k}"]) for k in ("x", "y", "width", "height")
        )
    except (KeyError, ValueError):
        return None
    return Box(x, y, x + w, y + h)


class _Registry:
    """The slides that this process holds open, least recently used dropped first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.slides: OrderedDict[SlideRef, Slide] = OrderedDict()
        #: handles of the parent process: never used, never closed here
        self.inherited: list[Any] = []

    def forked(self) -> None:
        """Start afresh in a forked child: no handle survives a fork, nor does a held lock."""
        self.lock = threading.Lock()
        self.inherited.append(self.slides)
        self.slides = OrderedDict()


_registry = _Registry()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_registry.forked)


def get_slide(ref: SlideRef) -> Slide:
    """Return the slide of ``ref``, opened once per process; what workers call.

    At most four stay open. One that is dropped is closed when its last user lets go. Raises as
    `open_slide` does.
    """
    with _registry.lock:
        slide = _registry.slides.get(ref)
        if slide is None:
            slide = open_slide(ref)
            _registry.slides[ref] = slide
        _registry.slides.move_to_end(ref)
        while len(_registry.slides) > OPEN_SLIDES:
            _registry.slides.popitem(last=False)
    return slide


def openslide_version() -> str:
    """Return the version of the OpenSlide library."""
    return str(openslide.__library_version__)
