"""What lies around a nucleus, sampled on rays: the compiled loop."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["sample_rings"]


@njit(cache=True, nogil=True)
def sample_rings(h, d, y, x, radii, cos, sin, near, far, out):  # type: ignore[no-untyped-def]
    """Fill (n, 4): low and middle hematoxylin, middle and high DAB of a ring around each contour.

    Positions are taken relative to the nucleus' own whole pixel, so that they round alike
    wherever the block begins; samples beyond the planes are left out.
    """
    rows, cols = h.shape
    rays = radii.shape[1]
    steps = far - near + 1
    hs = np.empty(rays * steps, np.float32)
    ds = np.empty(rays * steps, np.float32)
    for i in range(y.size):
        iy = int(np.floor(y[i]))
        ix = int(np.floor(x[i]))
        fy = y[i] - np.float32(iy)
        fx = x[i] - np.float32(ix)
        count = 0
        for k in range(0, rays, 2):
            for s in range(near, far + 1):
                r = radii[i, k] + np.float32(s)
                py = iy + int(np.floor(fy + r * sin[k] + np.float32(0.5)))
                px = ix + int(np.floor(fx + r * cos[k] + np.float32(0.5)))
                if 0 <= py < rows and 0 <= px < cols:
                    hs[count] = h[py, px]
                    ds[count] = d[py, px]
                    count += 1
        if count == 0:
            out[i] = 0.0
            continue
        a = np.sort(hs[:count])
        b = np.sort(ds[:count])
        out[i, 0] = a[int(0.2 * (count - 1))]
        out[i, 1] = a[int(0.5 * (count - 1))]
        out[i, 2] = b[int(0.3 * (count - 1))]
        out[i, 3] = b[int(0.8 * (count - 1))]
