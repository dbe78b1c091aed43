"""The cell and region tables as Parquet, byte for byte the same for the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from her2path.core.errors import OutputError, ProgramFault
from her2path.core.schema import (
    CELL_TYPES,
    CELLS,
    CNN_CELLS,
    CNN_REGIONS,
    PATTERNS,
    REGIONS,
    Column,
    arrow_schema,
)
from her2path.io.store.files import atomic_dir, atomic_file

if TYPE_CHECKING:
    import pyarrow.dataset as ds

__all__ = [
    "MAX_PARTS",
    "ROW_GROUP",
    "conform",
    "dictionary_codes",
    "iter_table",
    "read_table",
    "table_names",
    "write_parts",
    "write_single",
]

#: files that the merged cell table may have
MAX_PARTS = 32
#: rows of a row group: small enough that a viewer reads only what it shows
ROW_GROUP = 65_536
#: rows of a part file, at least
MIN_PART = 4 * ROW_GROUP
#: fixed dictionaries, so that codes do not depend on which value comes first
_VALUES = {"cell_type": pa.array(CELL_TYPES), "pattern": pa.array(PATTERNS)}


def conform(table: pa.Table, columns: Sequence[Column], extra: Sequence[Column] = ()) -> pa.Table:
    """Return the table in the declared column order and types.

    ``extra`` columns stay where present; any further ones (carried through) follow as they are.

    Raises
    ------
    ProgramFault
        Where a declared column is missing.
    """
    wanted = [*columns, *(c for c in extra if c.name in table.column_names)]
    missing = [c.name for c in wanted if c.name not in table.column_names]
    if missing:
        raise ProgramFault(f"the table lacks the columns {', '.join(missing)}", "Report this")
    fields = list(arrow_schema(tuple(wanted)))
    arrays = [_cast(table[f.name], f) for f in fields]
    declared = {c.name for c in wanted}
    for name in table.column_names:
        if name not in declared:
            fields.append(table.schema.field(name))
            arrays.append(table[name])
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _cast(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    if not pa.types.is_dictionary(field.type):
        return column if column.type == field.type else column.cast(field.type)
    values = _VALUES[field.name]
    plain = column.cast(pa.string()) if column.type != pa.string() else column
    codes = pc.index_in(plain, value_set=values).cast(pa.int8())
    return pa.chunked_array(
        [pa.DictionaryArray.from_arrays(chunk, values) for chunk in codes.chunks], type=field.type
    )


def dictionary_codes(table: pa.Table, name: str) -> pa.Array:
    """Return a dictionary column's codes (int8) into the fixed values of ``name``.

    ``pattern`` follows `schema.PATTERNS`, ``cell_type`` `schema.CELL_TYPES`.
    """
    plain = table[name].cast(pa.string())
    return pc.index_in(plain, value_set=_VALUES[name]).cast(pa.int8()).combine_chunks()


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    coded = [f.name for f in schema if pa.types.is_dictionary(f.type)]
    floats = [f.name for f in schema if pa.types.is_floating(f.type)]
    return pq.ParquetWriter(
        path,
        schema,
        version="2.6",
        compression="zstd",
        compression_level=3,
        use_dictionary=coded,
        use_byte_stream_split=floats,
        write_statistics=True,
        data_page_version="1.0",
    )


def _rechunk(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Yield tables of exactly ``rows`` rows (the last one fewer)."""
    held: list[pa.Table] = []
    count = 0
    for table in tables:
        held.append(table)
        count += table.num_rows
        while count >= rows:
            joined = pa.concat_tables(held)
            yield joined.slice(0, rows)
            held, count = [joined.slice(rows)], count - rows
    if count:
        yield pa.concat_tables(held)


def write_parts(path: Path, tables: Iterable[pa.Table], rows: int | None = None) -> int:
    """Write the cell table as a dataset of at most `MAX_PARTS` files.

    Parameters
    ----------
    path : Path
        The dataset's folder, replaced as a whole.
    tables : iterable of pa.Table
        Parts in their final order; one is held at a time.
    rows : int, optional
        Number of all rows; with it the number of files keeps to its limit for any table.

    Returns
    -------
    int
        Rows written.

    Raises
    ------
    DiskFull, OutputError
    """
    per_file = MIN_PART
    if rows is not None:
        groups = -(-rows // (ROW_GROUP * MAX_PARTS))
        per_file = max(MIN_PART, groups * ROW_GROUP)
    conformed = (conform(t, CELLS, CNN_CELLS) for t in tables)
    with atomic_dir(path) as folder:
        return _fill(folder, _rechunk(conformed, ROW_GROUP), per_file)


def _fill(folder: Path, groups: Iterator[pa.Table], per_file: int) -> int:
    writer: pq.ParquetWriter | None = None
    schema: pa.Schema | None = None
    written = part = 0
    try:
        for group in groups:
            schema = group.schema
            if writer is None:
                writer = _writer(folder / f"part-{part:04d}.parquet", schema)
            writer.write_table(group, row_group_size=ROW_GROUP)
            written += group.num_rows
            if written >= (part + 1) * per_file:
                writer.close()
                writer, part = None, part + 1
        if written == 0:
            schema = schema or arrow_schema(CELLS)
            writer = _writer(folder / "part-0000.parquet", schema)
            writer.write_table(schema.empty_table())
    finally:
        if writer is not None:
            writer.close()
    return written


def write_single(path: Path, table: pa.Table) -> None:
    """Write the region table as one file.

    Raises
    ------
    DiskFull, OutputError
    """
    table = conform(table, REGIONS, CNN_REGIONS)
    with atomic_file(path) as temporary, _writer(temporary, table.schema) as writer:
        writer.write_table(table)


def _dataset(path: Path) -> ds.Dataset:
    import pyarrow.dataset as ds

    try:
        files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        if not files or not files[0].is_file():
            raise OutputError(f"{path} is missing", "Give a folder that her2path has finished")
        return ds.dataset([str(f) for f in files], format="parquet")
    except (OSError, pa.ArrowInvalid) as exc:
        raise OutputError(
            f"{path} cannot be read ({exc})", "Score the slide again with --overwrite"
        ) from exc


def table_names(path: Path) -> list[str]:
    """Return a stored table's column names."""
    return list(_dataset(path).schema.names)


def read_table(
    path: Path, columns: Sequence[str] | None = None, where: pc.Expression | None = None
) -> pa.Table:
    """Read a stored table.

    Parameters
    ----------
    path : Path
        A Parquet file, or the folder of a dataset.
    columns : sequence of str, optional
        Only these, in this order.
    where : pyarrow expression, optional
        Only the rows that fulfil it; row groups that cannot are not read.

    Raises
    ------
    OutputError
        Where it is missing or damaged.
    """
    dataset = _dataset(path)
    try:
        chosen = list(columns) if columns is not None else None
        return dataset.to_table(columns=chosen, filter=where)
    except (OSError, pa.ArrowInvalid) as exc:
        raise OutputError(
            f"{path} cannot be read ({exc})", "Score the slide again with --overwrite"
        ) from exc


def iter_table(
    path: Path, columns: Sequence[str] | None = None, batch: int = ROW_GROUP
) -> Iterator[pa.Table]:
    """Yield a stored table in its order, at most ``batch`` rows at a time."""
    chosen = list(columns) if columns is not None else None
    # file by file and row group by row group: a dataset's scanner reads ahead as it likes
    for name in _dataset(path).files:
        with pq.ParquetFile(name) as file:
            for part in file.iter_batches(batch_size=batch, columns=chosen):
                if part.num_rows:
                    table = pa.Table.from_batches([part])
                    yield table if chosen is None else table.select(chosen)
