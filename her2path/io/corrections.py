"""Corrections that a reader made to cells, kept as GeoJSON and applied to a table.

Each feature is a point at the cell's centre (level-0 px) with the properties ``correction``
(``"cell"``), ``cell_id`` (text: JavaScript cannot hold 64-bit whole numbers), ``reader_pattern``
and ``reader_cell_type`` (either may be null), ``reader`` and ``time`` (ISO 8601). Other features,
such as areas that a reader marked, are left alone here. The last correction of a cell counts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from her2path.core.errors import AnnotationError, one_line
from her2path.core.schema import CELL_TYPES, INTENSITY, PATTERNS

__all__ = ["Correction", "apply_corrections", "read_corrections", "readers_of"]

MAX_BYTES = 200 << 20


@dataclass(frozen=True)
class Correction:
    """One cell as a reader sees it; ``None`` where the reader did not change it."""

    cell_id: int
    pattern: str | None
    cell_type: str | None
    reader: str
    time: str

    def feature(self, x_px: float, y_px: float) -> dict[str, Any]:
        """Return it as a GeoJSON feature."""
        return {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [x_px, y_px]},
            "properties": {
                "correction": "cell",
                "cell_id": str(self.cell_id),
                "reader_pattern": self.pattern,
                "reader_cell_type": self.cell_type,
                "reader": self.reader,
                "time": self.time,
            },
        }


def read_corrections(path: str | Path) -> list[Correction]:
    """Read the corrections of a GeoJSON file, in their order.

    Raises
    ------
    AnnotationError
        Unreadable, too large or malformed; names the feature.
    """
    found = [_correction(n, f, path) for n, f in enumerate(_features(path), 1)]
    return [c for c in found if c is not None]


def readers_of(path: str | Path) -> tuple[tuple[str, ...], str]:
    """Return who said what a corrections file holds, and when the last of it was said (or "").

    Raises
    ------
    AnnotationError
        As `read_corrections`.
    """
    facts = [f.get("properties") for f in _features(path) if isinstance(f, dict)]
    said = [p for p in facts if isinstance(p, dict) and p.get("reader")]
    names = dict.fromkeys(one_line(p["reader"], 100) for p in said)
    return tuple(names), max((str(p.get("time") or "") for p in said), default="")


def _features(path: str | Path) -> list[Any]:
    file = Path(path)
    try:
        if file.stat().st_size > MAX_BYTES:
            raise AnnotationError(
                f"{path} is over {MAX_BYTES >> 20} MiB", "Give a corrections file"
            )
        tree = json.loads(file.read_bytes().decode("utf-8-sig"))
        # QuPath writes a bare list of features too
        features = tree if isinstance(tree, list) else tree["features"]
    except OSError as exc:
        raise AnnotationError(f"cannot read {path} ({exc.strerror})", "Check the path") from exc
    except (ValueError, TypeError, KeyError, RecursionError) as exc:
        raise AnnotationError(
            f"{path} is not a GeoJSON feature collection", "Save the corrections again"
        ) from exc
    return features if isinstance(features, list) else []


def _correction(number: int, feature: Any, path: str | Path) -> Correction | None:
    given = feature.get("properties") if isinstance(feature, dict) else None
    if not isinstance(given, dict) or given.get("correction") != "cell":
        return None
    try:
        made = Correction(
            cell_id=int(given["cell_id"]),
            pattern=_one_of(given.get("reader_pattern"), PATTERNS),
            cell_type=_one_of(given.get("reader_cell_type"), CELL_TYPES),
            reader=one_line(given["reader"], 100),
            time=datetime.fromisoformat(str(given["time"])).isoformat(),
        )
    except (KeyError, ValueError, TypeError) as exc:
        raise AnnotationError(
            f"{path}: correction {number} cannot be used ({one_line(exc, 80)})",
            "Correct or remove it",
        ) from exc
    return made


def _one_of(value: Any, valid: tuple[str, ...]) -> str | None:
    if value is None:
        return None
    if value not in valid:
        raise ValueError(f"{one_line(value, 40)!r} is not one of {', '.join(valid)}")
    return str(value)


def apply_corrections(
    cells: pa.Table, corrections: list[Correction], intense_incomplete_score: int = 2
) -> pa.Table:
    """Let a reader's corrections decide, and keep what the program said.

    Parameters
    ----------
    cells : pyarrow.Table
        With ``cell_id``, ``cell_type``, ``pattern``, ``intensity``, ``score``.
    corrections : list of Correction
        Those of unknown cells are an error: they belong to another result.
    intense_incomplete_score : int
        As in `patterns.classify`.

    Returns
    -------
    pyarrow.Table
        The corrected table with ``machine_pattern``, ``machine_cell_type``, ``reader`` and
        ``reader_time`` added.

    Raises
    ------
    AnnotationError
        For a cell that the table does not hold.
    """
    last = {c.cell_id: c for c in corrections}
    ids = cells.column("cell_id").to_numpy()
    order = np.argsort(ids, kind="stable")
    wanted = np.fromiter(last, np.int64, len(last))
    at = np.searchsorted(ids[order], wanted)
    known = (at < len(ids)) & (ids[order][np.minimum(at, len(ids) - 1)] == wanted)
    if not known.all():
        raise AnnotationError(
            f"the corrections name {int((~known).sum())} cells that this result does not hold",
            "Use the file that was saved for this result",
        )
    rows = order[at]
    pattern = np.array(cells.column("pattern").to_pylist(), object)
    kind = np.array(cells.column("cell_type").to_pylist(), object)
    reader, time = (_there(cells, name) for name in ("reader", "reader_time"))
    machine_pattern, machine_kind = pattern.copy(), kind.copy()
    for row, c in zip(rows, last.values(), strict=True):
        pattern[row] = c.pattern or pattern[row]
        kind[row] = c.cell_type or kind[row]
        reader[row], time[row] = c.reader, c.time
    intensity = np.array([INTENSITY[p] for p in pattern], np.int8)
    score = np.where(pattern == "intense_incomplete", intense_incomplete_score, intensity)
    out = _put(cells, "pattern", _words(pattern, PATTERNS))
    out = _put(out, "cell_type", _words(kind, CELL_TYPES))
    out = _put(out, "intensity", pa.array(intensity))
    out = _put(out, "score", pa.array(score.astype(np.int8)))
    if "machine_pattern" not in cells.column_names:
        out = _put(out, "machine_pattern", _words(machine_pattern, PATTERNS))
        out = _put(out, "machine_cell_type", _words(machine_kind, CELL_TYPES))
    out = _put(out, "reader", pa.array(reader, pa.string()))
    return _put(out, "reader_time", pa.array(time, pa.string()))


def _there(cells: pa.Table, name: str) -> np.ndarray:
    """Return who or when of each cell, as an area that a reader drew may have put it there."""
    if name in cells.column_names:
        return np.array(cells.column(name).to_pylist(), object)
    return np.full(cells.num_rows, None, object)


def _words(values: np.ndarray, words: tuple[str, ...]) -> pa.DictionaryArray:
    place = {w: i for i, w in enumerate(words)}
    codes = pa.array([place[v] for v in values], pa.int8())
    return pa.DictionaryArray.from_arrays(codes, list(words))


def _put(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.append_column(name, values) if at < 0 else table.set_column(at, name, values)
