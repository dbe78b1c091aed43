"""Which directories of a TIFF are the slide: the largest image and its reductions, in any order.

A file may begin with its macro or its smallest level, and hold label, thumbnail or other scenes.
The finest level is the largest directory that is none of the former; coarser levels have its shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from typing import Any

import tifffile

from her2path.io.slide.mpp import MPP_RANGE, ome_mpp

__all__ = ["Pyramid", "find_pyramid", "ome_images"]

#: directories that are looked at, at most
MOST_PAGES = 2000
#: another image at least this large (share of the finest one's pixels) is worth a word
SIZEABLE = 0.25
#: how far a level's height may be from the shape of the finest, px and share
SHAPE_PX, SHAPE_SHARE = 1.5, 0.005
#: the least reduction of a coarser level
LEAST_REDUCTION = 1.2
_WORDS = (r"(?<![a-z])(ma[ck]ro|label|etikett|barcode|thumbnail|overview|(?:slide ?)?preview)"
          r"(?![a-z])")  # fmt: skip
_NAMED = re.compile(_WORDS, re.IGNORECASE)
#: Aperio names its associated images at the beginning of the second line
_APERIO_NAMED = re.compile(r"[\r\n]\s*(macro|label|thumbnail)\b", re.IGNORECASE)
_NAME_CHARS = 60


@dataclass(frozen=True)
class Pyramid:
    """The levels of a slide, finest first, as tifffile's pages; and what else the file holds."""

    pages: tuple[Any, ...]
    #: description of the finest level's image in OME-XML, else None
    ome: str | None
    #: the finest level is the file's first directory
    in_order: bool
    #: several planes of the finest level's size belong to it (focus, time)
    stacked: bool
    #: other images of some size that are not read
    others: int


@dataclass(frozen=True)
class _Entry:
    page: Any
    #: top-level directory, and the directory it is a sub-directory of, else None
    number: int
    parent: int | None
    #: image of the OME-XML that it belongs to, else None
    image: int | None
    associated: bool

    @property
    def area(self) -> int:
        return int(self.page.imagewidth) * int(self.page.imagelength)


def find_pyramid(tiff: tifffile.TiffFile) -> Pyramid:
    """Find the slide's levels among the directories of a TIFF.

    Raises
    ------
    ValueError
        When the file has no directory, or ends before its directories do.
    """
    if _cut_short(tiff):
        raise ValueError("the file ends before its directories do")
    texts = ome_images(str(tiff.pages[0].description)) if tiff.is_ome else []
    entries = list(_entries(tiff, texts))
    if not entries:
        raise ValueError("no directory")
    wanted = [e for e in entries if not e.associated and _colour(e.page)]
    wanted = wanted or [e for e in entries if not e.associated] or entries
    # the first of equals: a stack's first plane, the first of several scenes
    finest = max(wanted, key=lambda e: (e.area, -e.number))
    coarser: dict[tuple[int, int], _Entry] = {}
    for entry in wanted:
        if _is_level(entry, finest, bool(texts)):
            coarser.setdefault((entry.page.imagewidth, entry.page.imagelength), entry)
    levels = [finest, *sorted(coarser.values(), key=lambda e: -e.area)]
    others = [
        e for e in wanted
        if e not in levels and e.area >= SIZEABLE * finest.area and not _is_copy(e, levels)
    ]  # fmt: skip
    stacked = _stacked(tiff, finest)
    return Pyramid(
        tuple(e.page for e in levels),
        texts[finest.image] if finest.image is not None and texts else None,
        finest.number == 0 and finest.parent is None,
        stacked,
        len(others),
    )


def _cut_short(tiff: tifffile.TiffFile) -> bool:
    """Tell whether the chain of directories leads beyond the end: a file that was cut off."""
    count = len(tiff.pages)  # walks the chain to where it ends, or breaks
    pointer = int(tiff.pages.next_page_offset) if count else 0
    wide = 8 if tiff.is_bigtiff else 4
    handle = tiff.filehandle
    if not 0 < pointer <= handle.size - wide:
        return False
    handle.seek(pointer)
    pointed = handle.read(wide)
    return int.from_bytes(pointed, "little" if tiff.byteorder == "<" else "big") >= handle.size


def ome_images(description: str) -> list[str]:
    """Return the text of every ``Image`` element of OME-XML, up to the end of its ``Pixels`` tag.

    The text is searched, not parsed: XML from outside may be built to swell without limit.
    """
    found = re.findall(
        r"<(?:\w+:)?Image\b[^>]{0,4000}>(?:(?!<(?:\w+:)?Image\b).){0,20000}?"
        r"<(?:\w+:)?Pixels\b[^>]{0,4000}>",
        description[:4_000_000],
        re.DOTALL,
    )
    return [unescape(text) for text in found[:MOST_PAGES]]


def _entries(tiff: tifffile.TiffFile, texts: list[str]) -> Iterator[_Entry]:
    image_of = _images_of_pages(tiff) if texts else {}
    for number, page in enumerate(tiff.pages):
        if number >= MOST_PAGES:
            return
        image = image_of.get(number)
        image = image if image is not None and image < len(texts) else None
        name = _ome_name(texts[image]) if image is not None else ""
        associated = _associated(page, name, number, bool(texts))
        if image is not None and not associated:
            associated = _too_coarse(texts[image])
        yield _Entry(page.aspage(), number, None, image, associated)
        for sub in page.pages or () if page.subifds else ():
            yield _Entry(sub.aspage(), number, number, image, associated)


def _images_of_pages(tiff: tifffile.TiffFile) -> dict[int, int]:
    """Return the OME image of every top-level directory, by tifffile's series."""
    found = {}
    for image, series in enumerate(tiff.series):
        if getattr(series, "kind", "") != "ome":
            continue
        for page in series.pages:
            if page is not None and page.parent is tiff:
                found[int(page.index)] = image
    return found


def _ome_name(text: str) -> str:
    name = re.search(r"""<(?:\w+:)?Image\b[^>]*?\bName\s*=\s*(["'])([^"']{0,200})\1""", text)
    return name.group(2) if name else ""


def _associated(page: Any, ome_name: str, number: int, ome: bool) -> bool:
    """Tell whether a directory calls itself macro, label, thumbnail or the like."""
    names = [ome_name]
    named = (page.aspage().tags.get(k) for k in (269, 285))
    names += [str(tag.value) for tag in named if tag is not None]
    text = "" if ome and number == 0 else str(page.aspage().description or "")
    if text.startswith("Aperio"):
        if _APERIO_NAMED.search(text[:1000]):
            return True
    else:
        names.append(text)
    short = [n.strip() for n in names if 0 < len(n.strip()) <= _NAME_CHARS]
    return any(_NAMED.search(n.replace("_", " ")) for n in short)


def _too_coarse(text: str) -> bool:
    """Tell whether an OME image states a pixel size of no scan: an unnamed macro, say."""
    found = ome_mpp(text)
    return found is not None and min(found) > MPP_RANGE[1]


def _colour(page: Any) -> bool:
    return int(page.photometric) in (2, 6) and page.samplesperpixel in (3, 4)


def _is_level(entry: _Entry, finest: _Entry, ome: bool) -> bool:
    """Tell whether a directory is a reduction of the finest one."""
    width, height = int(entry.page.imagewidth), int(entry.page.imagelength)
    if min(width, height) < 1 or entry.page.tags.get(258) is None:
        return False
    if (entry.page.bitspersample, entry.page.samplesperpixel) != (
        finest.page.bitspersample, finest.page.samplesperpixel
    ):  # fmt: skip
        return False
    reduction = finest.page.imagewidth / width
    off = abs(height - finest.page.imagelength / reduction)
    if reduction < LEAST_REDUCTION or off > max(SHAPE_PX, SHAPE_SHARE * height):
        return False
    if entry.parent is not None or ome:
        return entry.number == finest.number or (entry.parent is None and entry.page.is_reduced)
    return bool(entry.page.is_reduced or entry.page.is_tiled)


def _is_copy(entry: _Entry, levels: list[_Entry]) -> bool:
    """Tell whether a directory has the size of a coarser level: the thumbnail of one, say."""
    size = entry.page.imagewidth, entry.page.imagelength
    return any((e.page.imagewidth, e.page.imagelength) == size for e in levels[1:])


def _stacked(tiff: tifffile.TiffFile, finest: _Entry) -> bool:
    """Tell whether the finest level is one plane of several of its series."""
    for series in tiff.series:
        pages = [p for p in series.pages if p is not None]
        if len(pages) > 1 and any(int(p.offset) == int(finest.page.offset) for p in pages):
            return True
    return False
