"""Columns of a table, whatever it is: pyarrow.Table, DataFrame or dict of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from her2path.core.errors import ManifestError

__all__ = ["codes_of", "column_names", "column_of", "numbers_of"]

#: no slide, and no row of slides, is longer (µm)
MAX_UM = 1e7


def column_names(table: Any) -> list[str]:
    """Return the names of a table's columns."""
    if isinstance(table, pa.Table):
        return list(table.column_names)
    if isinstance(table, Mapping):
        return [str(name) for name in table]
    return [str(name) for name in getattr(table, "columns", [])]


def column_of(table: Any, name: str) -> Any:
    """Return a column as a pyarrow array, dictionary-encoded if it came so; None where absent.

    Raises
    ------
    ManifestError
        For a column that has no type of its own.
    """
    if name not in column_names(table):
        return None
    raw = table[name]
    if isinstance(raw, pa.ChunkedArray):
        return raw.combine_chunks() if raw.num_chunks != 1 else raw.chunk(0)
    try:
        return raw if isinstance(raw, pa.Array) else pa.array(raw, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as exc:
        raise ManifestError(
            f"the column {name!r} mixes kinds of values", "Give it one kind, text or numbers"
        ) from exc


def _needed(table: Any, name: str) -> Any:
    column = column_of(table, name)
    if column is None:
        have = ", ".join(column_names(table)) or "nothing"
        raise ManifestError(f"the table has no column {name!r}", f"It has: {have}")
    return column


def numbers_of(table: Any, name: str, *, limit: float = MAX_UM) -> NDArray[np.float64]:
    """Return a column of finite numbers, (n,) float64.

    Raises
    ------
    ManifestError
        For a missing column, text, an empty cell, NaN, infinity, or a value beyond ``limit``.
    """
    column = _needed(table, name)
    try:
        values = np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
        raise ManifestError(f"the column {name!r} is not numbers", "Correct the column") from exc
    bad = np.flatnonzero(~(np.abs(values) <= limit))
    if bad.size:
        raise ManifestError(
            f"the column {name!r} has no usable number in row {bad[0] + 1} (of {values.size})",
            f"Numbers are finite and within +-{limit:g}",
        )
    return values


def codes_of(
    table: Any, name: str, words: Sequence[str], *, missing_ok: bool = False
) -> NDArray[np.int8]:
    """Return a column of words as indices into ``words``, (n,) int8; empty cells are -1.

    Raises
    ------
    ManifestError
        For a missing column, an unknown word, or an empty cell that is not allowed.
    """
    column = _needed(table, name)
    if not isinstance(column, pa.DictionaryArray):
        if pa.types.is_null(column.type):
            column = column.cast(pa.string())
        column = column.dictionary_encode()
    known = {word: i for i, word in enumerate(words)}
    entries = [None if v is None else str(v) for v in column.dictionary.to_pylist()]
    table_codes = np.array([known.get(str(v), -2) for v in entries] + [-1], np.int8)
    # the index of an empty cell is the entry added last
    at = column.indices.fill_null(len(entries)).to_numpy(zero_copy_only=False).astype(np.int64)
    codes = table_codes[at]
    bad = np.flatnonzero((codes == -2) | ((codes == -1) & (not missing_ok)))
    if bad.size:
        word = "nothing" if codes[bad[0]] == -1 else repr(entries[at[bad[0]]])
        raise ManifestError(
            f"the column {name!r} holds {word} in row {bad[0] + 1}", f"Valid: {', '.join(words)}"
        )
    return codes
