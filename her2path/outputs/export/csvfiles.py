"""Plain tables: cells and regions as CSV, safe to open in a spreadsheet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import shapely

from her2path.io.store import RunStore, atomic_file

__all__ = ["safe_text", "write"]

#: a spreadsheet takes text that starts so for a formula
_FORMULA = r"^[=+\-@\t\r\n]"


def write(store: RunStore, folder: Path, _offset: tuple[float, float]) -> Path:
    """Write ``cells.csv`` (without outlines) and ``regions.csv`` (polygons as WKT, µm)."""
    if store.cells_path.exists():
        names = [n for n in store.cell_columns() if n not in ("outline", "nucleus_outline")]
        _write(folder / "cells.csv", store.iter_cells(columns=names))
    if store.regions_path.exists():
        _write(folder / "regions.csv", iter([_regions(store.regions())]))
    return folder


def _regions(table: pa.Table) -> pa.Table:
    shapes = shapely.to_wkt(shapely.from_wkb(table["polygon"].to_pylist()), rounding_precision=2)
    where = table.schema.get_field_index("polygon")
    table = table.set_column(where, "polygon", pa.array(shapes, pa.string()))
    named = pc.binary_join_element_wise("HER2", table["category"], "-")
    return table.set_column(table.schema.get_field_index("category"), "category", named)


def safe_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Put an apostrophe before text that a spreadsheet would run as a formula."""
    risky = pc.match_substring_regex(column, _FORMULA)
    return pc.if_else(risky, pc.binary_join_element_wise("'", column, ""), column)


def _plain(table: pa.Table) -> pa.Table:
    """Spell out coded text and make all text safe."""
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type) or pa.types.is_string(field.type):
            text = safe_text(table.column(i).cast(pa.string()))
            table = table.set_column(i, field.name, text)
    return table.replace_schema_metadata(None)


def _write(path: Path, tables: Iterator[pa.Table]) -> None:
    with atomic_file(path) as temporary:
        writer: pacsv.CSVWriter | None = None
        try:
            for table in map(_plain, tables):
                if writer is None:
                    writer = pacsv.CSVWriter(temporary, table.schema)
                writer.write_table(table)
            if writer is None:
                temporary.write_text("")
        finally:
            if writer is not None:
                writer.close()
