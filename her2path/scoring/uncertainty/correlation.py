"""How far neighbouring cells resemble each other, and the variance of a fraction that follows.

The residuals of a fraction (a cell's value minus the mean) are summed on a fine grid; one Fourier
transform gives their covariance at every lag. Block resampling of side L weighs the covariances
with a pyramid that falls from 1 at lag 0 to 0 at lag L, which loses a part of what far cells
share. The variance is therefore taken with a flat-top window (1 up to L/2, then falling to 0 at
L), whose L is 2.5 times the lag at which the correlogram sinks into its noise.

References
----------
Politis DN, Romano JP (1995), Bias-corrected nonparametric spectral estimation, J Time Ser Anal
16:67-103. Politis DN, White H (2004), Automatic block-length selection for the dependent
bootstrap, Econometric Rev 23:53-70 (the rule from the correlogram, here in two dimensions).
Lahiri SN (2003), Resampling Methods for Dependent Data, chapter 12 (spatial blocks).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

__all__ = ["Lags", "Spread", "spread"]

#: lags of the window per reach of the correlogram
WINDOW_PER_REACH = 2.5
#: a correlogram below this share of its first value has sunk
SUNK_AT = 0.05
#: the window leaves at least this many independent parts
LEAST_PARTS = 3.0
#: degrees of freedom per independent part (less one): the flat-top estimate is a noisy one
FREEDOM_PER_PART = 1 / 1.5


@dataclass(frozen=True)
class Spread:
    """The spread of one fraction.

    ``mean`` and ``variance`` of the fraction; ``block_variance`` is what plain block resampling
    gives; ``cells`` are its effective number of independent cells, ``parts`` the independent parts
    of the tumour, ``reach`` the reach of correlation in grid steps.
    """

    mean: float
    variance: float
    block_variance: float
    cells: float
    parts: float
    reach: float

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the variance.

        Few independent parts give few; so does a rare fraction that rests on few independent
        positive cells, whose squares scatter by the excess kurtosis of a yes-or-no value.
        """
        one = self.mean * (1 - self.mean)
        excess = max(0.0, 1 - 6 * one) / max(one * self.cells, 1e-9) if one > 0 else 0.0
        plain = max(1.0, (self.parts - 1) * FREEDOM_PER_PART)
        return max(1.0, 1 / (1 / plain + excess / 2))

    @property
    def inflation(self) -> float:
        """Student's against the normal 97.5 % quantile: what an estimated variance costs."""
        return float(stdtrit(self.freedom, 0.975)) / 1.959963984540054


class Lags:
    """Lags of a grid, and the covariance of any grid's values over them."""

    def __init__(self, cells: np.ndarray) -> None:
        rows, cols = cells.shape
        self.shape = (2 * rows, 2 * cols)
        self.dy = np.minimum(np.arange(2 * rows), 2 * rows - np.arange(2 * rows))
        self.dx = np.minimum(np.arange(2 * cols), 2 * cols - np.arange(2 * cols))
        self.ring = np.rint(np.hypot(self.dy[:, None], self.dx[None])).astype(np.int64)
        self.cells = cells
        self.total = float(cells.sum())
        self.pairs = self.covariance(cells)
        self.ring_pairs = np.maximum(np.bincount(self.ring.ravel(), self.pairs.ravel()), 1e-9)

    def covariance(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of products at every lag, shape of the padded grid."""
        spectrum = np.fft.rfft2(values.astype(np.float64), self.shape)
        return np.asarray(np.fft.irfft2(np.abs(spectrum) ** 2, self.shape))

    def weighed(self, covariance: np.ndarray, window: float, flat: bool) -> float:
        """Return the covariances' sum over the window, divided by the squared number of cells."""
        steep = 2.0 if flat else 1.0
        ky = np.clip(steep * (1 - self.dy / window), 0, 1)
        kx = np.clip(steep * (1 - self.dx / window), 0, 1)
        return float(ky @ covariance @ kx) / self.total**2

    def parts(self, window: float) -> float:
        """Return how many independent parts a window leaves."""
        return 1.0 / self.weighed(self.pairs, window, flat=True)


def spread(lags: Lags, sums: np.ndarray, variance_of_one: float, block: float) -> Spread:
    """Return the spread of a fraction.

    Parameters
    ----------
    lags : Lags
        The grid of cells.
    sums : ndarray, shape of the grid
        Sum of the cells' values (0..1 each) in every grid square.
    variance_of_one : float
        Variance of the value among cells.
    block : float
        Side of a resampled block in grid steps: the least window.
    """
    mean = float(sums.sum()) / lags.total
    covariance = lags.covariance(sums - mean * lags.cells)
    reach = _reach(lags, covariance, variance_of_one)
    window = max(block, WINDOW_PER_REACH * reach)
    while window > block and lags.parts(window) < LEAST_PARTS:
        window = max(block, 0.9 * window)
    parts = max(lags.parts(window), 1.5)
    plain = lags.weighed(covariance, block, flat=False)
    # a negative wing can push the flat-top estimate below the plain one: take the larger
    found = max(lags.weighed(covariance, window, flat=True), plain,
                lags.weighed(covariance, window, flat=False))  # fmt: skip
    # the mean was estimated from the same cells, hence parts / (parts - 1)
    variance = max(found * parts / (parts - 1), variance_of_one / lags.total)
    cells = variance_of_one / variance if variance > 0 else parts
    return Spread(mean, variance, max(plain, 0.0), min(cells, lags.total), parts, float(reach))


def _reach(lags: Lags, covariance: np.ndarray, variance_of_one: float) -> int:
    """Return the first lag at which the correlogram lies within its noise."""
    rho = np.bincount(lags.ring.ravel(), covariance.ravel()) / lags.ring_pairs
    longest = max(lags.shape) // 2
    noise = variance_of_one / np.sqrt(lags.ring_pairs / 2 + 1)
    sunk = rho <= np.maximum(SUNK_AT * rho[1], 2 * noise)
    found = np.flatnonzero(sunk[1:longest])
    return int(found[0]) + 1 if len(found) else max(1, longest)
