"""A second, plain generator of H-DAB phantoms, built differently from `her2path.phantom`.

Others test with simpler drawings: tidy nuclei in Voronoi or hexagonal cells, flat colours, few or
no stromal cells. `fit_tumour.py` fits and checks on them too, so that nothing is learned that only
holds for one generator. Truth is the list of nuclei with their kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import cKDTree

#: arrangements of cells; the last two serve for checks only
STYLES = ("voronoi", "hexagons", "crowded", "sparse", "islands", "discs", "ellipses")
FITTED = STYLES[:5]


@dataclass(frozen=True)
class Plain:
    """A drawing: uint8 (H, W, 3), µm per pixel, positions (n, 2) µm, and kinds (n,)."""

    rgb: np.ndarray
    mpp: float
    at: np.ndarray
    kind: np.ndarray


def make_plain(seed: int, style: str, size_um: float = 320.0) -> Plain:
    """Draw a phantom of a style; one seed gives one drawing."""
    rng = np.random.default_rng([seed, *style.encode()])
    mpp = float(rng.choice([0.23, 0.25, 0.25, 0.26, 0.46, 0.5]))
    n_px = round(size_um / mpp)
    y, x = (np.mgrid[0:n_px, 0:n_px] + 0.5) * mpp
    seeds = _seeds(rng, style, size_um)
    nests = _nests(rng, style, x, y, size_um)
    inside = nests[tuple(np.clip((seeds[:, ::-1] / mpp).astype(int), 0, n_px - 1).T)]
    tumour = seeds[inside]
    others, kinds = _others(rng, nests, tumour, size_um, mpp)
    h, d = _ground(rng, nests, x.shape)
    d = d + _membranes(rng, style, tumour, nests, x, y)
    h = _paint_nuclei(rng, style, h, tumour, others, kinds, mpp)
    rgb = _light(rng, h, d, mpp)
    at = np.concatenate([tumour, others])
    kind = np.array(["tumour"] * len(tumour) + kinds)
    keep = ((at > 0) & (at < size_um)).all(axis=1)
    return Plain(rgb, mpp, at[keep], kind[keep])


def _seeds(rng: np.random.Generator, style: str, size: float) -> np.ndarray:
    pitch = {"crowded": rng.uniform(8, 10), "sparse": rng.uniform(16, 24)}.get(
        style, rng.uniform(10, 16)
    )
    gx, gy = np.meshgrid(np.arange(-2, size / pitch + 2), np.arange(-2, size / pitch * 1.16 + 2))
    grid = np.stack([(gx + 0.5 * (gy % 2)) * pitch, gy * pitch * 0.866], axis=-1).reshape(-1, 2)
    if style == "discs":
        return _apart(rng.uniform(0, size, (6 * len(grid), 2)), pitch * 0.75)
    jitter = {"hexagons": 0.04, "crowded": 0.16}.get(style, rng.uniform(0.1, 0.24))
    return grid + rng.normal(0, jitter * pitch, grid.shape)


def _apart(points: np.ndarray, least: float) -> np.ndarray:
    """Keep points, first come first served, that lie this far apart."""
    taken = np.ones(len(points), bool)
    for i, j in sorted(cKDTree(points).query_pairs(least)):
        if taken[i]:
            taken[j] = False
    return points[taken]


def _nests(
    rng: np.random.Generator, style: str, x: np.ndarray, y: np.ndarray, size: float
) -> np.ndarray:
    if style in ("hexagons", "crowded", "discs") and rng.random() < 0.7:
        return np.ones(x.shape, bool)
    count = rng.integers(2, 6)
    spots = rng.uniform(0.1 * size, 0.9 * size, (count, 2))
    wide = rng.uniform(0.1, 0.3, count) * size
    field = np.zeros(x.shape)
    for (cx, cy), r in zip(spots, wide, strict=True):
        field = np.maximum(field, 1.3 - ((x - cx) ** 2 + (y - cy) ** 2) / r**2)
    nests = field > 0
    return ~nests if rng.random() < 0.3 else nests


def _others(
    rng: np.random.Generator, nests: np.ndarray, tumour: np.ndarray,
    size: float, mpp: float,
) -> tuple[np.ndarray, list[str]]:  # fmt: skip
    """Scatter lymphocytes and stromal nuclei between the nests, sometimes none."""
    per_mm2 = {
        "lymphocyte": float(rng.choice([0, 0, 400, 1500, 4000])),
        "stroma": float(rng.choice([0, 500, 1500, 2500])),
    }
    points, kinds = [np.zeros((0, 2))], []
    for kind, density in per_mm2.items():
        draw = rng.uniform(0, size, (rng.poisson(density * size * size * 1e-6), 2))
        at = tuple(np.clip((draw[:, ::-1] / mpp).astype(int), 0, len(nests) - 1).T)
        lone = ~nests[at] | (rng.random(len(draw)) < (0.06 if kind == "lymphocyte" else 0))
        points.append(draw[lone])
        kinds += [kind] * int(lone.sum())
    everything = np.concatenate(points)
    if not len(everything):
        return everything, []
    far = np.ones(len(everything), bool)
    if len(tumour):
        far = cKDTree(tumour).query(everything)[0] > 7.0
    for i, j in sorted(cKDTree(everything).query_pairs(5.5)):
        if far[i]:
            far[j] = False
    return everything[far], [k for k, f in zip(kinds, far, strict=True) if f]


def _ground(
    rng: np.random.Generator, nests: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Cytoplasm and stroma, flat or with slow changes."""
    slow = cv2.resize(rng.normal(0, 1, (8, 8)), shape[::-1], interpolation=cv2.INTER_CUBIC)
    cytoplasm, stroma = rng.uniform(0.03, 0.14), rng.uniform(0.01, 0.10)
    h = np.where(nests, cytoplasm, stroma) * (1 + rng.choice([0, 0.15]) * slow)
    if rng.random() < 0.5:
        fibres = cv2.GaussianBlur(rng.normal(0, 1, shape), (0, 0), 12, sigmaY=1.5)
        h = h + np.where(nests, 0, 0.02 * fibres / fibres.std())
    blush = rng.choice([0, 0.02, 0.06])
    return np.maximum(h, 0), np.where(nests, blush, 0.5 * blush) * np.ones(shape)


def _membranes(
    rng: np.random.Generator, style: str, seeds: np.ndarray, nests: np.ndarray,
    x: np.ndarray, y: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Lines on the borders between cells, each cell with its own optical density."""
    od = np.zeros(len(seeds))
    recipe = rng.choice(["none", "faint", "intense", "mixed"])
    level = {"none": 0.0, "faint": 0.15, "intense": 0.9, "mixed": 0.5}[recipe]
    od[:] = level * np.exp(rng.normal(0, 0.2, len(seeds)))
    if recipe == "mixed":
        od *= rng.random(len(seeds)) < 0.5
    if len(seeds) < 3 or not od.any():
        return np.zeros(x.shape)
    away, which = cKDTree(seeds).query(np.stack([x, y], axis=-1).reshape(-1, 2), k=2)
    first, second = seeds[which[:, 0]], seeds[which[:, 1]]
    gap = np.maximum(np.hypot(*(second - first).T), 1e-6)
    border = (away[:, 1] ** 2 - away[:, 0] ** 2) / (2 * gap)
    reach = 2.5 * gap.mean()
    if style in ("sparse", "discs", "ellipses"):
        border = np.minimum(border, np.abs(away[:, 0] - 0.55 * np.median(gap)))
    sigma = rng.uniform(0.3, 0.9)
    line = np.exp(-0.5 * (border / sigma) ** 2) * (od[which[:, 0]] + od[which[:, 1]]) / 2
    return np.where(nests & (away[:, 0].reshape(x.shape) < reach), line.reshape(x.shape), 0)


def _paint_nuclei(
    rng: np.random.Generator, style: str, h: np.ndarray, tumour: np.ndarray,
    others: np.ndarray, kinds: list[str], mpp: float,
) -> np.ndarray:  # fmt: skip
    """Ellipses: flat, or a little textured; lymphocytes small and dark, stroma slender."""
    base, spread = rng.uniform(0.18, 0.6), rng.uniform(0.02, 0.2)
    mean_radius = rng.uniform(3.0, 5.2) if style != "crowded" else rng.uniform(2.6, 3.4)
    slender, texture = rng.uniform(2.5, 5.5), rng.choice([0, 0.1, 0.25])
    vesicular = rng.choice([0.0, 0.3, 0.6])
    out = h.copy()
    grain = cv2.GaussianBlur(rng.normal(0, 1, h.shape), (0, 0), 0.7 / mpp)
    grain *= texture / grain.std()
    shapes = [("tumour", p) for p in tumour] + list(zip(kinds, others, strict=True))
    for kind, at in shapes:
        radius, axes, dark = mean_radius * np.exp(rng.normal(0, 0.12)), 1.0, base
        if kind == "tumour":
            axes = float(np.exp(abs(rng.normal(0, 0.14 if style != "ellipses" else 0.4))))
        elif kind == "lymphocyte":
            radius, dark = rng.uniform(2.2, 3.1), base * rng.uniform(1.1, 1.8)
            axes = float(np.exp(abs(rng.normal(0, 0.06))))
        else:
            radius, axes, dark = rng.uniform(2.2, 3.2), slender * rng.uniform(0.7, 1.3), base
        depth = dark * np.exp(rng.normal(0, spread))
        hollow = kind == "tumour" and rng.random() < vesicular
        _ellipse(out, grain, at, (radius * axes**0.5, radius / axes**0.5),
                 float(rng.uniform(0, np.pi)), depth, hollow, mpp)  # fmt: skip
    return out


def _ellipse(
    out: np.ndarray, grain: np.ndarray, at: np.ndarray, axes: tuple[float, float],
    turn: float, depth: float, hollow: bool, mpp: float,
) -> None:  # fmt: skip
    reach = int(np.ceil(axes[0] / mpp)) + 2
    cx, cy = int(at[0] / mpp), int(at[1] / mpp)
    y0, y1 = max(cy - reach, 0), min(cy + reach + 1, out.shape[0])
    x0, x1 = max(cx - reach, 0), min(cx + reach + 1, out.shape[1])
    if y0 >= y1 or x0 >= x1:
        return
    yy, xx = np.mgrid[y0:y1, x0:x1]
    dx, dy = (xx + 0.5) * mpp - at[0], (yy + 0.5) * mpp - at[1]
    u = (dx * np.cos(turn) + dy * np.sin(turn)) / axes[0]
    v = (dy * np.cos(turn) - dx * np.sin(turn)) / axes[1]
    r = np.hypot(u, v)
    value = depth * (1 + grain[y0:y1, x0:x1])
    if hollow:
        value = value * np.where(r < 0.7, 0.6, 1.1)
    window = out[y0:y1, x0:x1]
    window[r < 1] = np.maximum(value, 0.05)[r < 1]


def _light(rng: np.random.Generator, h: np.ndarray, d: np.ndarray, mpp: float) -> np.ndarray:
    """Stain to light, blur, noise, JPEG."""
    hv = np.array([0.65, 0.70, 0.29]) * (1 - (t := rng.random())) + t * np.array([0.66, 0.63, 0.41])
    dv = np.array([0.27, 0.57, 0.78]) * (1 - (t := rng.random())) + t * np.array([0.33, 0.55, 0.77])
    od = h[..., None] * hv / np.linalg.norm(hv) + d[..., None] * dv / np.linalg.norm(dv)
    light = rng.uniform(232, 250) * 10.0**-od
    blur = rng.uniform(0.1, 0.4) / mpp
    light = cv2.GaussianBlur(light, (0, 0), blur) + rng.normal(0, rng.uniform(0, 2.5), light.shape)
    rgb = np.clip(np.rint(light), 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        return rgb
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(65, 95))]
    coded = cv2.imencode(".jpg", rgb[..., ::-1], quality)[1]
    return np.ascontiguousarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1])
