"""Corrections that a reader makes in the viewer, kept as GeoJSON in the run's folder."""

from __future__ import annotations

import json
import math
import uuid
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

from her2path.core.errors import AnnotationError, OutputError, UsageError, one_line
from her2path.core.geometry import Planes
from her2path.core.schema import CELL_TYPES, PATTERNS
from her2path.core.settings import TumourSettings
from her2path.io.annotations import Annotation, areas_of_text
from her2path.io.corrections import Correction, read_corrections
from her2path.io.store import RunStore, write_json
from her2path.io.store.journal import file_lock

__all__ = ["REGION_CLASSES", "Ledger", "region_feature"]

#: what a marked region may be called
REGION_CLASSES = ("tumour", "in situ", "normal", "necrosis", "artefact", "exclude", "control",
                  "control 0", "control 1+", "control 2+", "control 3+", "other")  # fmt: skip
_MOST_POINTS = 5_000
_MOST_FEATURES = 200_000


class Ledger:
    """``OUT/corrections.geojson``: one feature a correction or marked region, in their order.

    Parameters
    ----------
    store : RunStore
        The run; the file is made with the first correction.
    """

    def __init__(self, store: RunStore) -> None:
        self.path = store.out / "corrections.geojson"
        #: every version of a feature that was seen here: what can be put back
        self._handed: dict[str, list[dict[str, Any]]] = {}

    def features(self) -> list[dict[str, Any]]:
        """Return all features.

        Raises
        ------
        OutputError
            Where the file is damaged.
        """
        if not self.path.is_file():
            return []
        try:
            return list(json.loads(self.path.read_text(encoding="utf-8"))["features"])
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise OutputError(f"{self.path} is damaged", "Move it away") from exc

    def correct_cell(
        self, cell: dict[str, Any], pattern: Any, cell_type: Any, reader: Any
    ) -> dict[str, Any]:
        """Note what a cell is in a reader's eyes; return the feature.

        Parameters
        ----------
        cell : dict
            The cell's row: ``cell_id``, ``x_px``, ``y_px``, ``pattern``, ``cell_type``.
        pattern, cell_type : str or None
            None where the reader leaves it.
        reader : str
            Who.

        Raises
        ------
        UsageError
            For an unknown pattern or type, or when nothing was said.
        """
        pattern = _one_of(pattern, PATTERNS, "pattern")
        cell_type = _one_of(cell_type, CELL_TYPES, "cell type")
        if pattern is None and cell_type is None:
            raise UsageError("nothing was corrected", "Choose a pattern or a cell type")
        made = Correction(int(cell["cell_id"]), pattern, cell_type, _who(reader), _now())
        feature = made.feature(cell["x_px"], cell["y_px"])
        feature["id"] = str(uuid.uuid4())
        feature["properties"] |= {
            "objectType": "annotation",
            "machine_pattern": cell["pattern"],
            "machine_cell_type": cell["cell_type"],
        }
        return self._add(feature)

    def mark_region(
        self, ring: Any, kind: Any, name: Any, reader: Any, planes: Planes | None = None
    ) -> dict[str, Any]:
        """Note a region that a reader drew; return the feature, in the file's own level-0 px.

        With ``planes`` the ring is given on their square plane.

        Raises
        ------
        UsageError
            For fewer than three points, points that are no numbers, or an unknown class.
        """
        kind = _one_of(kind, REGION_CLASSES, "region class") or "other"
        return self._add(region_feature([_placed(ring, planes)], str(kind), name, reader))

    def change_region(
        self, number: Any, rings: Any, kind: Any, name: Any, reader: Any,
        planes: Planes | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Give a region other corners, another class or name; what is None stays.

        Returns the feature as it was before, so that the change can be undone.

        Raises
        ------
        UsageError
            Where there is no such region, or as `mark_region`.
        """
        kind = _one_of(kind, REGION_CLASSES, "region class")
        placed = None if rings is None else [_placed(r, planes) for r in _rings(rings)]
        who = _who(reader)
        with self._locked():
            kept = self.features()
            old = next((f for f in kept if f.get("id") == number and _is_region(f)), None)
            if old is None:
                raise UsageError("there is no such region", "Reload the page")
            facts = dict(old["properties"])
            if kind is not None:
                facts["classification"] = {"name": kind}
                if facts.get("name") in REGION_CLASSES:  # named after its class
                    facts["name"] = kind
            if name:
                facts["name"] = one_line(name, 100)
            facts |= {"reader": who, "time": _now()}
            geometry = old["geometry"] if placed is None else _polygon(placed)
            new = {**old, "geometry": geometry, "properties": facts}
            self._write([new if f is old else f for f in kept])
        return old

    def put(self, feature: dict[str, Any]) -> None:
        """Put back a feature as it was, in place of what has its id, or at the end.

        Only what this ledger handed out before is taken.

        Raises
        ------
        UsageError
        """
        number = feature.get("id")
        if self._handed.get(str(number)) is None or feature not in self._handed[str(number)]:
            raise UsageError("this was not saved here", "Reload the page")
        with self._locked():
            kept = self.features()
            there = any(f.get("id") == number for f in kept)
            self._write([feature if f.get("id") == number else f for f in kept]
                        + ([] if there else [feature]))  # fmt: skip

    def take_in(self, text: Any, reader: Any, settings: TumourSettings) -> int:
        """Take in areas that were drawn elsewhere (GeoJSON, as QuPath writes it); return how many.

        Names and classes stay as they are; coordinates are level-0 px of the file.

        Raises
        ------
        AnnotationError
            For what is no GeoJSON, or holds no area.
        """
        who = _who(reader)
        made = [f for area in areas_of_text(str(text), settings)
                for f in _features_of(area, who)]  # fmt: skip
        with self._locked():
            kept = self.features()
            if len(kept) + len(made) > _MOST_FEATURES:
                raise UsageError("there are too many areas", "Export only the annotations")
            self._write([*kept, *made])
        return len(made)

    def remove(self, number: Any) -> dict[str, Any]:
        """Take back one feature by its id; return it.

        Raises
        ------
        UsageError
            Where there is none.
        """
        with self._locked():
            kept = self.features()
            gone = next((f for f in kept if f.get("id") == number), None)
            if gone is None:
                raise UsageError("there is no such correction", "Reload the page")
            self._write([f for f in kept if f is not gone])
        return gone

    # -- what is there -----------------------------------------------------------------------------

    def corrected(self) -> list[Correction]:
        """Return the corrections of cells, in their order; none where the file is damaged."""
        if not self.path.is_file():
            return []
        try:
            return read_corrections(self.path)
        except AnnotationError:
            return []

    def of_cell(self, number: int) -> dict[str, Any] | None:
        """Return what a reader said last of a cell; None where nothing was."""
        said = [c for c in self.corrected() if c.cell_id == number]
        if not said:
            return None
        last = said[-1]
        return {"pattern": last.pattern, "cell_type": last.cell_type, "reader": last.reader,
                "time": last.time}  # fmt: skip

    # -- the file ----------------------------------------------------------------------------------

    def _locked(self) -> AbstractContextManager[None]:
        # another window, or another process, may be at the same file
        return file_lock(self.path.with_name(".corrections.lock"))

    def _add(self, feature: dict[str, Any]) -> dict[str, Any]:
        with self._locked():
            kept = self.features()
            if len(kept) >= _MOST_FEATURES:
                raise UsageError("there are too many corrections", "Apply them with rescore")
            self._write([*kept, feature])
        return feature

    def _write(self, features: list[dict[str, Any]]) -> None:
        for f in (*self.features(), *features):
            versions = self._handed.setdefault(str(f.get("id")), [])
            if f not in versions:
                versions.append(f)
        write_json(self.path, {"type": "FeatureCollection", "features": features})


def region_feature(
    rings: list[list[list[float]]], kind: str, name: Any, reader: Any
) -> dict[str, Any]:
    """Return an area as a GeoJSON feature that QuPath reads; rings in the file's level-0 px."""
    return {
        "type": "Feature",
        "id": str(uuid.uuid4()),
        "geometry": _polygon(rings),
        "properties": {
            "objectType": "annotation",
            "correction": "region",
            "name": one_line(name or kind, 100),
            # QuPath shows an empty class as one of its own
            **({"classification": {"name": kind}} if kind else {}),
            "reader": _who(reader),
            "time": _now(),
        },
    }


def _is_region(feature: dict[str, Any]) -> bool:
    return (feature.get("properties") or {}).get("correction") == "region"


def _polygon(rings: list[list[list[float]]]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [[*r, r[0]] for r in rings]}


def _features_of(area: Annotation, reader: str) -> list[dict[str, Any]]:
    """Return an area as features, one a polygon; class and name as they were."""
    made = []
    for part in getattr(area.polygon, "geoms", [area.polygon]):
        rings = [[[round(x, 1), round(y, 1)] for x, y in list(ring.coords)[:-1]]
                 for ring in (part.exterior, *part.interiors)]  # fmt: skip
        feature = region_feature(rings, area.classification, area.name, reader)
        feature["properties"]["name"] = area.name
        made.append(feature)
    return made


def _rings(rings: Any) -> list[Any]:
    if not isinstance(rings, list) or not 1 <= len(rings) <= _MOST_POINTS:
        raise UsageError("a region has one outline or more", "Draw it again")
    return rings


def _placed(ring: Any, planes: Planes | None) -> list[list[float]]:
    points = _ring(ring)
    if planes is None:
        return points
    moved = [planes.square.move(x, y, planes.file) for x, y in points]
    return [[round(float(x), 1), round(float(y), 1)] for x, y in moved]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _who(reader: Any) -> str:
    name = one_line(reader if isinstance(reader, str) else "", 100)
    if not name:
        raise UsageError("a correction needs a reader", "Enter your name or initials")
    return name


def _one_of(value: Any, valid: tuple[str, ...], what: str) -> str | None:
    if value is None or value == "":
        return None
    if value not in valid:
        given = one_line(value, 40)
        raise UsageError(f"there is no {what} {given!r}", f"Valid: {', '.join(valid)}")
    return str(value)


def _ring(ring: Any) -> list[list[float]]:
    if not isinstance(ring, list) or not 3 <= len(ring) <= _MOST_POINTS:
        raise UsageError("a region has 3 to 5000 points", "Draw it again")
    points = []
    for point in ring:
        if not (isinstance(point, list) and len(point) == 2):
            raise UsageError("a point has two numbers", "Draw the region again")
        if not all(isinstance(v, (int, float)) and math.isfinite(v) for v in point):
            raise UsageError("a point has two numbers", "Draw the region again")
        points.append([round(float(v), 1) for v in point])
    return points
