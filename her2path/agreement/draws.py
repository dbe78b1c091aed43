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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.agreement.pairwise import Figure
from her2path.intervals import wilson

__all__ = ["Draws", "add_figure", "add_figures", "interval", "make_draws", "number"]

Floats = NDArray[np.float64]
#: draws that are turned into floating point at a time
_BATCH = 256
#: weights that take more than this are kept as bytes
_ROOM_BYTES = 1 << 28
#: below this share of draws in which a figure is defined there is no interval
DEFINED = 0.9


@dataclass(frozen=True)
class Draws:
    """Weights of cases, (1 + D, C): row 0 is the sample itself, every other row one draw."""

    weights: NDArray[Any]

    def sums(self, features: NDArray[Any]) -> Floats:
        """Return weighted sums over cases, (F, 1 + D), of features (C, F).

        Features of whole numbers may come as float32: their sums stay exact below 2**24.
        """
        out = np.empty((features.shape[1], len(self.weights)))
        for at in range(0, len(self.weights), _BATCH):
            part = self.weights[at : at + _BATCH].astype(features.dtype, copy=False)
            out[:, at : at + _BATCH] = features.T @ part.T
        return out


def make_draws(cases: int, draws: int, seed: int) -> Draws:
    """Return draws of as many cases as there are, with replacement."""
    rng = np.random.default_rng(seed)
    # single precision is what is multiplied most; bytes where that would fill the memory
    small = 4 * (draws + 1) * cases <= _ROOM_BYTES
    weights = np.ones((draws + 1, cases), np.float32 if small else np.uint8)
    for row in weights[1:]:
        row[:] = np.bincount(rng.integers(0, cases, cases), minlength=cases)
    return Draws(weights)


def interval(values: Floats) -> tuple[Floats, Floats]:
    """Return the 2.5 and 97.5 percentiles over the last axis of (..., D).

    NaN where fewer than 90 % of the draws are defined; draws that are not are left out.
    """
    known = np.isfinite(values)
    if known.all() and values.shape[-1]:
        low, high = np.quantile(values, (0.025, 0.975), axis=-1)
        return low, high
    draws = values.shape[-1]
    out = np.full((2, values.size // max(1, draws)), np.nan)
    for j, (row, fine) in enumerate(
        zip(values.reshape(-1, draws), known.reshape(-1, draws), strict=True)
    ):
        if draws and fine.mean() >= DEFINED:
            out[:, j] = np.quantile(row[fine], (0.025, 0.975))
    return out[0].reshape(values.shape[:-1]), out[1].reshape(values.shape[:-1])


def number(value: Any) -> float | None:
    """Return a plain number; None for NaN and infinity, which JSON has not."""
    value = float(value)
    return value if np.isfinite(value) else None


def add_figure(tree: dict[str, Any], path: tuple[str, ...], figure: Figure) -> None:
    """Put a figure (1 + D,) and its limits where they belong in a tree."""
    of = None if figure.of is None else figure.of[None]
    add_figures([tree], path, Figure(figure.value[None], of))


def add_figures(trees: Sequence[dict[str, Any]], path: tuple[str, ...], figure: Figure) -> None:
    """Put each row of a figure (P, 1 + D), and its limits, into its own of P trees."""
    lows, highs = interval(figure.value[:, 1:])
    for i, branch in enumerate(trees):
        for name in path[:-1]:
            branch = branch.setdefault(name, {})
        value, low, high = (number(v) for v in (figure.value[i, 0], lows[i], highs[i]))
        if value is None:
            low = high = None
        elif figure.of is not None and low == high and value in (0.0, 1.0):
            n = round(float(figure.of[i, 0]))
            low, high = wilson(round(value * n), n)
        name = path[-1]
        branch[name], branch[f"{name}_low"], branch[f"{name}_high"] = value, low, high
