"""Columnar epithelium: rings of tall, narrow cells around a lumen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2path.phantom.spec import PhantomSpec

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
WALL_PIECES = 8


@dataclass(frozen=True)
class Gland:
    """An elliptic ring: centre, half axes, tilt, height of the cells, ripple."""

    x_um: float
    y_um: float
    a_um: float
    b_um: float
    tilt: float
    height_um: float
    ripple: tuple[float, float, float]

    def point(self, angle: F64, depth: F64) -> tuple[F64, F64]:
        """Return the point `depth` um inward of the outer rim at a parameter angle."""
        wave = 1.0 + self.ripple[0] * np.cos(3 * angle + self.ripple[1])
        wave = wave + 0.5 * self.ripple[0] * np.cos(5 * angle + self.ripple[2])
        u, v = self.a_um * wave * np.cos(angle), self.b_um * wave * np.sin(angle)
        nx, ny = np.cos(angle) / self.a_um, np.sin(angle) / self.b_um
        norm = np.hypot(nx, ny)
        u, v = u - depth * nx / norm, v - depth * ny / norm
        c, s = np.cos(self.tilt), np.sin(self.tilt)
        return self.x_um + c * u - s * v, self.y_um + s * u + c * v

    @property
    def outer(self) -> tuple[F64, F64]:
        """Outline at the base of the cells."""
        angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
        return self.point(angle, np.zeros(96))

    @property
    def inner(self) -> tuple[F64, F64]:
        """Outline of the lumen."""
        angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
        return self.point(angle, np.full(96, self.height_um))


def place_glands(
    spec: PhantomSpec,
    rng: np.random.Generator,
    tumour: NDArray[np.bool_],
    grid_um: float,
    pad_um: float,
) -> list[Gland]:
    """Return glands inside the tumour that together hold `columnar_share` of it."""
    rows, cols = np.nonzero(tumour)
    wanted = spec.columnar_share * rows.size * grid_um**2
    glands: list[Gland] = []
    held = 0.0
    for _ in range(400 if rows.size else 0):
        if held >= wanted:
            break
        k = int(rng.integers(rows.size))
        gland = _draw(rng, cols[k] * grid_um - pad_um, rows[k] * grid_um - pad_um)
        area = np.pi * gland.height_um * (gland.a_um + gland.b_um - gland.height_um)
        if held + area / 2 <= wanted and _fits(gland, glands, tumour, (grid_um, pad_um)):
            glands.append(gland)
            held += area
    return glands


def _draw(rng: np.random.Generator, x_um: float, y_um: float) -> Gland:
    b = min(rng.uniform(28, 46) * np.exp(abs(rng.normal(0, 0.3))), 85.0)
    a = b * rng.uniform(1.0, 1.6)
    height = min(rng.uniform(17, 27), 0.62 * b * b / a)
    ripple = (rng.uniform(0, 0.06), rng.uniform(0, 6.3), rng.uniform(0, 6.3))
    return Gland(x_um, y_um, a, b, rng.uniform(0, np.pi), height, ripple)


def _fits(
    gland: Gland, others: list[Gland], tumour: NDArray[np.bool_], plane: tuple[float, float]
) -> bool:
    grid_um, pad_um = plane
    near = any(
        np.hypot(gland.x_um - o.x_um, gland.y_um - o.y_um) < 1.06 * (gland.a_um + o.a_um)
        for o in others
    )
    if near:
        return False
    x, y = gland.outer
    j, i = ((x + pad_um) / grid_um).astype(int), ((y + pad_um) / grid_um).astype(int)
    inside = (i >= 0) & (j >= 0) & (i < tumour.shape[0]) & (j < tumour.shape[1])
    return bool(inside.all() and tumour[i, j].mean() > 0.55)


def gland_edges(
    glands: list[Gland], rng: np.random.Generator, first: int
) -> tuple[tuple[I64, I64, F64, F64, F64, F64], F64]:
    """Return the columnar cells' edges and their axes.

    Parameters
    ----------
    glands : list of Gland
    rng : numpy.random.Generator
    first : int
        Number of the first columnar cell.

    Returns
    -------
    edges : tuple of arrays
        cell, neighbour, x0, y0, x1, y1; ordered around each cell.
    axis : (n, 2) array
        Unit vector from the base to the lumen of each columnar cell.
    """
    cells: list[I64] = [np.empty(0, np.int64)]
    neighbours: list[I64] = [np.empty(0, np.int64)]
    ends: list[F64] = [np.empty((0, 4))]
    axes: list[F64] = [np.empty((0, 2))]
    for gland in glands:
        cell, neighbour, end, axis = _ring(gland, rng, first)
        cells.append(cell)
        neighbours.append(neighbour)
        ends.append(end)
        axes.append(axis)
        first += axis.shape[0]
    end = np.concatenate(ends)
    columns = (end[:, 0], end[:, 1], end[:, 2], end[:, 3])
    return (np.concatenate(cells), np.concatenate(neighbours), *columns), np.concatenate(axes)


def _ring(gland: Gland, rng: np.random.Generator, first: int) -> tuple[I64, I64, F64, F64]:
    """Return cell, neighbour (m,), ends (m, 4) and axes (n, 2) of one gland."""
    around = np.pi * (gland.a_um + gland.b_um)
    n = max(6, round(around / rng.uniform(6.2, 8.5)))
    angle = (np.arange(n) + rng.uniform(-0.27, 0.27, n)) * 2 * np.pi / n
    depth = np.linspace(0, 1, WALL_PIECES + 1)
    lean = rng.normal(0, 0.10, n)[:, None] * np.sin(np.pi * depth) * 2 * np.pi / n * 2
    height = gland.height_um * (1 + rng.normal(0, 0.04, n))
    wall_x, wall_y = gland.point(angle[:, None] + lean, depth * height[:, None])
    cap = [_arc(gland, angle, k, height, inner=True) for k in range(n)]
    base = [_arc(gland, angle, k, height, inner=False) for k in range(n)]
    cell, neighbour, ends, axes = [], [], [], []
    for k in range(n):
        after = (k + 1) % n
        loop = [
            (base[k][0], base[k][1], -1),
            (wall_x[after], wall_y[after], first + after),
            (cap[k][0][::-1], cap[k][1][::-1], -2),
            (wall_x[k][::-1], wall_y[k][::-1], first + (k - 1) % n),
        ]
        for x, y, beside in loop:
            ends.append(np.stack([x[:-1], y[:-1], x[1:], y[1:]], axis=1))
            neighbour.append(np.full(x.size - 1, beside, np.int64))
            cell.append(np.full(x.size - 1, first + k, np.int64))
        dx, dy = cap[k][0].mean() - base[k][0].mean(), cap[k][1].mean() - base[k][1].mean()
        axes.append((dx / np.hypot(dx, dy), dy / np.hypot(dx, dy)))
    return np.concatenate(cell), np.concatenate(neighbour), np.concatenate(ends), np.array(axes)


def _arc(gland: Gland, angle: F64, k: int, height: F64, *, inner: bool) -> tuple[F64, F64]:
    """Return the cell's own piece of the outer rim or of the lumen's border."""
    n = angle.size
    stop = angle[(k + 1) % n] + (2 * np.pi if k == n - 1 else 0.0)
    t = np.linspace(0, 1, 5)
    depth = (1 - t) * height[k] + t * height[(k + 1) % n] if inner else np.zeros(5)
    return gland.point(angle[k] + t * (stop - angle[k]), depth)
