"""What a run stages before it is published: cells, maps, pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from her2path.cells import qc
from her2path.core.geometry import Planes
from her2path.core.settings import MembraneSettings
from her2path.io.annotations import Annotations
from her2path.io.slide import Slide
from her2path.io.store import RunStore, write_gallery, write_text
from her2path.io.store import write_maps as save_maps
from her2path.runs.case import pictures
from her2path.runs.case.celltable import (
    DECIDED,
    beside,
    in_file_px,
    is_tumour,
    no_cells,
    spread_over,
    with_cell_type,
)
from her2path.runs.case.passes import cells_path
from her2path.runs.case.plan import Plan, Prepared
from her2path.runs.case.quality import Quality

if TYPE_CHECKING:
    from her2path.runs.case.cnn_review import CnnReview

__all__ = ["no_cells", "write_maps", "write_overview", "write_pictures", "write_slide"]


def write_slide(
    store: RunStore,
    plan: Plan,
    quality: Quality,
    cells: pa.Table,
    region_id: NDArray[np.int32],
    regions: pa.Table,
    planes: Planes,
    review: CnnReview | None = None,
) -> None:
    """Stage the tables and maps of a scored slide, with what the CNN says beside each.

    Parameters
    ----------
    cells : pyarrow.Table
        Light cells in block order, with their final ``cell_type``, `DECIDED` and ``receptors``.
    region_id : int32 (N,)
        One a cell, in the same order.
    planes : Planes
        ``x_px`` and ``y_px`` are written in the file's own pixels.
    """
    extra = None if review is None else spread_over(review.cells, is_tumour(cells))
    store.write_cells(_final_parts(plan, cells, region_id, planes, extra))
    write_maps(plan, store, cells, quality)
    store.write_regions(regions if review is None else beside(regions, review.regions))
    if review is not None and review.features is not None:
        store.write_features(review.features)


def write_pictures(
    store: RunStore,
    slide: Slide,
    tumour: pa.Table,
    membrane: MembraneSettings,
    annotations: Annotations | None,
) -> None:
    """Stage the gallery of cells, and the annotations that were used."""
    shown = pictures.gallery(slide, tumour, membrane.cutoffs, membrane.measure,
                             membrane.complete_at)  # fmt: skip
    table = in_file_px(shown.table, slide.info.planes)
    write_gallery(store.gallery_path, shown.patches, table)
    if annotations is not None:
        write_text(store.annotations_path, annotations.geojson())


def write_overview(store: RunStore, slide: Slide, seen: Prepared | None) -> None:
    """Stage the thumbnail of the whole slide."""
    overview = seen.overview if seen else slide.overview(pictures.THUMBNAIL_PX)[0]
    store.write_thumbnail(pictures.thumbnail(overview)[0])


def _final_parts(
    plan: Plan,
    cells: pa.Table,
    region_id: NDArray[np.int32],
    planes: Planes,
    extra: pa.Table | None,
) -> Iterator[pa.Table]:
    """Yield the cell table part by part, with type and region as decided for the slide."""
    tumour, start = is_tumour(cells), 0
    for index in plan.blocks:
        with pa.memory_map(str(cells_path(plan, plan.grid[index]))) as source:
            part = pa.ipc.open_file(source).read_all().replace_schema_metadata(None)
            rows = slice(start, start + part.num_rows)
            start += part.num_rows
            part = in_file_px(with_cell_type(part, tumour[rows]), planes)
            part = _as_decided(part, cells.slice(rows.start, part.num_rows))
            where = part.schema.get_field_index("outline")
            part = part.add_column(where, "region_id", pa.array(region_id[rows], pa.int32()))
            yield part if extra is None else beside(part, extra.slice(rows.start, part.num_rows))


def _as_decided(part: pa.Table, light: pa.Table) -> pa.Table:
    """Return a part with the columns that the slide's own calibration has decided."""
    for name in DECIDED:
        at = part.schema.get_field_index(name)
        part = part.set_column(at, part.schema.field(at), light.column(name).combine_chunks())
    return part.add_column(
        part.schema.get_field_index("pattern"), "receptors", light.column("receptors")
    )


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
