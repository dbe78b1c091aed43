"""Outlines of cell bodies: densified, bent, rounded, inset, measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from her2path.phantom.noise import Field
from her2path.phantom.spec import PhantomSpec

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

STEP_UM = 0.3
"""Distance between the points of an outline."""


@dataclass(frozen=True)
class Edges:
    """Straight pieces of outlines, ordered around each cell: (m,) arrays."""

    cell: I64
    neighbour: I64
    x0: F64
    y0: F64
    x1: F64
    y1: F64


@dataclass(frozen=True)
class Bodies:
    """Outlines of n tumour cells as one ragged array of points.

    Points of cell k are `start[k]:start[k + 1]`. `neighbour` is the cell
    across the border there, -1 (free) or -2 (lumen). `piece_um` is the length
    of outline that a point stands for. `axis` is the unit vector to the lumen,
    (0, 0) for polygonal cells. `inset_um` is the membrane's distance from the
    common border.
    """

    start: I64
    x: F64
    y: F64
    piece_um: F64
    neighbour: I64
    axis: F64
    inset_um: F64
    centre: F64
    area_um2: F64
    perimeter_um: F64
    inradius_um: F64

    @property
    def count(self) -> int:
        """Number of cells."""
        return self.start.size - 1


def finish_bodies(
    spec: PhantomSpec, rng: np.random.Generator, edges: Edges, polygonal: int, axis: F64
) -> Bodies:
    """Turn ordered straight edges into finished bodies.

    Parameters
    ----------
    spec : PhantomSpec
    rng : numpy.random.Generator
    edges : Edges
        Ordered around each cell, cells ascending.
    polygonal : int
        Number of the polygonal cells, which come first.
    axis : (m, 2) array
        Axes of the columnar cells that follow.
    """
    count = polygonal + axis.shape[0]
    x, y, cell, neighbour = _densify(edges)
    x, y = _bend(spec, rng, x, y)
    start = np.searchsorted(cell, np.arange(count + 1))
    inset = rng.uniform(0.05, 0.14, count)
    apart = rng.random(count) < spec.gap_share * np.where(np.arange(count) < polygonal, 1.0, 0.3)
    inset = np.where(apart, 0.35 + rng.gamma(2.0, 0.25, count).clip(0, 1.4), inset)
    x, y, piece, measures = _finish(start, x, y, inset)
    axes = np.concatenate([np.zeros((polygonal, 2)), axis])
    return Bodies(
        start=start,
        x=x,
        y=y,
        piece_um=piece,
        neighbour=neighbour,
        axis=axes,
        inset_um=inset,
        centre=measures[:, :2].copy(),
        area_um2=measures[:, 2].copy(),
        perimeter_um=measures[:, 3].copy(),
        inradius_um=measures[:, 4].copy(),
    )


def _densify(edges: Edges) -> tuple[F64, F64, I64, I64]:
    length = np.hypot(edges.x1 - edges.x0, edges.y1 - edges.y0)
    pieces = np.maximum(1, np.ceil(length / STEP_UM)).astype(np.int64)
    total = int(pieces.sum())
    begin = np.cumsum(pieces) - pieces
    along = (np.arange(total) - np.repeat(begin, pieces)) / np.repeat(pieces, pieces)
    x = np.repeat(edges.x0, pieces) + along * np.repeat(edges.x1 - edges.x0, pieces)
    y = np.repeat(edges.y0, pieces) + along * np.repeat(edges.y1 - edges.y0, pieces)
    return x, y, np.repeat(edges.cell, pieces), np.repeat(edges.neighbour, pieces)


def _bend(spec: PhantomSpec, rng: np.random.Generator, x: F64, y: F64) -> tuple[F64, F64]:
    """Bend the plane by smooth noise, the same for both cells of a border."""
    for wavelength_um, amplitude_um in ((9.0, 0.75), (3.2, 0.22)):
        size = amplitude_um * spec.irregularity
        fx, fy = Field(rng, wavelength_um, 1000.0), Field(rng, wavelength_um, 1000.0)
        x, y = x + size * fx.at(x, y), y + size * fy.at(x, y)
    return x, y


@njit(cache=True, nogil=True)
def _finish(start: I64, x: F64, y: F64, inset: F64) -> tuple[F64, F64, F64, F64]:
    """Round the corners, move inward by `inset`, and measure each body."""
    out_x, out_y, piece = np.empty_like(x), np.empty_like(y), np.empty_like(x)
    measures = np.zeros((inset.size, 5))
    for c in range(inset.size):
        a, b = start[c], start[c + 1]
        n = b - a
        for k in range(n):
            sx = sy = 0.0
            for d in range(-2, 3):
                sx += x[a + (k + d) % n]
                sy += y[a + (k + d) % n]
            out_x[a + k], out_y[a + k] = sx / 5, sy / 5
        for k in range(n):
            i, j = a + (k - 2) % n, a + (k + 2) % n
            tx, ty = x[j] - x[i], y[j] - y[i]
            norm = np.hypot(tx, ty) + 1e-12
            out_x[a + k] -= inset[c] * ty / norm
            out_y[a + k] += inset[c] * tx / norm
        _measure(out_x[a:b], out_y[a:b], piece[a:b], measures[c])
    return out_x, out_y, piece, measures


@njit(cache=True, nogil=True)
def _measure(x: F64, y: F64, piece: F64, out: F64) -> None:
    """Write centroid x, y, area, perimeter and inner radius of one outline."""
    n = x.size
    if n == 0:
        return
    area = cx = cy = around = 0.0
    for k in range(n):
        j = (k + 1) % n
        cross = x[k] * y[j] - x[j] * y[k]
        area += cross / 2
        cx += (x[k] + x[j]) * cross
        cy += (y[k] + y[j]) * cross
        before = (k - 1) % n
        piece[k] = 0.5 * (
            np.hypot(x[j] - x[k], y[j] - y[k]) + np.hypot(x[k] - x[before], y[k] - y[before])
        )
        around += piece[k]
    if abs(area) > 1e-9:
        cx, cy = cx / (6 * area), cy / (6 * area)
    inner = 1e9
    for k in range(n):
        inner = min(inner, np.hypot(x[k] - cx, y[k] - cy))
    out[0], out[1], out[2], out[3], out[4] = cx, cy, abs(area), around, inner
