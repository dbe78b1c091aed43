"""Patches of real cells, for the eye that checks the program."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from her2path.core.errors import OutputError
from her2path.core.schema import PATTERNS
from her2path.io.store.files import atomic_dir

__all__ = ["PATCH_PX", "Gallery", "read_gallery", "write_gallery"]

#: side of a patch, pixels
PATCH_PX = 64
_COLUMNS = {"cell_id": np.int64, "x_px": np.float32, "y_px": np.float32, "mpp": np.float32}


@dataclass(frozen=True)
class Gallery:
    """Cell patches.

    Attributes
    ----------
    patches : (n, 64, 64, 3) uint8
        RGB, the nucleus centre in the middle.
    table : pa.Table
        ``cell_id``, ``pattern``, ``borderline`` (bool), ``x_px``, ``y_px`` (level-0 px of the
        centre), ``mpp`` (µm per patch pixel); one row a patch.
    """

    patches: NDArray[np.uint8]
    table: pa.Table


def write_gallery(path: Path, patches: NDArray[np.uint8], table: pa.Table) -> None:
    """Write cell patches with what they show.

    Parameters
    ----------
    path : Path
        The Zarr folder, replaced as a whole.
    patches : (n, 64, 64, 3) uint8
    table : pa.Table
        The columns of `Gallery.table`, n rows.

    Raises
    ------
    DiskFull, OutputError
    ValueError
        Where the shapes do not fit.
    """
    count = table.num_rows
    if patches.shape != (count, PATCH_PX, PATCH_PX, 3):
        raise ValueError(f"{count} rows need patches of shape ({count}, 64, 64, 3)")
    names = pa.array(PATTERNS)
    codes = pc.index_in(table["pattern"].cast(pa.string()), value_set=names)
    with atomic_dir(path) as folder:
        root = zarr.open_group(folder, mode="w", zarr_format=3)
        root.attrs["patterns"] = list(PATTERNS)
        rows = max(1, count)
        _put(root, "patches", np.asarray(patches, np.uint8), (min(rows, 32), PATCH_PX, PATCH_PX, 3))
        _put(root, "pattern", codes.to_numpy().astype(np.int8), (rows,))
        _put(root, "borderline", table["borderline"].to_numpy().astype(np.uint8), (rows,))
        for name, kind in _COLUMNS.items():
            _put(root, name, table[name].to_numpy().astype(kind), (rows,))


def _put(root: zarr.Group, name: str, values: NDArray[Any], chunks: tuple[int, ...]) -> None:
    shards = (-(-max(1, len(values)) // chunks[0]) * chunks[0], *chunks[1:])
    array = root.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=chunks,
        shards=shards,
        compressors=[ZstdCodec(level=5)],
        fill_value=0,
    )
    if len(values):
        array[...] = values


def read_gallery(path: Path) -> Gallery:
    """Read cell patches.

    Raises
    ------
    OutputError
        Where they are missing or damaged.
    """
    try:
        root = zarr.open_group(path, mode="r")
        names: Any = root.attrs["patterns"]
        columns = {k: np.asarray(root[k][...]) for k in _COLUMNS}
        codes = np.asarray(root["pattern"][...])
        columns["pattern"] = np.array(names, dtype=str)[codes]
        columns["borderline"] = np.asarray(root["borderline"][...]).astype(bool)
        patches = np.asarray(root["patches"][...])
    except (OSError, KeyError, IndexError, TypeError, ValueError) as exc:
        raise OutputError(
            f"{path} is missing or damaged", "Score the slide again with --overwrite"
        ) from exc
    return Gallery(patches, pa.table(columns))
