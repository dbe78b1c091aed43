"""Tissue-microarray cores: found as pieces of tissue, numbered by row and column."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from her2path.space.regions.cells import Cells
from her2path.space.regions.lattice import grid_positions
from her2path.space.regions.layout import Layout, Mask, owner_of

__all__ = ["core_layout", "core_row_col"]

Float = NDArray[np.float64]
#: bins in which cells stand for tissue where there is no mask, µm
BIN_UM = 25.0
#: gaps inside a core that are closed, µm
CLOSE_UM = 60.0
#: pieces below this share of the usual core's area are crumbs
MIN_SHARE = 0.15
#: pieces below this are dust whatever the rest, µm²
MIN_AREA_UM2 = 10_000.0


def core_row_col(name: str) -> tuple[int, int]:
    """Return (row, column), from 1, of a core's name ("A1" is row 1, column 1; "AA3" row 27).

    Raises
    ------
    ValueError
        For a name that is not a core's.
    """
    match = re.fullmatch(r"([A-Z]+)([0-9]+)", name)
    if not match:
        raise ValueError(f"{name!r} is not the name of a core")
    row = 0
    for letter in match[1]:
        row = row * 26 + ord(letter) - 64
    return row, int(match[2])


def _core_name(row: int, col: int) -> str:
    letters = ""
    row += 1
    while row:
        row, rest = divmod(row - 1, 26)
        letters = chr(65 + rest) + letters
    return f"{letters}{col + 1}"


def core_layout(cells: Cells, mask: Mask | None) -> Layout:
    """Return the cores, row after row; the grid may be turned by up to 45 degrees.

    A core that fell apart is one core when its pieces share a place on the grid. Empty places
    keep their number.
    """
    pieces = _pieces(mask if mask is not None else _mask_of(cells))
    if not pieces:
        return Layout("core", (), (), np.full(cells.n, -1, np.int32))
    centres = np.array([[p.centroid.x, p.centroid.y] for p in pieces])
    row, col = grid_positions(centres)
    places = sorted({(int(r), int(c)) for r, c in zip(row, col, strict=True)})
    outlines = []
    for r, c in places:
        own = [p for p, a, b in zip(pieces, row, col, strict=True) if (a, b) == (r, c)]
        outlines.append(shapely.union_all(own).convex_hull)
    names = tuple(_core_name(r, c) for r, c in places)
    return Layout("core", names, tuple(outlines), owner_of(cells.x, cells.y, outlines))


def _mask_of(cells: Cells) -> Mask:
    """Return tissue from the cells themselves, for tables without a slide."""
    if cells.n == 0:
        return Mask(np.zeros((1, 1), bool), BIN_UM)
    col = np.floor(np.maximum(cells.x, 0) / BIN_UM).astype(np.int64)
    row = np.floor(np.maximum(cells.y, 0) / BIN_UM).astype(np.int64)
    plane = np.zeros((int(row.max()) + 1, int(col.max()) + 1), bool)
    plane[row, col] = True
    return Mask(plane, BIN_UM)


def _pieces(mask: Mask) -> list[Any]:
    """Return the convex hulls of the pieces of tissue that are large enough to be cores."""
    from scipy import ndimage

    reach = max(1, round(CLOSE_UM / 2 / mask.mpp))
    padded = np.pad(mask.tissue, reach + 1)
    disc = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) <= reach + 0.5
    closed = ndimage.binary_closing(padded, disc)
    label, count = ndimage.label(closed, np.ones((3, 3), int))
    area = np.bincount(label.ravel())[1:] * mask.mpp**2
    solid = area[area >= MIN_AREA_UM2]
    if count == 0 or solid.size == 0:
        return []
    usual = float(np.median(solid))
    pieces = []
    for i, window in enumerate(ndimage.find_objects(label)):
        if area[i] < max(MIN_AREA_UM2, MIN_SHARE * usual):
            continue
        r, c = np.nonzero(label[window] == i + 1)
        x = (c + window[1].start - reach - 1) * mask.mpp
        y = (r + window[0].start - reach - 1) * mask.mpp
        corners = [(x + dx, y + dy) for dx in (0, mask.mpp) for dy in (0, mask.mpp)]
        points = np.column_stack([np.concatenate(v) for v in zip(*corners, strict=True)])
        pieces.append(shapely.MultiPoint(points).convex_hull)
    return pieces
