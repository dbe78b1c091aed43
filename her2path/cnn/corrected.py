"""A run's cells as a reader left them in the viewer, whether or not they were rescored since."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from her2path.core.errors import AnnotationError
from her2path.io.corrections import apply_corrections, read_corrections

__all__ = ["corrected"]


def corrected(cells: pa.Table, path: Path) -> pa.Table:
    """Return the cells with the corrections of ``OUT/corrections.geojson``, if there is one.

    Parameters
    ----------
    cells : pyarrow.Table
        ``cell_id x_px y_px cell_type pattern`` and more, as stored.
    path : Path
        The viewer's ledger. Corrected cells get the reader's pattern and type. Cells in regions
        that a reader marked as anything but tumour are left out.

    Raises
    ------
    AnnotationError
        Where the file is damaged, or belongs to another result.
    """
    if not path.is_file():
        return cells
    width = len(cells)
    blank = pa.array(np.zeros(width, np.int8))
    full = cells.append_column("intensity", blank).append_column("score", blank)
    changed = apply_corrections(full, read_corrections(path)).select(cells.column_names)
    return changed.filter(pa.array(~_elsewhere(changed, path)))


def _elsewhere(cells: pa.Table, path: Path) -> NDArray[np.bool_]:
    """Tell which cells lie in a region that was marked, and not as tumour."""
    out = np.zeros(len(cells), bool)
    x, y = (cells.column(n).to_numpy() for n in ("x_px", "y_px"))
    for feature in json.loads(path.read_text(encoding="utf-8-sig"))["features"]:
        area = _marked(feature, path)
        if area is not None:
            out |= shapely.contains_xy(area, x, y)
    return out


def _marked(feature: Any, path: Path) -> shapely.Geometry | None:
    told = feature.get("properties") if isinstance(feature, dict) else None
    if not isinstance(told, dict) or told.get("correction") != "region":
        return None
    kind = told.get("classification") or {}
    if isinstance(kind, dict) and kind.get("name") == "tumour":
        return None
    try:
        return shapely.make_valid(shapely.geometry.shape(feature["geometry"]))
    except (KeyError, ValueError, TypeError, AttributeError, shapely.errors.ShapelyError) as exc:
        raise AnnotationError(f"{path} holds a region that is no area", "Remove it") from exc
