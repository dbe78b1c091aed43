"""Samples to 8-bit RGB: bit depth and alpha."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from her2path.io.slide.cache import Pixels

__all__ = ["Alpha", "Depth", "depth_of", "is_blank", "to_rgb8"]

#: what a fourth sample is: not alpha (dropped), alpha beside the colours, or within them
Alpha = Literal["none", "straight", "premultiplied"]
#: bits that are used of a sample
Depth = int
#: depths that cameras have, within 16-bit samples
_DEPTHS = (8, 10, 12, 14, 16)


def depth_of(highest: int, least: Depth = 8) -> Depth:
    """Return the bits that samples use whose highest value is given, never fewer than ``least``.

    A bright-field image has glass near the top of its range: 12-bit values stored in 16 bit are
    told by it, and would otherwise look like a dark slide.
    """
    return next((d for d in _DEPTHS if d >= least and highest < 1 << d), 16)


def is_blank(pixels: npt.NDArray[Any]) -> bool:
    """Tell whether alpha, the last of four samples, is zero everywhere and colours are not.

    Nothing would be left of such an image: some programs write a fourth sample and never fill it.
    """
    return bool(pixels.size) and not pixels[..., 3].any() and bool(np.ptp(pixels[..., :3]))


def to_rgb8(pixels: npt.NDArray[Any], alpha: Alpha = "straight", depth: Depth = 16) -> Pixels:
    """Return 8-bit RGB of 8- or 16-bit RGB or RGBA, laid over white.

    Parameters
    ----------
    pixels : uint8 or uint16 (h, w, 3 or 4)
        Samples.
    alpha : {"none", "straight", "premultiplied"}
        What the fourth is.
    depth : int
        Bits that 16-bit samples use; ``(v * 255 + top // 2) // top`` with ``top = 2**depth - 1``.
    """
    if pixels.dtype == np.uint16:
        top = (1 << depth) - 1
        scaled = np.empty(pixels.shape, np.uint8)
        for row in range(pixels.shape[0]):  # row by row: the 32-bit copy stays small
            line = np.minimum(pixels[row], top).astype(np.uint32)
            scaled[row] = (line * 255 + top // 2) // top
        pixels = scaled
    if pixels.shape[2] == 3 or alpha == "none":
        return np.ascontiguousarray(pixels[..., :3], np.uint8)
    rgb = np.empty((*pixels.shape[:2], 3), np.uint8)
    for row in range(pixels.shape[0]):
        line = pixels[row].astype(np.uint32)
        a = line[:, 3:]
        if alpha == "straight":
            rgb[row] = (line[:, :3] * a + 255 * (255 - a) + 127) // 255
        else:
            rgb[row] = np.minimum(line[:, :3] + 255 - a, 255)
    return rgb
