"""The membrane: measured ray by ray in the pixels, attributed jointly in the tables."""

from __future__ import annotations

from her2path.cells.membrane.attribution import REACH_UM, resolve
from her2path.cells.membrane.columns import RAW_COLUMNS
from her2path.cells.membrane.rays import HALO_UM, measure_rays

__all__ = ["HALO_UM", "RAW_COLUMNS", "REACH_UM", "measure_rays", "resolve"]
