"""The raw columns: what pass 1 leaves of a cell's membrane, in fixed point."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from her2path.membrane._inputs import PLACES
from her2path.membrane._network import LOOKS
from her2path.schema import OUTLINE_RAYS, Column

__all__ = ["RAW_COLUMNS", "SCALES", "pack", "unpack"]

_i16 = pa.list_(pa.int16(), OUTLINE_RAYS)
_looks = pa.list_(pa.int8(), PLACES * LOOKS)
_u8 = pa.list_(pa.uint8(), OUTLINE_RAYS)

#: what one count of a fixed-point column is worth, in the column's unit
SCALES: dict[str, float] = {
    "line_r": 0.01,
    "line_mass": 1 / 4000,
    "line_crest": 1 / 8000,
    "line_width": 0.02,
    "line_ridge": 1 / 255,
    "line_edge": 0.01,
}

RAW_COLUMNS: tuple[Column, ...] = (
    Column("line_r", _i16, "1/100 µm", "distance of the line from the nucleus' centre"),
    Column("line_mass", _i16, "1/4000 OD·µm", "DAB OD integrated across the line"),
    Column("line_crest", _i16, "1/8000 OD", "DAB OD of the crest above its shoulders"),
    Column("line_width", _u8, "1/50 µm", "full width at half maximum of the line"),
    Column("line_ridge", _u8, "1/255", "lower over higher drop to the two shoulders; 0 is a step"),
    Column("line_edge", _u8, "1/100 µm", "distance to the nearest nuclear edge, 2.55 at most"),
    Column("line_kind", _u8, "", "0 expansion, 1 line, 2 limit; + 4 a second line behind"),
    Column("line_look", _looks, "1/127", "fitted numbers that say how the border looks, by place"),
    Column("cytoplasm_od", pa.float32(), "OD", "median DAB OD between nucleus and membrane"),
    Column("line_noise", pa.float32(), "OD·µm", "what texture alone reads as mass on one ray"),
    Column("line_mpp", pa.float32(), "µm/px", "pixel size at which the line was read"),
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
