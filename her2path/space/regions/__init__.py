"""Regions: squares, hexagons, annotations, tissue cores and tumour nests, and what each reads.

A cell belongs to at most one region, exactly: squares are half-open, hexagons and polygons give
a point on a common border to one side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from her2path.core.errors import SettingsError
from her2path.core.settings import Settings
from her2path.space.regions.cells import Cells, read_cells
from her2path.space.regions.cores import core_layout, core_row_col
from her2path.space.regions.layout import (
    Layout,
    Mask,
    hexagon_layout,
    polygon_layout,
    square_layout,
)
from her2path.space.regions.nests import nest_layout
from her2path.space.regions.table import build_table, positive_patterns

__all__ = ["KINDS", "Layout", "Mask", "core_row_col", "make_regions", "positive_patterns"]

KINDS = ("grid", "hexagon", "annotation", "core", "nest")


def make_regions(
    cells: Any,
    kind: str = "grid",
    settings: Settings | None = None,
    tissue: tuple[NDArray[np.bool_], float] | None = None,
    polygons: Sequence[tuple[Any, ...]] | None = None,
) -> tuple[pa.Table, NDArray[np.int32]]:
    """Cut the tumour into regions and read each of them.

    Parameters
    ----------
    cells : pyarrow.Table, DataFrame or dict
        ``x_um``, ``y_um`` and ``pattern`` (tumour cells); optional ``cell_type``.
    kind : str
        ``grid``, ``hexagon``, ``annotation``, ``core`` or ``nest``.
    settings : Settings, optional
    tissue : (mask, mpp), optional
        Tissue mask (rows, cols) from the slide's origin, and µm per mask pixel. Without it a
        region's tissue area is its outline's, and cores are found from the cells.
    polygons : sequence of (name, polygon) or (name, polygon, class), optional
        Annotations in µm; needed by ``annotation``. Where they overlap, the first owns the cell.

    Returns
    -------
    table : pyarrow.Table
        Columns of `schema.REGIONS`, one row a region that holds a tumour cell (annotations and
        cores are listed even when empty).
    region_id : (n,) int32
        Region of each input row; -1 where none.

    Raises
    ------
    SettingsError
        For an unknown kind, or ``annotation`` without polygons.
    ManifestError
        For a table without the needed columns.
    """
    settings = settings or Settings()
    data = read_cells(cells)
    mask = None if tissue is None else Mask(np.asarray(tissue[0], bool), float(tissue[1]))
    layout = _layout(data, kind, settings, mask, polygons)
    return build_table(data, layout, settings, mask), layout.region_of


def _layout(
    data: Cells,
    kind: str,
    settings: Settings,
    mask: Mask | None,
    polygons: Sequence[tuple[Any, ...]] | None,
) -> Layout:
    size = settings.regions.size_um
    if kind == "grid":
        return square_layout(data, size)
    if kind == "hexagon":
        return hexagon_layout(data, size)
    if kind == "nest":
        return nest_layout(data, settings.regions.nest_link_um)
    if kind == "core":
        return core_layout(data, mask)
    if kind == "annotation":
        if not polygons:
            raise SettingsError(
                "regions.kind is annotation, but there are no annotations", "Give --annotations"
            )
        return polygon_layout(data, polygons)
    raise SettingsError(f"there is no kind of region {kind!r}", f"Valid: {', '.join(KINDS)}")
