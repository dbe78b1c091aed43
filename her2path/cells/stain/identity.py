"""Is this hematoxylin with DAB in bright field? Asked before anything is measured.

Colours are judged by the direction of optical density. Hematoxylin takes red and green about
alike and blue less, DAB takes blue most and red least; every mixture lies between. Eosin and other
red dyes take green far more than both red and blue, inks and photographs leave the cone elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from her2path.cells.stain.estimation import reduce_tiles, stained_pixels
from her2path.cells.stain.model import StainModel

__all__ = ["is_h_dab"]

Floats = npt.NDArray[np.float64]

#: median grey level below which a background is dark
DARK_MEDIAN = 60.0
#: stained pixels needed to judge colours
LEAST_STAINED_PIXELS = 300
#: share of the stain outside the cone of H and DAB that is refused
MOST_FOREIGN = 0.5
#: pink: green above the larger of red and blue by this part of the OD
PINK = 0.24
MOST_PINK = 0.35
#: a grey image: the colour's spread (95 %) stays below this part of the OD
GREY = 0.06


@dataclass(frozen=True)
class _Shares:
    """Shares of the stain's mass (0..1) by colour."""

    pink: float
    foreign: float
    colour: float
    stain: float


def is_h_dab(samples: list[npt.NDArray[np.uint8]], model: StainModel) -> tuple[bool, str]:
    """Tell whether a slide is hematoxylin and DAB.

    Parameters
    ----------
    samples : list of uint8 (h, w, 3)
        Level-0 tiles from the tissue.
    model : StainModel
        The slide's white point and vectors, estimated from the same tiles.

    Returns
    -------
    bool
        False where colours cannot be hematoxylin and DAB. Hematoxylin alone, DAB throughout and
        very pale slides pass: too little stain to judge by counts as possible.
    str
        Why, in words for people; empty where True.
    """
    tiles = reduce_tiles(samples, model.evidence.get("mpp", 0.25))
    if not tiles:
        return True, ""
    median = float(np.median(np.concatenate([t[::4, ::4].mean(axis=2).ravel() for t in tiles])))
    if median < DARK_MEDIAN and not model.evidence.get("glass_blocks", 0.0):
        return False, "the background is dark, as in fluorescence"
    od, _ = stained_pixels(tiles, model.white_point)
    if len(od) < LEAST_STAINED_PIXELS:
        return True, ""
    shares = _shares(od)
    if shares.colour < GREY:
        return False, "the image has no colour"
    if shares.pink > MOST_PINK:
        return False, "the colours are those of eosin or another red dye"
    if shares.foreign > MOST_FOREIGN:
        return False, "the colours are not those of hematoxylin and DAB"
    return True, ""


def _shares(od: Floats) -> _Shares:
    """Measure how much of the stain has which colour, each pixel weighted by its OD."""
    norm = np.linalg.norm(od, axis=1)
    weight = np.minimum(norm, 0.8)
    r, g, b = (od / norm[:, None]).T
    pink = g - np.maximum(r, b) > PINK
    # green or yellow-green ink, cyan, pure yellow: outside what H, DAB and their mixtures can be
    green = (g < r - 0.12) & (g < b - 0.12)
    cyan = r > np.maximum(g, b) + 0.30
    yellow = (b > 0.92) | (r < 0.05)
    foreign = pink | green | cyan | yellow
    total = float(weight.sum())
    spread = np.quantile(np.abs(r - b), 0.95)
    return _Shares(
        pink=float(weight[pink].sum()) / total,
        foreign=float(weight[foreign].sum()) / total,
        colour=float(spread),
        stain=float(norm.mean()),
    )
