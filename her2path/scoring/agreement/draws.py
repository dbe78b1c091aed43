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

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.core.intervals import wilson
from her2path.scoring.agreement._kernels import BLOCK, weighted_sums
from her2path.scoring.agreement.pairwise import Figure

__all__ = ["Draws", "add_figure", "add_figures", "interval", "make_draws", "number"]

Floats = NDArray[np.float64]
#: below this share of draws in which a figure is defined there is no interval
DEFINED = 0.9


@dataclass(frozen=True)
class Draws:
    """Weights of cases, (C, 1 + D) uint8: column 0 is the sample itself, every other one draw."""

    weights: NDArray[np.uint8]

    @property
    def cases(self) -> int:
        """Number of cases, C."""
        return len(self.weights)

    @property
    def columns(self) -> int:
        """The sample and the draws, 1 + D."""
        return int(self.weights.shape[1])

    def sums(self, features: NDArray[Any]) -> Floats:
        """Return weighted sums over cases, (F, 1 + D), of features (C, F).

        Features of whole numbers may come as float32: their sums stay exact below 2**24.
        """
        out = np.empty((features.shape[1], self.columns))
        whole = np.ascontiguousarray(features)
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
            # the list makes what a thread raises known here
            list(threads.map(lambda at: weighted_sums(whole, self.weights, at, out),
                             range(0, self.columns, BLOCK)))  # fmt: skip
        return out


def make_draws(cases: int, draws: int, seed: int) -> Draws:
    """Return draws of as many cases as there are, with replacement."""
    rng = np.random.default_rng(seed)
    weights = np.ones((draws + 1, cases), np.uint8)
    for row in weights[1:]:
        row[:] = np.bincount(rng.integers(0, cases, cases), minlength=cases)
    return Draws(np.ascontiguousarray(weights.T))


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
