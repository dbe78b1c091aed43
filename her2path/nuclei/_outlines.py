"""Shapes given by radii on rays: centroid, axes, perimeter, and the same shape on other rays."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["centroid", "long_over_short", "perimeters", "recast", "recast_all", "row_means"]

_jit = njit(cache=True, nogil=True, error_model="numpy")


@_jit
def long_over_short(radii, rays, centre):  # type: ignore[no-untyped-def]
    """Return the ratio of the axes of a star-convex shape, from its second moments."""
    syy = np.float32(0)
    sxx = np.float32(0)
    sxy = np.float32(0)
    area = np.float32(0)
    for k in range(radii.size):
        r2 = radii[k] * radii[k]
        area += r2
        q = r2 * r2
        syy += q * rays[0, k] * rays[0, k]
        sxx += q * rays[1, k] * rays[1, k]
        sxy += q * rays[0, k] * rays[1, k]
    half = np.float32(0.5)
    syy = syy * half / area - centre[0] * centre[0]
    sxx = sxx * half / area - centre[1] * centre[1]
    sxy = sxy * half / area - centre[0] * centre[1]
    mid = half * (syy + sxx)
    apart = half * (syy - sxx)
    root = np.sqrt(apart * apart + sxy * sxy)
    # a pixel is not a point: 1/12 is the variance over its own side
    return np.sqrt((mid + root) / max(mid - root, np.float32(1.0 / 12)))


@_jit
def centroid(radii, rays, out):  # type: ignore[no-untyped-def]
    """Write the polygon's centroid (y, x) relative to the centre, and its area.

    `rays` is float32 (2, K): sine and cosine of every ray.
    """
    area = np.float32(0)
    sy = np.float32(0)
    sx = np.float32(0)
    for k in range(radii.size):
        n = k + 1 if k + 1 < radii.size else 0
        y0, x0 = radii[k] * rays[0, k], radii[k] * rays[1, k]
        y1, x1 = radii[n] * rays[0, n], radii[n] * rays[1, n]
        cross = x0 * y1 - x1 * y0
        area += cross
        sy += (y0 + y1) * cross
        sx += (x0 + x1) * cross
    three = np.float32(3) * max(area, np.float32(1e-6))
    out[0] = sy / three
    out[1] = sx / three
    out[2] = area * np.float32(0.5)


@_jit
def perimeters(radii, rays):  # type: ignore[no-untyped-def]
    """Return the perimeter of every contour, pixels."""
    out = np.zeros(radii.shape[0], np.float32)
    for i in range(radii.shape[0]):
        for k in range(radii.shape[1]):
            n = k + 1 if k + 1 < radii.shape[1] else 0
            dy = radii[i, n] * rays[0, n] - radii[i, k] * rays[0, k]
            dx = radii[i, n] * rays[1, n] - radii[i, k] * rays[1, k]
            out[i] += np.sqrt(dy * dy + dx * dx)
    return out


@_jit
def row_means(table):  # type: ignore[no-untyped-def]
    """Return the mean of every row, summed from left to right."""
    out = np.zeros(table.shape[0], np.float32)
    for i in range(table.shape[0]):
        for k in range(table.shape[1]):
            out[i] += table[i, k]
        out[i] /= np.float32(table.shape[1])
    return out


@_jit
def recast(radii, rays, move, new_rays, out):  # type: ignore[no-untyped-def]
    """Describe a contour by other rays around another point inside of it.

    Parameters
    ----------
    radii : float32 (K,)
    rays : float32 (2, K)
        Sine and cosine of its rays.
    move : float32 (2,)
        The new centre (y, x) relative to the old one.
    new_rays : float32 (2, L)
    out : float32 (L,)
        Receives the distance of the first crossing of every new ray with the polygon; where the
        new centre sees none, the smallest radius.
    """
    count = radii.size
    corner = np.empty((2, count), np.float32)
    least = radii[0]
    for k in range(count):
        corner[0, k] = radii[k] * rays[0, k] - move[0]
        corner[1, k] = radii[k] * rays[1, k] - move[1]
        least = min(least, radii[k])
    far = np.float32(1e9)
    for i in range(out.size):
        best = far
        uy, ux = new_rays[0, i], new_rays[1, i]
        last = count - 1
        # signed distance of a corner from the ray's line
        a = corner[0, last] * ux - corner[1, last] * uy
        for k in range(count):
            b = corner[0, k] * ux - corner[1, k] * uy
            if (a <= 0) != (b <= 0):
                t = a / (a - b)
                y = corner[0, last] + t * (corner[0, k] - corner[0, last])
                x = corner[1, last] + t * (corner[1, k] - corner[1, last])
                along = y * uy + x * ux
                if along > 0:
                    best = min(best, along)
            a = b
            last = k
        out[i] = best if best < far else least


@_jit
def recast_all(radii, rays, move, new_rays, out, centre, elongation):  # type: ignore[no-untyped-def]
    """Recast every contour; write its new centroid, area and elongation too."""
    for i in range(radii.shape[0]):
        recast(radii[i], rays, move[i], new_rays, out[i])
        centroid(out[i], new_rays, centre[i])
        elongation[i] = long_over_short(out[i], new_rays, centre[i])
