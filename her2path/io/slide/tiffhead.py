"""The few figures of a TIFF that decide how it is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import tifffile

from her2path.io.slide.directories import Pyramid, find_pyramid
from her2path.io.slide.mpp import Pair, aperio_mpp, imagej_mpp, ome_mpp, tag_mpp

__all__ = ["LIBTIFF", "TiffHead", "read_tiff_head"]

MAX_ICC_BYTES = 1 << 24
#: compressions that OpenSlide's libtiff knows
LIBTIFF = {1, 5, 7, 8, 32946, 32773}


@dataclass(frozen=True)
class TiffHead:
    """Figures of a TIFF's finest level."""

    #: (width, height)
    size: tuple[int, int]
    #: 8-bit RGB or YCbCr with interleaved samples: what OpenSlide shows faithfully
    plain_rgb: bool
    #: TIFF photometric interpretation is YCbCr
    ycbcr: bool
    #: chroma is stored at a lower resolution
    subsampled: bool
    ome: bool
    mpp: Pair | None
    icc: bytes | None
    #: levels of the pyramid, sub-directories counted
    levels: int
    #: the coarser levels are sub-directories, which OpenSlide does not see
    hidden_levels: bool
    #: TIFF compression number
    compression: int
    #: TIFF orientation, 1 is upright
    orientation: int
    #: the finest level is the file's first directory
    in_order: bool
    #: other images of some size that are not read
    others: int


def read_tiff_head(path: str) -> TiffHead | None:
    """Return the head of a TIFF, or None where its directories cannot be read."""
    try:
        with tifffile.TiffFile(path) as tiff:
            return _head(tiff, find_pyramid(tiff))
    except Exception:  # noqa: BLE001  (on hostile bytes tifffile raises whatever it likes)
        return None


def _head(tiff: tifffile.TiffFile, pyramid: Pyramid) -> TiffHead:
    page = pyramid.pages[0]
    bits = page.bitspersample if isinstance(page.bitspersample, int) else 0
    rgb = int(page.photometric) in (2, 6) and page.samplesperpixel == 3
    icc, turned = _value(page, 34675), _value(page, 274)
    return TiffHead(
        size=(int(page.imagewidth), int(page.imagelength)),
        plain_rgb=rgb and bits == 8 and int(page.planarconfig) == 1,
        ycbcr=int(page.photometric) == 6,
        subsampled=bool(page.is_subsampled and page.tags.get(530) is not None),
        ome=bool(tiff.is_ome),
        mpp=_mpp(page, pyramid, bool(tiff.is_imagej)),
        icc=bytes(icc) if icc is not None and 0 < len(icc) <= MAX_ICC_BYTES else None,
        levels=len(pyramid.pages),
        hidden_levels=bool(page.subifds),
        compression=int(page.compression),
        orientation=turned if isinstance(turned, int) and 1 <= turned <= 8 else 1,
        in_order=pyramid.in_order,
        others=pyramid.others,
    )


def _mpp(page: Any, pyramid: Pyramid, imagej: bool) -> Pair | None:
    """Return the finest level's own pixel size: by OME-XML, Aperio, ImageJ, or its tags."""
    text = str(page.description or "")
    found = None if pyramid.ome is None else ome_mpp(pyramid.ome)
    if found is None and re.match(r"Aperio", text):
        found = aperio_mpp(text)
    x, y = _value(page, 282), _value(page, 283)
    if found is None and imagej:
        found = imagej_mpp(text, x, y)
    if found is not None:
        return found
    unit = _value(page, 296)
    return tag_mpp(x, y, 2 if unit is None else int(unit))


def _value(page: Any, tag: int) -> Any:
    found = page.tags.get(tag)
    return None if found is None else found.value
