"""The truth tables: one row a cell, one row a square of the plane, areas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from her2path.core.schema import PATTERNS
from her2path.phantom import nuclei as nu
from her2path.phantom.artefacts import Covers
from her2path.phantom.cells import Kinds, inside_image
from her2path.phantom.layout import GRID_UM, PAD_UM, Ground
from her2path.phantom.nuclei import TumourNuclei
from her2path.phantom.paint import Scene
from her2path.phantom.spec import INTENSITY_OF_CODE, PhantomSpec

F64 = NDArray[np.float64]

TRUTH_SCHEMA = pa.schema(
    [
        pa.field("cell_index", pa.int64()),
        pa.field("x_um", pa.float64()),
        pa.field("y_um", pa.float64()),
        pa.field("cell_type", pa.string()),
        pa.field("has_nucleus", pa.bool_()),
        pa.field("pattern", pa.string()),
        pa.field("intensity", pa.int8()),
        pa.field("od_crest", pa.float64()),
        pa.field("receptors", pa.float64()),
        pa.field("completeness", pa.float64()),
        pa.field("width_um", pa.float64()),
        pa.field("shared_fraction", pa.float64()),
        pa.field("population", pa.string()),
        pa.field("nest_id", pa.int64()),
        pa.field("clone_id", pa.int64()),
        pa.field("columnar", pa.bool_()),
        pa.field("nucleus_radius_um", pa.float64()),
        pa.field("nucleus_hematoxylin_od", pa.float64()),
        pa.field("cell_area_um2", pa.float64()),
        pa.field("touches_edge", pa.bool_()),
        pa.field("in_fold", pa.bool_()),
        pa.field("out_of_focus", pa.bool_()),
        pa.field("under_pen", pa.bool_()),
        pa.field("area", pa.string()),
    ]
)
"""Columns of the truth. `x_um, y_um`: the nucleus' centre, where the cell has
one in the section, else the body's. ODs are base 10 along unit stain vectors;
`od_crest` is before blur, the mean over the stained part. `nest_id` and
`clone_id` are -1 outside tumour; clone 0 is the main population. The last four
columns tell what spoils the view of the cell."""


def truth_table(
    spec: PhantomSpec, scene: Scene, kinds: Kinds, nuclei: TumourNuclei, covers: Covers
) -> pa.Table:
    """Return the truth of every cell whose position lies in the image."""
    columns = _tumour_columns(scene, kinds, nuclei)
    columns["receptors"] = spec.receptors_per_od * columns["od_crest"] / spec.strength
    other = _other_columns(scene)
    joined = {name: np.concatenate([columns[name], other[name]]) for name in columns}
    at = np.stack([joined["x_um"], joined["y_um"]], axis=1)
    for name, mask in (
        ("in_fold", covers.fold),
        ("out_of_focus", covers.out_of_focus),
        ("under_pen", covers.pen),
    ):
        joined[name] = covers.look(mask, at)
    joined["area"] = np.full(len(at), "main", object)
    reach = np.sqrt(np.maximum(joined["cell_area_um2"], 30.0) / np.pi)
    joined["touches_edge"] = ~inside_image_by(spec, at, reach)
    keep = np.concatenate(
        [inside_image(spec, scene.bodies.centre), inside_image(spec, at[scene.bodies.count :])]
    )
    joined["cell_index"] = np.cumsum(keep) - 1
    return pa.table({n: joined[n][keep] for n in TRUTH_SCHEMA.names}, schema=TRUTH_SCHEMA)


def inside_image_by(spec: PhantomSpec, at: F64, reach: F64) -> NDArray[np.bool_]:
    """Return which points lie at least `reach` inside the image."""
    inside: NDArray[np.bool_] = (at.min(axis=1) >= reach) if at.size else np.zeros(0, bool)
    inside = inside & (at[:, 0] <= spec.width_um - reach) & (at[:, 1] <= spec.height_um - reach)
    return inside


def _tumour_columns(scene: Scene, kinds: Kinds, nuclei: TumourNuclei) -> dict[str, Any]:
    bodies, stain = scene.bodies, scene.stain
    n = bodies.count
    has = nuclei.row >= 0
    values = np.zeros((n, len(nu.COLUMNS)))
    values[has] = nuclei.values[nuclei.row[has]]
    return {
        "x_um": np.where(has, values[:, nu.X], bodies.centre[:, 0]),
        "y_um": np.where(has, values[:, nu.Y], bodies.centre[:, 1]),
        "cell_type": np.full(n, "tumour", object),
        "has_nucleus": has,
        "pattern": np.array(PATTERNS, object)[kinds.pattern],
        "intensity": np.array(INTENSITY_OF_CODE, np.int8)[kinds.pattern],
        "od_crest": stain.od_crest,
        "completeness": stain.completeness,
        "width_um": stain.width_um,
        "shared_fraction": stain.shared_fraction,
        "population": np.where(kinds.second, "second", "main").astype(object),
        "nest_id": kinds.nest,
        "clone_id": kinds.clone,
        "columnar": np.hypot(bodies.axis[:, 0], bodies.axis[:, 1]) > 0,
        "nucleus_radius_um": np.sqrt(values[:, nu.A] * values[:, nu.B]),
        "nucleus_hematoxylin_od": values[:, nu.OD],
        "cell_area_um2": bodies.area_um2,
    }


def _other_columns(scene: Scene) -> dict[str, Any]:
    values = scene.stroma.nuclei
    n = values.shape[0]
    zeros, nobody = np.zeros(n), np.full(n, -1)
    kind = np.where(scene.stroma.lymphocyte, "lymphocyte", "stroma").astype(object)
    area = np.pi * (values[:, nu.A] + 0.6) * (values[:, nu.B] + 0.6)
    return {
        "x_um": values[:, nu.X],
        "y_um": values[:, nu.Y],
        "cell_type": kind,
        "has_nucleus": np.ones(n, bool),
        "pattern": np.full(n, "none", object),
        "intensity": np.zeros(n, np.int8),
        "od_crest": zeros,
        "receptors": zeros,
        "completeness": zeros,
        "width_um": zeros,
        "shared_fraction": zeros,
        "population": np.full(n, "none", object),
        "nest_id": nobody,
        "clone_id": nobody,
        "columnar": np.zeros(n, bool),
        "nucleus_radius_um": np.sqrt(values[:, nu.A] * values[:, nu.B]),
        "nucleus_hematoxylin_od": values[:, nu.OD],
        "cell_area_um2": area,
    }


def region_table(spec: PhantomSpec, truth: pa.Table, size_um: float = 500.0) -> pa.Table:
    """Return tumour cell counts of each pattern in squares of `size_um`.

    The squares start at the image's corner. Columns: `row, col, x0_um, y0_um,
    x1_um, y1_um, tumour_cells` and `fraction_*` (null without tumour cells).
    """
    tumour = np.array(truth["cell_type"]) == "tumour"
    rows, cols = (int(np.ceil(s / size_um)) for s in (spec.height_um, spec.width_um))
    code = np.array([PATTERNS.index(p) for p in truth["pattern"].to_pylist()], np.int64)[tumour]
    i = (np.array(truth["y_um"])[tumour] / size_um).astype(np.int64).clip(0, rows - 1)
    j = (np.array(truth["x_um"])[tumour] / size_um).astype(np.int64).clip(0, cols - 1)
    place = (i * cols + j) * len(PATTERNS) + code
    counts = np.bincount(place, minlength=rows * cols * len(PATTERNS)).reshape(rows * cols, -1)
    total = counts.sum(axis=1)
    row, col = np.divmod(np.arange(rows * cols), cols)
    table: dict[str, Any] = {
        "row": row,
        "col": col,
        "x0_um": col * size_um,
        "y0_um": row * size_um,
        "x1_um": np.minimum((col + 1) * size_um, spec.width_um),
        "y1_um": np.minimum((row + 1) * size_um, spec.height_um),
        "tumour_cells": total,
    }
    for k, name in enumerate(PATTERNS):
        share = counts[:, k] / np.maximum(total, 1)
        table[f"fraction_{name}"] = pa.array(share, mask=total == 0)
    return pa.table(table)


def area_truth(spec: PhantomSpec, ground: Ground, truth: pa.Table) -> dict[str, Any]:
    """Return the areas (mm2), cell counts, pattern fractions and H-score of the image."""
    pad = int(PAD_UM / GRID_UM)
    window = np.s_[pad : pad + int(spec.height_um), pad : pad + int(spec.width_um)]
    mm2 = GRID_UM**2 * 1e-6
    kind = np.array(truth["cell_type"])
    tumour = kind == "tumour"
    pattern = np.array(truth["pattern"])[tumour]
    n = int(tumour.sum())
    intensity = np.array(truth["intensity"], np.int64)[tumour]
    second = np.array(truth["population"])[tumour] == "second"
    return {
        "tissue_area_mm2": float(ground.tissue[window].sum() * mm2),
        "tumour_area_mm2": float(ground.tumour[window].sum() * mm2),
        "cells": {k: int((kind == k).sum()) for k in ("tumour", "lymphocyte", "stroma")},
        "fractions": {p: float((pattern == p).mean()) if n else None for p in PATTERNS},
        "h_score": float(100 * intensity.mean()) if n else None,
        "second_fraction": float(second.mean()) if n else None,
        "layout": spec.layout,
    }
