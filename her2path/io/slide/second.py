"""A second opinion on colours: the same boxes by another reader, when a stain cannot be true."""

from __future__ import annotations

import numpy as np
import openslide
from PIL import Image

from her2path.core.errors import SlideUnreadable
from her2path.core.geometry import Box
from her2path.io.slide.cache import Pixels, TileCache
from her2path.io.slide.colour import looks_converted_twice, stored_as
from her2path.io.slide.files import resolve
from her2path.io.slide.image import MemorySource
from her2path.io.slide.openslide_source import OpenSlideSource
from her2path.io.slide.reader import Slide
from her2path.io.slide.source import Source
from her2path.io.slide.tiff import TiffSource

__all__ = ["check_colours"]

#: boxes that are compared, at most, and the mean difference that two readers may have, grey levels
COMPARED = 6
MOST_DIFFERENCE = 6.0
#: side of a compared box, px
SIDE_PX = 256
_MEND = "Correct the colour tag (photometric interpretation), or convert the slide to RGB"


def check_colours(slide: Slide, boxes: list[Box]) -> None:
    """Refuse a slide whose colours contradict its tags in a way that cannot be settled.

    Called where an estimated stain vector is one that no stain can have.

    Parameters
    ----------
    slide : Slide
        As it was read.
    boxes : list of Box
        Places in the tissue, level-0 px of the square plane.

    Raises
    ------
    SlideUnreadable
        When its pixels look like YCbCr or like RGB converted once too often, or when a second
        reader (OpenSlide, tifffile, Pillow) shows other colours.
    """
    info = slide.info
    corners = [_file_box(slide, box) for box in boxes[:: max(1, len(boxes) // COMPARED)]]
    mine = [_read(slide.source, box) for box in corners]
    if not mine:
        return
    pixels = np.concatenate([p.reshape(-1, 3) for p in mine])
    if looks_converted_twice(pixels) or stored_as(pixels) == "ycbcr":
        raise SlideUnreadable(
            f"the colours of {info.path} are not those that its tags claim", _MEND
        )
    if info.icc_applied or any(f.code == "COLOUR_TAG_WRONG" for f in info.flags):
        return  # it was converted, which a second reader would not do
    other = _second(slide)
    if other is None:
        return
    try:
        if other.sizes[0] != (info.file_width_px, info.file_height_px):
            return
        theirs = np.concatenate([_read(other, box).reshape(-1, 3) for box in corners])
    finally:
        other.close()
    if np.abs(theirs.astype(np.int16) - pixels).mean() > MOST_DIFFERENCE:
        raise SlideUnreadable(f"two readers show {info.path} in different colours", _MEND)


def _file_box(slide: Slide, box: Box) -> Box:
    """Return a small box at a place of the square plane, in the file's own pixels."""
    x, y = slide.info.to_file_px(box.x0, box.y0)
    whole = Box(0, 0, slide.info.file_width_px, slide.info.file_height_px)
    return Box(int(x), int(y), int(x) + SIDE_PX, int(y) + SIDE_PX).clip(whole)


def _read(source: Source, box: Box) -> Pixels:
    out = np.empty((box.height, box.width, 3), np.uint8)
    source.read_into(0, box, out)
    return out


def _second(slide: Slide) -> Source | None:
    """Return level 0 by another reader than the slide's own, or None where there is none."""
    path = resolve(slide.info.path)
    try:
        if slide.info.reader == "image":
            if openslide.OpenSlide.detect_format(path):
                return OpenSlideSource(path, 1 << 22, slide.info.background)
            with Image.open(path) as image:
                return MemorySource(np.array(image.convert("RGB")))
        return TiffSource(path, TileCache(1 << 22))
    except Exception:  # noqa: BLE001  (no second reader knows it: whatever it raises)
        return None
