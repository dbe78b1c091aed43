"""What quality control measures of every 16 µm of a slide.

Each number rests on the pixels of its own map cell alone, on a grid laid from the slide's corner:
nothing depends on how the slide was cut. What needs neighbours is decided later, on the whole grid
(`her2path.cells.qc.artefacts`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from her2path.cells.qc.assessment import structure

__all__ = ["FEATURES", "measure_features"]

F32 = npt.NDArray[np.float32]

#: what `measure_features` gives
FEATURES = (
    "hematoxylin", "dab", "residual", "focus", "contrast", "floor", "dab_floor", "nuclear",
    "glass", "grey", "blue", "dark", "bright", "blocks",
)  # fmt: skip
#: bins of OD that percentiles are counted in
BINS, PER_OD = 128, 64.0
#: less stain than this (OD, both stains) is glass: 3 % of the light
GLASS_OD = 0.03
#: residual OD that neither stain leaves; of grey matter it is 0.22 of the OD
FOREIGN_OD = 0.035
#: hematoxylin (OD) whose DAB is below this part of it, negative: precipitate, no nucleus
BLUE_OD, BLUE_SHARE = 0.12, 0.12
#: grey levels from which a pixel is clipped
BLACK, WHITE = 6, 254
#: side of a JPEG block, pixels of level 0
JPEG_PX = 8


@njit(cache=True, nogil=True)
def _percentile(counts, total, share):  # type: ignore[no-untyped-def]
    need = np.int64(np.ceil(share * total))
    seen = np.int64(0)
    for k in range(counts.shape[0]):
        seen += counts[k]
        if seen >= need:
            return np.float32(k / PER_OD)
    return np.float32(counts.shape[0] / PER_OD)


@njit(cache=True, nogil=True)
def _bin(value):  # type: ignore[no-untyped-def]
    return min(max(np.int64(value * PER_OD), 0), BINS - 1)


@njit(cache=True, nogil=True)
def _stains(planes, cell, out):  # type: ignore[no-untyped-def]
    """Write residual, floor, dab_floor, nuclear, glass, grey, blue of every map cell."""
    both = np.zeros(BINS, np.int64)
    brown = np.zeros(BINS, np.int64)
    blue = np.zeros(BINS, np.int64)
    for j in range(out.shape[1]):
        for i in range(out.shape[2]):
            both[:] = 0
            brown[:] = 0
            blue[:] = 0
            rest = 0.0
            glass = np.int64(0)
            grey = np.int64(0)
            blue_only = np.int64(0)
            n = np.int64(0)
            for y in range(j * cell, min((j + 1) * cell, planes.shape[1]), 2):
                for x in range(i * cell, min((i + 1) * cell, planes.shape[2])):
                    h = planes[0, y, x]
                    d = planes[1, y, x]
                    r = planes[2, y, x]
                    both[_bin(h + d)] += 1
                    brown[_bin(d)] += 1
                    blue[_bin(h)] += 1
                    rest += r
                    glass += h + d < GLASS_OD
                    grey += (r > FOREIGN_OD) & (d < h)  # strong DAB leaves some too
                    blue_only += (h > BLUE_OD) & (d < -BLUE_SHARE * h)
                    n += 1
            n = max(n, np.int64(1))
            out[0, j, i] = rest / n
            out[1, j, i] = _percentile(both, n, 0.10)
            out[2, j, i] = _percentile(brown, n, 0.10)
            out[3, j, i] = _percentile(blue, n, 0.95)
            out[4, j, i] = glass / n
            out[5, j, i] = grey / n
            out[6, j, i] = blue_only / n


@njit(cache=True, nogil=True)
def _pixels(rgb, cell, out):  # type: ignore[no-untyped-def]
    """Write dark, bright and blocks of every map cell."""
    for j in range(out.shape[1]):
        for i in range(out.shape[2]):
            y1 = min((j + 1) * cell, rgb.shape[0])
            x1 = min((i + 1) * cell, rgb.shape[1])
            dark = np.int64(0)
            bright = np.int64(0)
            n = np.int64(0)
            edge = np.int64(0)
            inner = np.int64(0)
            for y in range(j * cell, y1, 4):
                for x in range(i * cell, x1 - 1):
                    r = rgb[y, x, 0]
                    g = rgb[y, x, 1]
                    b = rgb[y, x, 2]
                    dark += max(r, g, b) <= BLACK
                    bright += min(r, g, b) >= WHITE
                    n += 1
                    step = abs(np.int64(g) - np.int64(rgb[y, x + 1, 1]))
                    if x % JPEG_PX == JPEG_PX - 1:
                        edge += step
                    else:
                        inner += step
            n = max(n, np.int64(1))
            out[0, j, i] = dark / n
            out[1, j, i] = bright / n
            # edges are one in eight: both are means of a step
            out[2, j, i] = ((JPEG_PX - 1) * edge + 0.5 * n) / (inner + 0.5 * n)


def measure_features(
    planes: F32, rgb: npt.NDArray[np.uint8], cell_px: int, factor: int, mpp_a: float
) -> dict[str, F32]:
    """Measure every map cell.

    Parameters
    ----------
    planes : float32 (3, h, w)
        Hematoxylin, DAB and residual OD on the analysis plane, beginning at a map cell.
    rgb : uint8 (h * factor, w * factor, 3)
        The same pixels at level 0.
    cell_px : int
        Side of a map cell, analysis pixels.
    factor : int
        Level-0 pixels per analysis pixel.
    mpp_a : float
        µm per analysis pixel.

    Returns
    -------
    dict of str to float32 (rows, columns)
        Those of `FEATURES` but the two means: ``residual`` (mean OD), ``focus`` (fine over coarse
        contrast, NaN without contrast), ``contrast`` (squared OD between points 4 µm apart),
        ``floor``, ``dab_floor`` (OD that 90 % of the pixels exceed: both stains, DAB),
        ``nuclear`` (95th percentile of hematoxylin OD), ``glass``, ``grey``, ``blue``,
        ``dark``, ``bright`` (shares of the pixels: empty, neither stain, bluer than hematoxylin,
        clipped)
        and ``blocks`` (steps across JPEG blocks over steps inside them; 1 without blocks).
    """
    rows, cols = -(-planes.shape[1] // cell_px), -(-planes.shape[2] // cell_px)
    stains = np.empty((7, rows, cols), np.float32)
    _stains(planes, cell_px, stains)
    pixels = np.empty((3, rows, cols), np.float32)
    _pixels(rgb, cell_px * factor, pixels)
    names = ("residual", "floor", "dab_floor", "nuclear", "glass", "grey", "blue")
    found: dict[str, F32] = dict(zip(names, stains, strict=True))
    found |= dict(zip(("dark", "bright", "blocks"), pixels, strict=True))
    near, far = structure(planes[0] + planes[1], cell_px, mpp_a)
    found["focus"], found["contrast"] = near, far
    return found
