"""Whole-number kernels of the slide door: the same bits for whatever box is asked for.

All sums are of integers, and all positions come from global coordinates, so that a pixel never
depends on the block that it was read in.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from her2path.io.slide.cache import Pixels

__all__ = ["Axis", "argb_over", "axis", "bilinear", "block_mean"]

Whole = npt.NDArray[np.int64]
#: one axis of a bilinear resampling: first source index, second, weight of the second in 1/256
Axis = tuple[Whole, Whole, Whole]


def axis(start: int, stop: int, ratio: float, size: int) -> Axis:
    """Return where the samples ``start .. stop - 1`` of a resampled axis lie in the source.

    Parameters
    ----------
    start, stop : int
        Range of samples on the resampled axis, in global coordinates.
    ratio : float
        Source pixels per resampled pixel; pixel centres are at ``i + 0.5``.
    size : int
        Length of the source axis; samples beyond its ends repeat the last pixel.
    """
    at = (np.arange(start, stop, dtype=np.float64) + 0.5) * ratio - 0.5
    first = np.floor(at)
    weight = np.floor((at - first) * 256.0 + 0.5).astype(np.int64)
    low = np.clip(first.astype(np.int64), 0, size - 1)
    high = np.clip(first.astype(np.int64) + 1, 0, size - 1)
    return low, high, weight


@njit(cache=True, nogil=True)
def _bilinear(
    src: Pixels, x0: Whole, x1: Whole, wx: Whole, y0: Whole, y1: Whole, wy: Whole, out: Pixels
) -> None:
    for j in range(y0.size):
        a = src[y0[j]]
        b = src[y1[j]]
        v = wy[j]
        for i in range(x0.size):
            p = x0[i]
            q = x1[i]
            u = wx[i]
            for c in range(3):
                top = a[p, c] * (256 - u) + a[q, c] * u
                low = b[p, c] * (256 - u) + b[q, c] * u
                out[j, i, c] = np.uint8((top * (256 - v) + low * v + 32768) >> 16)


def bilinear(src: Pixels, x: Axis, y: Axis, out: Pixels) -> None:
    """Sample ``src`` (h, w, 3) at the crossings of two axes into ``out`` (len y, len x, 3)."""
    _bilinear(src, x[0], x[1], x[2], y[0], y[1], y[2], out)


@njit(cache=True, nogil=True)
def _block_mean(src: Pixels, factor: int, out: Pixels) -> None:
    height, width = src.shape[0], src.shape[1]
    rows, cols = out.shape[0], out.shape[1]
    acc = np.zeros((width, 3), np.uint32)
    for j in range(rows):
        y0 = j * factor
        ny = min(factor, height - y0)
        acc[:] = 0
        for y in range(y0, y0 + ny):
            line = src[y]
            for x in range(width):
                for c in range(3):
                    acc[x, c] += line[x, c]
        for i in range(cols):
            x0 = i * factor
            nx = min(factor, width - x0)
            n = np.uint32(nx * ny)
            for c in range(3):
                total = np.uint32(0)
                for x in range(x0, x0 + nx):
                    total += acc[x, c]
                out[j, i, c] = np.uint8((total + n // np.uint32(2)) // n)


@njit(cache=True, nogil=True)
def _halve(src: Pixels, out: Pixels) -> None:
    for j in range(out.shape[0]):
        a = src[2 * j]
        b = src[2 * j + 1]
        for i in range(out.shape[1]):
            for c in range(3):
                total = np.int32(a[2 * i, c]) + a[2 * i + 1, c] + b[2 * i, c] + b[2 * i + 1, c]
                out[j, i, c] = np.uint8((total + 2) >> 2)


def block_mean(src: Pixels, factor: int, out: Pixels) -> None:
    """Average ``factor`` x ``factor`` pixels: ``(sum + n // 2) // n``.

    Parameters
    ----------
    src : uint8 (h, w, 3)
        Pixels; a last block that is cut by the border averages what is there.
    factor : int
        Whole-number reduction; sums fit 32 bits up to 4,096.
    out : uint8 (ceil(h / factor), ceil(w / factor), 3)
        Written.
    """
    if factor == 2 and src.shape[0] == 2 * out.shape[0] and src.shape[1] == 2 * out.shape[1]:
        _halve(src, out)  # the common case, several times faster
    else:
        _block_mean(src, factor, out)


@njit(cache=True, nogil=True)
def _argb_over(
    argb: npt.NDArray[np.uint32], red: np.uint32, green: np.uint32, blue: np.uint32, out: Pixels
) -> int:
    clear = 0
    for y in range(argb.shape[0]):
        for x in range(argb.shape[1]):
            v = argb[y, x]
            a = v >> np.uint32(24)
            r = (v >> np.uint32(16)) & np.uint32(255)
            g = (v >> np.uint32(8)) & np.uint32(255)
            b = v & np.uint32(255)
            if a != 255:
                clear += 1
                rest = np.uint32(255) - a
                r = min(np.uint32(255), r + (rest * red + np.uint32(127)) // np.uint32(255))
                g = min(np.uint32(255), g + (rest * green + np.uint32(127)) // np.uint32(255))
                b = min(np.uint32(255), b + (rest * blue + np.uint32(127)) // np.uint32(255))
            out[y, x, 0] = r
            out[y, x, 1] = g
            out[y, x, 2] = b
    return clear


def argb_over(argb: npt.NDArray[np.uint32], background: tuple[int, int, int], out: Pixels) -> int:
    """Lay premultiplied ARGB words (h, w), as OpenSlide gives them, over a background.

    Returns
    -------
    int
        Number of pixels that are not fully opaque.
    """
    red, green, blue = (np.uint32(c) for c in background)
    return int(_argb_over(argb, red, green, blue, out))
