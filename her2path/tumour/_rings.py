"""What lies in and around a nucleus, sampled on rays: the compiled loop."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["BINS", "BIN_OD", "LOWEST_OD", "sample_rings"]

_jit = njit(cache=True, nogil=True, error_model="numpy")
#: quantiles come from a histogram: bins of this width (OD), this many, from this OD upward
BIN_OD, BINS, LOWEST_OD = 1 / 256, 320, -0.25
#: shares of the radius that stand for the inside: middles of three equal areas
_INSIDE = np.array([0.408, 0.707, 0.913], np.float32)


@_jit
def _bin(value):  # type: ignore[no-untyped-def]
    k = int((value - np.float32(LOWEST_OD)) * np.float32(1 / BIN_OD))
    return min(max(k, 0), BINS - 1)


@_jit
def _quantile(histogram, count, share):  # type: ignore[no-untyped-def]
    """Return the middle of the bin in which the share of the samples is reached; 0 without any."""
    if count == 0:
        return np.float32(0)
    rank = int(share * (count - 1))
    seen = 0
    for k in range(BINS):
        seen += histogram[k]
        if seen > rank:
            return np.float32(LOWEST_OD + (k + 0.5) * BIN_OD)
    return np.float32(0)


@_jit
def _collect(plane, iy, ix, fy, fx, radii, first, last, cos, sin, histogram):  # type: ignore[no-untyped-def]
    """Count the samples ``first..last`` pixels outside on every other ray; return how many.

    Positions are relative to the nucleus' own whole pixel, so that they round alike wherever the
    block begins; samples beyond the plane are left out.
    """
    rows, cols = plane.shape
    histogram[:] = 0
    count = 0
    for k in range(0, radii.size, 2):
        for s in range(first, last + 1):
            r = radii[k] + np.float32(s)
            py = iy + int(np.floor(fy + r * sin[k] + np.float32(0.5)))
            px = ix + int(np.floor(fx + r * cos[k] + np.float32(0.5)))
            if 0 <= py < rows and 0 <= px < cols:
                histogram[_bin(plane[py, px])] += 1
                count += 1
    return count


@_jit
def _collect_inside(plane, iy, ix, fy, fx, radii, cos, sin, histogram):  # type: ignore[no-untyped-def]
    rows, cols = plane.shape
    histogram[:] = 0
    count = 0
    for k in range(0, radii.size, 2):
        for s in range(_INSIDE.size):
            r = radii[k] * _INSIDE[s]
            py = iy + int(np.floor(fy + r * sin[k] + np.float32(0.5)))
            px = ix + int(np.floor(fx + r * cos[k] + np.float32(0.5)))
            if 0 <= py < rows and 0 <= px < cols:
                histogram[_bin(plane[py, px])] += 1
                count += 1
    return count


@_jit
def sample_rings(h, d, y, x, radii, cos, sin, near, far, out_to, out):  # type: ignore[no-untyped-def]
    """Fill (n, 9) with quantiles of hematoxylin and DAB in and around every contour.

    In order: H of the ring ``near..far`` at 20, 50 and 80 %; its DAB at 30 and 80 %; H of the
    ring beyond, to ``out_to``, at 50 %; its DAB at 50 %; H inside at 10 and 90 %.
    """
    histogram = np.zeros(BINS, np.int32)
    for i in range(y.size):
        iy, ix = int(np.floor(y[i])), int(np.floor(x[i]))
        fy, fx = y[i] - np.float32(iy), x[i] - np.float32(ix)
        r = radii[i]
        n = _collect(h, iy, ix, fy, fx, r, near, far, cos, sin, histogram)
        out[i, 0] = _quantile(histogram, n, 0.2)
        out[i, 1] = _quantile(histogram, n, 0.5)
        out[i, 2] = _quantile(histogram, n, 0.8)
        n = _collect(d, iy, ix, fy, fx, r, near, far, cos, sin, histogram)
        out[i, 3] = _quantile(histogram, n, 0.3)
        out[i, 4] = _quantile(histogram, n, 0.8)
        n = _collect(h, iy, ix, fy, fx, r, far + 1, out_to, cos, sin, histogram)
        out[i, 5] = _quantile(histogram, n, 0.5)
        n = _collect(d, iy, ix, fy, fx, r, far + 1, out_to, cos, sin, histogram)
        out[i, 6] = _quantile(histogram, n, 0.5)
        n = _collect_inside(h, iy, ix, fy, fx, r, cos, sin, histogram)
        out[i, 7] = _quantile(histogram, n, 0.1)
        out[i, 8] = _quantile(histogram, n, 0.9)
