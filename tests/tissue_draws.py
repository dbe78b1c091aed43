"""Tissue drawn from known parameters: correlated staining at random cell positions."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

STEP = 25.0  # µm of the field's grid


def smooth_field(shape: tuple[int, int], reach_um: float, rng: np.random.Generator) -> np.ndarray:
    """A Gaussian random field of mean 0 and variance 1 whose correlation is exp(-(d/2r)²)."""
    if reach_um <= 0:
        return rng.standard_normal(shape)
    sigma = reach_um / STEP
    pad = int(np.ceil(4 * sigma))
    white = rng.standard_normal((shape[0] + 2 * pad, shape[1] + 2 * pad))
    field = ndimage.gaussian_filter(white, sigma, mode="constant")[
        pad : pad + shape[0], pad : pad + shape[1]
    ]
    kernel = ndimage.gaussian_filter(np.pad(np.ones((1, 1)), pad), sigma, mode="constant")
    return field / np.sqrt((kernel**2).sum())


def cells_on(
    size_um: tuple[float, float], per_mm2: float, rng: np.random.Generator, nests: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Cell positions: a Poisson process, or one inside random nests only."""
    n = rng.poisson(per_mm2 * size_um[0] * size_um[1] / 1e6)
    x, y = rng.uniform(0, size_um[0], n), rng.uniform(0, size_um[1], n)
    if not nests:
        return x, y
    shape = (int(size_um[1] / STEP) + 1, int(size_um[0] / STEP) + 1)
    mask = smooth_field(shape, 60.0, rng)
    keep = mask[(y / STEP).astype(int), (x / STEP).astype(int)] > 0.3
    return x[keep], y[keep]


def latent(
    x: np.ndarray, y: np.ndarray, reach_um: float, own: float, rng: np.random.Generator
) -> np.ndarray:
    """Standard normal values at cells: a share ``own`` of the variance is the cell's own."""
    shape = (int(y.max() / STEP) + 1, int(x.max() / STEP) + 1)
    field = smooth_field(shape, reach_um, rng)[(y / STEP).astype(int), (x / STEP).astype(int)]
    return np.sqrt(1 - own) * field + np.sqrt(own) * rng.standard_normal(len(x))


def neyman_scott(
    size_um: tuple[float, float],
    parents_per_mm2: float,
    spread_um: float,
    mean_children: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """A Thomas process: children scattered normally about random parents, no edge effects."""
    pad = 4 * spread_um
    area = (size_um[0] + 2 * pad) * (size_um[1] + 2 * pad) / 1e6
    parents = rng.poisson(parents_per_mm2 * area)
    px = rng.uniform(-pad, size_um[0] + pad, parents)
    py = rng.uniform(-pad, size_um[1] + pad, parents)
    children = rng.poisson(mean_children, parents)
    x = np.repeat(px, children) + rng.normal(0, spread_um, children.sum())
    y = np.repeat(py, children) + rng.normal(0, spread_um, children.sum())
    inside = (x >= 0) & (x < size_um[0]) & (y >= 0) & (y < size_um[1])
    return x[inside], y[inside]
