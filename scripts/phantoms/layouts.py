"""Where the cells of a plain phantom lie: one function a style of tissue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.spatial import cKDTree

Rng = np.random.Generator


@dataclass(frozen=True)
class Layout:
    """Tumour cells and the areas they lie in.

    ``at`` (n, 2) µm; ``turn`` (n,) the way long nuclei point, radians; ``pitch`` µm between
    neighbours; ``nests, lumens`` bool (H, W); ``own_rings``: every cell has a membrane to itself,
    not a border shared with its neighbours.
    """

    at: np.ndarray
    turn: np.ndarray
    pitch: float
    nests: np.ndarray
    lumens: np.ndarray
    own_rings: bool = False


def arrange(rng: Rng, style: str, x: np.ndarray, y: np.ndarray, size: float) -> Layout:
    """Lay the tumour cells of a style over a square of `size` µm; x, y are its pixels in µm."""
    if style in _STYLES:
        return _STYLES[style](rng, x, y, size)
    return _grid(rng, style, x, y, size)


def apart(points: np.ndarray, least: float) -> np.ndarray:
    """Keep points, first come first served, that lie this far apart."""
    taken = np.ones(len(points), bool)
    for i, j in sorted(cKDTree(points).query_pairs(least)):
        if taken[i]:
            taken[j] = False
    return points[taken]


def at_pixels(points: np.ndarray, plane: np.ndarray, size: float) -> np.ndarray:
    """Return the plane's values at points in µm, the border's outside."""
    scale = len(plane) / size
    return plane[tuple(np.clip((points[:, ::-1] * scale).astype(int), 0, len(plane) - 1).T)]


def _jittered(rng: Rng, size: float, pitch: float, jitter: float) -> np.ndarray:
    gx, gy = np.meshgrid(np.arange(-2, size / pitch + 2), np.arange(-2, size / pitch * 1.16 + 2))
    grid = np.stack([(gx + 0.5 * (gy % 2)) * pitch, gy * pitch * 0.866], axis=-1).reshape(-1, 2)
    return grid + rng.normal(0, jitter * pitch, grid.shape)


def _scattered(rng: Rng, size: float, pitch: float) -> np.ndarray:
    count = int(4 * (size / pitch) ** 2)
    return apart(rng.uniform(-5, size + 5, (count, 2)), pitch * 0.8)


def _blobs(rng: Rng, x: np.ndarray, y: np.ndarray, size: float, whole: float) -> np.ndarray:
    """Round nests that melt together, their complement, or everything."""
    if rng.random() < whole:
        return np.ones(x.shape, bool)
    count = rng.integers(2, 6)
    spots = rng.uniform(0.1 * size, 0.9 * size, (count, 2))
    wide = rng.uniform(0.1, 0.3, count) * size
    field = np.zeros(x.shape)
    for (cx, cy), r in zip(spots, wide, strict=True):
        field = np.maximum(field, 1.3 - ((x - cx) ** 2 + (y - cy) ** 2) / r**2)
    nests = field > 0
    return ~nests if rng.random() < 0.3 else nests


def _made(rng: Rng, seeds: np.ndarray, pitch: float, nests: np.ndarray, size: float,
          own_rings: bool = False) -> Layout:  # fmt: skip
    at = seeds[at_pixels(seeds, nests, size)]
    turn = rng.uniform(0, np.pi, len(at))
    return Layout(at, turn, pitch, nests, np.zeros(nests.shape, bool), own_rings)


def _grid(rng: Rng, style: str, x: np.ndarray, y: np.ndarray, size: float) -> Layout:
    """Cells on a shaken grid, as tidy or as crowded as the style says."""
    low, high = {"crowded": (7.5, 10), "sparse": (16, 24)}.get(style, (9.5, 16))
    pitch = rng.uniform(low, high)
    jitter = {"hexagons": 0.04, "crowded": 0.16}.get(style, rng.uniform(0.08, 0.24))
    nests = _blobs(rng, x, y, size, 0.7 if style in ("hexagons", "crowded") else 0.25)
    seeds = _jittered(rng, size, pitch, jitter)
    return _made(rng, seeds, pitch, nests, size, style == "sparse")


def _discs(whole: float, rng: Rng, x: np.ndarray, y: np.ndarray, size: float) -> Layout:
    """Cells thrown down at random, each with a ring of its own."""
    pitch = rng.uniform(9.5, 17)
    nests = _blobs(rng, x, y, size, whole)
    return _made(rng, _scattered(rng, size, pitch), pitch, nests, size, own_rings=True)


def _single(rng: Rng, x: np.ndarray, y: np.ndarray, size: float) -> Layout:
    """Single cells and small groups in stroma."""
    pitch = rng.uniform(11, 17)
    seeds = _scattered(rng, size, pitch)
    clump = np.sin(seeds[:, 0] / rng.uniform(15, 40)) + np.sin(seeds[:, 1] / rng.uniform(15, 40))
    seeds = seeds[clump + rng.normal(0, 0.7, len(seeds)) > rng.uniform(0.2, 1.0)]
    nests = np.zeros(x.shape, bool)
    if len(seeds):
        away = cKDTree(seeds).query(np.stack([x, y], axis=-1).reshape(-1, 2))[0]
        nests = (away < 0.5 * pitch).reshape(x.shape)
    return _made(rng, seeds, pitch, nests, size, own_rings=True)


def _cords(rng: Rng, x: np.ndarray, y: np.ndarray, size: float) -> Layout:
    """Wavy cords, a few cells wide."""
    pitch = rng.uniform(9.5, 14)
    lean, wave = rng.uniform(0, np.pi), rng.uniform(25, 60)
    along = x * np.cos(lean) + y * np.sin(lean)
    across = y * np.cos(lean) - x * np.sin(lean) + rng.uniform(4, 14) * np.sin(along / wave)
    period = rng.uniform(30, 90)
    width = np.clip(rng.uniform(1.2, 4.0) * pitch, 0.2 * period, 0.75 * period)
    nests = np.mod(across + rng.uniform(0, period), period) < width
    return _made(rng, _jittered(rng, size, pitch, 0.13), pitch, nests, size)


def _glands(rng: Rng, x: np.ndarray, y: np.ndarray, size: float) -> Layout:
    """Rings of tall cells around a lumen, one to three rows of nuclei."""
    outer, pitch = rng.uniform(22, 55), rng.uniform(6.5, 10)
    centres = _scattered(rng, size, 2.1 * outer)
    nests, lumens = np.zeros(x.shape, bool), np.zeros(x.shape, bool)
    points, turns = [np.zeros((0, 2))], [np.zeros(0)]
    for cx, cy in centres:
        r = outer * rng.uniform(0.75, 1.0)
        hollow = r * rng.uniform(0.3, 0.6)
        away = np.hypot(x - cx, y - cy)
        nests |= away < r
        lumens |= away < hollow
        for row in range(int(rng.integers(1, 4))):
            at = r - 6.0 - 0.9 * pitch * row
            if at < hollow + 4:
                break
            angle = np.arange(0, 2 * np.pi, pitch / at) + rng.uniform(0, 6)
            angle = angle[:-1] + rng.normal(0, 0.08 * pitch / at, len(angle) - 1)
            far = at + rng.normal(0, 1.2, len(angle))
            points.append(np.column_stack([cx + far * np.cos(angle), cy + far * np.sin(angle)]))
            turns.append(angle)
    return Layout(np.concatenate(points), np.concatenate(turns), pitch, nests & ~lumens, lumens)


_STYLES: dict[str, Callable[[Rng, np.ndarray, np.ndarray, float], Layout]] = {
    "discs": partial(_discs, 0.5),
    "rings": partial(_discs, 0.2),
    "single": _single,
    "cords": _cords,
    "glands": _glands,
}
