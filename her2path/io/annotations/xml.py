"""XML of ASAP, Aperio ImageScope, HALO and NDP.view."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from her2path.core.errors import one_line
from her2path.io.annotations.ndpa import SlideCentre, parse_ndpa
from her2path.io.annotations.shapes import (
    EMPTY,
    Drawn,
    Left,
    box_of,
    ellipse_in,
    number_of,
    points_of,
    polygon_of,
)

__all__ = ["parse_xml"]

#: kinds of outline by the words and numbers of ASAP, ImageScope and HALO
_KINDS = {
    "": "polygon", "0": "polygon", "polygon": "polygon", "freehand": "polygon",
    "spline": "polygon", "1": "rectangle", "rectangle": "rectangle", "2": "ellipse",
    "ellipse": "ellipse", "circle": "ellipse", "3": "arrow", "arrow": "arrow", "4": "ruler",
    "ruler": "ruler", "measurement": "ruler", "line": "line", "dot": "point",
    "pointset": "point", "point": "point", "pin": "point",
}  # fmt: skip
_NO_GROUND = ("arrow", "ruler", "line", "point")
_TRUE = ("1", "true", "yes")


def parse_xml(text: str, centre: SlideCentre | None = None) -> Iterator[Drawn | Left]:
    """Yield every area, and every object that is none.

    Parameters
    ----------
    text : str
    centre : SlideCentre, optional
        Of the slide, for NDP.view alone.

    Raises
    ------
    ValueError
        For XML entities, and for a dialect that is not read.
    """
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        root = fromstring(text)
    except DefusedXmlException as exc:
        raise ValueError("it uses XML entities, which are refused") from exc
    for node in root.iter():
        node.tag = node.tag.rsplit("}", 1)[-1]
    if root.tag == "ASAP_Annotations":
        return _asap(root)
    if root.tag == "Annotations":
        return _asap(root) if next(root.iter("Coordinate"), None) is not None else _layers(root)
    if root.tag == "annotations" and next(root.iter("ndpviewstate"), None) is not None:
        return parse_ndpa(root, centre)
    raise ValueError(f"unknown XML: {one_line(root.tag, 60)!r}")


def _outline(kind: str, points: NDArray[np.float64], told: str) -> BaseGeometry | Left:
    """Return an outline by its kind; two points may stand for a rectangle or an ellipse."""
    if not kind:
        return Left("shape of another type", quoted=one_line(told, 40))
    if kind in _NO_GROUND:
        return Left(kind)
    few = len(np.unique(points, axis=0)) <= 4 if len(points) else True
    if kind == "ellipse" and few:
        made = ellipse_in(points)
    elif kind == "rectangle" and len(points) == 2:
        made = box_of(points)
    else:
        made = polygon_of([points])
    return Left(EMPTY) if made is None else made


def _kind(told: str) -> str:
    """Return the kind of outline; empty for one that is not known."""
    return _KINDS.get(told.strip().casefold(), "")


# -- ASAP ------------------------------------------------------------------------------------------


def _asap(root: Element) -> Iterator[Drawn | Left]:
    groups = {g.get("Name") or "": g.get("PartOfGroup") or "" for g in root.iter("Group")}
    for node in root.iter("Annotation"):
        told = node.get("Type") or ""
        corners = sorted(node.iter("Coordinate"), key=lambda c: int(float(c.get("Order", "0"))))
        points = points_of([(_at(c, "X"), _at(c, "Y")) for c in corners])
        made = _outline(_kind(told), points, told)
        if isinstance(made, Left):
            yield made
            continue
        classification = one_line(_group_path(node.get("PartOfGroup") or "", groups), 100)
        yield Drawn(one_line(node.get("Name") or "", 100), classification, made)


def _group_path(group: str, groups: dict[str, str]) -> str:
    """Return a group with those that it is part of, the widest first, as QuPath derives classes."""
    path: list[str] = []
    while group and group != "None" and group not in path:
        path.insert(0, group)
        group = groups.get(group, "")
    return ": ".join(path)


# -- ImageScope and HALO ---------------------------------------------------------------------------


def _layers(root: Element) -> Iterator[Drawn | Left]:
    for layer in root.iter("Annotation"):
        yield from _layer(layer, one_line(_layer_name(layer), 100))


def _layer_name(layer: Element) -> str:
    """Return a layer's name; ImageScope also keeps a description among its attributes."""
    told = [a.get("Value") or "" for part in layer.findall("Attributes")
            for a in part.findall("Attribute") if a.get("Name") == "Description"]  # fmt: skip
    return layer.get("Name") or next(filter(None, told), "")


def _layer(layer: Element, classification: str) -> Iterator[Drawn | Left]:
    outlines: list[tuple[str, BaseGeometry]] = []
    holes: list[tuple[str, BaseGeometry]] = []
    for region in layer.iter("Region"):
        told = region.get("Type") or ""
        corners = [v for v in region.iter() if v.tag in ("Vertex", "V")]
        points = points_of([(_at(v, "X"), _at(v, "Y")) for v in corners])
        made = _outline(_kind(told), points, told)
        text = one_line(region.get("Text") or "", 100)
        negative = (region.get("NegativeROA") or "").strip().casefold() in _TRUE
        if isinstance(made, Left):
            yield made
        else:
            (holes if negative else outlines).append((text, made))
    if not outlines:  # nothing here to cut: it is left out of whatever the other layers mark
        yield from (Drawn(text, classification, hole, negative=True) for text, hole in holes)
        return
    cut = shapely.union_all([shapely.make_valid(h) for _, h in holes]) if holes else None
    for text, outline in outlines:
        # without holes it stays as drawn, so that mending it is noticed
        whole = outline if cut is None else shapely.make_valid(outline).difference(cut)
        yield Drawn(text, classification, whole)


def _at(vertex: Element, axis: str) -> float:
    return number_of(vertex.get(axis) or vertex.get(axis.lower()))
