"""How far around a cell its values depend on pixels, and on other cells, stage by stage.

Stages that follow each other add up; stages that each read the pixels around the same centre do
not. No setting makes any of these larger: the nets' inputs are fixed in µm, ``nuclei.sensitivity``
only moves a threshold, and borders end at `RADIUS_UM`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from her2path.cells.membrane import _lines, attribution
from her2path.cells.reading import doubles, finder, inputs
from her2path.core.geometry import FIXED

__all__ = ["Stage", "finding", "measuring", "sharing", "total_um"]


class Stage(NamedTuple):
    """One step on the way to a cell's values, and how far it looks, µm."""

    name: str
    reach_um: float


def total_um(stages: tuple[Stage, ...]) -> float:
    """Return how far stages that follow each other look together, µm."""
    return sum(s.reach_um for s in stages)


def finding(mpp_a: float) -> tuple[Stage, ...]:
    """Return the stages that find a nucleus, from the pixels on.

    Parameters
    ----------
    mpp_a : float
        µm per analysis pixel.
    """
    disc = math.ceil(finder.APART_UM / inputs.GRID_UM)
    return (
        Stage("two samples a grid point, bilinear", inputs.SPREAD_UM + mpp_a),
        Stage("the finder's net", finder.MARGIN * inputs.GRID_UM),
        Stage("a maximum in its disc", disc * inputs.GRID_UM),
        Stage("kinds on every second grid point", inputs.GRID_UM),
        Stage("the top of a parabola, rounded", 0.5 * inputs.GRID_UM + 0.5 * mpp_a / FIXED),
    )


def measuring(mpp_a: float) -> tuple[Stage, ...]:
    """Return the stages that measure a cell's line around its centre.

    Parameters
    ----------
    mpp_a : float
        µm per analysis pixel; a level-0 pixel is no larger.
    """
    return (
        Stage("the border", inputs.RADIUS_UM),
        Stage("samples across the line", _lines.HALF * _lines.STEP_UM),
        Stage("a bilinear sample", mpp_a),
    )


def sharing() -> tuple[Stage, ...]:
    """Return the stages of pass 2, from the raw cells on."""
    return (
        Stage("second finds of a nucleus are left out", doubles.REACH_UM),
        Stage("rounds in which strengths settle", attribution.ROUNDS * attribution.LINK_UM),
        Stage("shares of the lines", attribution.LINK_UM),
    )
