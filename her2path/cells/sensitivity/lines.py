"""Faint lines of known strength, laid into a picture's own pixels.

A line runs along a cell's border as it was read. Its profile across is a normal curve as wide as a
faint membrane on a sharp scan, broadened as the slide is softer than that; blurring keeps the
line's mass, so its crest falls as it broadens. Transmitted light is multiplied by 10 to the minus
OD along the slide's own DAB vector: noise, blush, nuclei and light of the slide stay what they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from her2path.cells.rings import COS, RAYS, SIN

__all__ = ["LEAST_COVERAGE", "MOST_COVERAGE", "SIGMA_UM", "Lines", "draw_lines", "lay",
           "off_borders"]  # fmt: skip

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

#: spread of a faint membrane's line: 0.64 µm wide at half of its crest (Scheel 2018, PMC5848460)
SIGMA_UM = 0.64 / 2.354820045
#: share of the ring that a line covers, least and most: 94 % of the weak membranes that were read
#: by eye are incomplete (docs/reading.md)
LEAST_COVERAGE, MOST_COVERAGE = 0.25, 0.85
#: deviation of the logarithm of a line's strength along the ring, and how many waves it has
UNEVEN, WAVES = 0.25, 5
#: pieces that a line lies in, at most
PIECES = 3
#: `membrane_od` of a cell over the crest of its own line: what the reading's smoothing and its
#: sharing of lines leave (median over stained cells of sharp drawings: 0.66 among unstained cells,
#: to 0.76 where all are stained)
READS = 0.66
#: spreads (sigma) beyond which a line has ended
ENDS = 3.0
#: by how much the border of an unstained cell is read off the true one, µm: SD of a cell's mean,
#: and median and spread (SD of the logarithm) of the SD along its ring (drawings; docs/uncertainty)
OFF_UM, ALONG_UM, ALONG_SPREAD = 0.45, 0.45, 0.5
#: waves of that error along the ring, each as high as its number is low; no border is nearer to
#: the centre than this, µm
OFF_WAVES, LEAST_UM = 6, 1.5
#: segments of the border on either side of a pixel's own direction that may be the nearest
BESIDE = 3


@dataclass(frozen=True)
class Lines:
    """N lines along cells' borders.

    Attributes
    ----------
    x, y : float64 (N,)
        Centres, level-0 pixels of the picture.
    radius : float64 (N, 48)
        Border, level-0 pixels; ray k at 2 pi k / 48 clockwise on screen.
    od : float64 (N, 48)
        Own part by ray, as `membrane_od` of a sharp slide; 0 where the line has a gap.
    """

    x: F64
    y: F64
    radius: F64
    od: F64

    def take(self, which: NDArray[np.bool_]) -> Lines:
        """Return some of the lines."""
        return Lines(self.x[which], self.y[which], self.radius[which], self.od[which])


def draw_lines(crest: F64, coverage: F64, seeds: NDArray[np.int64]) -> F64:
    """Return strengths along rings, (N, 48), OD.

    Parameters
    ----------
    crest : float64 (N,)
        Mean of the stained part, OD.
    coverage : float64 (N,)
        Share of the ring that is stained, in one to `PIECES` pieces that begin anywhere.
    seeds : int64 (N,)
        One a cell: its line depends on nothing else.
    """
    out = np.zeros((len(crest), RAYS))
    turn = np.arange(RAYS) * (2 * np.pi / RAYS)
    for i, seed in enumerate(seeds):
        rng = np.random.default_rng(abs(int(seed)))
        on = _pieces(max(1, round(coverage[i] * RAYS)), rng)
        phase, size = rng.uniform(0, 2 * np.pi, WAVES), rng.normal(0, 1, WAVES)
        wave = size @ np.sin(np.arange(1, WAVES + 1)[:, None] * turn + phase[:, None])
        rough = np.exp(UNEVEN * wave * np.sqrt(2 / WAVES))
        out[i, on] = crest[i] * (rough / rough[on].mean())[on]
    return out


def off_borders(border: F64, seeds: NDArray[np.int64], mpp: float) -> F64:
    """Return where the borders may lie that were read as ``border``, (N, 48), level-0 pixels.

    The border of an unstained cell is seen poorly, and a real line lies where the cell ends, not
    where it was read to end; a line laid on the reading would be found too easily.
    """
    turn = np.arange(RAYS) * (2 * np.pi / RAYS)
    number = np.arange(1, OFF_WAVES + 1)
    out = np.empty(border.shape)
    for i, seed in enumerate(seeds):
        rng = np.random.default_rng([abs(int(seed)), 1])
        mean, along = rng.normal(0, OFF_UM), ALONG_UM * np.exp(rng.normal(0, ALONG_SPREAD))
        phase, size = rng.uniform(0, 2 * np.pi, OFF_WAVES), rng.normal(0, 1, OFF_WAVES) / number
        wave = size @ np.sin(number[:, None] * turn + phase[:, None])
        off = mean + along * wave / np.sqrt(0.5 * (1 / number**2).sum())
        out[i] = np.maximum(border[i] + off / mpp, LEAST_UM / mpp)
    return out


def _pieces(stained: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which rays of a ring are stained, (48,): so many, in pieces parted by gaps."""
    bare = RAYS - stained
    count = min(int(rng.integers(1, PIECES + 1)), stained, max(bare, 1))
    start, lengths = int(rng.integers(RAYS)), []
    for total in (stained, bare):
        # every piece and every gap has half of an even share at least
        least = total // (2 * count)
        cuts = np.sort(rng.integers(0, total - least * count + 1, count - 1))
        lengths.append(np.diff([0, *cuts, total - least * count]) + least)
    on = np.repeat(np.tile([True, False], count), np.stack(lengths, axis=1).ravel())
    return np.roll(on, start)


def lay(rgb: U8, lines: Lines, dab: tuple[float, float, float], mpp: float, blur_um: float) -> U8:
    """Return the picture with the lines in it.

    Parameters
    ----------
    rgb : uint8 (H, W, 3)
        Level-0 pixels.
    lines : Lines
        Where, and how strong.
    dab : (float, float, float)
        The slide's DAB vector, of unit length.
    mpp : float
        µm per pixel.
    blur_um : float
        Spread by which the slide is softer than a sharp one, µm.

    Returns
    -------
    uint8 (H, W, 3)
        A copy; lines of neighbours add up in OD.
    """
    spread = float(np.hypot(SIGMA_UM, blur_um))
    od = np.zeros(rgb.shape[:2], np.float64)
    crest = np.ascontiguousarray(lines.od) * (SIGMA_UM / (READS * spread))
    _add_lines(
        np.asarray(lines.x, np.float64), np.asarray(lines.y, np.float64),
        np.ascontiguousarray(lines.radius, np.float64), crest, spread / mpp, od,
    )  # fmt: skip
    out = rgb.copy()
    _dim(out, od, np.asarray(dab, np.float64))
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _add_lines(xs, ys, radius, crest, sigma, od):  # type: ignore[no-untyped-def]
    height, width = od.shape
    px, py = np.empty(RAYS), np.empty(RAYS)
    for n in range(xs.size):
        x, y = xs[n], ys[n]
        most, least = 0.0, 1e9
        for k in range(RAYS):
            px[k], py[k] = radius[n, k] * COS[k], radius[n, k] * SIN[k]
            most, least = max(most, radius[n, k]), min(least, radius[n, k])
        reach = most + ENDS * sigma + 1.0
        # between two rays a border lies nearer to the centre than at either
        inner = max(0.99 * least - ENDS * sigma, 0.0)
        for j in range(max(0, int(y - reach)), min(height, int(y + reach) + 2)):
            for i in range(max(0, int(x - reach)), min(width, int(x + reach) + 2)):
                dx, dy = i - x, j - y
                away = dx * dx + dy * dy
                if away < inner * inner or away > reach * reach:
                    continue
                od[j, i] += _strength(dx, dy, px, py, crest[n], sigma)


@njit(cache=True, nogil=True, error_model="numpy")
def _strength(dx, dy, px, py, crest, sigma):  # type: ignore[no-untyped-def]
    """Return a line's OD at a point relative to its cell's centre: of its nearest place."""
    turn = int(np.floor(np.arctan2(dy, dx) * (RAYS / (2 * np.pi))))
    nearest, value = 1e18, 0.0
    for s in range(turn - BESIDE, turn + BESIDE + 1):
        a, b = s % RAYS, (s + 1) % RAYS
        ux, uy = px[b] - px[a], py[b] - py[a]
        along = ((dx - px[a]) * ux + (dy - py[a]) * uy) / (ux * ux + uy * uy + 1e-12)
        along = min(max(along, 0.0), 1.0)
        ex, ey = dx - px[a] - along * ux, dy - py[a] - along * uy
        far = ex * ex + ey * ey
        if far < nearest:
            nearest, value = far, crest[a] + along * (crest[b] - crest[a])
    if nearest > (ENDS * sigma) ** 2:
        return 0.0
    return value * np.exp(-0.5 * nearest / (sigma * sigma))


@njit(cache=True, nogil=True, error_model="numpy")
def _dim(rgb, od, dab):  # type: ignore[no-untyped-def]
    for j in range(od.shape[0]):
        for i in range(od.shape[1]):
            if od[j, i] > 0.0:
                for c in range(3):
                    light = rgb[j, i, c] * 10.0 ** (-od[j, i] * dab[c])
                    rgb[j, i, c] = np.uint8(light + 0.5)
