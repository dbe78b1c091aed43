"""Outlines as files give them, made into areas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

__all__ = ["EMPTY", "Drawn", "Left", "box_of", "ellipse_in", "number_of", "points_of", "polygon_of",
           "sound"]  # fmt: skip

#: coordinates beyond this are not level-0 pixels
FARTHEST_PX = 1e8
#: corners of the polygon that stands for an ellipse: its area is 0.01 % too small
ELLIPSE_CORNERS = 256
#: how an area without ground is called
EMPTY = "empty area"


@dataclass(frozen=True)
class Drawn:
    """One area as its file gives it.

    ``negative`` areas are left out whatever their class; ``role`` is what a result's own file says.
    """

    name: str
    classification: str
    geometry: BaseGeometry
    negative: bool = False
    role: str = ""


@dataclass(frozen=True)
class Left:
    """One object that is no area; ``what`` it is, and whether files of its kind always hold such.

    ``quoted`` is what the file calls it, where that is not one of the known words.
    """

    what: str
    usual: bool = False
    quoted: str = ""


def number_of(text: str | None) -> float:
    """Return a number of a file's text, its decimals behind a point or a comma.

    Raises
    ------
    ValueError
        Where it is none, or is not there.
    """
    if text is None:
        raise ValueError("a position lacks a coordinate")
    # some programs write as the country they run in; nobody groups the digits of a position
    return float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)


def points_of(ring: Any) -> NDArray[np.float64]:
    """Return the corners of a ring, (n, 2) level-0 px; empty for an empty ring.

    Raises
    ------
    ValueError
        For what is no position on a slide.
    """
    array = np.asarray([(p[0], p[1]) for p in ring if len(p)], dtype=np.float64).reshape(-1, 2)
    if not np.isfinite(array).all() or (array.size and np.abs(array).max() > FARTHEST_PX):
        raise ValueError("a coordinate is not a level-0 pixel")
    return array


def polygon_of(rings: Sequence[NDArray[np.float64]]) -> BaseGeometry | None:
    """Return an outline with its holes, closed; None where the outline encloses nothing."""
    closed = [r if len(r) and np.array_equal(r[0], r[-1]) else np.vstack([r, r[:1]]) for r in rings]
    if not closed or len(closed[0]) < 4:
        return None
    return shapely.Polygon(closed[0], [hole for hole in closed[1:] if len(hole) >= 4])


def box_of(points: NDArray[np.float64]) -> BaseGeometry | None:
    """Return the upright rectangle around some points; None where it has no ground."""
    if len(points) < 2 or (np.ptp(points, axis=0) == 0).any():
        return None
    return shapely.box(*points.min(axis=0), *points.max(axis=0))


def ellipse_in(points: NDArray[np.float64]) -> BaseGeometry | None:
    """Return the upright ellipse within the rectangle around some points."""
    if box_of(points) is None:
        return None
    low, high = points.min(axis=0), points.max(axis=0)
    angle = np.linspace(0.0, 2 * np.pi, ELLIPSE_CORNERS, endpoint=False)
    rim = np.column_stack([np.cos(angle), np.sin(angle)])
    return shapely.Polygon((low + high) / 2 + rim * (high - low) / 2)


def sound(geometry: BaseGeometry) -> tuple[BaseGeometry | None, bool]:
    """Return the polygonal part of a geometry, mended where it crosses itself, and whether."""
    mended = not bool(shapely.is_valid(geometry))
    whole = shapely.make_valid(geometry) if mended else geometry
    parts = [
        g
        for g in shapely.get_parts(whole, return_index=False)
        if g.geom_type in ("Polygon", "MultiPolygon") and g.area > 0
    ]
    if not parts:
        return None, mended
    return (parts[0] if len(parts) == 1 else shapely.union_all(parts)), mended
