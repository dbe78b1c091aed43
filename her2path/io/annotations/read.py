"""Reading annotation files, bounded and with one clear line for whatever is wrong."""

from __future__ import annotations

import codecs
import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import ParseError

import shapely
from shapely.affinity import translate

from her2path.core.errors import AnnotationError, one_line
from her2path.core.settings import TumourSettings
from her2path.io.annotations.classes import meaning, role_of
from her2path.io.annotations.geojson import parse_geojson
from her2path.io.annotations.model import Annotation, Annotations
from her2path.io.annotations.ndpa import SlideCentre
from her2path.io.annotations.shapes import EMPTY, Drawn, Left, sound
from her2path.io.annotations.xml import parse_xml

__all__ = ["MAX_BYTES", "MAX_POINTS", "SUFFIXES", "areas_of_text", "read_annotations",
           "read_areas"]  # fmt: skip

#: a larger file is refused before it is parsed
MAX_BYTES = 200 << 20
#: more points than this in one file are refused
MAX_POINTS = 20_000_000
#: suffixes of files that hold annotations; of the last ones only to say that they are not read
SUFFIXES = (".geojson", ".json", ".xml", ".annotations", ".ndpa", ".geojson.gz", ".geojson.zip")
#: byte-order marks, the longer first: UTF-32 begins as UTF-16 does
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"), (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
#: how compressed files begin
_PACKED = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ")
_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_VALID = "Export GeoJSON from QuPath, or XML from ASAP, ImageScope, HALO or NDP.view"
_ROLES = ("tumour", "excluded", "other")


def read_annotations(
    path: str | Path,
    settings: TumourSettings,
    offset_px: tuple[int, int] = (0, 0),
    stored: bool = False,
    centre: SlideCentre | None = None,
) -> Annotations:
    """Read GeoJSON, or XML of ASAP, ImageScope, HALO or NDP.view; see ``docs/annotations.md``.

    Parameters
    ----------
    path : path
        The file; its content, not its name, tells the format.
    settings : TumourSettings
        Which classes are tumour, and which are left out.
    offset_px : (int, int)
        Added to every point, for files drawn on a cropped slide.
    stored : bool
        Whether it is a result's own ``annotations.geojson``, which tells what each area means.
    centre : SlideCentre, optional
        Of a Hamamatsu slide; without it NDP.view's files are refused.

    Raises
    ------
    AnnotationError
        Unreadable, too large, malformed, or without a single area.
    """
    data = _load(Path(path))
    left: Counter[Left] = Counter()
    items: list[Annotation] = []
    mended = number = 0
    for drawn in _guarded(data, path, centre):
        if isinstance(drawn, Left):
            left[drawn] += 1
            continue
        number += 1
        area, was_mended = sound(drawn.geometry)
        mended += was_mended
        if area is None:
            left[Left(EMPTY)] += 1
            continue
        if any(offset_px):
            area = translate(area, *offset_px)
        classification = _class_of(drawn, settings)
        role = "excluded" if drawn.negative else role_of(classification, settings)
        if stored and drawn.role in _ROLES:
            role = drawn.role
        items.append(Annotation(drawn.name or f"area {number}", classification, area, role))
    if not items:
        held = f", but {_listed(left)}" if left else ""
        raise AnnotationError(f"{path} holds no area{held}", f"Draw polygons. {_VALID}")
    return Annotations(tuple(items), hashlib.sha256(data).hexdigest(), mended, _sorted(left))


def read_areas(path: str | Path, settings: TumourSettings) -> Annotations | None:
    """Read the areas of a file that may hold none, as corrections of cells alone; then None.

    Raises
    ------
    AnnotationError
        Unreadable, too large or malformed.
    """
    drawn = [d for d in _guarded(_load(Path(path)), path) if isinstance(d, Drawn)]
    return read_annotations(path, settings) if drawn else None


def areas_of_text(text: str, settings: TumourSettings) -> tuple[Annotation, ...]:
    """Return the areas of a GeoJSON text, level-0 px.

    Raises
    ------
    AnnotationError
        For what is no GeoJSON, or holds no area.
    """
    items = []
    for drawn in _guarded(text.encode("utf-8", "replace"), "the file"):
        if isinstance(drawn, Left):
            continue
        area, _ = sound(drawn.geometry)
        if area is not None:
            role = "excluded" if drawn.negative else role_of(_class_of(drawn, settings), settings)
            items.append(Annotation(drawn.name, drawn.classification, area, role))
    if not items:
        raise AnnotationError("the file holds no area", "Draw polygons and export them again")
    return tuple(items)


def _class_of(drawn: Drawn, settings: TumourSettings) -> str:
    """Return an area's class; its name where that alone is one that is known."""
    if meaning(drawn.classification, settings) is None and meaning(drawn.name, settings):
        return drawn.name
    return drawn.classification


def _sorted(left: Counter[Left]) -> tuple[tuple[Left, int], ...]:
    return tuple(sorted(left.items(), key=lambda e: (e[0].what, e[0].quoted)))


def _listed(left: Counter[Left]) -> str:
    return ", ".join(f"{n} x {k.what}" for k, n in _sorted(left)[:8])


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
    if data.startswith(_PACKED):
        raise AnnotationError(f"{path} is compressed", "Unpack it")
    return data


def _text(data: bytes) -> str:
    """Return the file's text: by its byte-order mark, its zeros, or what it declares."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name)
    if len(data) > 1 and 0 in data[:2]:  # "<" or "{" with a zero beside it
        return data.decode("utf-16-be" if data[0] == 0 else "utf-16-le")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        told = _DECLARED.match(data[:200])
        # positions are plain digits in every code page; only names may come out otherwise
        return data.decode(told[1].decode() if told else "cp1252", "replace")


def _parse(data: bytes, centre: SlideCentre | None) -> Iterator[Drawn | Left]:
    text = _text(data).lstrip("\ufeff \t\r\n")
    if text.count("[") > 4 * MAX_POINTS:
        raise ValueError("too many points")
    return parse_xml(text, centre) if text.startswith("<") else parse_geojson(text)


def _guarded(
    data: bytes, path: str | Path, centre: SlideCentre | None = None
) -> Iterator[Drawn | Left]:
    try:
        yield from _parse(data, centre)
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        RecursionError,
        OverflowError,
        ParseError,
        shapely.errors.ShapelyError,
    ) as exc:
        raise AnnotationError(
            f"{path} is not valid annotations ({one_line(exc, 120)})",
            _VALID,
        ) from exc
