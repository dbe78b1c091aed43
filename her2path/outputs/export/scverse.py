"""AnnData and SpatialData: the cell table where single-cell tools look for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from her2path.core._optional import require
from her2path.core.errors import OutputError
from her2path.io.store import RunStore, atomic_dir, atomic_file
from her2path.outputs.export.geojson import outlines_px

__all__ = ["to_anndata", "write_anndata", "write_spatialdata"]

#: columns of the cell table that are measures: they become X
MEASURES = (
    "membrane_od",
    "membrane_od_ring",
    "membrane_mass",
    "completeness",
    "membrane_width_um",
    "cytoplasm_od",
    "nucleus_area_um2",
    "nucleus_hematoxylin_od",
    "nucleus_dab_od",
    "nucleus_elongation",
    "cell_area_um2",
    "shared_fraction",
    "tumour_probability",
)
_NOT_OBS = {*MEASURES, "cell_id", "x_um", "y_um", "x_px", "y_px", "outline", "nucleus_outline"}
#: diameter of a cell, for tools that draw spots, µm
_SPOT_UM = 12.0


def to_anndata(store: RunStore) -> Any:
    """Return the cells as AnnData.

    ``X`` (cells x measures, float32), ``obs`` (type, pattern, intensity, score, region, ...),
    ``obsm['spatial']`` (level-0 px, as image tools expect) and ``obsm['spatial_um']``,
    ``uns['spatial'][<slide id>]`` with the overview and its scale, ``uns['her2path']`` with
    ``result.json``.

    Raises
    ------
    MissingExtra
        Without anndata.
    """
    anndata = require("anndata", "the AnnData export")
    import pandas as pd

    table = store.cells()
    ids = pd.Index(table["cell_id"].cast(pa.string()).to_numpy(zero_copy_only=False), dtype=str)
    keep = [n for n in table.column_names if n not in _NOT_OBS]
    # pandas calls this one "categorical"; spelled-out text would weigh 50 times as much
    obs = pd.DataFrame({n: _series(table[n]) for n in keep})
    obs.index = ids
    obs["region"] = pd.Categorical(np.full(len(obs), "cells"))
    result = store.result()
    mpp = result.slide.mpp or 1.0
    data = anndata.AnnData(
        X=np.stack([table[m].to_numpy().astype(np.float32) for m in MEASURES], axis=1),
        obs=obs,
        var=pd.DataFrame(index=pd.Index(MEASURES, dtype=str)),
    )
    data.obsm["spatial"] = _points(table, "px")
    data.obsm["spatial_um"] = _points(table, "um")
    data.uns["spatial"] = {result.slide.id.replace("/", "_"): _library(store, mpp)}
    data.uns["her2path"] = {"result_json": result.json_text(), "mpp": mpp}
    return data


def _series(column: pa.ChunkedArray) -> Any:
    return column.to_pandas()


def _points(table: pa.Table, unit: str) -> NDArray[np.float64]:
    return np.stack([table[f"{k}_{unit}"].to_numpy().astype(np.float64) for k in "xy"], axis=1)


def _library(store: RunStore, mpp: float) -> dict[str, Any]:
    facts: dict[str, Any] = {"spot_diameter_fullres": _SPOT_UM / mpp}
    library: dict[str, Any] = {"images": {}, "scalefactors": facts}
    try:
        image = store.thumbnail()
    except OutputError:
        return library
    slide = store.result().slide
    facts["tissue_hires_scalef"] = image.shape[1] / (slide.width_px or 1)
    if slide.planes.square_px != (slide.width_px, slide.height_px):
        # one factor for both axes: the overview takes the shape of the file's own oblong pixels
        height = max(1, round((slide.height_px or 1) * facts["tissue_hires_scalef"]))
        image = cv2.resize(image, (image.shape[1], height), interpolation=cv2.INTER_AREA)
    library["images"]["hires"] = image
    return library


def write_anndata(store: RunStore, folder: Path, _offset: tuple[float, float]) -> Path:
    """Write ``cells.h5ad``; return its path."""
    data = to_anndata(store)
    path = folder / "cells.h5ad"
    with atomic_file(path) as temporary:
        data.write_h5ad(temporary, compression="gzip")
    return path


def write_spatialdata(store: RunStore, folder: Path, _offset: tuple[float, float]) -> Path:
    """Write ``her2path.sdata.zarr`` (µm): the cells as shapes and as labels, regions, and images.

    Labels and stains are multiscale; a label is the row of the cell table plus one (column
    ``cell_label``). Labels have pixels of 0.5 µm, doubled until the longer side fits 16,384.

    Raises
    ------
    MissingExtra
        Without spatialdata.
    """
    spatialdata = require("spatialdata", "the SpatialData export")
    sdata = spatialdata.SpatialData(
        images=_images(store), labels=_labels(store), shapes=_shapes(store),
        tables={"table": _table(store)},
    )  # fmt: skip
    path = folder / "her2path.sdata.zarr"
    with atomic_dir(path) as temporary:
        temporary.rmdir()  # it makes the folder itself and refuses an existing one
        sdata.write(temporary)
    return path


def _images(store: RunStore) -> dict[str, Any]:
    models = require("spatialdata.models", "the SpatialData export")
    moves = require("spatialdata.transformations", "the SpatialData export")
    image = store.thumbnail()
    facts = store.result().slide
    plane = facts.planes.file
    scale = [plane.mpp_y * (facts.height_px or image.shape[0]) / image.shape[0],
             plane.mpp_x * (facts.width_px or image.shape[1]) / image.shape[1]]  # fmt: skip
    place = {"global": moves.Scale(scale, axes=("y", "x"))}
    model = models.Image2DModel.parse(
        np.moveaxis(image, 2, 0),
        dims=("c", "y", "x"),
        c_coords=["r", "g", "b"],
        transformations=place,
    )
    return {"overview": model} | _stains(store)


#: pixel of the labels, µm, and their longest side
_LABEL_UM, _LABEL_SIDE = 0.5, 16_384
#: side below which no coarser scale is added, pixels
_COARSEST = 512


def _factors(shape: tuple[int, ...]) -> list[int]:
    """Return the steps of a multiscale image: halved until it is small."""
    side, steps = min(shape), []
    while side // 2 >= _COARSEST:
        side //= 2
        steps.append(2)
    return steps


def _stains(store: RunStore) -> dict[str, Any]:
    """Return hematoxylin and DAB OD as an image of two channels; nothing without maps."""
    models = require("spatialdata.models", "the SpatialData export")
    moves = require("spatialdata.transformations", "the SpatialData export")
    if not store.maps_path.exists():
        return {}
    maps = store.maps()
    names = [n for n in ("hematoxylin", "dab") if n in maps.names]
    if not names:
        return {}
    planes = np.stack([maps.read(n) for n in names])
    place = {"global": moves.Scale([maps.mpp_um()] * 2, axes=("y", "x"))}
    model = models.Image2DModel.parse(
        planes, dims=("c", "y", "x"), c_coords=names, transformations=place,
        scale_factors=_factors(planes.shape[1:]) or None,
    )  # fmt: skip
    return {"stains": model}


def _labels(store: RunStore) -> dict[str, Any]:
    """Return the cells' borders filled in, each with its row plus one; the later one on top."""
    models = require("spatialdata.models", "the SpatialData export")
    moves = require("spatialdata.transformations", "the SpatialData export")
    facts = store.result().slide
    plane = facts.planes.file
    cells = store.cells(["x_px", "y_px", "outline"])
    rings = outlines_px(cells, plane) * np.array([plane.mpp_x, plane.mpp_y])
    size = np.array([(facts.height_px or 1) * plane.mpp_y, (facts.width_px or 1) * plane.mpp_x])
    um = _LABEL_UM
    while size.max() / um > _LABEL_SIDE:
        um *= 2
    image = np.zeros(np.ceil(size / um).astype(int), np.int32)
    for number, ring in enumerate(np.floor(rings / um).astype(np.int32), 1):
        cv2.fillPoly(image, [ring], number)
    place = {"global": moves.Scale([um, um], axes=("y", "x"))}
    model = models.Labels2DModel.parse(
        image, dims=("y", "x"), transformations=place, scale_factors=_factors(image.shape) or None
    )
    return {"cell_labels": model}


def _shapes(store: RunStore) -> dict[str, Any]:
    import geopandas as gpd
    import shapely

    models = require("spatialdata.models", "the SpatialData export")
    cells = store.cells(["cell_id", "x_px", "y_px", "outline"])
    plane = store.result().slide.planes.file
    rings = outlines_px(cells, plane) * np.array([plane.mpp_x, plane.mpp_y])
    outlines = gpd.GeoDataFrame(
        geometry=list(shapely.polygons(rings)), index=cells["cell_id"].to_numpy()
    )
    regions = store.regions()
    frame = regions.drop_columns(["polygon"]).to_pandas().set_index("region_id")
    areas = gpd.GeoDataFrame(
        frame, geometry=list(shapely.from_wkb(regions["polygon"].to_pylist())), index=frame.index
    )
    return {"cells": models.ShapesModel.parse(outlines), "regions": models.ShapesModel.parse(areas)}


def _table(store: RunStore) -> Any:
    models = require("spatialdata.models", "the SpatialData export")
    data = to_anndata(store)
    data.obs["cell_id"] = data.obs.index.astype("int64")
    data.obs["cell_label"] = np.arange(1, len(data.obs) + 1, dtype=np.int64)
    del data.uns["spatial"]
    keys = {"region_key": "region", "instance_key": "cell_id"}
    return models.TableModel.parse(data, region="cells", **keys)
