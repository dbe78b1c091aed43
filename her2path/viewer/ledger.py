"""Corrections that a reader makes in the viewer, kept as GeoJSON in the run's folder."""

from __future__ import annotations

import json
import math
import threading
import uuid
from datetime import UTC, datetime
from typing import Any

from her2path.corrections import Correction
from her2path.errors import OutputError, UsageError, one_line
from her2path.geometry import Planes
from her2path.schema import CELL_TYPES, PATTERNS
from her2path.store import RunStore, write_json

__all__ = ["REGION_CLASSES", "Ledger"]

#: what a marked region may be called
REGION_CLASSES = ("tumour", "in situ", "normal", "necrosis", "artefact", "control", "other")
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
        self._lock = threading.Lock()

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
        points = _ring(ring)
        if planes is not None:
            moved = [planes.square.move(x, y, planes.file) for x, y in points]
            points = [[round(x, 1), round(y, 1)] for x, y in moved]
        feature = {
            "type": "Feature",
            "id": str(uuid.uuid4()),
            "geometry": {"type": "Polygon", "coordinates": [[*points, points[0]]]},
            "properties": {
                "objectType": "annotation",
                "correction": "region",
                "name": one_line(name or kind, 100),
                "classification": {"name": kind},
                "reader": _who(reader),
                "time": _now(),
            },
        }
        return self._add(feature)

    def remove(self, number: Any) -> None:
        """Take back one feature by its id.

        Raises
        ------
        UsageError
            Where there is none.
        """
        with self._lock:
            kept = self.features()
            left = [f for f in kept if f.get("id") != number]
            if len(left) == len(kept):
                raise UsageError("there is no such correction", "Reload the page")
            self._write(left)

    def _add(self, feature: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            kept = self.features()
            if len(kept) >= _MOST_FEATURES:
                raise UsageError("there are too many corrections", "Apply them with rescore")
            self._write([*kept, feature])
        return feature

    def _write(self, features: list[dict[str, Any]]) -> None:
        write_json(self.path, {"type": "FeatureCollection", "features": features})


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
