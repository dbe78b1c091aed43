"""One block of pixels in, one table of raw cells out; and tables in, the final cells out.

The two passes as pure functions. `measure` sees pixels of one block with its halo; `resolve` sees
raw cells of a block and of its surroundings. Neither knows files, dask or the slide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from her2path.cells import membrane, patterns, qc, reach, reading, stain
from her2path.cells.stain.unmixing import cell_means
from her2path.core._scratch import scratch
from her2path.core.geometry import FIXED, Box
from her2path.core.schema import CELLS, OUTLINE_PER_UM, OUTLINE_RAYS, PATTERNS, arrow_schema
from her2path.core.settings import Settings

__all__ = [
    "FIXED",
    "HALO_UM",
    "MAP_PX",
    "REACH_UM",
    "Measured",
    "Optics",
    "measure",
    "measure_cells",
    "resolve",
]

#: side of a map cell, analysis pixels
MAP_PX = 32
#: map rows whose focus is measured at a time
STRIP = 4
#: probability from which a find is surely a tumour cell, in the map of epithelium
SURE = 0.70
#: what a block reads beyond its core, µm; no less than `reach.finding` and `reach.measuring` look
HALO_UM = reading.HALO_UM + membrane.HALO_UM
#: how far a cell's final values may depend on other raw cells, µm
REACH_UM = reach.total_um(reach.sharing())
#: row stride of the cell identity
ID_STRIDE = 1 << 31

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Optics:
    """What turns level-0 pixels into optical density on the analysis plane.

    Parameters
    ----------
    mpp : float
        µm per level-0 pixel.
    factor : int
        Level-0 pixels per analysis pixel.
    stain : StainModel
        White point and stain vectors of the slide.
    """

    mpp: float
    factor: int
    stain: stain.StainModel

    @property
    def mpp_a(self) -> float:
        """µm per analysis pixel."""
        return self.mpp * self.factor


@dataclass(frozen=True)
class Measured:
    """What one block gave: raw cells, and means over map cells of its core.

    ``raw`` holds one row a cell; ``maps`` float32 arrays (rows, columns) of `MAP_PX` analysis
    pixels each: hematoxylin OD, dab OD, `qc.FEATURES`, and counts of nuclei and epithelium.
    """

    raw: pa.Table
    maps: dict[str, NDArray[np.float32]]


def measure(
    rgb: NDArray[np.uint8], read: Box, core: Box, optics: Optics, settings: Settings
) -> Measured:
    """Find and measure the cells whose nucleus centre lies in ``core``.

    Parameters
    ----------
    rgb : uint8 (read.height, read.width, 3)
        Level-0 pixels of ``read``.
    read, core : Box
        Level-0 boxes; ``read`` is aligned to the analysis factor.
    optics : Optics
        Pixel size and stains.
    settings : Settings
        ``nuclei`` is used.
    """
    planes = _planes(rgb, optics)
    raw = _raw_cells(rgb, planes, read, core, optics, settings)
    maps = _maps(planes, rgb, read, core, optics)
    return Measured(raw, maps | _counts(raw, maps["dab"].shape, core, optics.factor))


def measure_cells(
    rgb: NDArray[np.uint8], read: Box, core: Box, optics: Optics, settings: Settings
) -> pa.Table:
    """Return the raw cells of `measure`, without its maps."""
    return _raw_cells(rgb, _planes(rgb, optics), read, core, optics, settings)


def _planes(rgb: NDArray[np.uint8], optics: Optics) -> NDArray[np.float32]:
    f = optics.factor
    shape = (3, -(-rgb.shape[0] // f), -(-rgb.shape[1] // f))
    return stain.reduce_planes(rgb, f, optics.stain, scratch("stains", shape))


def _raw_cells(
    rgb: NDArray[np.uint8], planes: NDArray[np.float32], read: Box, core: Box, optics: Optics,
    settings: Settings,
) -> pa.Table:  # fmt: skip
    f = optics.factor
    origin = (read.y0 // f, read.x0 // f)

    def owned(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
        return _inside(_fixed(x, origin[1]), _fixed(y, origin[0]), core, f)

    inner = (
        (core.y0 // f - origin[0], -(-core.y1 // f) - origin[0]),
        (core.x0 // f - origin[1], -(-core.x1 // f) - origin[1]),
    )
    found = reading.read_cells(planes, optics.mpp_a, origin, settings.nuclei, owned, inner)
    x_fx, y_fx = _fixed(found.x, origin[1]), _fixed(found.y, origin[0])
    cell_id = y_fx * ID_STRIDE + x_fx
    order = np.argsort(cell_id, kind="stable")
    mine = found.take(order)
    rays = membrane.measure_rays(rgb, optics.stain.tables()[1], f, optics.mpp, mine)
    raw: Columns = {"cell_id": cell_id[order], "x_fx": x_fx[order], "y_fx": y_fx[order]}
    return to_table(raw | _read_columns(mine, optics.mpp_a) | rays)


def _counts(
    raw: pa.Table, shape: tuple[int, ...], core: Box, factor: int
) -> dict[str, NDArray[np.float32]]:
    """Return how many finds, and how many sure tumour cells, every map cell of the core holds."""
    found = to_columns(raw, ("x_fx", "y_fx", "kind"))
    row = (found["y_fx"] + FIXED // 2) // (FIXED * MAP_PX) - core.y0 // (factor * MAP_PX)
    col = (found["x_fx"] + FIXED // 2) // (FIXED * MAP_PX) - core.x0 // (factor * MAP_PX)
    kind = found["kind"]
    real = kind[:, 2] < 0.5
    sure = (kind[:, 0] > kind[:, 1]) & (kind[:, 0] >= SURE)
    made = {}
    for name, which in (("nuclei", real), ("epithelium", sure)):
        count = np.zeros(shape, np.float32)
        np.add.at(count, (row[which], col[which]), 1)
        made[name] = count
    return made


def _fixed(local: NDArray[np.float64], origin: int) -> NDArray[np.int64]:
    return np.rint(local * FIXED).astype(np.int64) + origin * FIXED


def level0(fixed: NDArray[np.int64], factor: int) -> NDArray[np.float64]:
    """Return level-0 pixel coordinates (pixel edges at whole numbers) of fixed-point positions."""
    return (fixed / FIXED + 0.5) * factor


def _inside(
    x_fx: NDArray[np.int64], y_fx: NDArray[np.int64], core: Box, factor: int
) -> NDArray[np.bool_]:
    x, y = level0(x_fx, factor), level0(y_fx, factor)
    return (x >= core.x0) & (x < core.x1) & (y >= core.y0) & (y < core.y1)


def _read_columns(found: reading.Cells, mpp_a: float) -> Columns:
    """Return the raw columns that the reader gives."""
    return {
        "nucleus_area_um2": found.nucleus_area_um2,
        "nucleus_hematoxylin_od": found.hematoxylin,
        "nucleus_dab_od": found.dab,
        "nucleus_elongation": found.elongation,
        "nucleus_outline": _outline(found.nucleus, mpp_a),
        "outline": _outline(found.border, mpp_a),
        "kind": found.kind,
        "heat": found.heat,
        "evidence": found.evidence,
    }


def _outline(radii: NDArray[np.float32], mpp_a: float) -> NDArray[np.int16]:
    scaled = np.rint(radii.astype(np.float64) * (mpp_a * OUTLINE_PER_UM))
    return np.clip(scaled, 0, np.iinfo(np.int16).max).astype(np.int16)


def _maps(
    planes: NDArray[np.float32], rgb: NDArray[np.uint8], read: Box, core: Box, optics: Optics
) -> dict[str, NDArray[np.float32]]:
    """Return the means and the features of quality control of the core's map cells."""
    f = optics.factor
    y0, x0 = (core.y0 - read.y0) // f, (core.x0 - read.x0) // f
    rows, cols = -(-core.height // (f * MAP_PX)), -(-core.width // (f * MAP_PX))
    parts: list[dict[str, NDArray[np.float32]]] = []
    # some map rows at a time: what is summed stays in the processor's cache
    for r in range(0, rows, STRIP):
        y1 = y0 + min(r + STRIP, rows) * MAP_PX
        strip = planes[:, y0 + r * MAP_PX : y1, x0 : x0 + cols * MAP_PX]
        # no further than the core: beyond the slide's edge there is only filling
        bottom = min(f * y1, core.y1 - read.y0)
        pixels = rgb[f * (y0 + r * MAP_PX) : bottom, f * x0 : f * x0 + core.width]
        found = qc.measure_features(strip, pixels, MAP_PX, f, optics.mpp_a)
        found["hematoxylin"] = cell_means(np.ascontiguousarray(strip[0]), MAP_PX)
        found["dab"] = cell_means(np.ascontiguousarray(strip[1]), MAP_PX)
        parts.append(found)
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def to_table(columns: Columns) -> pa.Table:
    """Return numpy columns, (N,) or (N, K), as an Arrow table with fixed-size lists."""
    arrays = {}
    for name, values in columns.items():
        values = np.ascontiguousarray(values)
        if values.ndim == 2:
            arrays[name] = pa.FixedSizeListArray.from_arrays(
                pa.array(values.ravel()), values.shape[1]
            )
        else:
            arrays[name] = pa.array(values)
    return pa.table(arrays)


def to_columns(table: pa.Table, names: tuple[str, ...] | None = None) -> Columns:
    """Return an Arrow table's columns as numpy arrays, lists as (N, K)."""
    out: Columns = {}
    for name in names or table.column_names:
        column = table.column(name).combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
        if pa.types.is_fixed_size_list(column.type):
            flat = column.flatten().to_numpy(zero_copy_only=False)
            out[name] = flat.reshape(-1, column.type.list_size)
        else:
            out[name] = column.to_numpy(zero_copy_only=False)
    return out


def resolve(
    raw: pa.Table,
    core: Box,
    optics: Optics,
    settings: Settings,
    incomplete_score: Literal[2, 3] = 2,
) -> pa.Table:
    """Return the final cells of ``core`` from the raw cells of it and its surroundings.

    Parameters
    ----------
    raw : pyarrow.Table
        Raw cells whose centres lie within `REACH_UM` of ``core`` (more do no harm), once each.
    core : Box
        Level-0 box that owns the cells returned.
    incomplete_score : int
        Score of ``intense_incomplete``: 2 under breast guidelines, 3 under the others.

    Returns
    -------
    pyarrow.Table
        Columns of `schema.CELLS` less ``region_id`` and ``receptors``, sorted by ``cell_id``.
    """
    columns = _once(to_columns(raw.sort_by("cell_id")), optics.mpp_a)
    own = _inside(columns["x_fx"], columns["y_fx"], core, optics.factor)
    if not own.any():
        return arrow_schema(_FINAL).empty_table()
    lines: Columns = dict(membrane.resolve(columns, optics.mpp_a, own))
    out = _positions(columns, own, optics) | lines | _kinds(columns["kind"][own], settings)
    pattern, intensity, score = patterns.classify(
        lines["completeness"], lines[settings.membrane.measure], settings.membrane, incomplete_score
    )
    out |= {"pattern": pattern, "intensity": intensity, "score": score}
    return _final_table(out)


def _once(columns: Columns, mpp_a: float) -> Columns:
    """Return the raw columns without the second finds of a nucleus."""
    um = mpp_a / FIXED
    double = reading.are_doubles(
        columns["x_fx"] * um, columns["y_fx"] * um, columns["outline"] / OUTLINE_PER_UM,
        columns["heat"].astype(np.float64), columns["cell_id"],
    )  # fmt: skip
    return {name: values[~double] for name, values in columns.items()}


def _kinds(kind: NDArray[np.float32], settings: Settings) -> Columns:
    """Return type, probability of tumour and certainty of the kind of cells (N, 3).

    Annotations say where invasive tumour is; inside them morphology still leaves out lymphocytes
    and stroma, unless every cell is asked for.
    """
    if settings.tumour.method == "all":
        everyone = np.ones(len(kind), np.float32)
        return {
            "cell_type": np.zeros(len(kind), np.int8), "tumour_probability": everyone,
            "kind_certainty": everyone,
        }  # fmt: skip
    tumour = kind[:, 0] / np.maximum(kind[:, 0] + kind[:, 1], np.float32(1e-6))
    return {
        "cell_type": (tumour < 0.5).astype(np.int8), "tumour_probability": tumour,
        "kind_certainty": np.maximum(kind[:, 0], kind[:, 1]),
    }  # fmt: skip


def _positions(columns: Columns, own: NDArray[np.bool_], optics: Optics) -> Columns:
    x_px = level0(columns["x_fx"][own], optics.factor)
    y_px = level0(columns["y_fx"][own], optics.factor)
    outline = columns["outline"][own]
    radius = outline.astype(np.float64) / OUTLINE_PER_UM
    wedge = 0.5 * np.sin(2 * np.pi / OUTLINE_RAYS)
    kept = ("nucleus_area_um2", "nucleus_hematoxylin_od", "nucleus_dab_od", "nucleus_elongation")
    return {
        "cell_id": columns["cell_id"][own],
        "x_um": x_px * optics.mpp,
        "y_um": y_px * optics.mpp,
        "x_px": x_px,
        "y_px": y_px,
        "cell_area_um2": wedge * (radius * np.roll(radius, -1, axis=1)).sum(axis=1),
        "outline": outline,
        "nucleus_outline": columns["nucleus_outline"][own],
        **{name: columns[name][own] for name in kept},
    }


#: region and receptors are decided for the slide as a whole, after the stream
_FINAL = tuple(c for c in CELLS if c.name not in ("region_id", "receptors"))


def _final_table(out: Columns) -> pa.Table:
    from her2path.core.schema import CELL_TYPES

    words = {"cell_type": CELL_TYPES, "pattern": PATTERNS}
    arrays = []
    for column in _FINAL:
        values = np.ascontiguousarray(out[column.name])
        if column.name in words:
            arrays.append(
                pa.DictionaryArray.from_arrays(values.astype(np.int8), list(words[column.name]))
            )
        elif values.ndim == 2:
            flat = pa.array(values.ravel(), column.type.value_type)
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, values.shape[1]))
        else:
            arrays.append(pa.array(values.astype(column.type.to_pandas_dtype()), column.type))
    return pa.table(arrays, schema=arrow_schema(_FINAL))
