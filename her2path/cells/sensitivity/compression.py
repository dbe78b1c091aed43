"""The compression that a picture went through, by its pixels; and the same once more.

A line laid into decoded pixels has not been through the slide's JPEG, which takes much of what is
faint and narrow. A picture that was compressed changes least when it is compressed again in the
same way (Farid H 2009, Exposing digital forgeries from JPEG ghosts, IEEE Trans Inf Forensics Secur
4:154-160): that way is looked for, and used.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Jpeg", "compress", "jpeg_of"]

U8 = NDArray[np.uint8]

#: qualities looked through, and the side of the piece looked at, px
QUALITIES, PIECE = range(40, 98), 192
#: the way that was taken changes less than this share of what its neighbours (so many qualities
#: away) change
GHOST, BESIDE = 0.75, 3
SAMPLINGS = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
             cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)  # fmt: skip


@dataclass(frozen=True)
class Jpeg:
    """Quality (of the usual tables, 1 to 100) and OpenCV's code of the chroma subsampling."""

    quality: int
    sampling: int


def compress(rgb: U8, how: Jpeg | None) -> U8:
    """Return a picture, uint8 (H, W, 3), as it comes back from a JPEG; itself without one."""
    if how is None:
        return rgb
    options = [
        cv2.IMWRITE_JPEG_QUALITY, how.quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, how.sampling,
    ]  # fmt: skip
    coded = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)[1]
    return np.asarray(cv2.cvtColor(cv2.imdecode(coded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))


def jpeg_of(rgb: U8) -> Jpeg | None:
    """Return how a picture was compressed; None where nothing tells.

    Its first pixel lies on a corner of the JPEG's blocks, as it does on a multiple of 16 pixels.
    """
    y, x = ((n - min(n, PIECE)) // 32 * 16 for n in rgb.shape[:2])
    piece = np.ascontiguousarray(rgb[y : y + PIECE, x : x + PIECE])
    for sampling in SAMPLINGS:
        changed = [_change(piece, Jpeg(q, sampling)) for q in QUALITIES]
        beside = np.minimum(changed[: -2 * BESIDE], changed[2 * BESIDE :])
        share = np.array(changed[BESIDE:-BESIDE]) / np.maximum(beside, 1e-9)
        if share.min() < GHOST:
            return Jpeg(QUALITIES[BESIDE + int(share.argmin())], sampling)
    return None


def _change(rgb: U8, how: Jpeg) -> float:
    apart = cv2.absdiff(rgb, compress(rgb, how)).astype(np.float32)
    return float((apart**2).mean())
