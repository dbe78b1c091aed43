"""The regions of a slide: how its tissue is divided, and which cells lie where."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from her2path.core.settings import Settings
from her2path.io.annotations import Annotations
from her2path.runs.case.celltable import is_tumour, with_region_id
from her2path.runs.case.quality import Quality
from her2path.scoring.calibration import receptors
from her2path.space import regions

__all__ = ["make_regions", "tissue_grid"]


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
    """Return the regions table and each cell's region, int32 (N,), -1 for none."""
    polygons = annotations.named_um(mpp) if annotations is not None else None
    table, region_id = regions.make_regions(
        cells, settings.regions.kind, settings, tissue=tissue, polygons=polygons
    )
    tumour = with_region_id(cells, region_id).filter(pa.array(is_tumour(cells)))
    curve, least = settings.calibration.curve, settings.regions.min_cells
    return receptors.by_region(table, tumour, curve, least), region_id
