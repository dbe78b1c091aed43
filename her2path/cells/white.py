"""The white point: grey levels of empty glass, read from pixels.

Empty glass is bright, flat and nearly colourless. Where none is in view the brightest pixels
stand in for it, and the caller is told.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["White", "glass_level", "optical_density"]

#: the white point where there is nothing to read it from
DEFAULT = (245.0, 245.0, 245.0)
#: darker than this is not glass in bright field (grey level)
DARKEST = 150.0
#: blocks of this many pixels a side are judged for flatness; half of it on small images
BLOCK = 8
#: fewer pixels than this in all are a small image
SMALL_PIXELS = 250_000
#: least number of glass blocks
LEAST_GLASS_BLOCKS = 24
#: empty glass varies by less than this within a block (grey levels); 0.2 to 1.1 on scans at hand,
#: 1.5 to 8 in fields that hold none
GLASS_ROUGHNESS = 1.25
#: rougher ground is glass of a noisy scan only where hardly anything is brighter (grey levels)
GLASS_BELOW_BRIGHTEST = 4.0
#: share of the blocks that counts as the brightest
BRIGHTEST = 0.002


@dataclass(frozen=True)
class White:
    """A white point and how it was found."""

    #: grey levels (R, G, B)
    level: tuple[float, float, float]
    #: read from empty glass (True) or from the brightest tissue (False)
    glass: bool
    #: median grey level of everything seen
    median: float
    #: blocks of glass that it rests on
    blocks: int


def optical_density(
    rgb: npt.NDArray[np.uint8], white: tuple[float, float, float]
) -> npt.NDArray[np.float32]:
    """Return optical density, base 10, per channel: (..., 3) uint8 to (..., 3) float32."""
    table = np.log10(np.array(white)[:, None] / np.maximum(np.arange(256.0), 1.0)[None, :])
    lut = table.astype(np.float32)
    return np.stack([lut[c][rgb[..., c]] for c in range(3)], axis=-1)


def _blocks(tile: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.float64]:
    """Return mean colour and roughness of every square block: (n, 4)."""
    rows, cols = tile.shape[0] // side, tile.shape[1] // side
    if rows == 0 or cols == 0:
        return np.empty((0, 4))
    cut = tile[: rows * side, : cols * side].reshape(rows, side, cols, side, 3)
    # one colour at a time: long runs, where numpy is quick; sums of whole numbers are exact
    colours = [cut[..., c].swapaxes(1, 2).reshape(-1, side * side) for c in range(3)]
    mean = [np.add.reduce(v, axis=1, dtype=np.uint32) / float(side * side) for v in colours]
    r, g, b = (v.astype(np.float64) for v in colours)
    rough = ((r + g + b) / 3.0).std(axis=1)
    least = np.minimum(np.minimum(*colours[:2]), colours[2]).min(axis=1)
    rough[(least >= 253) & (rough < 0.3)] = -1.0  # white throughout: never scanned, or clipped
    return np.column_stack([*mean, rough])


def _peak(grey: npt.NDArray[np.float64]) -> float:
    """Return the brightest well-filled mode of grey levels (half-level bins, smoothed)."""
    bins = np.bincount(np.clip(np.round(grey * 2), 0, 511).astype(np.int64), minlength=512)
    smooth = np.convolve(bins, [1, 2, 3, 4, 3, 2, 1], mode="same")
    top = smooth.max()
    for level in range(510, 0, -1):
        here = smooth[level]
        if here >= 0.25 * top and here >= smooth[level - 1] and here >= smooth[level + 1]:
            return level / 2.0
    return float(np.argmax(smooth)) / 2.0


def glass_level(tiles: list[npt.NDArray[np.uint8]]) -> White:
    """Find the white point in a sample of tiles.

    Parameters
    ----------
    tiles : list of uint8 (h, w, 3)
        Tissue with glass in its gaps and around it; 0.3 to 16 µm per pixel.

    Returns
    -------
    White
        From flat, bright, nearly colourless blocks; from the brightest pixels where there are
        too few of those; `DEFAULT` where all is dark.
    """
    side = BLOCK // 2 if sum(t.shape[0] * t.shape[1] for t in tiles) < SMALL_PIXELS else BLOCK
    parts = [_blocks(t, side) for t in tiles]
    data = np.concatenate(parts) if parts else np.empty((0, 4))
    if not len(data):
        return White(DEFAULT, False, 0.0, 0)
    colour, rough = data[:, :3], data[:, 3]
    grey = colour.mean(axis=1)
    median = float(np.median(grey))
    scanned = rough >= 0
    flat = scanned & (grey >= DARKEST) & (np.ptp(colour, axis=1) <= 30.0)
    if flat.sum() >= LEAST_GLASS_BLOCKS:
        # glass is as smooth as the scanner's noise allows; stroma is rougher
        floor = float(np.quantile(rough[flat], 0.02))
        smooth = flat & (rough <= max(1.0, 2.0 * floor))
        bright = smooth & (grey >= float(np.quantile(grey[flat], 0.995)) - 12.0)
        if bright.sum() >= LEAST_GLASS_BLOCKS:
            near = bright & (np.abs(grey - _peak(grey[bright])) <= 2.5)
            if near.sum() >= LEAST_GLASS_BLOCKS:
                level = colour[near].mean(axis=0)
                # in a field without glass the smoothest stroma would pass for it
                brightest = float(np.quantile(grey[scanned], 1.0 - BRIGHTEST))
                if floor <= GLASS_ROUGHNESS or level.mean() >= brightest - GLASS_BELOW_BRIGHTEST:
                    return White(_triple(level), True, median, int(near.sum()))
    return _without_glass(colour, grey, rough, median)


def _without_glass(
    colour: npt.NDArray[np.float64],
    grey: npt.NDArray[np.float64],
    rough: npt.NDArray[np.float64],
    median: float,
) -> White:
    """Return the stand-in: clipped white where much is clipped, else the brightest blocks."""
    if (rough < 0).sum() >= LEAST_GLASS_BLOCKS:
        return White((255.0, 255.0, 255.0), True, median, int((rough < 0).sum()))
    top = grey >= np.quantile(grey, 1.0 - BRIGHTEST)
    level = colour[top].mean(axis=0)
    if level.min() < DARKEST:
        return White(DEFAULT, False, median, 0)
    return White(_triple(level), False, median, 0)


def _triple(level: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Return three grey levels, at most 255, rounded to 0.01."""
    r, g, b = (round(float(min(255.0, v)), 2) for v in level)
    return r, g, b
