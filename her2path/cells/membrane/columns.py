"""The raw columns: what pass 1 leaves of a cell's membrane, in fixed point."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from her2path.cells.reading.inputs import PLACES
from her2path.core.schema import OUTLINE_RAYS, Column

__all__ = ["RAW_COLUMNS", "SCALES", "pack", "unpack"]

_i16 = pa.list_(pa.int16(), OUTLINE_RAYS)
_u8 = pa.list_(pa.uint8(), OUTLINE_RAYS)
_places = pa.list_(pa.uint8(), PLACES)

#: what one count of a fixed-point column is worth, in the column's unit
SCALES: dict[str, float] = {
    "line_r": 0.01,
    "line_mass": 1 / 4000,
    "line_crest": 1 / 8000,
    "line_width": 0.02,
    "line_own": 1 / 255,
}

RAW_COLUMNS: tuple[Column, ...] = (
    Column("line_r", _i16, "1/100 µm", "distance of the line from the nucleus' centre"),
    Column("line_mass", _i16, "1/4000 OD·µm", "DAB OD across the line, integrated"),
    Column("line_crest", _i16, "1/8000 OD", "DAB OD of the crest above the cytoplasm"),
    Column("line_width", _u8, "1/50 µm", "full width at half maximum of the line"),
    Column("line_own", _places, "1/255", "probability that the own membrane is stained, by place"),
    Column("cytoplasm_od", pa.float32(), "OD", "median DAB OD between nucleus and membrane"),
)

_TYPES = {c.name: c.type for c in RAW_COLUMNS}


@njit(cache=True, nogil=True)
def _to_counts(values, worth, low, high, out):  # type: ignore[no-untyped-def]
    """Write flat values in fixed point, to the nearest even count, clipped."""
    for i in range(values.size):
        out[i] = min(max(np.rint(values[i] / worth), low), high)


def pack(name: str, values: NDArray[np.float32]) -> NDArray[np.generic]:
    """Return a measured column in fixed point, clipped to the type's range."""
    kind = np.int16 if _TYPES[name].value_type == pa.int16() else np.uint8
    info = np.iinfo(kind)
    packed: NDArray[np.generic] = np.empty(values.shape, kind)
    flat = np.ascontiguousarray(values, np.float32).reshape(-1)
    _to_counts(flat, SCALES[name], float(info.min), float(info.max), packed.reshape(-1))
    return packed


def unpack(name: str, counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return a fixed-point column in its unit."""
    return counts.astype(np.float64) * SCALES[name]
