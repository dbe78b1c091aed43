"""All that is not tumour: fibres, spindle cells, lymphocytes, red cells, edges."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from scipy.spatial import cKDTree

from her2path.phantom import nuclei as nu
from her2path.phantom.layout import GRID_UM, PAD_UM, Ground
from her2path.phantom.noise import Field
from her2path.phantom.spec import PhantomSpec

F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

FIBRE_STEP_UM = 0.6
RIM_STEP_UM = 0.4


@dataclass(frozen=True)
class Strokes:
    """Soft dots: x, y, sigma (um) and peak OD, (n, 4) float64."""

    values: F64


@dataclass(frozen=True)
class Stroma:
    """Nuclei outside the nests, and soft dots by channel.

    `lymphocyte` tells which of the `nuclei` rows are lymphocytes; `fibres` go
    to the hematoxylin, `grains` to the DAB and `edges` to the grey channel
    (negative: brighter); `red_cells` (n, 4) are x, y, radius, tilt.
    """

    nuclei: F64
    lymphocyte: Bool
    fibres: Strokes
    grains: Strokes
    edges: Strokes
    red_cells: F64


def make_stroma(spec: PhantomSpec, ground: Ground, tumour: F64) -> Stroma:
    """Return what lies between and beside the nests; `tumour` are the nuclei there already."""
    rng = spec.rng("stroma")
    extent = max(spec.width_um, spec.height_um) + 2 * PAD_UM
    course = Field(rng, 170.0, extent)
    open_stroma = ground.tissue & ~ground.tumour & ~ground.lumen & ~ground.vessel
    lymph = _lymphocytes(spec, rng, (open_stroma, ground.tumour), extent)
    spindle = _spindles(spec, rng, open_stroma, course)
    both = np.concatenate([lymph, spindle])
    keep = _apart(tumour, both)
    return Stroma(
        nuclei=both[keep],
        lymphocyte=(np.arange(both.shape[0]) < lymph.shape[0])[keep],
        fibres=_fibres(rng, ground, open_stroma, (course, extent)),
        grains=_grains(spec, rng, ground),
        edges=_edges(spec, rng, ground),
        red_cells=_red_cells(spec, rng, ground),
    )


def _spots(rng: np.random.Generator, where: Bool, per_um2: F64 | float) -> F64:
    """Return random points (n, 2) in the mask at a density."""
    rows, cols = np.nonzero(where)
    density = np.broadcast_to(per_um2, where.shape)[rows, cols] * GRID_UM**2
    hit = rng.random(rows.size) < density
    jitter = rng.random((int(hit.sum()), 2))
    x = (cols[hit] + jitter[:, 0]) * GRID_UM - PAD_UM
    y = (rows[hit] + jitter[:, 1]) * GRID_UM - PAD_UM
    return np.stack([x, y], axis=1)


def _apart(present: F64, added: F64) -> Bool:
    """Return which added nuclei bury neither one present nor an added one before them."""
    nuclei = np.concatenate([present, added])
    keep = np.ones(nuclei.shape[0], bool)
    if nuclei.shape[0] < 2:
        return keep[present.shape[0] :]
    pairs = cKDTree(nuclei[:, :2]).query_pairs(9.0, output_type="ndarray")
    pairs = pairs[pairs.max(axis=1) >= present.shape[0]]
    pairs = np.sort(pairs, axis=1)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    gap = np.hypot(*(nuclei[pairs[:, 0], :2] - nuclei[pairs[:, 1], :2]).T)
    close = gap < 0.75 * (nuclei[pairs[:, 0], nu.B] + nuclei[pairs[:, 1], nu.B]) + 0.3
    for first, later in pairs[close]:
        if keep[first]:
            keep[later] = False
    return keep[present.shape[0] :]


def _lymphocytes(
    spec: PhantomSpec, rng: np.random.Generator, place: tuple[Bool, Bool], extent: float
) -> F64:
    """Small, round and dark; in clusters in the stroma, few elsewhere and in the nests."""
    stroma, nests = place
    field = Field(rng, 90.0, extent).plane(stroma.shape, GRID_UM)
    density = spec.lymphocytes * (0.0012 + 0.03 * np.clip(field - 0.5, 0, 1))
    at = np.concatenate(
        [_spots(rng, stroma, density), _spots(rng, nests, 0.0009 * spec.lymphocytes)]
    )
    n = at.shape[0]
    values = np.zeros((n, len(nu.COLUMNS)))
    values[:, nu.X], values[:, nu.Y] = at[:, 0], at[:, 1]
    values[:, nu.B] = np.clip(rng.normal(2.95, 0.4, n), 2.2, 3.9)
    values[:, nu.A] = values[:, nu.B] * rng.uniform(1.0, 1.3, n)
    values[:, nu.TILT] = rng.uniform(0, np.pi, n)
    od = 1.35 * spec.nucleus_od * np.exp(0.28 * rng.normal(size=n))
    values[:, nu.OD] = np.clip(od, 0.15, 1.0)
    values[:, nu.PALE] = rng.uniform(0.65, 1.0, n)
    values[:, nu.TEXTURE] = rng.uniform(0.2, 0.4, n)
    values[:, nu.W3] = rng.uniform(0, 0.1, n)
    values[:, nu.P3] = rng.uniform(0, 6.28, n)
    return values


def _spindles(spec: PhantomSpec, rng: np.random.Generator, stroma: Bool, course: Field) -> F64:
    """Long, thin nuclei along the fibres."""
    at = _spots(rng, stroma, 0.0022 * spec.stroma_cells)
    n = at.shape[0]
    values = np.zeros((n, len(nu.COLUMNS)))
    values[:, nu.X], values[:, nu.Y] = at[:, 0], at[:, 1]
    values[:, nu.B] = rng.uniform(1.1, 2.1, n)
    values[:, nu.A] = values[:, nu.B] * rng.uniform(2.2, 4.5, n)
    values[:, nu.TILT] = _angle(course, at[:, 0], at[:, 1]) + rng.normal(0, 0.25, n)
    values[:, nu.OD] = np.clip(1.1 * spec.nucleus_od * np.exp(0.3 * rng.normal(size=n)), 0.12, 0.9)
    values[:, nu.PALE] = rng.uniform(0.7, 1.0, n)
    values[:, nu.TEXTURE] = rng.uniform(0.1, 0.3, n)
    values[:, nu.W3] = rng.uniform(0, 0.12, n)
    values[:, nu.P3] = rng.uniform(0, 6.28, n)
    return values


def _angle(course: Field, x_um: F64, y_um: F64) -> F64:
    return 1.6 * course.at(x_um, y_um)


def _fibres(
    rng: np.random.Generator, ground: Ground, stroma: Bool, plan: tuple[Field, float]
) -> Strokes:
    """Thin wavy strokes that follow the course of the stroma, in looser and denser bundles."""
    course, extent = plan
    dense = Field(rng, 60.0, extent).plane(stroma.shape, GRID_UM)
    at = _spots(rng, stroma, 0.016 * np.clip(1.0 + 0.7 * dense, 0.1, 2.5))
    n, steps = at.shape[0], 60
    length = rng.integers(10, steps, n)
    od = rng.gamma(1.6, 0.022, n)
    sigma = rng.uniform(0.25, 0.65, n)
    lean = rng.normal(0, 0.25, n)
    x, y = at[:, 0].copy(), at[:, 1].copy()
    parts: list[F64] = [np.empty((0, 4))]
    for k in range(steps):
        live = (k < length) & ground.look(ground.tissue, x, y).astype(bool)
        peak = od * FIBRE_STEP_UM / (np.sqrt(2 * np.pi) * sigma)
        parts.append(np.stack([x, y, sigma, peak], axis=1)[live])
        angle = _angle(course, x, y) + lean + 0.35 * np.sin(0.35 * k + 40 * lean)
        x, y = x + FIBRE_STEP_UM * np.cos(angle), y + FIBRE_STEP_UM * np.sin(angle)
    return Strokes(np.concatenate(parts))


def _grains(spec: PhantomSpec, rng: np.random.Generator, ground: Ground) -> Strokes:
    """Loose DAB precipitate, mostly over cells."""
    over = _spots(rng, ground.tumour, 0.012 * spec.precipitate)
    beside = _spots(rng, ground.tissue, 0.0008 * spec.precipitate)
    at = np.concatenate([over, beside])
    n = at.shape[0]
    sigma = rng.uniform(0.16, 0.34, n)
    peak = spec.strength * rng.gamma(2.0, 0.13, n)
    return Strokes(np.stack([at[:, 0], at[:, 1], sigma, peak], axis=1))


def _edges(spec: PhantomSpec, rng: np.random.Generator, ground: Ground) -> Strokes:
    """Dark and bright double lines where matter ends: lumens, vessels, tissue rim."""
    if spec.refractile == 0:
        return Strokes(np.empty((0, 4)))
    x, y, nx, ny = _rims(ground)
    extent = max(spec.width_um, spec.height_um) + 2 * PAD_UM
    strong = np.clip(Field(rng, 30.0, extent).at(x, y) - 0.8 + spec.refractile, 0, 1.0)
    strong = strong * np.exp(0.5 * Field(rng, 3.0, extent).at(x, y))
    sigma = np.full(x.size, 0.3)
    dark = np.stack([x, y, sigma, _dot_peak(0.2, 0.3) * strong], axis=1)
    beside = (x + 0.9 * nx, y + 0.9 * ny, sigma + 0.1)
    bright = np.stack([*beside, _dot_peak(-0.03, 0.4) * strong], axis=1)
    both = np.concatenate([dark, bright])
    return Strokes(both[np.concatenate([strong, strong]) > 0.02])


def _dot_peak(line_od: float, sigma_um: float) -> float:
    """Return the peak of dots RIM_STEP_UM apart that add up to a line of this OD."""
    return line_od * RIM_STEP_UM / (np.sqrt(2 * np.pi) * sigma_um)


def _rims(ground: Ground) -> tuple[F64, F64, F64, F64]:
    """Return points every RIM_STEP_UM along the rims of matter, and their unit normals."""
    contours, _ = cv2.findContours(
        (ground.stroma > 0.18).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    parts: list[F64] = [np.empty((0, 4))]
    for contour in contours:
        points = contour[:, 0, :].astype(np.float64) * GRID_UM
        if points.shape[0] < 12:
            continue
        for column in range(2):
            points[:, column] = uniform_filter1d(points[:, column], 7, mode="wrap")
        closed = np.concatenate([points, points[:1]])
        at = np.arange(0, points.shape[0], RIM_STEP_UM / GRID_UM)
        x, y = (np.interp(at, np.arange(closed.shape[0]), closed[:, c]) for c in range(2))
        tx, ty = np.gradient(x), np.gradient(y)
        norm = np.hypot(tx, ty) + 1e-9
        centre = 0.5 * GRID_UM - PAD_UM
        parts.append(np.stack([x + centre, y + centre, ty / norm, -tx / norm], axis=1))
    rims = np.concatenate(parts)
    return rims[:, 0], rims[:, 1], rims[:, 2], rims[:, 3]


def _red_cells(spec: PhantomSpec, rng: np.random.Generator, ground: Ground) -> F64:
    """Red blood cells: in the vessels, a few astray."""
    at = np.concatenate(
        [
            _spots(rng, ground.vessel, 0.03),
            _spots(rng, ground.lumen, 0.0004 * spec.red_cells),
            _spots(rng, ground.tissue & ~ground.tumour, 0.0002 * spec.red_cells),
        ]
    )
    radius = rng.uniform(2.1, 3.4, at.shape[0])
    tilt = rng.uniform(0, np.pi, at.shape[0])
    return np.stack([at[:, 0], at[:, 1], radius, tilt], axis=1)
