"""GeoJSON: QuPath of every version, and what others write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from her2path.core.errors import one_line
from her2path.io.annotations.shapes import (
    EMPTY,
    Drawn,
    Left,
    ellipse_in,
    points_of,
    polygon_of,
)

__all__ = ["parse_geojson"]

#: what `type` and the like may say of an area that is no class
_SHAPES = ("annotation", "feature", "polygon", "multipolygon", "rectangle", "ellipse", "circle",
           "freehand", "brush", "region", "roi")  # fmt: skip
#: nesting that is still read
MAX_DEPTH = 64
#: what QuPath exports beside annotations
_NO_AREAS = {"cell": "cell", "detection": "detection", "tile": "tile", "tmacore": "TMA core",
             "root": "root object"}  # fmt: skip
#: geometries that enclose nothing
_NO_GROUND = {"Point": "point", "MultiPoint": "point", "LineString": "line",
              "MultiLineString": "line"}  # fmt: skip
#: QuPath 0.2 told the kind of an object by its id
_OLD_ID = re.compile(r"(Path[A-Z][A-Za-z]*|TMACore)Object")
#: properties that programs keep an area's class in, capitals and ``_`` apart
_CLASS_KEYS = ("classification", "class", "classname", "pathclass", "label", "labels", "group",
               "category", "annotationclass", "annotationtype", "regiontype", "tissuetype",
               "tissue", "type", "term", "terms")  # fmt: skip


def parse_geojson(text: str) -> Iterator[Drawn | Left]:
    """Yield every area, and every object that is none."""
    for feature in _features(json.loads(text), 0):
        properties = feature.get("properties") or {}
        kind = _object_type(feature, properties)
        if kind is not None:
            yield kind
            continue
        whole = feature.get("geometry") if feature.get("type") == "Feature" else feature
        name = one_line(properties.get("name") or "", 100)
        classification = one_line(_class_name(properties), 100)
        role = str(properties.get("role") or "")
        found = False
        for geometry in _features(whole or [], 0):
            found = True
            area = _area(geometry)
            made = area if isinstance(area, Left) else Drawn(name, classification, area, role=role)
            yield made
        if not found:
            yield Left(EMPTY)


def _features(node: Any, depth: int) -> Iterator[dict[str, Any]]:
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(node, list):
        for child in node:
            yield from _features(child, depth + 1)
    elif isinstance(node, dict):
        if isinstance(node.get("features"), list):
            yield from _features(node["features"], depth + 1)
        elif isinstance(node.get("geometries"), list):
            yield from _features(node["geometries"], depth + 1)
        else:
            yield node
    else:
        raise ValueError("an entry is not a feature")


def _object_type(feature: dict[str, Any], properties: dict[str, Any]) -> Left | None:
    """Return what an object is that is no annotation: QuPath 0.4 and later, 0.3, 0.2."""
    told = properties.get("objectType") or properties.get("object_type")
    told = told or feature.get("objectType") or feature.get("object_type")
    old = feature.get("id")
    if not told and isinstance(old, str) and _OLD_ID.fullmatch(old):
        told = old
    if not told and feature.get("nucleusGeometry") is not None:
        told = "cell"
    word = re.sub(r"[^a-z]", "", str(told or "annotation").casefold())
    word = word.removeprefix("path").removesuffix("object")
    if word in ("annotation", ""):
        return None
    if word in _NO_AREAS:
        return Left(_NO_AREAS[word], usual=True)
    return Left("object of another type", quoted=one_line(told, 40))


def _class_name(properties: dict[str, Any]) -> str:
    told = {re.sub(r"[\W_]", "", str(k)).casefold(): v for k, v in properties.items()
            if v and str(v).casefold() not in _SHAPES}  # fmt: skip
    found: Any = next((told[k] for k in _CLASS_KEYS if k in told), "")
    if isinstance(found, dict):
        found = next((found[k] for k in ("name", "names", "value", "label") if found.get(k)), "")
    if isinstance(found, list):
        found = ": ".join(str(part) for part in found)
    return str(found)


def _area(geometry: dict[str, Any]) -> BaseGeometry | Left:
    kind = geometry.get("type")
    if kind in _NO_GROUND:
        return Left(_NO_GROUND[str(kind)])
    if kind not in ("Polygon", "MultiPolygon"):
        return Left("geometry of another type", quoted=one_line(kind, 40))
    parts = geometry.get("coordinates") or []
    if kind == "Polygon":
        parts = [parts]
    made = [m for m in (_part(rings, geometry) for rings in parts) if m is not None]
    if not made:
        return Left(EMPTY)
    return made[0] if len(made) == 1 else shapely.multipolygons(made)


def _part(rings: list[Any], geometry: dict[str, Any]) -> BaseGeometry | None:
    points = [points_of(ring) for ring in rings]
    # as QuPath reads it; an ellipse that is written out as a polygon stays as drawn
    if geometry.get("isEllipse") is True and points and 2 <= len(points[0]) <= 5:
        return ellipse_in(points[0])
    return polygon_of(points)
