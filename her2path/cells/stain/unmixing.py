"""RGB to hematoxylin and DAB, in optical density, through look-up tables.

Every sum is one of three float32 numbers in a fixed order, so that a pixel's value does not
depend on the block it was read in.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from her2path.cells.stain.model import StainModel

__all__ = ["cell_means", "mix", "reduce_planes", "reduce_unmix", "unmix"]

Pixels = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]


@njit(cache=True, nogil=True)
def _unmix(rgb, hl, dl, h, d):  # type: ignore[no-untyped-def]
    for y in range(rgb.shape[0]):
        line = rgb[y]
        out_h = h[y]
        out_d = d[y]
        for x in range(rgb.shape[1]):
            r = line[x, 0]
            g = line[x, 1]
            b = line[x, 2]
            out_h[x] = hl[0, r] + hl[1, g] + hl[2, b]
            out_d[x] = dl[0, r] + dl[1, g] + dl[2, b]


@njit(cache=True, nogil=True)
def _reduce_planes(rgb, factor, tables, out):  # type: ignore[no-untyped-def]
    height, width = rgb.shape[0], rgb.shape[1]
    rows, cols = out.shape[1], out.shape[2]
    acc = np.zeros(width * 3, np.uint32)
    for j in range(rows):
        y0 = j * factor
        ny = min(factor, height - y0)
        acc[:] = 0
        for y in range(y0, y0 + ny):
            line = rgb[y].reshape(-1)
            for x in range(width * 3):
                acc[x] += np.uint32(line[x])
        for i in range(cols):
            x0 = i * factor
            nx = min(factor, width - x0)
            n = np.uint32(nx * ny)
            half = n // np.uint32(2)
            r = half
            g = half
            b = half
            for x in range(x0, x0 + nx):
                r += acc[3 * x]
                g += acc[3 * x + 1]
                b += acc[3 * x + 2]
            r //= n
            g //= n
            b //= n
            for k in range(out.shape[0]):
                out[k, j, i] = tables[k, 0, r] + tables[k, 1, g] + tables[k, 2, b]


@njit(cache=True, nogil=True)
def _halve_planes(rgb, tables, out):  # type: ignore[no-untyped-def]
    # the usual case, factor 2 of whole blocks, written out: about twice as fast
    for j in range(out.shape[1]):
        a = rgb[2 * j]
        c = rgb[2 * j + 1]
        for i in range(out.shape[2]):
            x = 2 * i
            r = (np.uint32(a[x, 0]) + a[x + 1, 0] + c[x, 0] + c[x + 1, 0] + 2) >> 2
            g = (np.uint32(a[x, 1]) + a[x + 1, 1] + c[x, 1] + c[x + 1, 1] + 2) >> 2
            b = (np.uint32(a[x, 2]) + a[x + 1, 2] + c[x, 2] + c[x + 1, 2] + 2) >> 2
            for k in range(out.shape[0]):
                out[k, j, i] = tables[k, 0, r] + tables[k, 1, g] + tables[k, 2, b]


@njit(cache=True, nogil=True)
def _cell_means(plane, side, out):  # type: ignore[no-untyped-def]
    columns = np.empty(out.shape[1] * side, np.float64)
    scale = 1.0 / (side * side)
    for j in range(out.shape[0]):
        columns[:] = 0.0
        for y in range(j * side, (j + 1) * side):
            row = plane[y]
            for x in range(columns.size):
                columns[x] += row[x]
        for i in range(out.shape[1]):
            total = 0.0
            for x in range(i * side, (i + 1) * side):
                total += columns[x]
            out[j, i] = np.float32(total * scale)


def cell_means(plane: Plane, side: int) -> Plane:
    """Return the mean of every ``side`` x ``side`` pixels, summed in a fixed order.

    Parameters
    ----------
    plane : float32 (h, w)
        Both sides multiples of ``side``.
    side : int
        Pixels.

    Returns
    -------
    float32 (h / side, w / side)
    """
    out = np.empty((plane.shape[0] // side, plane.shape[1] // side), np.float32)
    _cell_means(plane, side, out)
    return out


def unmix(
    rgb: Pixels, model: StainModel, out: tuple[Plane, Plane] | None = None
) -> tuple[Plane, Plane]:
    """Return hematoxylin and DAB of every pixel.

    Parameters
    ----------
    rgb : uint8 (h, w, 3)
        Pixels.
    model : StainModel
        White point and vectors.
    out : (float32 (h, w), float32 (h, w)), optional
        Memory to write them to.

    Returns
    -------
    h, d : float32 (h, w)
        Optical density, base 10; noise around zero may be negative.
    """
    hl, dl = model.tables()
    h, d = out or _two_planes(rgb.shape[:2])
    _unmix(np.ascontiguousarray(rgb), hl, dl, h, d)
    return h, d


def _two_planes(shape: tuple[int, ...]) -> tuple[Plane, Plane]:
    return np.empty(shape, np.float32), np.empty(shape, np.float32)


def reduce_unmix(rgb: Pixels, factor: int, model: StainModel) -> tuple[Plane, Plane]:
    """Average RGB by a whole factor, ``(sum + n // 2) // n``, then unmix; one pass.

    Parameters
    ----------
    rgb : uint8 (h, w, 3)
        Level-0 pixels, starting at a multiple of ``factor``.
    factor : int
        Whole-number reduction, at least 1.
    model : StainModel
        White point and vectors.

    Returns
    -------
    h, d : float32 (ceil(h / factor), ceil(w / factor))
        Optical density, base 10; a last block cut by the border averages what is there.
    """
    out = np.empty((2, *_reduced(rgb, factor)), np.float32)
    _fill(np.ascontiguousarray(rgb), factor, model.all_tables()[:2], out)
    return out[0], out[1]


def reduce_planes(rgb: Pixels, factor: int, model: StainModel, out: Plane | None = None) -> Plane:
    """Average and unmix as `reduce_unmix` does; also the residual is kept.

    Parameters
    ----------
    rgb, factor, model
        Those of `reduce_unmix`.
    out : float32 (3, ceil(h / factor), ceil(w / factor)), optional
        Memory to write it to.

    Returns
    -------
    float32 (3, ceil(h / factor), ceil(w / factor))
        Hematoxylin, DAB and residual, optical density base 10; the first two are bit for bit
        those of `reduce_unmix`.
    """
    if out is None:
        out = np.empty((3, *_reduced(rgb, factor)), np.float32)
    _fill(np.ascontiguousarray(rgb), factor, model.all_tables(), out)
    return out


def _reduced(rgb: Pixels, factor: int) -> tuple[int, int]:
    return -(-rgb.shape[0] // factor), -(-rgb.shape[1] // factor)


def _fill(pixels: Pixels, factor: int, tables: Plane, out: Plane) -> None:
    """Write as many planes as there are tables, (k, 3, 256)."""
    if factor == 2 and pixels.shape[0] % 2 == 0 and pixels.shape[1] % 2 == 0:
        _halve_planes(pixels, tables, out)
    else:
        _reduce_planes(pixels, factor, tables, out)


def mix(h: npt.NDArray[np.floating], d: npt.NDArray[np.floating], model: StainModel) -> Pixels:
    """Return the pixels that stain amounts give: the inverse of `unmix`, rounded to grey levels.

    Parameters
    ----------
    h, d : float (h, w)
        Optical density of hematoxylin and DAB.
    model : StainModel
        White point and vectors.

    Returns
    -------
    uint8 (h, w, 3)
    """
    od = np.asarray(h)[..., None] * np.array(model.hematoxylin)
    od = od + np.asarray(d)[..., None] * np.array(model.dab)
    grey = np.array(model.white_point) * 10.0**-od
    return np.clip(np.floor(grey + 0.5), 0, 255).astype(np.uint8)
