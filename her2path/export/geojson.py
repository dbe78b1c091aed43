"""GeoJSON as QuPath reads it: cells as detections, regions as annotations; streamed."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray

from her2path.palette import AREA_COLOURS, SCORE_COLOURS, rgb
from her2path.schema import OUTLINE_PER_UM, OUTLINE_RAYS, PATTERNS
from her2path.store import RunStore, atomic_file

__all__ = ["CELL_CLASSES", "write", "write_cells", "write_regions"]

#: QuPath counts an H-score from exactly these names; the intensity decides, as in our H-score
CELL_CLASSES: tuple[dict[str, Any], ...] = (
    *(
        {"names": ["Tumor", name], "color": list(rgb(colour))}
        for name, colour in zip(
            ("Negative", "1+", "2+", "3+"), SCORE_COLOURS.values(), strict=True
        )
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
_COLUMNS = ("cell_id", "x_px", "y_px", "cell_type", "pattern", "intensity", "score", "region_id",
            "outline", *MEASURES.values())
_BATCH = 16_384
Offset = tuple[float, float]


def write(store: RunStore, folder: Path, offset: Offset) -> Path:
    """Write ``cells.geojson`` and ``regions.geojson`` into a folder; return the folder."""
    write_cells(store, folder / "cells.geojson", offset)
    write_regions(store, folder / "regions.geojson", offset)
    return folder


def write_cells(store: RunStore, path: Path, offset: Offset) -> Path:
    """Write every cell as a detection, level-0 px less ``offset``; memory is bounded."""
    mpp = store.result().slide.mpp or 1.0
    tables = store.iter_cells(_BATCH, _COLUMNS) if store.cells_path.exists() else iter(())
    _write_collection(path, (f for t in tables for f in _cells(t, mpp, offset)))
    return path


def _write_collection(path: Path, features: Iterable[str]) -> None:
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"type":"FeatureCollection","features":[')
        separator = "\n"
        for feature in features:
            file.write(separator)
            file.write(feature)
            separator = ",\n"
        file.write("\n]}\n")


def outlines_px(table: pa.Table, mpp: float, step: int = 1) -> NDArray[np.float64]:
    """Return the cells' outlines, (n, rays / step, 2) level-0 px as x, y."""
    flat = table["outline"].combine_chunks()
    radii = np.asarray(flat.flatten()).reshape(len(flat), OUTLINE_RAYS)[:, ::step]
    angle = 2 * np.pi * np.arange(0, OUTLINE_RAYS, step) / OUTLINE_RAYS
    reach = radii / (OUTLINE_PER_UM * mpp)
    centre = np.stack([table["x_px"].to_numpy(), table["y_px"].to_numpy()], axis=1)
    rays = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    ring: NDArray[np.float64] = centre[:, None, :].astype(np.float64) + reach[:, :, None] * rays
    return ring


def _cells(table: pa.Table, mpp: float, offset: Offset) -> Iterator[str]:
    rings = np.round(outlines_px(table, mpp, _STEP) - np.asarray(offset), 1)
    closed = np.concatenate([rings, rings[:, :1]], axis=1).tolist()
    tumour = pc.equal(table["cell_type"].cast(pa.string()), "tumour").to_pylist()
    patterns = table["pattern"].cast(pa.string()).to_pylist()
    plain = {k: table[k].to_pylist() for k in ("cell_id", "intensity", "score", "region_id")}
    measures = np.round(
        np.stack([table[c].to_numpy().astype(np.float64) for c in MEASURES.values()], axis=1), 4
    ).tolist()
    classes = [json.dumps(c) for c in CELL_CLASSES]
    names = [json.dumps(n) for n in MEASURES]
    for i, ring in enumerate(closed):
        kind = classes[plain["intensity"][i] if tumour[i] else -1]
        values = ",".join(f"{n}:{v!r}" for n, v in zip(names, measures[i], strict=True))
        yield (
            f'{{"type":"Feature","id":"{uuid.UUID(int=plain["cell_id"][i] & (2**128 - 1))}",'
            f'"geometry":{{"type":"Polygon","coordinates":[{json.dumps(ring, separators=(",", ":"))}]}},'
            f'"properties":{{"objectType":"detection","classification":{kind},'
            f'"metadata":{{"pattern":"{patterns[i]}","cell_id":"{plain["cell_id"][i]}"}},'
            f'"measurements":{{{values},"Score":{plain["score"][i]},'
            f'"Intensity":{plain["intensity"][i]},"Region":{plain["region_id"][i]}}}}}}}'
        )


def write_regions(store: RunStore, path: Path, offset: Offset) -> Path:
    """Write every region as an annotation, level-0 px less ``offset``."""
    mpp = store.result().slide.mpp or 1.0
    rows = store.regions().to_pylist() if store.regions_path.exists() else []
    _write_collection(path, (json.dumps(_region(r, mpp, offset)) for r in rows))
    return path


def _region(row: dict[str, Any], mpp: float, offset: Offset) -> dict[str, Any]:
    shape = shapely.transform(
        shapely.from_wkb(row["polygon"]), lambda xy: np.round(xy / mpp - np.asarray(offset), 1)
    )
    numbers = {k: row[k] for k in ("tumour_cells", "tissue_area_mm2", "tumour_area_mm2", "h_score",
                                   "positive_fraction", "positive_low", "positive_high", "gi_z")}
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
