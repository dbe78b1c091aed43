"""A second, plain generator of H-DAB phantoms, built differently from `her2path.phantom`.

Others test with simpler drawings: tidy nuclei in Voronoi or hexagonal cells, flat colours, few or
no stromal cells. The fits learn from them too, so that nothing is learned that only holds for one
generator, and whole styles are left out of every fit as a check. Truth is the list of nuclei with
their kind and radius.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import pyarrow as pa
from scipy.spatial import cKDTree

from scripts.phantoms.drawn import Drawn
from scripts.phantoms.jpeg import through_jpeg
from scripts.phantoms.layouts import Layout, Rng, arrange, at_pixels

#: styles that are fitted; styles looked at while choosing; styles for the final figures only
FITTED = ("voronoi", "hexagons", "crowded", "sparse", "islands", "rings", "glands", "sheets")
CHECKED = ("ellipses", "single")
UNSEEN = ("discs", "cords")
STYLES: tuple[str, ...] = (*FITTED, *CHECKED, *UNSEEN)


@dataclass(frozen=True)
class Nuclei:
    """How all nuclei of a drawing look; sizes µm, depths OD."""

    radius: float
    size_spread: float
    long_spread: float
    depth: float
    depth_spread: float
    lymphocyte_radius: float
    lymphocyte_depth: float
    slender: float
    grain: float
    vesicular: float
    nucleoli: float
    see_through: bool


def draw(seed: int, style: str, weights: Mapping[str, float], size_um: float = 320.0) -> Drawn:
    """Draw a phantom of a style; see `drawn.Generator`.

    The membranes are drawn by recipes of this generator's own: ``weights`` are not asked, and the
    truth's patterns are null. It tells ``nucleus_radius_um`` besides, of a disc of the same area.
    """
    del weights
    rng = np.random.default_rng([seed, *style.encode()])
    mpp = float(rng.choice([0.2, 0.23, 0.25, 0.25, 0.26, 0.32, 0.46, 0.5]))
    n_px = round(size_um / mpp)
    y, x = (np.mgrid[0:n_px, 0:n_px] + 0.5) * mpp
    layout = arrange(rng, style, x, y, size_um)
    look = _look(rng, style, layout.pitch)
    others, kinds = _others(rng, layout, look, size_um)
    h, d = _ground(rng, layout, x.shape)
    d = d + _membranes(rng, layout, x, y)
    h, radius = _paint_nuclei(rng, look, h, layout, others, kinds, mpp)
    rgb = _light(rng, h, d, mpp)
    at = np.concatenate([layout.at, others])
    kind = np.array(["tumour"] * len(layout.at) + kinds)
    keep = ((at > 0) & (at < size_um)).all(axis=1)
    return Drawn(rgb, mpp, pa.table({
        "x_um": at[keep, 0], "y_um": at[keep, 1], "cell_type": kind[keep],
        "pattern": pa.nulls(int(keep.sum()), pa.string()),
        "has_nucleus": np.ones(int(keep.sum()), bool), "nucleus_radius_um": radius[keep],
    }))  # fmt: skip


def _look(rng: Rng, style: str, pitch: float) -> Nuclei:
    """Draw how the nuclei of this drawing look."""
    most = min(6.2, (0.62 if style == "glands" else 0.44) * pitch)
    radius = rng.uniform(min(2.7, 0.9 * most), most)
    long_spread = rng.choice([0.05, 0.14, 0.25])
    if style in ("ellipses", "glands"):
        long_spread = 0.4
    small = rng.uniform(0.5, 0.85) * radius
    return Nuclei(
        radius=radius,
        size_spread=rng.uniform(0.2, 0.35) if style == "sheets" else rng.uniform(0.03, 0.18),
        long_spread=long_spread,
        depth=rng.uniform(0.14, 0.6),
        depth_spread=rng.uniform(0.02, 0.25),
        lymphocyte_radius=float(np.clip(small, 2.0, 3.4)),
        lymphocyte_depth=rng.uniform(0.95, 1.9),
        slender=rng.uniform(2.2, 5.5),
        grain=float(rng.choice([0, 0.1, 0.25])),
        vesicular=float(rng.choice([0.0, 0.3, 0.6, 1.0])),
        nucleoli=float(rng.choice([0.0, 0.5])),
        see_through=bool(rng.random() < 0.4),
    )


def _others(
    rng: Rng, layout: Layout, look: Nuclei, size: float
) -> tuple[np.ndarray, list[str]]:  # fmt: skip
    """Scatter lymphocytes and stromal nuclei between the nests, sometimes none."""
    per_mm2 = {
        "lymphocyte": float(rng.choice([0, 0, 400, 1500, 4000])),
        "stroma": float(rng.choice([0, 500, 1500, 2500])),
    }
    inside = {"lymphocyte": float(rng.choice([0.0, 0.06, 0.25])), "stroma": 0.0}
    points, kinds = [np.zeros((0, 2))], []
    for kind, density in per_mm2.items():
        draw = _draws(rng, kind, density, size)
        nests = at_pixels(draw, layout.nests, size)
        keep = (~nests | (rng.random(len(draw)) < inside[kind])) & ~at_pixels(
            draw, layout.lumens, size
        )
        points.append(draw[keep])
        kinds += [kind] * int(keep.sum())
    everything = np.concatenate(points)
    if not len(everything):
        return everything, []
    far = np.ones(len(everything), bool)
    if len(layout.at):
        far = cKDTree(layout.at).query(everything)[0] > 0.8 * look.radius + look.lymphocyte_radius
    for i, j in sorted(cKDTree(everything).query_pairs(1.7 * look.lymphocyte_radius)):
        if far[i]:
            far[j] = False
    return everything[far], [k for k, f in zip(kinds, far, strict=True) if f]


def _draws(rng: Rng, kind: str, density: float, size: float) -> np.ndarray:
    """Draw points evenly, or lymphocytes in crowds too."""
    count = rng.poisson(density * size * size * 1e-6)
    even = rng.uniform(0, size, (count, 2))
    if kind != "lymphocyte" or rng.random() < 0.5:
        return even
    crowds = rng.uniform(0, size, (3, 2))[rng.integers(0, 3, count)]
    near = crowds + rng.normal(0, 18, (count, 2))
    return np.where((rng.random(count) < 0.6)[:, None], np.clip(near, 0, size - 1e-3), even)


def _ground(
    rng: Rng, layout: Layout, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Cytoplasm and stroma, flat or with slow changes; lumens are bare."""
    slow = cv2.resize(rng.normal(0, 1, (8, 8)), shape[::-1], interpolation=cv2.INTER_CUBIC)
    cytoplasm, stroma = rng.uniform(0.0, 0.14), rng.uniform(0.0, 0.10)
    nests = layout.nests
    h = np.where(nests, cytoplasm, stroma) * (1 + rng.choice([0, 0.15]) * slow)
    if rng.random() < 0.5:
        fibres = cv2.GaussianBlur(rng.normal(0, 1, shape), (0, 0), 12, sigmaY=1.5)
        h = h + np.where(nests, 0, rng.choice([0.01, 0.02, 0.03]) * fibres / fibres.std())
    blush = rng.choice([0, 0.02, 0.06])
    d = np.where(nests, blush, 0.5 * blush)
    return np.where(layout.lumens, 0, np.maximum(h, 0)), np.where(layout.lumens, 0, d)


def _membranes(rng: Rng, layout: Layout, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Lines on the borders between cells, or own rings, each cell with its own optical density."""
    seeds = layout.at
    recipe = rng.choice(["none", "faint", "intense", "mixed"])
    level = {"none": 0.0, "faint": 0.10, "intense": 0.8, "mixed": 0.3}[recipe]
    od = level * np.exp(rng.normal(0, 0.2, len(seeds)))
    if recipe == "mixed":
        od *= rng.random(len(seeds)) < 0.5
    if len(seeds) < 3 or not od.any():
        return np.zeros(x.shape)
    away, which = cKDTree(seeds).query(np.stack([x, y], axis=-1).reshape(-1, 2), k=2)
    first, second = seeds[which[:, 0]], seeds[which[:, 1]]
    gap = np.maximum(np.hypot(*(second - first).T), 1e-6)
    border = (away[:, 1] ** 2 - away[:, 0] ** 2) / (2 * gap)
    reach = 1.3 * layout.pitch
    if layout.own_rings:
        border = np.minimum(border, np.abs(away[:, 0] - 0.55 * layout.pitch))
    sigma = rng.uniform(0.3, 0.9)
    line = np.exp(-0.5 * (border / sigma) ** 2) * (od[which[:, 0]] + od[which[:, 1]]) / 2
    nests = layout.nests & (away[:, 0].reshape(x.shape) < reach)
    return np.where(nests, line.reshape(x.shape), 0)


def _paint_nuclei(
    rng: Rng, look: Nuclei, h: np.ndarray, layout: Layout, others: np.ndarray, kinds: list[str],
    mpp: float,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Ellipses: flat, or a little textured; lymphocytes small and dark, stroma slender."""
    out = h.copy()
    grain = cv2.GaussianBlur(rng.normal(0, 1, h.shape), (0, 0), 0.7 / mpp)
    grain *= look.grain / grain.std()
    shapes = [("tumour", p, t) for p, t in zip(layout.at, layout.turn, strict=True)]
    shapes += [(k, p, rng.uniform(0, np.pi)) for k, p in zip(kinds, others, strict=True)]
    sizes = np.zeros(len(shapes))
    for i, (kind, at, turn) in enumerate(shapes):
        radius, axes, depth = _one(rng, look, kind)
        hollow = kind == "tumour" and rng.random() < look.vesicular
        spot = kind == "tumour" and rng.random() < look.nucleoli
        _ellipse(out, grain, at, (radius * axes**0.5, radius / axes**0.5), turn, depth,
                 (hollow, spot, look.see_through), mpp)  # fmt: skip
        sizes[i] = radius
    return out, sizes


def _one(rng: Rng, look: Nuclei, kind: str) -> tuple[float, float, float]:
    """Draw radius, long over short axis, and depth of a nucleus."""
    depth = look.depth * np.exp(rng.normal(0, look.depth_spread))
    if kind == "tumour":
        radius = look.radius * np.exp(rng.normal(0, look.size_spread))
        return radius, float(np.exp(abs(rng.normal(0, look.long_spread)))), depth
    if kind == "lymphocyte":
        radius = look.lymphocyte_radius * np.exp(rng.normal(0, 0.07))
        return radius, float(np.exp(abs(rng.normal(0, 0.06)))), depth * look.lymphocyte_depth
    return rng.uniform(2.2, 3.2), look.slender * rng.uniform(0.7, 1.3), depth


def _ellipse(
    out: np.ndarray, grain: np.ndarray, at: np.ndarray, axes: tuple[float, float],
    turn: float, depth: float, how: tuple[bool, bool, bool], mpp: float,
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
    hollow, spot, see_through = how
    value = depth * (1 + grain[y0:y1, x0:x1])
    if hollow:
        value = value * np.where(r < 0.7, 0.6, 1.1)
    if spot:
        value = value + np.where(np.hypot(u - 0.3, v + 0.2) < 0.2, 0.5 * depth, 0)
    window = out[y0:y1, x0:x1]
    under = 0.35 * window if see_through else 0.0
    window[r < 1] = np.maximum(value + under, 0.05)[r < 1]


def _light(rng: Rng, h: np.ndarray, d: np.ndarray, mpp: float) -> np.ndarray:
    """Stain to light, blur, noise, JPEG."""
    hv = np.array([0.65, 0.70, 0.29]) * (1 - (t := rng.random())) + t * np.array([0.66, 0.63, 0.41])
    dv = np.array([0.27, 0.57, 0.78]) * (1 - (t := rng.random())) + t * np.array([0.33, 0.55, 0.77])
    od = h[..., None] * hv / np.linalg.norm(hv) + d[..., None] * dv / np.linalg.norm(dv)
    light = rng.uniform(225, 252) * 10.0**-od
    blur = rng.uniform(0.1, 0.5) / mpp
    light = cv2.GaussianBlur(light, (0, 0), blur) + rng.normal(0, rng.uniform(0, 3.0), light.shape)
    rgb = np.clip(np.rint(light), 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        return rgb
    return through_jpeg(rgb, int(rng.integers(60, 95)))
