"""The slide door: the only place that knows OpenSlide, tifffile and JPEG.

::

    ref = SlideRef("case.svs")
    with open_slide(ref) as slide:
        slide.info.mpp, slide.info.width_px
        slide.read(Box(0, 0, 1024, 1024))          # level-0 square pixels, uint8 RGB
        slide.read_down(Box(0, 0, 1024, 1024), 2)  # area average
"""

from __future__ import annotations

import logging

from her2path.io.slide.files import find_slides, slide_names
from her2path.io.slide.opening import get_slide, open_slide, openslide_version
from her2path.io.slide.reader import Slide
from her2path.io.slide.ref import SlideInfo, SlideRef
from her2path.io.slide.second import check_colours

__all__ = [
    "Slide",
    "SlideInfo",
    "SlideRef",
    "check_colours",
    "find_slides",
    "get_slide",
    "open_slide",
    "openslide_version",
    "slide_names",
]

# what tifffile has to say of damaged files is said better by our own one-line errors; it still
# reaches whoever sets up logging
logging.getLogger("tifffile").addHandler(logging.NullHandler())
