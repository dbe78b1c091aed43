"""After the stream: cells become regions, a score, heterogeneity, maps and a result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from her2path.cells import qc
from her2path.core.geometry import Planes
from her2path.core.results import Heterogeneity, Receptors, Score, Sensitivity
from her2path.core.schema import CELL_TYPES, CELLS, PATTERNS, arrow_schema
from her2path.core.settings import Settings
from her2path.io.annotations import Annotations
from her2path.io.store import RunStore
from her2path.io.store import write_maps as save_maps
from her2path.runs.case.passes import cells_path
from her2path.runs.case.plan import Plan
from her2path.runs.case.quality import Quality
from her2path.scoring import guidelines, uncertainty
from her2path.scoring.calibration import receptors
from her2path.space import heterogeneity, regions

__all__ = [
    "LIGHT",
    "Verdict",
    "assign",
    "beside",
    "certain_share",
    "conclude",
    "in_file_px",
    "is_tumour",
    "light_cells",
    "make_regions",
    "no_cells",
    "qc_figures",
    "tissue_grid",
    "with_cell_type",
    "write_cells",
    "write_maps",
]

#: what scoring and statistics need of a cell; outlines and the like stay on disk
LIGHT = (
    "cell_id",
    "x_um",
    "y_um",
    "x_px",
    "y_px",
    "cell_type",
    "pattern",
    "intensity",
    "score",
    "membrane_od",
    "membrane_od_ring",
    "membrane_mass",
    "completeness",
    "uncertain",
    "cell_area_um2",
    "nucleus_hematoxylin_od",
    "cytoplasm_od",
    "tumour_probability",
    "kind_certainty",
)
#: columns that are decided for the slide as a whole, after its parts were resolved
DECIDED = ("pattern", "intensity", "score")


@dataclass(frozen=True)
class Verdict:
    """What the cells say."""

    counts: dict[str, int]
    fractions: dict[str, float]
    score: Score
    h_score: float
    heterogeneity: Heterogeneity
    receptors: Receptors


def light_cells(plan: Plan) -> pa.Table:
    """Read the light columns of all final parts, in block order."""
    tables = []
    for index in plan.blocks:
        with pa.memory_map(str(cells_path(plan, plan.grid[index]))) as source:
            part = pa.ipc.open_file(source).read_all().select(LIGHT).replace_schema_metadata(None)
            # copied out of the map, so that the file can go
            tables.append(pa.concat_tables([part]).take(pa.array(np.arange(part.num_rows))))
    return pa.concat_tables(tables).cast(no_cells().schema) if tables else no_cells()


def no_cells() -> pa.Table:
    """Return the light columns of no cell."""
    schema = pa.schema([f for f in arrow_schema(CELLS) if f.name in LIGHT])
    return pa.schema([schema.field(n) for n in LIGHT]).remove_metadata().empty_table()


def assign(cells: pa.Table, annotations: Annotations | None, settings: Settings) -> pa.Table:
    """Set ``cell_type`` by the annotations: outside tumour or inside what is left out is other."""
    if annotations is None:
        return cells
    points = shapely.points(cells.column("x_px").to_numpy(), cells.column("y_px").to_numpy())
    tumour = is_tumour(cells)
    if annotations.tumour is not None and settings.tumour.method in ("auto", "annotation"):
        shapely.prepare(annotations.tumour)
        tumour &= shapely.contains(annotations.tumour, points)
    if annotations.excluded is not None:
        shapely.prepare(annotations.excluded)
        tumour &= ~shapely.contains(annotations.excluded, points)
    return with_cell_type(cells, tumour)


def is_tumour(cells: pa.Table) -> NDArray[np.bool_]:
    """Return which cells are tumour."""
    column = cells.column("cell_type").combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    return np.asarray(column.indices.to_numpy(zero_copy_only=False) == 0)


def certain_share(cells: pa.Table, certain_from: float) -> float:
    """Return the share of the tumour cells whose kind is certain; 1 without any."""
    certainty = cells.column("kind_certainty").to_numpy()[is_tumour(cells)]
    return float((certainty >= certain_from).mean()) if len(certainty) else 1.0


def with_cell_type(cells: pa.Table, tumour: NDArray[np.bool_]) -> pa.Table:
    """Return the table with another ``cell_type``."""
    codes = pa.array(np.where(tumour, 0, 1).astype(np.int8))
    column = pa.DictionaryArray.from_arrays(codes, list(CELL_TYPES))
    return cells.set_column(cells.schema.get_field_index("cell_type"), "cell_type", column)


def conclude(
    tumour: pa.Table,
    region_table: pa.Table,
    other: int,
    settings: Settings,
    limit: Sensitivity | None = None,
) -> Verdict:
    """Score the tumour cells and measure their heterogeneity.

    Parameters
    ----------
    tumour : pyarrow.Table
        Light columns of the tumour cells, with ``region_id``.
    region_table : pyarrow.Table
        Regions of the primary kind.
    other : int
        Number of cells that are not tumour.
    limit : Sensitivity, optional
        The slide's detection limit, which the score's probability takes in.
    """
    guideline = settings.score.guideline
    scored = guidelines.score_cells(tumour, guideline=guideline, settings=settings)
    sure = uncertainty.bootstrap(tumour, guideline, settings, limit)
    score = uncertainty.add_to(scored, sure)
    measured = heterogeneity.measure(
        tumour,
        positive=list(regions.positive_patterns(settings)),
        settings=settings,
        regions=region_table,
        score=score,
    )
    return Verdict(
        counts={"tumour": tumour.num_rows, "other": other},
        fractions={p: score.fractions[p] for p in PATTERNS},
        score=score,
        h_score=float(100.0 * tumour.column("intensity").to_numpy().mean()),
        heterogeneity=_one_interval_each(measured, sure.intervals, settings),
        receptors=receptors.summary(tumour, settings.calibration.curve, settings),
    )


#: interval in the heterogeneity's list -> the same quantity in the score's
SAME = {
    "h_score": "h_score",
    "null_cell_fraction": "none",
    "intense_cell_fraction": "intense",
}


def _one_interval_each(
    measured: Heterogeneity, known: Mapping[str, tuple[float, float]], settings: Settings
) -> Heterogeneity:
    """Let one quantity have one interval: the score's, which also moves the cut-offs."""
    intervals = dict(getattr(measured, "intervals", None) or {})
    same = dict(SAME)
    if settings.heterogeneity.positive is None:
        same["positive_cell_fraction"] = "positive"
    for mine, theirs in same.items():
        if mine in intervals and theirs in known:
            intervals[mine] = known[theirs]
    return measured.model_copy(update={"intervals": intervals})


def write_cells(
    plan: Plan,
    store: RunStore,
    cells: pa.Table,
    region_id: NDArray[np.int32],
    planes: Planes,
    extra: pa.Table | None = None,
) -> None:
    """Write the final cell table, part by part, with type and region as decided for the slide.

    Parameters
    ----------
    cells : pyarrow.Table
        Light cells in block order, with their final ``cell_type``, `DECIDED` and ``receptors``.
    region_id : int32 (N,)
        One a cell, in the same order.
    planes : Planes
        ``x_px`` and ``y_px`` are written in the file's own pixels.
    extra : pyarrow.Table, optional
        More columns, one row a cell.
    """
    tumour = is_tumour(cells)

    def parts() -> Iterator[pa.Table]:
        start = 0
        for index in plan.blocks:
            with pa.memory_map(str(cells_path(plan, plan.grid[index]))) as source:
                part = pa.ipc.open_file(source).read_all().replace_schema_metadata(None)
                rows = slice(start, start + part.num_rows)
                start += part.num_rows
                part = in_file_px(with_cell_type(part, tumour[rows]), planes)
                part = _as_decided(part, cells.slice(rows.start, part.num_rows))
                where = part.schema.get_field_index("outline")
                part = part.add_column(where, "region_id", pa.array(region_id[rows], pa.int32()))
                yield (
                    part if extra is None else beside(part, extra.slice(rows.start, part.num_rows))
                )

    store.write_cells(parts())


def _as_decided(part: pa.Table, light: pa.Table) -> pa.Table:
    """Return a part with the columns that the slide's own calibration has decided."""
    for name in DECIDED:
        at = part.schema.get_field_index(name)
        part = part.set_column(at, part.schema.field(at), light.column(name).combine_chunks())
    return part.add_column(
        part.schema.get_field_index("pattern"), "receptors", light.column("receptors")
    )


def in_file_px(table: pa.Table, planes: Planes) -> pa.Table:
    """Return a table of the square plane with ``x_px``, ``y_px`` in the file's own pixels."""
    x, y = (table.column(n).to_numpy().astype(np.float64) for n in ("x_px", "y_px"))
    moved = planes.square.move(x, y, planes.file)
    if moved[0] is x and moved[1] is y:
        return table
    for name, values in zip(("x_px", "y_px"), moved, strict=True):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pa.array(values.astype(np.float32)))
    return table


def write_maps(plan: Plan, store: RunStore, cells: pa.Table, quality: Quality) -> None:
    """Write the maps: stain, score density, tissue and the codes of quality control."""
    side = quality.side_px
    rows, cols = quality.tissue.shape
    arrays: dict[str, NDArray[Any]] = {
        "hematoxylin": quality.maps["hematoxylin"],
        "dab": quality.maps["dab"],
        "score_density": _mean_score(cells, rows, cols, side),
        "tissue": quality.tissue.astype(np.uint8),
        "qc": quality.codes,
    }
    words = [{"label-value": c.value, "name": c.name, "words": c.words} for c in qc.CODES.values()]
    save_maps(store.maps_path, arrays, plan.optics.mpp * side, {"qc": {"properties": words}})


def qc_figures(quality: Quality, cells: pa.Table) -> dict[str, float | None]:
    """Return what of a slide's quality is followed from slide to slide: focus, nuclear contrast."""
    around = quality.maps["hematoxylin"][quality.tissue & ~quality.left_out]
    nuclei = cells.column("nucleus_hematoxylin_od").to_numpy()
    contrast = float(np.median(nuclei) - np.median(around)) if len(nuclei) and len(around) else None
    return {"focus": quality.ratio, "nuclear_contrast": contrast}


def _mean_score(cells: pa.Table, rows: int, cols: int, side: int) -> NDArray[np.float32]:
    mine = is_tumour(cells)
    x = np.clip(cells.column("x_px").to_numpy()[mine] / side, 0, cols - 1).astype(np.int64)
    y = np.clip(cells.column("y_px").to_numpy()[mine] / side, 0, rows - 1).astype(np.int64)
    score = cells.column("score").to_numpy()[mine]
    flat = y * cols + x
    total = np.bincount(flat, weights=score, minlength=rows * cols)
    count = np.bincount(flat, minlength=rows * cols)
    mean = np.where(count > 0, total / np.maximum(count, 1), 0.0)
    return mean.reshape(rows, cols).astype(np.float32)


def beside(left: pa.Table, right: pa.Table) -> pa.Table:
    """Return a table with the columns of another, of as many rows, at its right."""
    for name in right.column_names:
        left = left.append_column(right.schema.field(name), right.column(name))
    return left


def tissue_grid(quality: Quality) -> tuple[NDArray[np.bool_], float]:
    """Return the tissue that is analysed on the maps' grid, and its µm per cell."""
    return quality.tissue & ~quality.left_out, quality.mpp * quality.side_px


def make_regions(
    cells: pa.Table,
    tissue: tuple[NDArray[np.bool_], float],
    annotations: Annotations | None,
    mpp: float,
    settings: Settings,
) -> tuple[pa.Table, NDArray[np.int32]]:
    """Return the regions table and each cell's region."""
    polygons = annotations.named_um(mpp) if annotations is not None else None
    table, region_id = regions.make_regions(
        cells, settings.regions.kind, settings, tissue=tissue, polygons=polygons
    )
    mine = is_tumour(cells)
    tumour = cells.append_column("region_id", pa.array(region_id, pa.int32()))
    if "region_id" in cells.column_names:
        tumour = cells.set_column(
            cells.schema.get_field_index("region_id"), "region_id", pa.array(region_id, pa.int32())
        )
    curve, least = settings.calibration.curve, settings.regions.min_cells
    return receptors.by_region(table, tumour.filter(pa.array(mine)), curve, least), region_id
