"""Smooth periodic random fields and their sampling at points."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def smooth_noise(rng: np.random.Generator, size: int, sigma: float) -> F32:
    """Return a periodic (size, size) field, mean 0 and variance 1.

    Parameters
    ----------
    rng : numpy.random.Generator
    size : int
        Side in samples.
    sigma : float
        Correlation length in samples (sigma of the Gaussian filter).
    """
    raw = rng.standard_normal((size, size), dtype=np.float32)
    pad = min(size, int(4 * sigma) + 1)
    wrapped = np.pad(raw, pad, mode="wrap")
    field: Any = cv2.GaussianBlur(wrapped, (0, 0), sigma)[pad:-pad, pad:-pad]
    field = field - field.mean()
    return np.ascontiguousarray(field / max(float(field.std()), 1e-12), dtype=np.float32)


class Field:
    """A smooth random field over the plane, sampled anywhere in micrometres."""

    def __init__(self, rng: np.random.Generator, wavelength_um: float, extent_um: float) -> None:
        self.step_um = wavelength_um / 8.0
        size = int(np.clip(np.ceil(extent_um / self.step_um), 64, 1024))
        self.values = smooth_noise(rng, size, 8.0 / 6.0)

    def at(self, x_um: F64, y_um: F64) -> F64:
        """Return the field (n,) at points, bilinear, periodic."""
        return _sample(self.values, np.ravel(x_um) / self.step_um, np.ravel(y_um) / self.step_um)

    def plane(self, shape: tuple[int, ...], step_um: float) -> F64:
        """Return the field (rows, cols) on a grid of points `step_um` apart."""
        rows, cols = np.indices(shape, dtype=np.float64)
        return self.at(cols * step_um, rows * step_um).reshape(shape)


@njit(cache=True, nogil=True)
def _sample(values: F32, x: F64, y: F64) -> F64:
    size = values.shape[0]
    out = np.empty(x.size, np.float64)
    for i in range(x.size):
        x0, y0 = np.floor(x[i]), np.floor(y[i])
        fx, fy = x[i] - x0, y[i] - y0
        j0, i0 = int(x0) % size, int(y0) % size
        j1, i1 = (j0 + 1) % size, (i0 + 1) % size
        top = values[i0, j0] * (1 - fx) + values[i0, j1] * fx
        low = values[i1, j0] * (1 - fx) + values[i1, j1] * fx
        out[i] = top * (1 - fy) + low * fy
    return out
