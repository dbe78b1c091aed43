"""Where tissue, nests, glands and lumens lie, and the bodies of the tumour cells.

A body is a closed outline. Neighbours share their border exactly: outlines are
made of common edges, which are then bent by one displacement field.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Voronoi

from her2path.phantom.glands import Gland, gland_edges, place_glands
from her2path.phantom.noise import Field
from her2path.phantom.outline import Bodies, Edges, finish_bodies
from her2path.phantom.spec import PhantomSpec

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

GRID_UM = 1.0
PAD_UM = 48.0
FREE, LUMEN = -1, -2


@dataclass(frozen=True)
class Ground:
    """Coarse maps of the plane at GRID_UM per sample, PAD_UM around the image.

    `stroma` is the density of matter between the cells, 0 (glass, lumen,
    vessel) to 1; `tissue`, `tumour`, `lumen` and `vessel` are boolean.
    """

    stroma: F32
    tissue: Bool
    tumour: Bool
    lumen: Bool
    vessel: Bool

    def look(self, plane: NDArray[np.generic], x_um: F64, y_um: F64) -> NDArray[np.generic]:
        """Return the plane's value at points (nearest sample)."""
        j = np.clip(((x_um + PAD_UM) / GRID_UM).astype(np.int64), 0, plane.shape[1] - 1)
        i = np.clip(((y_um + PAD_UM) / GRID_UM).astype(np.int64), 0, plane.shape[0] - 1)
        return plane[i, j]


def lay_out(spec: PhantomSpec) -> tuple[Ground, Bodies]:
    """Return the ground maps and the tumour cells' bodies."""
    rng = spec.rng("layout")
    x_um, y_um = _grid(spec)
    tissue = _tissue(spec, rng, x_um, y_um)
    tumour = _nests(spec, rng, tissue, x_um, y_um)
    glands = place_glands(spec, rng, tumour, GRID_UM, PAD_UM)
    inner, outer = _gland_masks(glands, tissue.shape)
    lumen = (_small_lumens(spec, rng, tumour) & ~outer) | inner
    vessel = _vessels(spec, rng, tissue & ~tumour & ~outer)
    ground = Ground(
        stroma=_matter(tissue & ~lumen & ~vessel, tumour | outer),
        tissue=tissue,
        tumour=(tumour | outer) & ~lumen,
        lumen=lumen,
        vessel=vessel,
    )
    edges, count = _voronoi_edges(spec, rng, ground, outer)
    columnar, axis = gland_edges(glands, rng, count)
    everything = _join(edges, Edges(*columnar))
    return ground, finish_bodies(spec, rng, everything, count, axis)


def _grid(spec: PhantomSpec) -> tuple[F64, F64]:
    cols = int(np.ceil((spec.width_um + 2 * PAD_UM) / GRID_UM))
    rows = int(np.ceil((spec.height_um + 2 * PAD_UM) / GRID_UM))
    x = (np.arange(cols) + 0.5) * GRID_UM - PAD_UM
    y = (np.arange(rows) + 0.5) * GRID_UM - PAD_UM
    return np.meshgrid(x, y)[0], np.meshgrid(x, y)[1]


def _tissue(spec: PhantomSpec, rng: np.random.Generator, x_um: F64, y_um: F64) -> Bool:
    """Rounded piece of tissue with a ragged rim, `margin_um` inside the image."""
    if spec.margin_um == 0:
        return np.ones(x_um.shape, bool)
    short = min(spec.width_um, spec.height_um)
    ragged = Field(rng, max(40.0, short / 5), 4 * short).at(x_um, y_um).reshape(x_um.shape)
    frayed = Field(rng, 12.0, 2000.0).at(x_um, y_um).reshape(x_um.shape)
    half_w, half_h = spec.width_um / 2, spec.height_um / 2
    corner = 0.25 * short
    qx = np.abs(x_um - half_w) - (half_w - spec.margin_um - corner)
    qy = np.abs(y_um - half_h) - (half_h - spec.margin_um - corner)
    outside = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0)) + np.minimum(np.maximum(qx, qy), 0)
    room = min(spec.margin_um, 0.06 * short)
    inside: Bool = outside + 0.35 * room * ragged + 1.0 * frayed < corner - 0.5 * room
    return inside


def _nests(spec: PhantomSpec, rng: np.random.Generator, tissue: Bool, x_um: F64, y_um: F64) -> Bool:
    if spec.tumour_share == 0:
        return np.zeros_like(tissue)
    extent = max(spec.width_um, spec.height_um) + 2 * PAD_UM
    size = min(spec.nest_um, 0.7 * min(spec.width_um, spec.height_um))
    field = Field(rng, size, extent).at(x_um, y_um) + 0.25 * Field(rng, size / 4, extent).at(
        x_um, y_um
    )
    field = field.reshape(tissue.shape)
    if not tissue.any():
        return tissue.copy()
    limit = np.quantile(field[tissue], 1.0 - spec.tumour_share)
    nests: Bool = tissue & (field >= limit)
    return nests


def _gland_masks(glands: list[Gland], shape: tuple[int, int]) -> tuple[Bool, Bool]:
    """Return the lumens and the whole areas of the glands."""
    inner, outer = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for gland in glands:
        for plane, (x, y) in ((inner, gland.inner), (outer, gland.outer)):
            points = np.stack([(x + PAD_UM) / GRID_UM - 0.5, (y + PAD_UM) / GRID_UM - 0.5], axis=1)
            cv2.fillPoly(plane, [np.rint(points).astype(np.int32)], 1)
    return inner.astype(bool), outer.astype(bool)


def _small_lumens(spec: PhantomSpec, rng: np.random.Generator, tumour: Bool) -> Bool:
    plane = np.zeros(tumour.shape, np.uint8)
    wanted = rng.poisson(spec.lumens * tumour.sum() * GRID_UM**2 / 12_000.0)
    rows, cols = np.nonzero(tumour)
    for k in rng.integers(0, max(rows.size, 1), wanted if rows.size else 0):
        axes = (rng.uniform(6, 20, 2) / GRID_UM).astype(int)
        centre = (int(cols[k]), int(rows[k]))
        cv2.ellipse(plane, centre, (int(axes[0]), int(axes[1])), rng.uniform(0, 180), 0, 360, 1, -1)
    return plane.astype(bool) & tumour


def _vessels(spec: PhantomSpec, rng: np.random.Generator, stroma: Bool) -> Bool:
    plane = np.zeros(stroma.shape, np.uint8)
    rows, cols = np.nonzero(stroma)
    wanted = rng.poisson(spec.red_cells * rows.size * GRID_UM**2 / 14_000.0)
    for k in rng.integers(0, max(rows.size, 1), wanted if rows.size else 0):
        axes = rng.uniform(7, 26, 2) / GRID_UM
        centre = (int(cols[k]), int(rows[k]))
        cv2.ellipse(plane, centre, (int(axes[0]), int(axes[1])), rng.uniform(0, 180), 0, 360, 1, -1)
    return plane.astype(bool) & stroma


def _matter(tissue: Bool, tumour: Bool) -> F32:
    """Density between cells: gaps inside the nests are almost empty."""
    matter = tissue * np.where(tumour, np.float32(0.36), np.float32(1.0))
    soft: F32 = cv2.GaussianBlur(matter.astype(np.float32), (0, 0), 1.2 / GRID_UM)
    return soft


def _seeds(spec: PhantomSpec, rng: np.random.Generator) -> tuple[F64, F64]:
    """Jittered hexagonal seeds, denser here and sparser there."""
    pitch = spec.cell_um
    rows = int((spec.height_um + 2 * PAD_UM) / (pitch * 0.866)) + 1
    cols = int((spec.width_um + 2 * PAD_UM) / pitch) + 1
    row, col = np.divmod(np.arange(rows * cols), cols)
    x = (col + 0.5 * (row % 2)) * pitch - PAD_UM
    y = row * pitch * 0.866 - PAD_UM
    jitter = (0.10 + 0.14 * spec.irregularity) * pitch
    x = x + rng.uniform(-1.6, 1.6, x.size) * jitter
    y = y + rng.uniform(-1.6, 1.6, y.size) * jitter
    extent = max(spec.width_um, spec.height_um) + 2 * PAD_UM
    stretch = 0.55 * pitch * spec.irregularity
    dx, dy = (Field(rng, 6 * pitch, extent).at(x, y) for _ in range(2))
    return x + stretch * dx, y + stretch * dy


def _voronoi_edges(
    spec: PhantomSpec, rng: np.random.Generator, ground: Ground, glands: Bool
) -> tuple[Edges, int]:
    """Return the ordered edges of the polygonal cells, and their number."""
    x, y = _seeds(spec, rng)
    keep = ground.look(ground.tumour & ~glands, x, y).astype(bool)
    keep &= (x > -20) & (x < spec.width_um + 20) & (y > -20) & (y < spec.height_um + 20)
    lumen = ground.look(ground.lumen, x, y).astype(bool)
    number = np.full(x.size, FREE, np.int64)
    number[lumen] = LUMEN
    number[keep] = np.arange(int(keep.sum()))
    diagram = Voronoi(np.stack([x, y], axis=1))
    pair, ridge = diagram.ridge_points, np.asarray(diagram.ridge_vertices)
    whole = (ridge >= 0).all(axis=1)
    pair, ridge = pair[whole].astype(np.int64), ridge[whole]
    own = np.concatenate([pair[:, 0], pair[:, 1]])
    other = np.concatenate([pair[:, 1], pair[:, 0]])
    a, b = np.tile(ridge[:, 0], 2), np.tile(ridge[:, 1], 2)
    use = keep[own]
    own, other, a, b = own[use], other[use], a[use], b[use]
    return _ordered(diagram.vertices, (x, y), own, other, (a, b), number), int(keep.sum())


def _ordered(
    vertices: F64, seed: tuple[F64, F64], own: I64, other: I64, ends: tuple[I64, I64], number: I64
) -> Edges:
    """Turn ridges into edges that run counter-clockwise around each cell."""
    sx, sy = seed[0][own], seed[1][own]
    p, q = vertices[ends[0]], vertices[ends[1]]
    clockwise = (p[:, 0] - sx) * (q[:, 1] - sy) < (p[:, 1] - sy) * (q[:, 0] - sx)
    p, q = np.where(clockwise[:, None], q, p), np.where(clockwise[:, None], p, q)
    angle = np.arctan2((p[:, 1] + q[:, 1]) / 2 - sy, (p[:, 0] + q[:, 0]) / 2 - sx)
    order = np.lexsort((angle, number[own]))
    p, q = p[order], q[order]
    return Edges(
        cell=number[own][order],
        neighbour=number[other][order],
        x0=p[:, 0],
        y0=p[:, 1],
        x1=q[:, 0],
        y1=q[:, 1],
    )


def _join(first: Edges, second: Edges) -> Edges:
    names = ("cell", "neighbour", "x0", "y0", "x1", "y1")
    return Edges(*(np.concatenate([getattr(first, n), getattr(second, n)]) for n in names))
