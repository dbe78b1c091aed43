"""Random labelling of cells at fixed positions: Moran's I, Geary's C and join counts at once.

The null hypothesis is that the positive cells are a random choice of the tumour cells; the
positions, however clustered, stay as they are. Complete spatial randomness is never the null.

A labelling is one bit a cell, 64 labellings a machine word: sums over neighbours are carried out
on bit planes, so that 999 exact permutations of a million cells take seconds.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2path.space.spatial._kernels import lane_products, random_lanes

__all__ = ["LabelTest", "label_test"]

Float = NDArray[np.float64]
LANES = 64


@dataclass(frozen=True)
class LabelTest:
    """Autocorrelation of labels over k nearest neighbours, tested by random labelling.

    Attributes
    ----------
    moran_i, moran_expected, moran_z : float
        I with row-standardised weights; z from the permutations' mean and standard deviation.
    geary_c : float
    bb, bw, ww : float
        Joins as a share of all (directed) joins.
    bb_z, bw_z : float
    p_value : float
        One-sided, more positive autocorrelation: (1 + exceeding) / (1 + draws).
    p_negative : float
        One-sided, less (a chequerboard).
    draws : int
    """

    moran_i: float
    moran_expected: float
    moran_z: float
    geary_c: float
    bb: float
    bw: float
    ww: float
    bb_z: float
    bw_z: float
    p_value: float
    p_negative: float
    draws: int


def label_test(
    labels: NDArray[np.bool_], near: NDArray[np.int32], draws: int, seed: int = 0, workers: int = 1
) -> LabelTest | None:
    """Test labels against random labelling.

    Parameters
    ----------
    labels : (n,) bool
    near : (n, k) int32
        Nearest neighbours, from `weights.neighbours`.
    draws, seed : int
        Random labellings.
    workers : int
        Threads; the result is the same for any number.

    Returns
    -------
    LabelTest or None
        None where all labels are equal or there are fewer than 4 points.
    """
    b = np.asarray(labels, bool)
    n, n1 = b.size, int(b.sum())
    if n < 4 or n1 in (0, n):
        return None
    indegree = np.bincount(near.ravel(), minlength=n)
    own = np.where(b, np.uint64(1), np.uint64(0))
    seen = [part[:1] for part in lane_products(own, near, indegree)]
    drawn = _draw(n1, near, indegree, draws, seed, workers)
    both, single = (np.concatenate([s, d]).astype(float) for s, d in zip(seen, drawn, strict=True))
    return _summary(both, single, n1, near.shape)


def _draw(
    n1: int,
    near: NDArray[np.int32],
    indegree: NDArray[np.int64],
    draws: int,
    seed: int,
    workers: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    words = -(-draws // LANES)
    seeds = np.random.SeedSequence(seed).generate_state(words, np.uint64)

    def one(word_seed: np.uint64) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return lane_products(random_lanes(near.shape[0], n1, int(word_seed) >> 1), near, indegree)

    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        parts = list(pool.map(one, seeds))
    both, single = (np.concatenate([p[i] for p in parts])[:draws] for i in (0, 1))
    return both, single


def _summary(both: Float, single: Float, n1: int, shape: tuple[int, ...]) -> LabelTest:
    n, k = shape
    p, joins = n1 / n, float(n * k)
    variance = n * p * (1 - p)
    # sum over directed joins of (x_i - p)(x_j - p), from integer counts
    product = both - p * single - p * k * n1 + p * p * joins
    moran_i = product / k / variance
    bw = k * n1 + single - 2 * both
    geary_c = (n - 1) / (2 * joins) * float(bw[0]) / variance
    slack = 1e-9
    draws = both.size - 1
    return LabelTest(
        moran_i=float(moran_i[0]),
        moran_expected=-1.0 / (n - 1),
        moran_z=_z(moran_i),
        geary_c=geary_c,
        bb=float(both[0]) / joins,
        bw=float(bw[0]) / joins,
        ww=(joins - float(bw[0]) - float(both[0])) / joins,
        bb_z=_z(both),
        bw_z=_z(bw),
        p_value=(1 + int((moran_i[1:] >= moran_i[0] - slack).sum())) / (1 + draws),
        p_negative=(1 + int((moran_i[1:] <= moran_i[0] + slack).sum())) / (1 + draws),
        draws=draws,
    )


def _z(values: Float) -> float:
    spread = float(values[1:].std())
    return (float(values[0]) - float(values[1:].mean())) / spread if spread > 0 else 0.0
