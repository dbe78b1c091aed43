"""The cell table of a run in memory: light columns, who counts as tumour, columns set beside it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from her2path.core.geometry import Planes
from her2path.core.schema import CELL_TYPES, CELLS, arrow_schema
from her2path.core.settings import Settings
from her2path.io.annotations import Annotations
from her2path.runs.case.passes import cells_path
from her2path.runs.case.plan import Plan

__all__ = [
    "DECIDED",
    "LIGHT",
    "assign",
    "beside",
    "certain_share",
    "in_file_px",
    "is_tumour",
    "light_cells",
    "no_cells",
    "spread_over",
    "with_cell_type",
    "with_region_id",
]

#: what scoring and statistics need of a cell; outlines and the like stay on disk
LIGHT = (
    "cell_id",
    "x_um",
    "y_um",
    "x_px",
    "y_px",
    "cell_type",
    "pattern",
    "intensity",
    "score",
    "membrane_od",
    "membrane_od_ring",
    "membrane_mass",
    "completeness",
    "uncertain",
    "cell_area_um2",
    "nucleus_hematoxylin_od",
    "cytoplasm_od",
    "tumour_probability",
    "kind_certainty",
)
#: columns that are decided for the slide as a whole, after its parts were resolved
DECIDED = ("pattern", "intensity", "score")


def light_cells(plan: Plan) -> pa.Table:
    """Read the light columns of all final parts, in block order."""
    tables = []
    for index in plan.blocks:
        with pa.memory_map(str(cells_path(plan, plan.grid[index]))) as source:
            part = pa.ipc.open_file(source).read_all().select(LIGHT).replace_schema_metadata(None)
            # copied out of the map, so that the file can go
            tables.append(pa.concat_tables([part]).take(pa.array(np.arange(part.num_rows))))
    return pa.concat_tables(tables).cast(no_cells().schema) if tables else no_cells()


def no_cells() -> pa.Table:
    """Return the light columns of no cell."""
    schema = pa.schema([f for f in arrow_schema(CELLS) if f.name in LIGHT])
    return pa.schema([schema.field(n) for n in LIGHT]).remove_metadata().empty_table()


def assign(cells: pa.Table, annotations: Annotations | None, settings: Settings) -> pa.Table:
    """Set ``cell_type`` by the annotations: outside tumour or inside what is left out is other."""
    if annotations is None:
        return cells
    points = shapely.points(cells.column("x_px").to_numpy(), cells.column("y_px").to_numpy())
    tumour = is_tumour(cells)
    if annotations.tumour is not None and settings.tumour.method in ("auto", "annotation"):
        shapely.prepare(annotations.tumour)
        tumour &= shapely.contains(annotations.tumour, points)
    if annotations.excluded is not None:
        shapely.prepare(annotations.excluded)
        tumour &= ~shapely.contains(annotations.excluded, points)
    return with_cell_type(cells, tumour)


def is_tumour(cells: pa.Table) -> NDArray[np.bool_]:
    """Return which cells are tumour."""
    column = cells.column("cell_type").combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    return np.asarray(column.indices.to_numpy(zero_copy_only=False) == 0)


def certain_share(cells: pa.Table, certain_from: float) -> float:
    """Return the share of the tumour cells whose kind is certain; 1 without any."""
    certainty = cells.column("kind_certainty").to_numpy()[is_tumour(cells)]
    return float((certainty >= certain_from).mean()) if len(certainty) else 1.0


def with_cell_type(cells: pa.Table, tumour: NDArray[np.bool_]) -> pa.Table:
    """Return the table with another ``cell_type``."""
    codes = pa.array(np.where(tumour, 0, 1).astype(np.int8))
    column = pa.DictionaryArray.from_arrays(codes, list(CELL_TYPES))
    return cells.set_column(cells.schema.get_field_index("cell_type"), "cell_type", column)


def with_region_id(cells: pa.Table, region_id: NDArray[np.int32]) -> pa.Table:
    """Return the table with ``region_id``, int32 (N,), in place of an earlier one or at its end."""
    column = pa.array(region_id, pa.int32())
    if "region_id" in cells.column_names:
        return cells.set_column(cells.schema.get_field_index("region_id"), "region_id", column)
    return cells.append_column("region_id", column)


def in_file_px(table: pa.Table, planes: Planes) -> pa.Table:
    """Return a table of the square plane with ``x_px``, ``y_px`` in the file's own pixels."""
    x, y = (table.column(n).to_numpy().astype(np.float64) for n in ("x_px", "y_px"))
    moved = planes.square.move(x, y, planes.file)
    if moved[0] is x and moved[1] is y:
        return table
    for name, values in zip(("x_px", "y_px"), moved, strict=True):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pa.array(values.astype(np.float32)))
    return table


def beside(left: pa.Table, right: pa.Table) -> pa.Table:
    """Return a table with the columns of another, of as many rows, at its right."""
    for name in right.column_names:
        left = left.append_column(right.schema.field(name), right.column(name))
    return left


def spread_over(rows: pa.Table, where: NDArray[np.bool_]) -> pa.Table:
    """Return a table with a row for every element of a mask, null where the mask is False."""
    place = np.cumsum(where) - 1
    return rows.take(pa.array(place, mask=~where))
