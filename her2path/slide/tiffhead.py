"""The few figures of a TIFF's first image that decide how it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tifffile

from her2path.slide.mpp import Pair, ome_mpp, tag_mpp

__all__ = ["TiffHead", "read_tiff_head"]

MAX_ICC_BYTES = 1 << 24


@dataclass(frozen=True)
class TiffHead:
    """Figures of the first image of a TIFF."""

    #: 8-bit RGB or YCbCr with interleaved samples: what OpenSlide shows faithfully
    plain_rgb: bool
    bits: int
    ome: bool
    mpp: Pair | None
    icc: bytes | None
    #: levels of the pyramid, sub-directories counted
    levels: int
    #: the coarser levels are sub-directories, which OpenSlide does not see
    hidden_levels: bool
    #: TIFF compression number
    compression: int


def read_tiff_head(path: str) -> TiffHead | None:
    """Return the head of a TIFF, or None where its directory cannot be read."""
    try:
        with tifffile.TiffFile(path) as tiff:
            return _head(tiff)
    except Exception:  # noqa: BLE001  (on hostile bytes tifffile raises whatever it likes)
        return None


def _head(tiff: tifffile.TiffFile) -> TiffHead:
    page = tiff.pages[0]
    bits = page.bitspersample if isinstance(page.bitspersample, int) else 0
    rgb = int(page.photometric) in (2, 6) and page.samplesperpixel == 3
    icc = _value(page, 34675)
    return TiffHead(
        plain_rgb=rgb and bits == 8 and int(page.planarconfig) == 1,
        bits=bits,
        ome=bool(tiff.is_ome),
        mpp=_mpp(tiff, page),
        icc=bytes(icc) if icc is not None and 0 < len(icc) <= MAX_ICC_BYTES else None,
        levels=len(tiff.series[0].levels),
        hidden_levels=bool(page.subifds),
        compression=int(page.compression),
    )


def _mpp(tiff: tifffile.TiffFile, page: Any) -> Pair | None:
    if tiff.is_ome:
        found = ome_mpp(str(page.description))
        if found is not None:
            return found
    unit = _value(page, 296)
    x, y = _value(page, 282), _value(page, 283)
    return tag_mpp(x, y, 2 if unit is None else int(unit))


def _value(page: Any, tag: int) -> Any:
    found = page.tags.get(tag)
    return None if found is None else found.value
