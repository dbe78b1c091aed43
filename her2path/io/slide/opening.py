"""Opening a slide: which decoder reads it, and what is known of it."""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openslide

from her2path.core.errors import SlideUnreadable, UsageError, one_line
from her2path.core.flags import flag, merge
from her2path.core.geometry import Box
from her2path.core.results import QcFlag
from her2path.io.slide.asking import Answer, ask, shown_pixels
from her2path.io.slide.cache import TileCache
from her2path.io.slide.colour import looks_converted_twice, stored_as
from her2path.io.slide.files import SUFFIXES, resolve, sha256_quick
from her2path.io.slide.icc import BadProfile, ToSrgb, profile_name
from her2path.io.slide.image import PNG_MAGIC, MemorySource, decode_image
from her2path.io.slide.jpegtiles import JPEG, DirectSource, JpegTiles, NotDirect, agrees
from her2path.io.slide.mpp import Pair, check_ref, choose_mpp, property_mpp
from her2path.io.slide.openslide_source import OpenSlideSource
from her2path.io.slide.plane import level_planes, scaled
from her2path.io.slide.properties import objective_power, safe_properties
from her2path.io.slide.reader import Slide
from her2path.io.slide.ref import SlideInfo, SlideRef
from her2path.io.slide.source import Colour, Source
from her2path.io.slide.tiff import TiffSource
from her2path.io.slide.tiffhead import LIBTIFF, TiffHead, read_tiff_head

__all__ = ["get_slide", "open_slide", "openslide_version"]

log = logging.getLogger(__name__)

#: no slide is longer than this: 75 mm at 0.1 µm/px
MAX_SIDE_PX = 1_000_000
#: a tile that takes more than this (px) is no tile
MAX_TILE_PX = 1 << 26
OPEN_SLIDES = 4
WHITE = (255, 255, 255)
#: vendors whose raw tiles OpenSlide shows as they are
_DIRECT_VENDORS = {"aperio", "generic-tiff"}
_TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_YCBCR = "They are YCbCr, shown as RGB; they were converted."
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
    flags: list[QcFlag] = field(default_factory=list)


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
    (mpp_x, mpp_y), of_mpp = choose_mpp(ref, found.mpp)
    planes = level_planes(found.source.sizes, mpp_x, mpp_y)
    full = planes[0]
    own = _bounds(found.properties)
    if own is not None:
        own = own.clip(Box(0, 0, full.file_width, full.file_height))
        own = None if own.empty else own
    bounds = own if own is None or full.square else scaled(
        own, full.width / full.file_width, full.height / full.file_height
    ).clip(full.extent)  # fmt: skip
    info = SlideInfo(
        path=ref.path,
        vendor=found.vendor,
        mpp=min(mpp_x, mpp_y),
        mpp_x=mpp_x,
        mpp_y=mpp_y,
        width_px=full.width,
        height_px=full.height,
        bounds=bounds,
        file_bounds=own,
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
        flags=merge(found.flags, of_mpp),
        properties_safe=safe_properties(found.properties),
    )
    return Slide(info, found.source, planes)


def _find(ref: SlideRef, path: str) -> _Found:
    with Path(path).open("rb") as file:
        head = file.read(16)
    vendor = openslide.OpenSlide.detect_format(path)
    tiff = read_tiff_head(path) if head[:4] in _TIFF_MAGICS else None
    as_image = vendor is None or (
        vendor in _DIRECT_VENDORS and tiff is not None and _better_as_image(ref, vendor, tiff)
    )
    if vendor is not None and not as_image:
        return _find_openslide(ref, path, vendor, tiff)
    if ref.reader != "auto":
        raise UsageError(
            f"{ref.path} cannot be read by the reader '{ref.reader}'", "Use slide.reader auto"
        )
    if tiff is not None:
        return _find_tiff(ref, path, tiff, vendor)
    if head.startswith((PNG_MAGIC, b"\xff\xd8\xff")) and Path(path).suffix.lower() != ".mrxs":
        return _find_image(ref, path, head)
    raise SlideUnreadable(
        f"{ref.path} is not a slide or image that can be read, or it is damaged",
        f"{_COPY_AGAIN}, or convert it to one of {' '.join(SUFFIXES)}",
    )


def _better_as_image(ref: SlideRef, vendor: str, tiff: TiffHead) -> bool:
    """Tell whether a TIFF is read as a plain image, not by OpenSlide."""
    if not tiff.in_order or tiff.orientation != 1:
        return True  # OpenSlide takes the first directory, and turns every tile by itself
    if vendor != "generic-tiff":
        return False
    if not tiff.plain_rgb:
        return True  # OpenSlide would show grey, 16-bit and the like as something else
    if tiff.compression not in LIBTIFF:
        return True  # OpenSlide does not know it, or in Aperio's files only
    if tiff.ycbcr and tiff.compression != JPEG and not tiff.subsampled:
        return True  # its components can then be asked
    return tiff.hidden_levels and tiff.compression != JPEG and ref.reader == "auto"


def _find_openslide(ref: SlideRef, path: str, vendor: str, tiff: TiffHead | None) -> _Found:
    properties, icc = _properties(ref, path)
    ours = tiff is not None and vendor in _DIRECT_VENDORS
    flags = _tiff_flags(tiff) if tiff is not None and ours else []
    colour = _colour(ref, icc, flags)
    background = _background(properties)
    cache_bytes = ref.cache_mb << 20
    mpp = property_mpp(properties)
    if tiff is not None and (mpp is None or vendor == "generic-tiff"):
        mpp = tiff.mpp or mpp  # OpenSlide knows neither OME-XML nor ImageJ's units
    tiles = _tiles(ref, path, vendor)
    answer, same = _ask(path, background, tiles)
    if answer.twice or (tiles is not None and _contradicted(tiles)):
        if tiles is not None:
            tiles.close()
        if tiff is None or not ours or ref.reader != "auto":
            raise _lost(ref)
        return _find_tiff(ref, path, tiff, vendor)
    if answer.ycbcr:
        flags.append(flag("COLOUR_TAG_WRONG", _YCBCR))
    source: Source = OpenSlideSource(path, cache_bytes, background, colour, tiles)
    reader = "openslide"
    if tiles is not None and ref.reader != "openslide":
        if same:
            cache = TileCache(cache_bytes)
            if vendor == "generic-tiff" and tiff is not None and tiff.levels > len(source.sizes):
                source.close()
                tiles = JpegTiles(path)
                source = TiffSource(path, TileCache(cache_bytes), colour)
            source = DirectSource(path, tiles, source, cache, background, colour)
            reader = "direct"
        else:
            flags.append(flag("READERS_DIFFER"))
    if ref.reader == "direct" and reader != "direct":
        source.close()
        raise UsageError(
            f"{ref.path} cannot be read by the reader 'direct'", "Use slide.reader auto"
        )
    source.take_as_ycbcr(answer.ycbcr)
    return _Found(
        source, reader, vendor, mpp, background, properties, icc, colour is not None, flags
    )


def _ask(
    path: str, background: tuple[int, int, int], tiles: JpegTiles | None
) -> tuple[Answer, bool]:
    """Return what the pixels say as OpenSlide shows them, and whether raw tiles equal them."""
    plain = OpenSlideSource(path, 1 << 22, background)
    try:
        return ask(plain, background), tiles is not None and agrees(tiles, plain)
    finally:
        plain.close()


def _contradicted(tiles: JpegTiles) -> bool:
    """Tell whether tiles that the tags call YCbCr hold RGB."""
    return tiles.layout.colour == "YCBCR" and stored_as(tiles.as_stored()) == "rgb"


def _lost(ref: SlideRef) -> SlideUnreadable:
    return SlideUnreadable(
        f"{ref.path} holds RGB, and its tags say YCbCr: its colours cannot be told",
        "Correct the photometric interpretation, or convert the slide to RGB or a TIFF",
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


def _tiles(ref: SlideRef, path: str, vendor: str) -> JpegTiles | None:
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
        log.info("%s is read by OpenSlide: %s", ref.path, exc)
        return None


def _tiff_flags(tiff: TiffHead) -> list[QcFlag]:
    """Return what a reader should know of a TIFF's directories."""
    flags = []
    if not tiff.in_order:
        flags.append(flag("LEVEL_ORDER"))
    if tiff.others:
        flags.append(flag("SEVERAL_IMAGES", f"Not read: {tiff.others}."))
    if tiff.orientation != 1:
        flags.append(flag("ORIENTATION_IGNORED", f"It is {tiff.orientation}."))
    return flags


def _find_tiff(ref: SlideRef, path: str, tiff: TiffHead, vendor: str | None) -> _Found:
    flags = _tiff_flags(tiff)
    colour = _colour(ref, tiff.icc, flags)
    source = TiffSource(path, TileCache(ref.cache_mb << 20), colour)
    try:
        if max(source.sizes[0]) > MAX_SIDE_PX:
            raise SlideUnreadable(f"{ref.path} claims absurd dimensions", _COPY_AGAIN)
        if colour is None and looks_converted_twice(shown_pixels(source, 0, WHITE)):
            raise _lost(ref)
    except BaseException:
        source.close()
        raise
    properties: Mapping[str, str] = {}
    mpp = tiff.mpp
    if vendor == "aperio":
        try:
            properties, _ = _properties(ref, path)
        except SlideUnreadable:  # its own order of directories, say, is not Aperio's
            properties = {}
        mpp = mpp or (property_mpp(properties) if tiff.in_order else None)
    known = vendor if vendor == "aperio" else "ome-tiff" if tiff.ome else "tiff"
    return _Found(
        source, "image", known, mpp, WHITE, properties, tiff.icc, colour is not None,
        flags + source.flags,
    )  # fmt: skip


def _find_image(ref: SlideRef, path: str, head: bytes) -> _Found:
    image = decode_image(path, head)
    flags = list(image.flags)
    if image.orientation != 1:
        flags.append(flag("ORIENTATION_IGNORED", f"It is {image.orientation}."))
    colour = _colour(ref, image.icc, flags)
    source = MemorySource(image.pixels)
    answer = ask(source, WHITE)
    if answer.twice:
        raise _lost(ref)
    if answer.ycbcr:
        flags.append(flag("COLOUR_TAG_WRONG", _YCBCR))
        source.take_as_ycbcr(answer.ycbcr)
    if colour is not None:
        source.convert(colour)
    return _Found(
        source, "image", image.kind, image.mpp, WHITE, {}, image.icc, colour is not None, flags
    )


def _colour(ref: SlideRef, icc: bytes | None, flags: list[QcFlag]) -> Colour | None:
    """Return the conversion to sRGB where it is asked for and possible; flag where it is not."""
    if ref.icc == "off":
        if icc is not None:
            flags.append(flag("ICC_NOT_APPLIED", f"Profile: {profile_name(icc)}."))
        return None
    if icc is None:
        flags.append(flag("ICC_NOT_APPLIED", "No ICC profile in the file.", "warning"))
        return None
    try:
        return ToSrgb(icc)
    except BadProfile:
        flags.append(flag("ICC_NOT_APPLIED", "The profile cannot be used.", "warning"))
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
