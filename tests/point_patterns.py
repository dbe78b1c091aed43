"""Drawn tumours: cells in nests on a jittered lattice, positive by one of four layouts."""

from __future__ import annotations

import numpy as np

LAYOUTS = ("homogeneous", "clustered", "mosaic", "scattered")


def smooth_field(rng, x, y, scale_um, waves=150):
    """A Gaussian random field with Gaussian correlation of about ``scale_um``."""
    k = rng.normal(0, 1 / scale_um, (waves, 2))
    phase = rng.uniform(0, 2 * np.pi, waves)
    return np.sqrt(2 / waves) * np.cos(np.outer(x, k[:, 0]) + np.outer(y, k[:, 1]) + phase).sum(1)


def nests(rng, side_um, share=None):
    """Cells about 11 µm apart where a smooth field is high."""
    pitch, rows = 11.0, int(side_um / 10.0)
    col, row = np.meshgrid(np.arange(int(side_um / pitch)), np.arange(rows))
    x = (col + 0.5 * (row % 2)).ravel() * pitch + rng.normal(0, 2, col.size)
    y = row.ravel() * 10.0 + rng.normal(0, 2, col.size)
    field = smooth_field(rng, x, y, 60.0)
    keep = field > np.quantile(field, 1 - (share or rng.uniform(0.3, 0.7)))
    return x[keep], y[keep]


def drawn(layout, seed, side=(600, 1500)):
    """Return x, y, positive of one tumour with up to 3 % calling errors."""
    rng = np.random.default_rng([LAYOUTS.index(layout), seed])
    x, y = nests(rng, rng.uniform(*side))
    n, error = x.size, rng.uniform(0, 0.03)
    if layout == "homogeneous":
        all_positive = rng.random() < 0.5
        wrong = rng.uniform(0, 0.03) if all_positive else rng.uniform(0, 0.008)
        return x, y, (rng.random(n) < wrong) ^ all_positive
    if layout == "scattered":
        return x, y, rng.random(n) < rng.uniform(0.025, 0.08)
    if layout == "mosaic":
        positive = rng.random(n) < rng.uniform(0.17, 0.65)
    else:
        field = smooth_field(rng, x, y, rng.uniform(60, 250))
        positive = field > np.quantile(field, 1 - rng.uniform(0.1, 0.8))
    return x, y, positive ^ (rng.random(n) < error)
