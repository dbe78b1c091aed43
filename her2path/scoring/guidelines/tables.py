"""Tables in whatever shape they come: pyarrow, pandas, or a dict of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from her2path.core.errors import UsageError
from her2path.core.schema import CELL_TYPES, PATTERNS

__all__ = [
    "column",
    "column_names",
    "is_counts",
    "pattern_codes",
    "pattern_column",
    "pattern_counts",
    "tumour_mask",
]


def column_names(table: Any) -> tuple[str, ...]:
    """Return the names of a table's columns.

    Raises
    ------
    UsageError
        Where the object is no table.
    """
    names = getattr(table, "column_names", None)
    if names is None:
        names = table if isinstance(table, Mapping) else getattr(table, "columns", None)
    if names is None or isinstance(table, str):
        raise UsageError(
            f"a {type(table).__name__} is not a table",
            "Give a pyarrow.Table, a pandas DataFrame or a dict of arrays",
        )
    return tuple(str(n) for n in names)


def column(table: Any, name: str) -> np.ndarray:
    """Return one column as a numpy array; text columns as objects, missing values as None or NaN.

    Raises
    ------
    UsageError
        Where the table has no such column; the message lists those it has.
    """
    known = column_names(table)
    if name not in known:
        raise UsageError(f"the table has no column {name}", f"It has: {', '.join(known)}")
    values = table[name]
    if hasattr(values, "combine_chunks"):  # pyarrow
        kind = str(values.type)
        if kind.startswith("dictionary"):
            values = values.cast(values.type.value_type)
        return np.asarray(values.to_numpy(zero_copy_only=False))
    if hasattr(values, "to_numpy"):  # pandas
        return np.asarray(values.to_numpy())
    return np.asarray(values)


def pattern_column(table: Any) -> np.ndarray:
    """Return a table's ``pattern`` column as int8 codes; see `pattern_codes`."""
    values: Any = table["pattern"] if "pattern" in column_names(table) else None
    if hasattr(values, "combine_chunks") and str(values.type).startswith("dictionary"):
        # a dictionary holds every pattern once: only its few words are compared
        parts = [_decoded(chunk) for chunk in getattr(values, "chunks", [values])]
        return pattern_codes(np.concatenate(parts) if parts else np.zeros(0, np.int8))
    return pattern_codes(column(table, "pattern"))


def _decoded(chunk: Any) -> np.ndarray:
    # nulls, and words that no cell may use, are left to the check row by row
    if chunk.null_count or not set(chunk.dictionary.to_pylist()) <= set(PATTERNS):
        return np.asarray(chunk.to_pylist(), dtype=object)
    codes = pattern_codes(np.asarray(chunk.dictionary.to_pylist(), dtype=object))
    return np.asarray(codes[chunk.indices.to_numpy(zero_copy_only=False)])


def tumour_mask(table: Any) -> np.ndarray | None:
    """Return which rows are tumour cells, or None where there is no ``cell_type`` (all are).

    Raises
    ------
    UsageError
        For a cell type other than ``tumour`` and ``other``.
    """
    if "cell_type" not in column_names(table):
        return None
    types = column(table, "cell_type").astype(object)
    bad = ~np.isin(types, np.array(CELL_TYPES, dtype=object))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise UsageError(
            f"row {row}, column cell_type: {types[row : row + 1].tolist()[0]!r} is no cell type",
            f"Valid: {', '.join(CELL_TYPES)}",
        )
    return np.asarray(types == CELL_TYPES[0])


def pattern_codes(values: np.ndarray) -> np.ndarray:
    """Return patterns as int8 codes into ``PATTERNS``; whole numbers 0..6 are codes already.

    Raises
    ------
    UsageError
        For a value that is no pattern; names row and value.
    """
    if values.dtype.kind in "iu":
        codes, bad = values.astype(np.int64), (values < 0) | (values >= len(PATTERNS))
    else:
        objects = values.astype(object)
        codes = np.full(len(objects), -1, dtype=np.int64)
        for code, name in enumerate(PATTERNS):
            codes[objects == name] = code
        bad = codes < 0
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise UsageError(
            f"row {row}, column pattern: {values[row : row + 1].tolist()[0]!r} is no pattern",
            f"Valid: {', '.join(PATTERNS)}",
        )
    return codes.astype(np.int8)


def is_counts(table: Any) -> bool:
    """Tell whether a mapping holds one number a pattern rather than columns."""
    return isinstance(table, Mapping) and all(np.ndim(v) == 0 for v in table.values())


def pattern_counts(counts: Mapping[str, Any]) -> np.ndarray:
    """Return counts as int64 of shape (7,), in the order of ``PATTERNS``; absent ones are 0.

    Raises
    ------
    UsageError
        For an unknown pattern, or a count that is negative or no whole number.
    """
    out = np.zeros(len(PATTERNS), dtype=np.int64)
    for name, value in counts.items():
        if name not in PATTERNS:
            raise UsageError(f"{name!r} is no pattern", f"Valid: {', '.join(PATTERNS)}")
        try:
            whole = int(value)
            fits = whole == value and 0 <= whole < 2**53
        except (TypeError, ValueError, OverflowError):
            fits = False
        if not fits:
            raise UsageError(f"the count of {name} is {value!r}", "Give whole numbers >= 0")
        out[PATTERNS.index(name)] = whole
    return out
