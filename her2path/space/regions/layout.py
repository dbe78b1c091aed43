"""Which region owns a cell, and each region's outline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from her2path.space.regions.cells import Cells
from her2path.space.spatial.tiling import hexagon_centre, hexagon_ids, square_ids, unkey

__all__ = ["Layout", "Mask", "hexagon_layout", "owner_of", "polygon_layout", "square_layout"]

Int32 = NDArray[np.int32]
CHUNK = 200_000


@dataclass(frozen=True)
class Mask:
    """Tissue (rows, cols) from the slide's origin at ``mpp`` µm per pixel."""

    tissue: NDArray[np.bool_]
    mpp: float

    def area_mm2(self, outline: Any) -> float:
        """Return the tissue inside an outline, by pixel centres, mm²."""
        x0, y0, x1, y1 = outline.bounds
        rows, cols = self.tissue.shape
        r0, r1 = (int(np.clip(v, 0, rows)) for v in (y0 // self.mpp, y1 // self.mpp + 1))
        c0, c1 = (int(np.clip(v, 0, cols)) for v in (x0 // self.mpp, x1 // self.mpp + 1))
        r, c = np.nonzero(self.tissue[r0:r1, c0:c1])
        x, y = (c + c0 + 0.5) * self.mpp, (r + r0 + 0.5) * self.mpp
        inside = shapely.contains_xy(outline, x, y) if r.size else np.zeros(0, bool)
        return float(inside.sum()) * self.mpp**2 / 1e6


@dataclass(frozen=True)
class Layout:
    """Regions of one kind.

    Attributes
    ----------
    kind : str
    names : tuple of str
        One a region.
    outlines : tuple of shapely geometry
        In µm.
    region_of : (n,) int32
        Region of each cell; -1 where none.
    """

    kind: str
    names: tuple[str, ...]
    outlines: tuple[Any, ...]
    region_of: Int32


def _number(keys: NDArray[np.int64], tumour: NDArray[np.bool_]) -> tuple[Any, Int32]:
    """Return the keys of tiles with tumour, rising, and each cell's tile number."""
    used = np.unique(keys[tumour])
    at = np.searchsorted(used, keys)
    known = at < used.size
    known[known] = used[at[known]] == keys[known]
    return used, np.where(known, at, -1).astype(np.int32)


def square_layout(cells: Cells, size_um: float) -> Layout:
    """Return the squares that hold tumour cells, row after row from the slide's origin."""
    used, region_of = _number(square_ids(cells.x, cells.y, size_um), cells.tumour)
    rows, cols = unkey(used)
    outlines = shapely.box(
        cols * size_um, rows * size_um, (cols + 1) * size_um, (rows + 1) * size_um
    )
    names = tuple(f"r{r} c{c}" for r, c in zip(rows.tolist(), cols.tolist(), strict=True))
    return Layout("grid", names, tuple(outlines), region_of)


def hexagon_layout(cells: Cells, width_um: float) -> Layout:
    """Return the hexagons that hold tumour cells, row after row from the slide's origin."""
    used, region_of = _number(hexagon_ids(cells.x, cells.y, width_um), cells.tumour)
    rows, cols = (v.tolist() for v in unkey(used))
    angles = np.deg2rad(np.arange(30, 390, 60))
    rim = width_um / np.sqrt(3.0) * np.column_stack([np.cos(angles), np.sin(angles)])
    outlines = tuple(
        shapely.Polygon(rim + np.array(hexagon_centre(r, c, width_um)))
        for r, c in zip(rows, cols, strict=True)
    )
    names = tuple(f"r{r} c{c}" for r, c in zip(rows, cols, strict=True))
    return Layout("hexagon", names, outlines, region_of)


def owner_of(x: NDArray[np.float64], y: NDArray[np.float64], outlines: Sequence[Any]) -> Int32:
    """Return the first outline that covers each point (border included); -1 where none."""
    out = np.full(x.size, -1, np.int32)
    if not outlines:
        return out
    tree = shapely.STRtree(list(outlines))
    for start in range(0, x.size, CHUNK):
        part = slice(start, start + CHUNK)
        point, outline = tree.query(shapely.points(x[part], y[part]), predicate="intersects")
        first = np.full(x[part].size, len(outlines), np.int64)
        np.minimum.at(first, point, outline)
        out[part] = np.where(first < len(outlines), first, -1)
    return out


def polygon_layout(cells: Cells, polygons: Sequence[tuple[Any, ...]]) -> Layout:
    """Return the annotations as regions, in their order."""
    names = tuple(str(entry[0]) or f"annotation {i + 1}" for i, entry in enumerate(polygons))
    outlines = tuple(entry[1] for entry in polygons)
    return Layout("annotation", names, outlines, owner_of(cells.x, cells.y, outlines))
