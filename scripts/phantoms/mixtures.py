"""Mixtures of staining patterns: any share of unstained cells beside any others."""

from __future__ import annotations

import numpy as np


def draw_mixture(rng: np.random.Generator) -> dict[str, float]:
    """Return weights of the patterns, those below 0.5 % left out."""
    none = float(rng.choice([0.0, 0.05, 0.12, 0.3, 0.5, 0.8]))
    level = rng.dirichlet([0.5, 0.5, 0.5])
    mix = {"none": none}
    for share, name in zip(level, ("faint", "moderate", "intense"), strict=True):
        whole = rng.uniform(0.1, 0.9)
        mix[f"{name}_complete"] = (1 - none) * share * whole
        mix[f"{name}_incomplete"] = (1 - none) * share * (1 - whole)
    return {k: float(v) for k, v in mix.items() if v > 0.005}
