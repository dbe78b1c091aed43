"""NDPA, the XML of Hamamatsu's NDP.view: nanometres from the centre of the glass slide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from her2path.core.errors import one_line
from her2path.io.annotations.shapes import (
    EMPTY,
    Drawn,
    Left,
    ellipse_in,
    number_of,
    points_of,
    polygon_of,
)

__all__ = ["SlideCentre", "parse_ndpa"]

_NO_GROUND = {"linearmeasure": "ruler", "pointer": "arrow", "arrow": "arrow", "pin": "point",
              "icon": "point", "text": "point"}  # fmt: skip
#: properties that say how far the scan's centre lies from the glass slide's, nm
_OFFSETS = ("hamamatsu.XOffsetFromSlideCentre", "hamamatsu.YOffsetFromSlideCentre")
_OPEN = ("0", "false")


@dataclass(frozen=True)
class SlideCentre:
    """Where the centre of the glass slide lies on the scan.

    A point ``p`` nm from that centre is pixel ``size / 2 + (p - offset) / (1000 mpp)`` of level 0,
    with the pixel size that the file states, whatever else is measured with.

    Attributes
    ----------
    mpp : (float, float)
        The file's own pixel size, µm.
    size : (int, int)
        Width and height of level 0, px.
    offset_nm : (float, float)
        From the glass slide's centre to the scan's.
    """

    mpp: tuple[float, float]
    size: tuple[int, int]
    offset_nm: tuple[float, float]

    @classmethod
    def of(cls, properties: Mapping[str, str], size: tuple[int, int]) -> SlideCentre | None:
        """Return it from OpenSlide's properties; None where these do not tell."""
        try:
            mpp_x, mpp_y, x, y = (
                float(properties[k]) for k in ("openslide.mpp-x", "openslide.mpp-y", *_OFFSETS)
            )
        except (KeyError, ValueError):
            return None
        sound = np.isfinite([mpp_x, mpp_y, x, y]).all() and mpp_x > 0 and mpp_y > 0
        return cls((mpp_x, mpp_y), size, (x, y)) if sound else None

    def to_px(self, points: list[tuple[float, float]]) -> NDArray[np.float64]:
        """Return points, nm from the glass slide's centre, as (n, 2) level-0 px.

        Raises
        ------
        ValueError
            For what is no position on a slide.
        """
        away = np.asarray(points, np.float64).reshape(-1, 2) - self.offset_nm
        return points_of(np.asarray(self.size) / 2 + away / (1000 * np.asarray(self.mpp)))


def parse_ndpa(root: Element, centre: SlideCentre | None) -> Iterator[Drawn | Left]:
    """Yield every area, and every object that is none.

    Parameters
    ----------
    root : Element
        ``<annotations>``.
    centre : SlideCentre or None
        Of the slide that they belong to.

    Raises
    ------
    ValueError
        Where the slide does not tell its centre, or positions are not in nm.
    """
    for view in root.iter("ndpviewstate"):
        node = view.find("annotation")
        if node is None:
            yield Left("saved view")
            continue
        unit = (view.findtext("coordformat") or "nanometers").strip().casefold()
        if unit not in ("nanometers", "nanometres", "nm"):
            raise ValueError(f"NDP.view positions in {one_line(unit, 40)!r}, not in nanometers")
        if centre is None:
            raise ValueError("NDP.view counts in nm from the centre of a Hamamatsu slide, and this "
                             "slide does not tell where that lies")  # fmt: skip
        made = _outline(node, centre)
        if isinstance(made, Left):
            yield made
            continue
        title, details = (one_line(view.findtext(k) or "", 100) for k in ("title", "details"))
        yield Drawn(details or title, title, made)


def _outline(node: Element, centre: SlideCentre) -> BaseGeometry | Left:
    kind = (node.get("type") or "").strip().casefold()
    if kind in _NO_GROUND:
        return Left(_NO_GROUND[kind])
    made: BaseGeometry | None
    if kind == "circle":
        x, y, radius = (number_of(node.findtext(k)) for k in ("x", "y", "radius"))
        made = ellipse_in(centre.to_px([(x - radius, y - radius), (x + radius, y + radius)]))
    elif kind == "freehand":  # rectangles too
        if (node.findtext("closed") or "").strip().casefold() in _OPEN:
            return Left("line")
        corners = [(number_of(p.findtext("x")), number_of(p.findtext("y")))
                   for p in node.iter("point")]  # fmt: skip
        made = polygon_of([centre.to_px(corners)])
    else:
        return Left("shape of another type", quoted=one_line(kind, 40))
    return Left(EMPTY) if made is None else made
