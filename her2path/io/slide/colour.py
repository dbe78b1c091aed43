"""Colour as stored: is it RGB or YCbCr? The pixels are asked, whatever the file's tags say.

In RGB the three components of a bright-field image rise and fall together, and its brightest pixels
are about grey. In YCbCr the second and third component lie about 128 where it is bright, and one of
them falls as the first one rises, for brown and for blue stain alike; and nearly every pixel is one
that some RGB colour has. All of these have to agree before a file is contradicted.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from numba import njit

from her2path.io.slide.cache import Pixels

__all__ = ["Stored", "looks_converted_twice", "rgb_of_ycbcr", "stored_as"]

#: what components are: told by the pixels, or not to be told
Stored = Literal["rgb", "ycbcr", "unclear"]

#: fewer pixels, or pixels of less contrast (grey levels, standard deviation), tell nothing
LEAST_PIXELS = 500
LEAST_SPREAD = 2.0
#: share of pixels that, taken as YCbCr, no RGB colour has: of YCbCr at most, of RGB at least; and
#: by how many grey levels one may be off
MOST_OUTSIDE, LEAST_OUTSIDE = 0.03, 0.2
SLACK = 8.0
#: where it is bright, chroma lies this near to 128, and lower than the luma by so much
NEAR_GREY = 30.0
BELOW_LUMA = 25.0
#: correlation of a chroma with the luma at most, and of two colours of RGB at least
MOST_RELATED = 0.35
LEAST_RELATED = 0.6
#: saturated magenta in what was taken for YCbCr and is RGB: share of the pixels, and how many
#: times the saturated green
MOST_MAGENTA, MORE_THAN_GREEN = 0.05, 3.0
#: a few patches of colour may be magenta by chance
LEAST_PIXELS_TWICE = 20_000

# libjpeg's whole-number conversion (ITU-R BT.601, full range), so that pixels equal its own
_HALF = 1 << 15
_R_CR, _B_CB, _G_CB, _G_CR = 91881, 116130, 22554, 46802


@njit(cache=True, nogil=True)
def _convert(src: Pixels, out: Pixels) -> None:
    for y in range(src.shape[0]):
        for x in range(src.shape[1]):
            luma = np.int32(src[y, x, 0])
            cb = np.int32(src[y, x, 1]) - 128
            cr = np.int32(src[y, x, 2]) - 128
            r = luma + ((_R_CR * cr + _HALF) >> 16)
            g = luma + ((-_G_CB * cb - _G_CR * cr + _HALF) >> 16)
            b = luma + ((_B_CB * cb + _HALF) >> 16)
            out[y, x, 0] = np.uint8(max(0, min(255, int(r))))
            out[y, x, 1] = np.uint8(max(0, min(255, int(g))))
            out[y, x, 2] = np.uint8(max(0, min(255, int(b))))


def rgb_of_ycbcr(pixels: Pixels) -> Pixels:
    """Return the RGB of YCbCr pixels (h, w, 3), full range, as libjpeg computes it."""
    out = np.empty(pixels.shape, np.uint8)
    _convert(np.ascontiguousarray(pixels), out)
    return out


def stored_as(pixels: Pixels) -> Stored:
    """Tell what the components of a bright-field image are.

    Parameters
    ----------
    pixels : uint8 (n, 3)
        A sample, as stored.

    Returns
    -------
    {"rgb", "ycbcr", "unclear"}
        ``unclear`` where there are few pixels, little contrast, or signs for both.
    """
    if len(pixels) < LEAST_PIXELS:
        return "unclear"
    c = pixels.astype(np.float64)
    related = _related(c)
    bright = c[c[:, 0] >= np.quantile(c[:, 0], 0.9)]
    luma, cb, cr = np.median(bright, axis=0)
    grey = max(abs(cb - 128), abs(cr - 128)) <= NEAR_GREY and luma - max(cb, cr) >= BELOW_LUMA
    outside = _outside(c)
    if grey and outside <= MOST_OUTSIDE and (related is None or related <= MOST_RELATED):
        return "ycbcr"
    if not grey and outside >= LEAST_OUTSIDE and related is not None and related >= LEAST_RELATED:
        return "rgb"
    return "unclear"


def _related(c: npt.NDArray[np.float64]) -> float | None:
    """Return the first component's least correlation with the others; None without contrast."""
    if c[:, 0].std() < LEAST_SPREAD:
        return None
    found = [
        float(np.corrcoef(c[:, 0], c[:, k])[0, 1]) if c[:, k].std() > 0.3 else 0.0 for k in (1, 2)
    ]
    return min(found)


def _outside(c: npt.NDArray[np.float64]) -> float:
    """Return the share of pixels that, taken as YCbCr, no RGB colour has."""
    luma, cb, cr = c[:, 0], c[:, 1] - 128, c[:, 2] - 128
    rgb = np.stack([luma + 1.402 * cr, luma - 0.34414 * cb - 0.71414 * cr, luma + 1.772 * cb])
    return float(((rgb < -SLACK) | (rgb > 255 + SLACK)).any(axis=0).mean())


def looks_converted_twice(pixels: Pixels) -> bool:
    """Tell whether RGB was taken for YCbCr and converted: glass is then a saturated magenta.

    Parameters
    ----------
    pixels : uint8 (n, 3)
        A sample, as shown.
    """
    if len(pixels) < LEAST_PIXELS_TWICE:
        return False
    r, g, b = (pixels[:, k].astype(np.int64) for k in range(3))
    magenta = float(((np.minimum(r, b) >= 250) & (g <= 200)).mean())
    # an image of many colours has saturated greens as well
    green = float(((g >= 250) & (np.minimum(r, b) <= 200)).mean())
    return magenta > MOST_MAGENTA and magenta > MORE_THAN_GREEN * green
