"""Pictures as a browser takes them, small."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["MOST_BYTES", "jpeg", "png"]

#: an overlay tile is no larger than this
MOST_BYTES = 100_000
#: share of neighbours that differ
_BUSY = 0.15
Rgba = NDArray[np.uint8]


def jpeg(rgb: NDArray[np.uint8], quality: int = 88) -> bytes:
    """Return an RGB picture as JPEG."""
    bgr = np.ascontiguousarray(rgb[:, :, ::-1])
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def png(rgba: Rgba) -> bytes:
    """Return an RGBA picture as PNG of at most `MOST_BYTES`.

    Whole where that is small enough; otherwise with fewer and fewer colours (256 at first, which
    nobody sees on outlines), and at last at half its size.
    """
    if not _busy(rgba):
        whole = _plain(rgba)
        if len(whole) <= MOST_BYTES:
            return whole
    image = Image.fromarray(rgba)
    for colours in (256, 64, 16):
        small = _indexed(image, colours)
        if len(small) <= MOST_BYTES:
            return small
    half = image.resize((rgba.shape[1] // 2, rgba.shape[0] // 2), Image.Resampling.BOX)
    return _indexed(half, 64)


def _busy(rgba: Rgba) -> bool:
    """Tell whether a picture is full of edges: whole it would surely be too large."""
    alpha = rgba[..., 3]
    return bool((alpha[:, 1:] != alpha[:, :-1]).mean() > _BUSY)


def _plain(rgba: Rgba) -> bytes:
    bgra = cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA)
    return bytes(cv2.imencode(".png", bgra, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])


def _indexed(image: Image.Image, colours: int) -> bytes:
    from io import BytesIO

    out = BytesIO()
    few = image.quantize(colours, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(out, "PNG", compress_level=4)
    return out.getvalue()
