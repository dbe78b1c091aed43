"""A second generator of H-DAB phantoms with known patterns, apart from `her2path.phantom`.

Plain drawings, as others make them: jittered Voronoi cells, tidy hexagons, loose discs; flat or
slowly changing ground. Every cell is one radial outline; its own membrane is painted along it, and
where two cells touch both add up in optical density. `fit/cnn.py` trains on some of its
styles, so that the model does not learn one painter's habits. Nothing of `her2path.phantom` is
used here; only the names of the patterns are shared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pyarrow as pa
from scipy.spatial import cKDTree
from scipy.stats import norm

from her2path.core.schema import PATTERNS
from scripts.phantoms.drawn import Drawn
from scripts.phantoms.jpeg import through_jpeg
from scripts.phantoms.levels import CREST, laboratory

STYLES: tuple[str, ...] = ("voronoi", "hexagons", "discs")
#: own crest OD of faint, moderate and intense lines, and their full width at half maximum (um)
WIDTH = ((0.45, 0.85), (0.7, 1.4), (1.2, 2.6))
COMPLETE = 0.80
ANGLES = 96
FWHM = 2.355


@dataclass(frozen=True)
class Painted:
    """A drawing and all that was put in.

    uint8 (H, W, 3), um per pixel, tumour cells, their nuclei (n, 3) as x, y, radius in um (0 where
    the section missed it), and where the other nuclei lie, (m, 2) um, with their kinds.
    """

    rgb: np.ndarray
    mpp: float
    cells: Cells
    nuclei: np.ndarray
    others: np.ndarray
    kinds: list[str]


@dataclass(frozen=True)
class Cells:
    """Tumour cells: centres (n, 2) um, outlines (n, ANGLES) um, pattern code, own OD per angle."""

    at: np.ndarray
    reach: np.ndarray
    code: np.ndarray
    od: np.ndarray
    width: np.ndarray


def draw(seed: int, style: str, weights: Mapping[str, float], size_um: float = 240.0) -> Drawn:
    """Draw one phantom; see `drawn.Generator`."""
    painted = paint(seed, style, weights, size_um)
    return Drawn(painted.rgb, painted.mpp, _truth(painted, size_um))


def paint(
    seed: int, style: str, weights: Mapping[str, float], size_um: float, rough: bool = False,
    inner: bool = False,
) -> Painted:  # fmt: skip
    """Return a drawing with all that was put in; see `draw`.

    With ``rough`` the cells' bodies hold granular brown that ends at their borders. With ``inner``
    the membranes lie wholly inside their own outlines and end there, so that those of neighbours
    lie side by side; the width in the truth is then that of a whole line of the same mass. The rest
    of the drawing is the same.
    """
    rng = np.random.default_rng([seed, *style.encode()])
    mpp = float(rng.choice([0.23, 0.25, 0.25, 0.46, 0.5]))
    n_px = round(size_um / mpp)
    nests = _nests(rng, n_px)
    seeds = _seeds(rng, style, size_um)
    inside = nests[tuple(np.clip((seeds[:, ::-1] / mpp).astype(int), 0, n_px - 1).T)]
    cells = _cells(rng, style, seeds, inside, weights)
    h, d = _ground(rng, nests)
    _paint_bodies(rng, h, d, cells, mpp)
    if rough:
        paint_granules(np.random.default_rng([seed, 11]), d, cells, mpp)
    others, kinds = _others(rng, cells.at, size_um)
    nuclei = _paint_nuclei(rng, h, d, cells, (others, kinds), mpp)
    depth = float(np.random.default_rng([seed, 13]).uniform(0.1, 0.5)) if inner else None
    paint_lines(rng, d, cells, mpp, depth)
    if depth is not None:
        left = norm.cdf(depth * FWHM / np.maximum(cells.width, 1e-6))
        cells = replace(cells, width=cells.width * left)
    return Painted(_light(rng, h, d, mpp), mpp, cells, nuclei, others, kinds)


def _seeds(rng: np.random.Generator, style: str, size: float) -> np.ndarray:
    pitch = rng.uniform(9.5, 16)
    n = int(size / pitch) + 4
    gx, gy = np.meshgrid(np.arange(-2, n), np.arange(-2, int(n * 1.16)))
    grid = np.stack([(gx + 0.5 * (gy % 2)) * pitch, gy * pitch * 0.866], axis=-1).reshape(-1, 2)
    jitter = {"hexagons": 0.03, "discs": 0.16}.get(style, rng.uniform(0.08, 0.24))
    turn = rng.uniform(0, np.pi / 3)
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    grid = (grid - size / 2) @ (spin * 1.0) + size / 2
    grid = grid + rng.normal(0, jitter * pitch, grid.shape)
    near = ((grid > -2 * pitch) & (grid < size + 2 * pitch)).all(axis=1)
    return grid[near]


def _nests(rng: np.random.Generator, n_px: int) -> np.ndarray:
    """Mask of the tumour: everything, or what lies above a level of slow noise."""
    if rng.random() < 0.4:
        return np.ones((n_px, n_px), bool)
    few = int(rng.integers(3, 7))
    slow = cv2.resize(rng.normal(0, 1, (few, few)), (n_px, n_px), interpolation=cv2.INTER_CUBIC)
    return slow > np.quantile(slow, rng.uniform(0.1, 0.45))


def _outlines(rng: np.random.Generator, style: str, seeds: np.ndarray) -> np.ndarray:
    """Return radii (n, ANGLES): as far as the borders to the neighbours, less a little."""
    angle = np.arange(ANGLES) / ANGLES * 2 * np.pi
    ray = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    away, other = cKDTree(seeds).query(seeds, k=10)
    to = seeds[other[:, 1:]] - seeds[:, None]
    along = np.einsum("nkd,ad->nka", to, ray)
    half = 0.5 * (away[:, 1:, None] ** 2) / np.where(along > 1e-6, along, np.inf)
    half = np.where(along > 1e-6, half, 1e3)
    reach = half.min(axis=1)
    middle = np.median(away[:, 1])
    if style == "discs":
        disc = middle * rng.uniform(0.40, 0.52) * np.exp(rng.normal(0, 0.08, (len(seeds), 1)))
        reach = np.minimum(reach, disc)
    inset = rng.choice([0.08, 0.15, 0.4]) + rng.gamma(1.5, 0.05, (len(seeds), 1))
    soft = np.stack([np.roll(reach, k, axis=1) for k in (-2, -1, 0, 1, 2)]).mean(axis=0)
    return np.clip(soft - inset, 2.5, 0.9 * middle)


def _cells(
    rng: np.random.Generator, style: str, seeds: np.ndarray, inside: np.ndarray,
    weights: Mapping[str, float],
) -> Cells:  # fmt: skip
    reach = _outlines(rng, style, seeds)[inside]
    at = seeds[inside]
    share = np.array([weights.get(p, 0.0) for p in PATTERNS])
    code = rng.choice(len(PATTERNS), len(at), p=share / share.sum())
    intensity = (code + 1) // 2
    low, high = np.array(CREST)[intensity].T
    slim, broad = np.array([(0.6, 0.6), *WIDTH])[intensity].T
    crest = laboratory(rng) * (low + (high - low) * rng.random(len(at)))
    width = slim + (broad - slim) * rng.random(len(at))
    od = crest[:, None] * stained_arcs(rng, code, reach)
    return Cells(at, reach, code, od * _unevenness(rng, od.shape), width)


def stained_arcs(rng: np.random.Generator, code: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Return 1 where an outline (n, ANGLES) is stained, in one to three arcs."""
    n = len(code)
    complete = (code > 0) & (code % 2 == 0)
    most = np.where(rng.random(n) < 0.5, 1.0, rng.uniform(0.86, 1.0, n))
    wanted = np.where(code == 0, 0.0, np.where(complete, most, rng.uniform(0.25, 0.70, n)))
    piece = reach / reach.sum(axis=1, keepdims=True)
    start = np.cumsum(piece, axis=1) - piece
    arcs = rng.integers(1, 4, (n, 1))
    phase = (start + rng.random((n, 1))) * arcs % 1.0
    return (phase < wanted[:, None]).astype(np.float64)


def _unevenness(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return a factor of mean about 1 along each outline; smooth on some drawings."""
    size = rng.choice([0.0, 0.15, 0.3])
    noise = rng.normal(0, 1, shape)
    slow = np.stack([np.roll(noise, k, axis=1) for k in range(4)]).mean(axis=0) * 2
    return np.exp(size * slow - size**2 / 2)


def _ground(rng: np.random.Generator, nests: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shape = nests.shape
    slow = cv2.resize(rng.normal(0, 1, (7, 7)), shape[::-1], interpolation=cv2.INTER_CUBIC)
    h = np.where(nests, rng.uniform(0.02, 0.08), rng.uniform(0.0, 0.10))
    h = np.maximum(h * (1 + rng.choice([0, 0.25]) * slow), 0)
    d = np.full(shape, rng.choice([0.0, 0.0, 0.02, 0.04]))
    if rng.random() < 0.6:
        fibres = cv2.GaussianBlur(rng.normal(0, 1, shape), (0, 0), 9, sigmaY=1.2)
        fibres = np.where(nests, 0, np.maximum(fibres / fibres.std(), 0))
        h, d = h + 0.04 * fibres, d + rng.choice([0, 0.01, 0.03]) * fibres
    return h, d


def _window(
    shape: tuple[int, int], at: np.ndarray, reach: float, mpp: float
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray] | None:
    """Return a cell's part of the image, and x, y (um) from its centre there."""
    low = np.floor((at - reach) / mpp).astype(int)
    high = np.ceil((at + reach) / mpp).astype(int) + 1
    x0, y0 = np.maximum(low, 0)
    x1, y1 = np.minimum(high, shape[::-1])
    if x0 >= x1 or y0 >= y1:
        return None
    y, x = np.mgrid[y0:y1, x0:x1]
    return (slice(y0, y1), slice(x0, x1)), (x + 0.5) * mpp - at[0], (y + 0.5) * mpp - at[1]


def _around(values: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return values (ANGLES,) by direction, linear between them."""
    turn = np.arctan2(y, x) / (2 * np.pi) * ANGLES % ANGLES
    a = turn.astype(int) % ANGLES
    rest = turn - np.floor(turn)
    return values[a] * (1 - rest) + values[(a + 1) % ANGLES] * rest


def _paint_bodies(
    rng: np.random.Generator, h: np.ndarray, d: np.ndarray, cells: Cells, mpp: float
) -> None:
    """Cytoplasm: hematoxylin, and DAB that does not belong to a membrane."""
    pale, blush = rng.uniform(0.0, 0.10), rng.choice([0.0, 0.02, 0.05, 0.10])
    for at, reach in zip(cells.at, cells.reach, strict=True):
        found = _window(h.shape, at, float(reach.max()) + mpp, mpp)
        if found is None:
            continue
        where, x, y = found
        body = np.hypot(x, y) < _around(reach, x, y)
        h[where][body] += pale * np.exp(rng.normal(0, 0.2))
        d[where][body] += blush * np.exp(rng.normal(0, 0.5))


def paint_granules(rng: np.random.Generator, d: np.ndarray, cells: Cells, mpp: float) -> None:
    """Granular brown in the cells' bodies, no more at their borders than elsewhere."""
    grain = cv2.GaussianBlur(rng.normal(0, 1, d.shape), (0, 0), rng.uniform(0.2, 0.7) / mpp)
    grain, base = grain / grain.std(), rng.uniform(0.05, 0.3)
    granules = np.maximum(base * (1 + rng.uniform(0.1, 0.9) * grain), 0)
    most = rng.choice([0.5, 1.0])
    for at, reach in zip(cells.at, cells.reach, strict=True):
        found = _window(d.shape, at, float(reach.max()) + mpp, mpp)
        amount = most * rng.uniform(0, 2)
        if found is None:
            continue
        where, x, y = found
        body = np.hypot(x, y) < _around(reach, x, y)
        d[where][body] += amount * granules[where][body]


def paint_lines(
    rng: np.random.Generator, d: np.ndarray, cells: Cells, mpp: float, depth: float | None = None
) -> None:
    """Add every cell's own membrane along its own outline, or wholly inside, so deep (um)."""
    for k in np.flatnonzero(cells.od.any(axis=1)):
        reach, sigma = cells.reach[k], cells.width[k] / FWHM
        found = _window(d.shape, cells.at[k], float(reach.max()) + 3 * sigma, mpp)
        if found is None:
            continue
        where, x, y = found
        edge = _around(reach, x, y)
        slope = _around(np.gradient(np.concatenate([reach[-1:], reach, reach[:1]]))[1:-1], x, y)
        slant = np.cos(np.arctan2(slope * ANGLES / (2 * np.pi), edge))
        out = (np.hypot(x, y) - edge) * slant
        line = np.exp(-0.5 * ((out + (depth or 0.0)) / sigma) ** 2)
        if depth is not None:  # the border cuts it off, over a pixel
            line *= np.clip(0.5 - out / mpp, 0, 1)
        d[where] += line * _around(cells.od[k], x, y)
    if rng.random() < 0.3:
        grain = cv2.GaussianBlur(rng.normal(0, 1, d.shape), (0, 0), 0.5 / mpp)
        d *= np.maximum(1 + 0.2 * grain / grain.std(), 0)


def _others(
    rng: np.random.Generator, tumour: np.ndarray, size: float
) -> tuple[np.ndarray, list[str]]:
    """Scatter lymphocytes and stromal nuclei where no tumour cell is."""
    points, kinds = [np.zeros((0, 2))], []
    for kind, most in (("lymphocyte", 3000), ("stroma", 2000)):
        density = rng.choice([0.0, 0.3, 1.0]) * most
        draw_ = rng.uniform(0, size, (rng.poisson(density * size**2 * 1e-6), 2))
        far = cKDTree(tumour).query(draw_)[0] > 8 if len(tumour) else np.ones(len(draw_), bool)
        points.append(draw_[far])
        kinds += [kind] * int(far.sum())
    return np.concatenate(points), kinds


def _paint_nuclei(
    rng: np.random.Generator, h: np.ndarray, d: np.ndarray, cells: Cells,
    others: tuple[np.ndarray, list[str]], mpp: float,
) -> np.ndarray:  # fmt: skip
    """Paint all nuclei; return those of the tumour cells, see `Painted`."""
    nuclei = np.zeros((len(cells.at), 3))
    base, fill = rng.uniform(0.18, 0.6), rng.uniform(0.5, 0.85)
    hollow, brown = rng.choice([0.0, 0.5]), rng.choice([0.0, 0.0, 0.04])
    for own, at, reach in zip(nuclei, cells.at, cells.reach, strict=True):
        if rng.random() < 0.06:  # the section missed it
            continue
        size = fill * reach.min() * np.exp(rng.normal(0, 0.1))
        place, flat = at + rng.normal(0, 0.4, 2), rng.uniform(0.75, 1)
        _ellipse(rng, (h, d), place, (size, flat), (base, hollow, brown), mpp)
        own[:] = *place, size * flat**0.5
    for at, kind in zip(*others, strict=True):
        size, flat = (rng.uniform(2.2, 3.2), 0.9) if kind == "lymphocyte" else (5.0, 0.3)
        _ellipse(rng, (h, d), at, (size, flat), (base * 1.3, 0.0, 0.0), mpp)
    return nuclei


def _ellipse(
    rng: np.random.Generator, hd: tuple[np.ndarray, np.ndarray], at: np.ndarray,
    shape: tuple[float, float], look: tuple[float, float, float], mpp: float,
) -> None:  # fmt: skip
    found = _window(hd[0].shape, at, shape[0] + mpp, mpp)
    if found is None:
        return
    where, x, y = found
    turn = rng.uniform(0, np.pi)
    u = (x * np.cos(turn) + y * np.sin(turn)) / shape[0]
    v = (y * np.cos(turn) - x * np.sin(turn)) / (shape[0] * shape[1])
    r = np.hypot(u, v)
    depth = look[0] * np.exp(rng.normal(0, 0.15)) * (1 - look[1] * (r < 0.7))
    hd[0][where] = np.where(r < 1, np.maximum(hd[0][where], depth), hd[0][where])
    hd[1][where] += np.where(r < 1, look[2], 0)


def _light(rng: np.random.Generator, h: np.ndarray, d: np.ndarray, mpp: float) -> np.ndarray:
    """Turn stain into light, blur it, add noise and JPEG."""
    hv = np.array([0.65, 0.68, 0.34]) + rng.normal(0, 0.02, 3)
    dv = np.array([0.30, 0.56, 0.77]) + rng.normal(0, 0.02, 3)
    od = h[..., None] * hv / np.linalg.norm(hv) + d[..., None] * dv / np.linalg.norm(dv)
    light = (rng.uniform(228, 250) + rng.normal(0, 2, 3)) * 10.0**-od
    light = cv2.GaussianBlur(light, (0, 0), rng.uniform(0.1, 0.4) / mpp)
    light += rng.normal(0, rng.uniform(0, 3), light.shape)
    rgb = np.clip(np.rint(light), 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        return rgb
    return through_jpeg(rgb, int(rng.integers(60, 95)))


def _truth(painted: Painted, size: float) -> pa.Table:
    cells, others = painted.cells, painted.others
    at = np.concatenate([cells.at, others])
    kind = np.array(["tumour"] * len(cells.at) + painted.kinds, object)
    pattern = np.concatenate([cells.code, np.zeros(len(others), int)])
    seen = np.concatenate([painted.nuclei[:, 2] > 0, np.ones(len(others), bool)])
    keep = ((at >= 0) & (at < size)).all(axis=1)
    return pa.table({
        "cell_index": np.arange(keep.sum()),
        "x_um": at[keep, 0], "y_um": at[keep, 1],
        "cell_type": kind[keep], "pattern": np.array(PATTERNS, object)[pattern[keep]],
        "has_nucleus": seen[keep],
    })  # fmt: skip
