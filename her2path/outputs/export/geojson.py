"""GeoJSON as QuPath reads it: cells as detections, regions as annotations; streamed."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray

from her2path.core.geometry import FilePlane
from her2path.core.schema import OUTLINE_PER_UM, OUTLINE_RAYS, PATTERNS
from her2path.io.store import RunStore, atomic_file, read_json
from her2path.outputs.palette import AREA_COLOURS, SCORE_COLOURS, rgb

__all__ = ["CELL_CLASSES", "write", "write_cells", "write_regions"]

#: QuPath counts an H-score from exactly these names; the intensity decides, as in our H-score
CELL_CLASSES: tuple[dict[str, Any], ...] = (
    *(
        {"names": ["Tumor", name], "color": list(rgb(colour))}
        for name, colour in zip(("Negative", "1+", "2+", "3+"), SCORE_COLOURS.values(), strict=True)
    ),
    {"names": ["Other"], "color": [120, 120, 120]},
)
#: measurement in QuPath -> column
MEASURES = {
    "Membrane OD": "membrane_od",
    "Membrane OD (whole ring)": "membrane_od_ring",
    "Membrane mass OD*um": "membrane_mass",
    "Completeness": "completeness",
    "Membrane width um": "membrane_width_um",
    "Cytoplasm OD": "cytoplasm_od",
    "Nucleus area um^2": "nucleus_area_um2",
    "Nucleus hematoxylin OD": "nucleus_hematoxylin_od",
}
#: every second ray: half the file, and under 0.1 µm off
_STEP = 2
_COLUMNS = (
    "cell_id",
    "x_px",
    "y_px",
    "cell_type",
    "pattern",
    "intensity",
    "score",
    "region_id",
    "outline",
    "nucleus_outline",
    *MEASURES.values(),
)
_BATCH = 16_384
Offset = tuple[float, float]


def write(store: RunStore, folder: Path, offset: Offset) -> Path:
    """Write cells, regions, and areas where there are any, into a folder; return the folder."""
    write_cells(store, folder / "cells.geojson", offset)
    write_regions(store, folder / "regions.geojson", offset)
    write_annotations(store, folder / "annotations.geojson", offset)
    return folder


def write_annotations(store: RunStore, path: Path, offset: Offset) -> None:
    """Write the areas that were given and those that readers drew, level-0 px less ``offset``.

    Names and classes stay; no file is made where there is no area.
    """
    features: list[dict[str, Any]] = []
    for source in (store.annotations_path, store.out / "corrections.geojson"):
        tree = read_json(source) if source.is_file() else {}
        features += [f for f in tree.get("features") or [] if _is_area(f)]
    if not features:
        path.unlink(missing_ok=True)
        return
    _write_collection(path, (json.dumps(_shifted(f, offset)) for f in features))


def _is_area(feature: dict[str, Any]) -> bool:
    return (feature.get("geometry") or {}).get("type") in ("Polygon", "MultiPolygon")


def _shifted(feature: dict[str, Any], offset: Offset) -> dict[str, Any]:
    shape = shapely.from_geojson(json.dumps(feature["geometry"]))
    moved = shapely.transform(shape, lambda xy: np.round(xy - np.asarray(offset), 1))
    return {**feature, "geometry": json.loads(shapely.to_geojson(moved))}


def write_cells(store: RunStore, path: Path, offset: Offset) -> Path:
    """Write every cell with border and nucleus, level-0 px less ``offset``; memory is bounded."""
    plane = store.result().slide.planes.file
    tables = store.iter_cells(_BATCH, _COLUMNS) if store.cells_path.exists() else iter(())
    _write_collection(path, (_cells(t, plane, offset) for t in tables))
    return path


def _write_collection(path: Path, pieces: Iterable[str]) -> None:
    """Write pieces of one or more features each, as they come."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"type":"FeatureCollection","features":[')
        separator = "\n"
        for piece in pieces:
            file.write(separator)
            file.write(piece)
            separator = ",\n"
        file.write("\n]}\n")


def outlines_px(
    table: pa.Table, plane: FilePlane, step: int = 1, column: str = "outline"
) -> NDArray[np.float64]:
    """Return the cells' outlines, (n, rays / step, 2) in the file's own level-0 px as x, y.

    ``column`` is ``outline`` (the border) or ``nucleus_outline``.
    """
    flat = table[column].combine_chunks()
    radii = np.asarray(flat.flatten()).reshape(len(flat), OUTLINE_RAYS)[:, ::step]
    angle = 2 * np.pi * np.arange(0, OUTLINE_RAYS, step) / OUTLINE_RAYS
    side = np.array([plane.mpp_x, plane.mpp_y])
    reach = radii[:, :, None] / (OUTLINE_PER_UM * side)
    centre = np.stack([table["x_px"].to_numpy(), table["y_px"].to_numpy()], axis=1)
    rays = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    ring: NDArray[np.float64] = centre[:, None, :].astype(np.float64) + reach * rays
    return ring


def _cells(table: pa.Table, plane: FilePlane, offset: Offset) -> str:
    """Return a batch of cells as features, put together column by column: no loop over cells."""
    tumour = pc.equal(table["cell_type"].cast(pa.string()), "tumour")
    kind = pc.if_else(tumour, table["intensity"], pa.scalar(4, pa.int8()))
    classes = pa.array([json.dumps(c, separators=(",", ":")) for c in CELL_CLASSES])
    ids = table["cell_id"].cast(pa.string())
    parts: list[Any] = [
        '{"type":"Feature","id":"', _uuids(table["cell_id"]),
        '","geometry":{"type":"Polygon","coordinates":[', _rings(table, plane, offset),
        ']},"nucleusGeometry":{"type":"Polygon","coordinates":[',
        _rings(table, plane, offset, "nucleus_outline"),
        ']},"properties":{"objectType":"cell","classification":', classes.take(kind),
        ',"metadata":{"pattern":"', table["pattern"].cast(pa.string()), '","cell_id":"', ids,
        '"},"measurements":{',
    ]  # fmt: skip
    for name, column in MEASURES.items():
        parts += [f"{json.dumps(name)}:", _decimal(table[column].to_numpy(), 4), ","]
    for name, column in (("Score", "score"), ("Intensity", "intensity"), ("Region", "region_id")):
        parts += [f'"{name}":', table[column].cast(pa.string()), ","]
    parts[-1] = "}}}"
    features = pc.binary_join_element_wise(*(_whole(p) for p in parts), "")
    return str(pc.binary_join(_lists(features, len(features)), ",\n")[0].as_py())


def _whole(part: Any) -> Any:
    """Return constants as scalars and columns in one piece."""
    if isinstance(part, str):
        return pa.scalar(part)
    return part.combine_chunks() if isinstance(part, pa.ChunkedArray) else part


def _lists(values: pa.Array, size: int) -> pa.ListArray:
    """Return consecutive values as lists of ``size``."""
    ends = pa.array(np.arange(0, len(values) + 1, size), pa.int32())
    return pa.ListArray.from_arrays(ends, values)


def _decimal(values: NDArray[Any], digits: int) -> pa.Array:
    """Return numbers as text with so many digits after the point."""
    return pa.array(values, pa.float64()).cast(pa.decimal128(18, digits)).cast(pa.string())


def _uuids(ids: pa.ChunkedArray) -> pa.Array:
    """Return each cell_id as a UUID, which QuPath wants: its 16 hex digits, zeros before them."""
    raw = ids.to_numpy().astype(">u8").tobytes().hex()
    text = pa.array([raw[i : i + 16] for i in range(0, len(raw), 16)])
    halves = pc.utf8_slice_codeunits(text, 0, 4), pc.utf8_slice_codeunits(text, 4, 16)
    return pc.binary_join_element_wise("00000000-0000-0000", *halves, "-")


def _rings(table: pa.Table, plane: FilePlane, offset: Offset, column: str = "outline") -> pa.Array:
    """Return each outline as the text of one closed ring, to a tenth of a pixel."""
    rings = outlines_px(table, plane, _STEP, column) - np.asarray(offset)
    closed = np.concatenate([rings, rings[:, :1]], axis=1)
    points = pc.binary_join_element_wise(
        _decimal(closed[..., 0].ravel(), 1), _decimal(closed[..., 1].ravel(), 1), ","
    )
    lines = pc.binary_join(_lists(points, closed.shape[1]), "],[")
    return pc.binary_join_element_wise("[[", lines, "]]", "")


def write_regions(store: RunStore, path: Path, offset: Offset) -> Path:
    """Write every region as an annotation, level-0 px less ``offset``."""
    plane = store.result().slide.planes.file
    rows = store.regions().to_pylist() if store.regions_path.exists() else []
    _write_collection(path, (json.dumps(_region(r, plane, offset)) for r in rows))
    return path


def _region(row: dict[str, Any], plane: FilePlane, offset: Offset) -> dict[str, Any]:
    side = np.array([plane.mpp_x, plane.mpp_y])
    shape = shapely.transform(
        shapely.from_wkb(row["polygon"]), lambda xy: np.round(xy / side - np.asarray(offset), 1)
    )
    numbers = {
        k: row[k]
        for k in (
            "tumour_cells",
            "tissue_area_mm2",
            "tumour_area_mm2",
            "h_score",
            "positive_fraction",
            "positive_low",
            "positive_high",
            "gi_z",
        )
    }
    numbers |= {f"fraction_{p}": row[f"fraction_{p}"] for p in PATTERNS}
    words = {k: row[k] for k in ("kind", "score", "substate", "category", "area_class")}
    colour = list(rgb(AREA_COLOURS[row["area_class"]]))
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"her2path-region-{row['region_id']}")),
        "geometry": shapely.geometry.mapping(shape),
        "properties": {
            "objectType": "annotation",
            "name": row["name"],
            "classification": {"name": f"HER2 {row['area_class']}", "color": colour},
            "isLocked": True,
            "metadata": {k: str(v) for k, v in words.items() if v is not None},
            "measurements": {k: v for k, v in numbers.items() if v is not None},
        },
    }
