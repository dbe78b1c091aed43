"""The bootstrap over cases: a draw is a weight for every case, a figure a function of sums.

Whatever is read of one case (slides, regions) is drawn together. All figures of one run share the
same draws, so that differences between them are paired.

References
----------
Efron B, Tibshirani RJ (1993), An Introduction to the Bootstrap, percentile intervals. Where every
draw gives the same 0 or 1 the bootstrap cannot tell the width: proportions then take Wilson's
interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.agreement.pairwise import Figure
from her2path.intervals import wilson

__all__ = ["Draws", "add_figure", "interval", "make_draws", "number"]

Floats = NDArray[np.float64]
#: draws that are turned into floating point at a time
_BATCH = 256
#: below this share of draws in which a figure is defined there is no interval
DEFINED = 0.9


@dataclass(frozen=True)
class Draws:
    """Weights of cases: row 0 is the sample itself, every other row one draw, (1 + D, C) uint8."""

    weights: NDArray[np.uint8]

    def sums(self, features: NDArray[Any]) -> Floats:
        """Return weighted sums over cases, (1 + D, F), of features (C, F).

        Features of whole numbers may come as float32: their sums stay exact below 2**24.
        """
        out = np.empty((len(self.weights), features.shape[1]))
        for at in range(0, len(out), _BATCH):
            part = self.weights[at : at + _BATCH].astype(features.dtype)
            out[at : at + _BATCH] = part @ features
        return out


def make_draws(cases: int, draws: int, seed: int) -> Draws:
    """Return draws of as many cases as there are, with replacement."""
    rng = np.random.default_rng(seed)
    weights = np.ones((draws + 1, cases), np.uint8)
    for row in weights[1:]:
        row[:] = np.bincount(rng.integers(0, cases, cases), minlength=cases)
    return Draws(weights)


def interval(values: Floats) -> tuple[Floats, Floats]:
    """Return the 2.5 and 97.5 percentiles over axis 0 of (D, ...).

    NaN where fewer than 90 % of the draws are defined; draws that are not are left out.
    """
    known = np.isfinite(values)
    if known.all() and len(values):
        low, high = np.quantile(values, (0.025, 0.975), axis=0)
        return low, high
    flat, fine = values.reshape(len(values), -1), known.reshape(len(values), -1)
    out = np.full((2, flat.shape[1]), np.nan)
    for j in range(flat.shape[1]):
        if len(flat) and fine[:, j].mean() >= DEFINED:
            out[:, j] = np.quantile(flat[fine[:, j], j], (0.025, 0.975))
    return out[0].reshape(values.shape[1:]), out[1].reshape(values.shape[1:])


def number(value: Any) -> float | None:
    """Return a plain number; None for NaN and infinity, which JSON has not."""
    value = float(value)
    return value if np.isfinite(value) else None


def add_figure(tree: dict[str, Any], path: tuple[str, ...], figure: Figure) -> None:
    """Put a figure (1 + D,) and its limits where they belong in a tree."""
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    value = number(figure.value[0])
    low, high = (number(v) for v in interval(figure.value[1:]))
    if value is None:
        low = high = None
    elif figure.of is not None and low == high and value in (0.0, 1.0):
        n = round(float(figure.of[0]))
        low, high = wilson(round(value * n), n)
    tree[path[-1]] = value
    tree[f"{path[-1]}_low"], tree[f"{path[-1]}_high"] = low, high
