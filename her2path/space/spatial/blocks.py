"""Spatial block bootstrap: intervals that are honest about neighbours being alike.

Cells near each other are not independent; whole blocks of tissue are drawn with replacement
instead of cells. References: Hall P (1985), Stoch Proc Appl 20:231-246; Lahiri SN (2003),
Resampling Methods for Dependent Data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MIN_BLOCKS", "Blocks", "hidden_variance", "interval", "make_blocks", "widening"]

Float = NDArray[np.float64]
Int = NDArray[np.int64]
#: with fewer blocks an interval would be a guess
MIN_BLOCKS = 5
#: two-sided 95 % quantiles of Student's t by degrees of freedom
T95 = {4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228, 12: 2.179,
       15: 2.131, 20: 2.086, 30: 2.042, 60: 2.000}  # fmt: skip


@dataclass(frozen=True)
class Blocks:
    """Blocks and how often each draw takes each of them.

    Attributes
    ----------
    block : (n,) int64
        Block of each cell, 0..count - 1.
    count : int
    times : (draws, count) int64
        Multiplicities; (0, count) where there are too few blocks.
    leak : float
        Share of the variance that correlation across the blocks' borders hides.
    """

    block: Int
    count: int
    times: Int
    leak: float = 0.0

    @property
    def reason(self) -> str | None:
        """Why there is no interval, or None."""
        if self.times.shape[0]:
            return None
        return f"{self.count} blocks of tissue, at least {MIN_BLOCKS} are needed for an interval"

    def sums(self, values: Float) -> Float:
        """Return per-block sums, (count,) or (count, m), of a column or of m columns."""
        v = np.asarray(values, float)
        if v.ndim == 1:
            return np.asarray(np.bincount(self.block, v, self.count), float)
        return np.column_stack([np.bincount(self.block, c, self.count) for c in v.T])

    def drawn(self, sums: Float) -> Float:
        """Return the draws' totals of per-block sums, (draws,) or (draws, m)."""
        return self.times.astype(float) @ sums


def draw_times(count: int, draws: int, seed: int) -> Int:
    """Return multiplicities of blocks drawn with replacement, (draws, count)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(count, np.full(count, 1.0 / count), size=draws)


def hidden_variance(range_um: float, side_um: float) -> float:
    """Return the share of variance that blocks of a side miss, by the range of the correlation.

    For a covariance exp(-h^2 / 2 L^2) the variance of a square's mean falls short of the value
    without borders by 1.6 L / side; L is taken as range / 2.2. At most 0.6.
    """
    return min(0.6, 1.6 * range_um / 2.2 / side_um) if side_um > 0 else 0.0


def make_blocks(block: Int, draws: int, seed: int = 0, leak: float = 0.0) -> Blocks:
    """Return the blocks over labels of any values, and draws of them.

    Parameters
    ----------
    block : (n,) int64
        Any labels; equal labels are one block.
    draws, seed : int
    leak : float
        From `hidden_variance`.
    """
    ids = np.unique(block, return_inverse=True)[1].astype(np.int64).ravel()
    count = int(ids.max()) + 1 if ids.size else 0
    if count < MIN_BLOCKS:
        return Blocks(ids, count, np.zeros((0, count), np.int64), leak)
    return Blocks(ids, count, draw_times(count, draws, seed), leak)


def widening(count: int, leak: float = 0.0) -> float:
    """Return the factor on an interval's arms: few blocks, and variance hidden at their borders."""
    if count < 2:
        return 1.0
    return t_quantile(count) / 1.96 * math.sqrt(count / (count - 1) / (1.0 - leak))


def t_quantile(count: int) -> float:
    """Return the two-sided 95 % quantile of Student's t for a number of blocks."""
    known = [df for df in T95 if df <= count - 1]
    return T95[max(known)] if known and count <= 120 else (1.96 if count > 120 else T95[4])


def interval(
    blocks: Blocks,
    sums: Float,
    measure: Callable[[Float], Float],
    limits: tuple[float, float] = (0.0, 1.0),
) -> tuple[float, float] | None:
    """Return the 95 % interval of a measure of summed columns.

    Quantiles of the draws, widened about the estimate by t / 1.96 sqrt(B / (B - 1) / (1 - leak))
    for few blocks B and for what their borders hide.

    Parameters
    ----------
    blocks : Blocks
    sums : (count, m) float64
        Per-block sums.
    measure : callable
        (d, m) totals -> (d,) values; NaN marks a draw without a value, which is left out.
    limits : (float, float)
        The measure's own range.
    """
    if not blocks.times.shape[0]:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = np.asarray(measure(blocks.drawn(sums)), float)
        centre = float(np.asarray(measure(sums.sum(axis=0, keepdims=True)))[0])
    drawn = drawn[np.isfinite(drawn)]
    if drawn.size < 0.9 * blocks.times.shape[0] or not math.isfinite(centre):
        return None
    low, high = np.quantile(drawn, [0.025, 0.975])
    widen = widening(blocks.count, blocks.leak)
    low, high = centre - (centre - low) * widen, centre + (high - centre) * widen
    return (
        float(min(max(min(low, centre), limits[0]), limits[1])),
        float(max(min(max(high, centre), limits[1]), limits[0])),
    )
