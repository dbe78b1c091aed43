"""Membranes of known truth, painted on real tissue that has none.

The tissue is real: nuclei, cytoplasm, stroma, texture, camera and compression are those of a
HER2-negative core without brown (`CORE`, found through `HER2PATH_REAL_DATA`). Only the brown is
drawn: each nucleus found on the bare tissue gets an outline, held back by its neighbours and by a
reach of its own, and each outline its own membrane, granular, broken, in arcs; where two cells
touch, both add up in optical density. On some pictures cytoplasm holds granular brown of its own.
Nothing is fitted on these. A generator that knew better where real cells end would be harder or
easier; nuclei that the program does not find on the bare tissue take no part.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from drawn_phantoms import ANGLES, Cells, paint_granules, paint_lines, stained_arcs
from levels import CREST, laboratory
from membrane_phantoms import draw_mixture
from real_images import real_image
from scipy.spatial import cKDTree

from her2path.schema import PATTERNS

#: a core without brown; the other negative cores show a little
CORE, MPP = "0_a6d0", 0.25
#: a piece with so many cells is good enough
ENOUGH, TRIES = 80, 6
#: full width at half maximum (µm) of none, faint, moderate and intense lines
WIDTH = ((0.6, 0.6), (0.5, 0.95), (0.7, 1.4), (1.1, 2.4))


@dataclass(frozen=True)
class Tissue:
    """A painted piece of tissue: uint8 (H, W, 3), µm per pixel, cells, nuclear radii, the rest."""

    rgb: np.ndarray
    mpp: float
    cells: Cells
    radius: np.ndarray
    others: np.ndarray


@lru_cache(1)
def core(folder: Path) -> np.ndarray:
    """Return the core's pixels."""
    return real_image(folder, CORE)[0]


def paint(folder: Path, number: int, size_um: float, find: Any) -> Tissue:
    """Paint membranes on a piece of tissue; one number gives one picture.

    Parameters
    ----------
    folder : Path
        Where the real images are.
    number : int
        A seed.
    size_um : float
        Side.
    find : callable
        Takes pixels and µm per pixel; returns nuclei: x, y (µm), area (µm²), which get an outline.
    """
    rng = np.random.default_rng([number, 606])
    bare, x, y, area, own = _piece(rng, core(folder), size_um, find)
    at, radius = np.column_stack([x, y]), np.sqrt(area / np.pi)
    reach = _outlines(rng, at, radius)[own]
    cells = _cells(rng, at[own], reach, size_um)
    d = np.zeros(bare.shape[:2])
    if rng.random() < 0.35:
        paint_granules(rng, d, cells, MPP)
        d *= rng.uniform(0.1, 0.8)
    lines = np.zeros_like(d)
    paint_lines(rng, lines, cells, MPP)
    d += lines * _grain(rng, d.shape)
    rgb, mpp = _light(rng, bare, d)
    return Tissue(rgb, mpp, cells, radius[own], at[~own])


def _piece(rng: np.random.Generator, whole: np.ndarray, size_um: float, find: Any) -> Any:
    """Return the pixels and nuclei of a piece with many tumour nuclei, the best of some."""
    side = round(size_um / MPP)
    best: Any = None
    for _ in range(TRIES):
        y0, x0 = (int(rng.integers(0, n - side)) for n in whole.shape[:2])
        bare = np.ascontiguousarray(whole[y0 : y0 + side, x0 : x0 + side])
        found = find(bare, MPP)
        if best is None or found[3].sum() > best[4].sum():
            best = bare, *found
        if found[3].sum() >= ENOUGH:
            break
    return best


def _outlines(rng: np.random.Generator, at: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Return radii (n, ANGLES), µm: to the power line with each neighbour, or to a reach."""
    angle = np.arange(ANGLES) / ANGLES * 2 * np.pi
    ray = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    away, other = cKDTree(at).query(at, k=min(14, len(at)))
    to = at[other[:, 1:]] - at[:, None]
    along = np.einsum("nkd,ad->nka", to, ray)
    power = away[:, 1:] ** 2 + radius[:, None] ** 2 - radius[other[:, 1:]] ** 2
    half = np.where(along > 1e-6, 0.5 * power[..., None] / np.where(along > 1e-6, along, 1), 1e3)
    home = radius + rng.uniform(1.5, 6.0) * np.exp(rng.normal(0, 0.2, len(at)))
    reach = np.minimum(half.min(axis=1), home[:, None])
    few = rng.choice([0.0, 0.05, 0.1])
    wave = np.stack([rng.normal(0, few, len(at)) for _ in range(4)], axis=1)
    turns = np.stack([np.cos(2 * angle), np.sin(2 * angle), np.cos(3 * angle), np.sin(3 * angle)])
    free = half.min(axis=1) > home[:, None] * 1.1
    reach = np.where(free, reach * (1 + wave @ turns), reach)
    soft = np.stack([np.roll(reach, k, axis=1) for k in (-2, -1, 0, 1, 2)]).mean(axis=0)
    inset = rng.choice([0.0, 0.08, 0.2]) + rng.gamma(1.5, 0.05, (len(at), 1))
    return np.clip(soft - inset, 1.5, None)


def _cells(rng: np.random.Generator, at: np.ndarray, reach: np.ndarray, size: float) -> Cells:
    first, second = draw_mixture(rng), draw_mixture(rng)
    layout = rng.choice(["one", "mosaic", "clones", "bare"], p=(0.4, 0.25, 0.2, 0.15))
    if layout == "bare" or (layout != "one" and rng.random() < 0.3):
        first = {"none": 1.0}
    flag = np.zeros(len(at), bool)
    if layout == "mosaic":
        flag = rng.random(len(at)) < rng.uniform(0.1, 0.6)
    if layout == "clones":
        way = rng.normal(0, 1, 2)
        along = (at - size / 2) @ (way / np.hypot(*way))
        flag = along > np.quantile(along, rng.uniform(0.3, 0.8))
    code = np.where(flag, _drawn(rng, second, len(at)), _drawn(rng, first, len(at)))
    intensity = (code + 1) // 2
    low, high = np.array(CREST)[intensity].T
    slim, broad = np.array(WIDTH)[intensity].T
    crest = laboratory(rng) * (low + (high - low) * rng.random(len(at)))
    width = slim + (broad - slim) * rng.random(len(at))
    od = crest[:, None] * stained_arcs(rng, code, reach)
    return Cells(at, reach, code, od * _along(rng, od.shape), width)


def _drawn(rng: np.random.Generator, weights: dict[str, float], n: int) -> np.ndarray:
    share = np.array([weights.get(p, 0.0) for p in PATTERNS])
    return rng.choice(len(PATTERNS), n, p=share / share.sum())


def _along(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return grain along each outline, mean about 1, with short dips on some pictures."""
    noise = rng.normal(0, 1, shape)
    slow = np.stack([np.roll(noise, k, axis=1) for k in range(6)]).sum(axis=0) / 6**0.5
    fine = rng.normal(0, 1, shape)
    size, grain = rng.uniform(0, 0.35), rng.uniform(0, 0.4)
    dips = rng.random(shape) < rng.choice([0.0, 0.04, 0.1])
    return np.exp(size * slow + grain * fine - (size**2 + grain**2) / 2) * np.where(dips, 0.3, 1)


def _grain(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return grain over the picture, the same for both owners of a line; mean about 1."""
    field = cv2.GaussianBlur(rng.normal(0, 1, shape), (0, 0), rng.uniform(0.25, 0.8) / MPP)
    depth = rng.uniform(0.0, 0.7)
    return np.exp(depth * field / field.std() - depth**2 / 2)


def _light(rng: np.random.Generator, bare: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, float]:
    """Lay the brown over the tissue, blur it, add noise; some pictures at half resolution."""
    dab = np.array([0.29, 0.56, 0.77]) + rng.normal(0, 0.02, 3)
    through = 10.0 ** -(d[..., None] * dab / np.linalg.norm(dab))
    through = cv2.GaussianBlur(through, (0, 0), rng.uniform(0.12, 0.4) / MPP)
    light, mpp = bare * through, MPP
    if rng.random() < 0.3:
        light = cv2.resize(light, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        mpp = 2 * MPP
    light += rng.normal(0, rng.uniform(0, 1.5), light.shape)
    rgb = np.clip(np.rint(light), 0, 255).astype(np.uint8)
    chroma = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    how = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(65, 95)),
           cv2.IMWRITE_JPEG_SAMPLING_FACTOR, int(rng.choice(chroma))]  # fmt: skip
    coded = cv2.imencode(".jpg", rgb[..., ::-1], how)[1]
    return np.ascontiguousarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1]), mpp
