"""The maps as an OME-Zarr of their own, with the regions as one more label image."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from her2path.io.store import RunStore, add_label, atomic_dir
from her2path.outputs.palette import AREA_COLOURS, rgb

__all__ = ["region_labels", "write"]


def write(store: RunStore, folder: Path, _offset: tuple[float, float]) -> Path:
    """Write ``her2path.ome.zarr``: maps, masks, and ``labels/regions``; return its path."""
    target = folder / "her2path.ome.zarr"
    maps = store.maps()
    rows = store.regions().to_pylist() if store.regions_path.exists() else []
    with atomic_dir(target) as temporary:
        shutil.copytree(store.maps_path, temporary, dirs_exist_ok=True)
        if rows:
            shape = maps.read(maps.names[0]).shape
            labels = region_labels(rows, shape, maps.mpp_um())
            add_label(temporary, "regions", labels, maps.mpp_um(), _properties(rows))
    return target


def region_labels(
    rows: list[dict[str, Any]], shape: tuple[int, ...], mpp_um: float
) -> NDArray[np.int32]:
    """Return regions as labels, (H, W) int32: region_id + 1, and 0 outside."""
    canvas = Image.new("I", (shape[1], shape[0]), 0)
    pen = ImageDraw.Draw(canvas)
    for row in rows:
        geometry = shapely.from_wkb(row["polygon"])
        for part in getattr(geometry, "geoms", [geometry]):
            # a pixel belongs to the region that holds its centre
            ring = [(x / mpp_um - 0.5, y / mpp_um - 0.5) for x, y in part.exterior.coords]
            pen.polygon(ring, fill=int(row["region_id"]) + 1)
    return np.asarray(canvas, np.int32)


def _properties(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the label's colours and numbers, as OME-Zarr has them."""
    keys = (
        "name",
        "score",
        "substate",
        "area_class",
        "positive_fraction",
        "h_score",
        "tumour_cells",
    )
    return {
        "colors": [
            {"label-value": r["region_id"] + 1, "rgba": [*rgb(AREA_COLOURS[r["area_class"]]), 255]}
            for r in rows
        ],
        "properties": [
            {"label-value": r["region_id"] + 1, **{k: r[k] for k in keys if r[k] is not None}}
            for r in rows
        ],
    }
