"""Moran's I, local Moran and Geary's C.

References
----------
Moran PAP (1950), Biometrika 37:17-23. Geary RC (1954), Incorporated Statistician 5:115-145.
Anselin L (1995), Geographical Analysis 27:93-115. Moments under randomisation: Cliff AD, Ord JK
(1981), Spatial Processes, ch. 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2path.space.spatial._kernels import permuted_products
from her2path.space.spatial.weights import Weights

__all__ = ["Autocorrelation", "LocalMoran", "geary", "local_moran", "moran"]

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Autocorrelation:
    """A global coefficient with its expectation and both tests.

    ``z`` and ``p_normal`` (two-sided) come from the moments under randomisation; ``p_value`` is
    the one-sided share of random labellings with at least as much positive autocorrelation, None
    without permutations.
    """

    value: float
    expected: float
    variance: float
    z: float
    p_normal: float
    p_value: float | None


@dataclass(frozen=True)
class LocalMoran:
    """Local Moran: ``value`` (n,), ``z`` (n,) by conditional randomisation, ``quadrant`` (n,) int8.

    Quadrants as in Anselin (1995): 1 HH, 2 LH, 3 LL, 4 HL (own value first).
    """

    value: Float
    z: Float
    quadrant: NDArray[np.int8]


def _centred(values: Float, weights: Weights) -> tuple[Float, float] | None:
    z = np.asarray(values, float) - float(np.mean(values)) if len(values) else np.zeros(0)
    m2 = float(z @ z)
    if z.size < 4 or weights.data.size == 0 or m2 <= 1e-12 * max(1.0, float(np.abs(values).max())):
        return None
    return z, m2


def moran(
    values: Float, weights: Weights, permutations: int = 0, seed: int = 0
) -> Autocorrelation | None:
    """Return Moran's I = (N / S0) sum w_ij z_i z_j / sum z_i^2.

    Parameters
    ----------
    values : (n,) float64
    weights : Weights
        Over the same n points.
    permutations, seed : int
        Random labellings at fixed positions; 0 for the moments alone.

    Returns
    -------
    Autocorrelation or None
        None where it is undefined: fewer than 4 points, no neighbours, or all values equal.
    """
    centred = _centred(values, weights)
    if centred is None:
        return None
    z, m2 = centred
    n, s0 = z.size, weights.s0
    product = float(z @ weights.lag(z))
    value = n / s0 * product / m2
    expected = -1.0 / (n - 1)
    variance = _moran_variance(z, weights)
    p_value = None
    if permutations:
        drawn = permuted_products(
            z, weights.indptr, weights.indices, weights.data, permutations, seed
        )
        p_value = (1 + int((drawn >= product - 1e-9 * abs(product)).sum())) / (1 + permutations)
    return _tested(value, expected, variance, p_value, sign=1.0)


def _moran_variance(z: Float, weights: Weights) -> float:
    n, s0 = z.size, weights.s0
    s1, s2 = weights.s1_s2()
    kurtosis = float((z**4).mean() / (z**2).mean() ** 2)
    first = n * ((n * n - 3 * n + 3) * s1 - n * s2 + 3 * s0 * s0)
    second = kurtosis * ((n * n - n) * s1 - 2 * n * s2 + 6 * s0 * s0)
    return (first - second) / ((n - 1) * (n - 2) * (n - 3) * s0 * s0) - 1.0 / (n - 1) ** 2


def _tested(
    value: float, expected: float, variance: float, p_value: float | None, sign: float
) -> Autocorrelation:
    z = sign * (value - expected) / math.sqrt(variance) if variance > 0 else 0.0
    return Autocorrelation(
        value, expected, max(variance, 0.0), z, math.erfc(abs(z) / math.sqrt(2.0)), p_value
    )


def geary(values: Float, weights: Weights) -> Autocorrelation | None:
    """Return Geary's C = (N - 1) / (2 S0) sum w_ij (x_i - x_j)^2 / sum z_i^2.

    ``z`` is positive for positive autocorrelation (C below its expectation of 1). None where it is
    undefined, as for `moran`.
    """
    centred = _centred(values, weights)
    if centred is None:
        return None
    z, m2 = centred
    n, s0 = z.size, weights.s0
    diff = z[weights.rows] - z[weights.indices]
    value = (n - 1) / (2 * s0) * float(weights.data @ (diff * diff)) / m2
    s1, s2 = weights.s1_s2()
    k = float((z**4).mean() / (z**2).mean() ** 2)
    variance = (
        (n - 1) * s1 * (n * n - 3 * n + 3 - (n - 1) * k)
        - (n - 1) * s2 * (n * n + 3 * n - 6 - (n * n - n + 2) * k) / 4
        + s0 * s0 * (n * n - 3 - (n - 1) ** 2 * k)
    ) / (n * (n - 2) * (n - 3) * s0 * s0)
    return _tested(value, 1.0, variance, None, sign=-1.0)


def local_moran(values: Float, weights: Weights) -> LocalMoran | None:
    """Return local Moran I_i = (n - 1) z_i sum_j w_ij z_j / sum z^2 (as esda scales it).

    ``z`` compares the neighbours' sum with random labellings of all other points (their exact mean
    and variance, sampling without replacement). None where undefined, as for `moran`.
    """
    centred = _centred(values, weights)
    if centred is None:
        return None
    z, m2 = centred
    n = z.size
    lag = weights.lag(z)
    w1 = np.bincount(weights.rows, weights.data, n)
    w2 = np.bincount(weights.rows, weights.data**2, n)
    # mean and variance of the others' values, given the own one
    mean = -z / (n - 1)
    var = (m2 - z * z) / (n - 1) - mean * mean
    spread = var * np.maximum(0.0, w2 - (w1 * w1 - w2) / (n - 2))
    score = np.divide(lag - w1 * mean, np.sqrt(spread), out=np.zeros(n), where=spread > 1e-300)
    quadrant = np.where(z > 0, np.where(lag > 0, 1, 4), np.where(lag > 0, 2, 3)).astype(np.int8)
    return LocalMoran((n - 1) * z * lag / m2, score * np.sign(z), quadrant)
