"""Reading annotation files, bounded and with one clear line for whatever is wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from her2path.annotations.model import Annotation, Annotations, role_of
from her2path.errors import AnnotationError, one_line
from her2path.settings import TumourSettings

__all__ = ["MAX_BYTES", "MAX_POINTS", "read_annotations"]

#: a larger file is refused before it is parsed
MAX_BYTES = 200 << 20
#: more points than this in one file are refused
MAX_POINTS = 20_000_000
#: nesting of a GeoJSON that is still read
MAX_DEPTH = 64
#: what QuPath exports beside annotations
NOT_AREAS = ("detection", "cell", "tile", "tma_core", "root")
#: coordinates beyond this are not level-0 pixels
FARTHEST_PX = 1e8

Raw = tuple[str, str, BaseGeometry]


def read_annotations(
    path: str | Path, settings: TumourSettings, offset_px: tuple[int, int] = (0, 0)
) -> Annotations:
    """Read GeoJSON, ASAP XML or ImageScope XML.

    Parameters
    ----------
    path : path
        The file; its content, not its name, tells the format.
    settings : TumourSettings
        Which classes are tumour, and which are left out.
    offset_px : (int, int)
        Added to every point, for files drawn on a cropped slide.

    Raises
    ------
    AnnotationError
        Unreadable, too large, malformed, or without a single area.
    """
    data = _load(Path(path))
    parse = _parse_xml if data.lstrip()[:1] == b"<" else _parse_geojson
    mended = 0
    items = []
    for number, (name, classification, geometry) in enumerate(_guarded(parse, data, path), 1):
        sound, was_mended = _sound(geometry)
        mended += was_mended
        if sound is None:
            continue
        if any(offset_px):
            sound = translate(sound, *offset_px)
        role = role_of(classification, settings)
        items.append(Annotation(name or f"area {number}", classification, sound, role))
    if not items:
        raise AnnotationError(f"{path} holds no area", "Draw polygons and export them again")
    return Annotations(tuple(items), hashlib.sha256(data).hexdigest(), mended)


def _load(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise AnnotationError(
                f"{path} is {size >> 20} MiB, and {MAX_BYTES >> 20} are read at most",
                "Export only the areas, without cells",
            )
        data = path.read_bytes()
    except OSError as exc:
        raise AnnotationError(f"cannot read {path} ({exc.strerror})", "Check the path") from exc
    if not data.strip():
        raise AnnotationError(f"{path} is empty", "Export the annotations again")
    return data


def _guarded(
    parse: Callable[[bytes], Iterator[Raw]], data: bytes, path: str | Path
) -> Iterator[Raw]:
    try:
        yield from parse(data)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError,
            ParseError, shapely.errors.ShapelyError) as exc:
        raise AnnotationError(
            f"{path} is not valid annotations ({one_line(exc, 120)})",
            "Export GeoJSON from QuPath, or XML from ASAP or ImageScope",
        ) from exc


# -- GeoJSON ---------------------------------------------------------------------------------------


def _parse_geojson(data: bytes) -> Iterator[Raw]:
    if data.count(b"[") > 4 * MAX_POINTS:
        raise ValueError("too many points")
    tree = json.loads(data.decode("utf-8-sig"))
    for feature in _features(tree, 0):
        whole = feature.get("geometry") if feature.get("type") == "Feature" else feature
        properties = feature.get("properties") or {}
        if properties.get("objectType") in NOT_AREAS:
            continue
        for geometry in _features(whole or [], 0):
            if geometry.get("type") in ("Polygon", "MultiPolygon"):
                yield (
                    one_line(properties.get("name") or "", 100),
                    one_line(_class_name(properties), 100),
                    _polygons(geometry),
                )


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


def _class_name(properties: dict[str, Any]) -> str:
    found = properties.get("classification") or properties.get("class") or ""
    if isinstance(found, dict):
        names = found.get("names") or []
        found = found.get("name") or (names[0] if names else "")
    return str(found)


def _polygons(geometry: dict[str, Any]) -> BaseGeometry:
    parts = geometry["coordinates"]
    if geometry["type"] == "Polygon":
        parts = [parts]
    made = [_polygon(rings) for rings in parts]
    return made[0] if len(made) == 1 else shapely.multipolygons(made)


def _polygon(rings: list[Any]) -> BaseGeometry:
    points = [_points(ring) for ring in rings]
    return shapely.Polygon(points[0], [hole for hole in points[1:] if len(hole) >= 4])


def _points(ring: Any) -> NDArray[np.float64]:
    array = np.asarray([(p[0], p[1]) for p in ring], dtype=np.float64)
    if array.ndim != 2 or len(array) < 3:
        raise ValueError("a ring has fewer than three points")
    if not np.isfinite(array).all() or np.abs(array).max() > FARTHEST_PX:
        raise ValueError("a coordinate is not a level-0 pixel")
    if not np.array_equal(array[0], array[-1]):
        array = np.vstack([array, array[:1]])
    return array


# -- XML -------------------------------------------------------------------------------------------


def _parse_xml(data: bytes) -> Iterator[Raw]:
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        root = fromstring(data)
    except DefusedXmlException as exc:
        raise ValueError("it uses XML entities, which are refused") from exc
    if root.tag == "ASAP_Annotations":
        yield from _asap(root)
    elif root.tag == "Annotations":
        yield from _imagescope(root)
    else:
        raise ValueError(f"unknown XML: {root.tag}")


def _asap(root: Element) -> Iterator[Raw]:
    for node in root.iter("Annotation"):
        if node.get("Type") not in ("Polygon", "Rectangle", "Spline"):
            continue
        corners = sorted(node.iter("Coordinate"), key=lambda c: int(float(c.get("Order", "0"))))
        ring = [(float(c.attrib["X"]), float(c.attrib["Y"])) for c in corners]
        group = node.get("PartOfGroup") or ""
        classification = "" if group == "None" else one_line(group, 100)
        yield one_line(node.get("Name") or "", 100), classification, _polygon([ring])


def _imagescope(root: Element) -> Iterator[Raw]:
    for layer in root.iter("Annotation"):
        classification = one_line(layer.get("Name") or "", 100)
        outlines: list[tuple[str, BaseGeometry]] = []
        holes: list[BaseGeometry] = []
        for region in layer.iter("Region"):
            ring = [(float(v.attrib["X"]), float(v.attrib["Y"])) for v in region.iter("Vertex")]
            if len(ring) < 3:
                continue
            if region.get("NegativeROA") == "1":
                holes.append(shapely.make_valid(_polygon([ring])))
            else:
                outlines.append((region.get("Text") or "", _polygon([ring])))
        cut = shapely.union_all(holes) if holes else None
        for text, outline in outlines:
            # without holes it stays as drawn, so that mending it is noticed
            whole = outline if cut is None else shapely.make_valid(outline).difference(cut)
            yield one_line(text, 100), classification, whole


# -- soundness -------------------------------------------------------------------------------------


def _sound(geometry: BaseGeometry) -> tuple[BaseGeometry | None, bool]:
    """Return the polygonal part of a geometry, mended where it crosses itself."""
    mended = not bool(shapely.is_valid(geometry))
    whole = shapely.make_valid(geometry) if mended else geometry
    parts = [g for g in shapely.get_parts(whole, return_index=False)
             if g.geom_type in ("Polygon", "MultiPolygon") and g.area > 0]
    if not parts:
        return None, mended
    return (parts[0] if len(parts) == 1 else shapely.union_all(parts)), mended
