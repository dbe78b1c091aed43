"""Hot loops over candidates: trace a star-convex contour, measure it, refine its centre.

Positions are a whole pixel plus an offset relative to it, so that no float operation sees the
origin of the block.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["MEASURES", "centroid", "measure", "trace", "trace_all"]

_jit = njit(cache=True, nogil=True, error_model="numpy")
#: numbers that `measure` writes: pixels inside; H inside, its standard deviation; DAB inside;
#: H outside; DAB outside; H of the core; H of the rest; long over short axis
MEASURES = 9


@_jit
def _sample(h, brown, yy, xx, py, px):  # type: ignore[no-untyped-def]
    """Sample both planes at a point relative to a whole pixel, clamped to the planes."""
    jy, jx = int(np.floor(py)), int(np.floor(px))
    ay, ax = py - np.float32(jy), px - np.float32(jx)
    height, width = h.shape
    y0 = min(max(yy + jy, 0), height - 1)
    y1 = min(max(yy + jy + 1, 0), height - 1)
    x0 = min(max(xx + jx, 0), width - 1)
    x1 = min(max(xx + jx + 1, 0), width - 1)
    one = np.float32(1)
    top = h[y0, x0] * (one - ax) + h[y0, x1] * ax
    low = h[y1, x0] * (one - ax) + h[y1, x1] * ax
    near = brown[y1 if ay > np.float32(0.5) else y0, x1 if ax > np.float32(0.5) else x0]
    return top * (one - ay) + low * ay, near


@_jit
def trace(h, brown, at, offset, level, tables, shape, work, radii, edges):  # type: ignore[no-untyped-def]
    """Find the star-convex contour around a point by dynamic programming over rays.

    Parameters
    ----------
    h : float32 (H, W)
        Smoothed hematoxylin OD.
    brown : float32 (H, W)
        Height of DAB ridges (OD); a contour does not cross them for free.
    at : int (2,)
        The whole pixel (y, x) of the point.
    offset : float32 (2,)
        The point's place relative to that pixel.
    level : float32
        H OD between nucleus and surroundings; growth over darker pixels gains.
    tables : float32 (2, K, J)
        Offsets (y, x) of step j on ray k, pixels.
    shape : float32 (7,)
        First and last step of the contour, steps averaged on each side of the edge, weight of
        earlier edges, weight of brown, cost of a step between rays (relative to the mean of the
        rays' strongest edges), weight of growth.
    work : float32 (3, K, J)
        Workspace.
    radii, edges : float32 (K,)
        Receive the radius in steps and the H drop across the edge, OD.

    Returns
    -------
    float
        The mean of the optimised gain, OD.
    """
    rays, steps = tables.shape[1], tables.shape[2]
    first, last, side = int(shape[0]), int(shape[1]), int(shape[2])
    gain, drop = work[0], work[1]
    line, lane = work[2, 0], work[2, 1]
    inv = np.float32(1.0) / np.float32(side)
    peaks = np.float32(0)
    for k in range(rays):
        for j in range(steps):
            py, px = offset[0] + tables[0, k, j], offset[1] + tables[1, k, j]
            line[j], lane[j] = _sample(h, brown, at[0], at[1], py, px)
        before = np.float32(0)
        wall = np.float32(0)
        peak = np.float32(0)
        fill = np.float32(0)
        for j in range(first, last + 1):
            inside = np.float32(0)
            outside = np.float32(0)
            for i in range(side):
                inside += line[j - i]
                outside += line[j + 1 + i]
            g = (inside - outside) * inv
            drop[k, j] = g
            wall = max(wall, lane[j])
            if j - side >= first:
                before = max(before, drop[k, j - side])
            fill += line[j] - level
            gain[k, j] = g - shape[3] * before - shape[4] * wall + shape[6] * fill
            peak = max(peak, g)
        peaks += peak
    cost = shape[5] * peaks / np.float32(rays)
    return _closed_path(gain, drop, first, last, cost, radii, edges)


@_jit
def _closed_path(gain, drop, first, last, cost, radii, edges):  # type: ignore[no-untyped-def]
    """Best closed path over the rays: an open one over one turn and a half, its middle kept."""
    rays = gain.shape[0]
    lead = rays // 4
    turn = rays + 2 * lead
    now = np.full(last + 7, np.float32(-1e9))
    new = np.full(last + 7, np.float32(-1e9))
    came = np.empty((turn, last + 1), np.int8)
    for j in range(first, last + 1):
        now[j + 3] = gain[0, j]
    for t in range(1, turn):
        row = gain[t % rays]
        for j in range(first, last + 1):
            best = now[j + 3]
            move = 0
            for m in range(1, 4):
                penalty = cost * np.float32(m * m)
                if now[j + 3 - m] - penalty > best:
                    best = now[j + 3 - m] - penalty
                    move = -m
                if now[j + 3 + m] - penalty > best:
                    best = now[j + 3 + m] - penalty
                    move = m
            new[j + 3] = best + row[j]
            came[t, j] = move
        now, new = new, now
    at = first
    for j in range(first, last + 1):
        if now[j + 3] > now[at + 3]:
            at = j
    mean = np.float32(0)
    for t in range(turn - 1, lead - 1, -1):
        if t < lead + rays:
            k = t % rays
            radii[k] = at
            edges[k] = drop[k, at]
            mean += gain[k, at]
        at += came[t, at]
    return mean / np.float32(rays)


@_jit
def centroid(radii, rays, out):  # type: ignore[no-untyped-def]
    """Write the polygon's centroid (y, x) relative to the centre, and its area.

    `rays` is float32 (2, K): sine and cosine of every ray.
    """
    area = np.float32(0)
    sy = np.float32(0)
    sx = np.float32(0)
    for k in range(radii.size):
        n = (k + 1) % radii.size
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
def measure(h, d, at, offset, radii, angle, margin, out):  # type: ignore[no-untyped-def]
    """Measure a contour on the pixels inside and just outside of it.

    Parameters
    ----------
    h, d : float32 (H, W)
        Hematoxylin and DAB OD.
    at, offset
        The centre: whole pixel and the place relative to it.
    radii : float32 (K,)
        Pixels.
    angle : int16 (2 A + 1, 2 A + 1)
        The ray of an offset given in half pixels.
    margin : float32
        Width of the ring outside, pixels.
    out : float32 (MEASURES,)
    """
    half = angle.shape[0] // 2
    two, mid = np.float32(2), np.float32(0.5)
    reach = np.float32(0)
    for k in range(radii.size):
        reach = max(reach, radii[k])
    span = int(np.ceil(reach + margin)) + 1
    acc = np.zeros(14, np.float64)
    for y in range(max(at[0] - span, 0), min(at[0] + span + 1, h.shape[0])):
        dy = np.float32(y - at[0]) - offset[0]
        ay = min(max(int(np.floor(dy * two + mid)), -half), half)
        for x in range(max(at[1] - span, 0), min(at[1] + span + 1, h.shape[1])):
            dx = np.float32(x - at[1]) - offset[1]
            ax = min(max(int(np.floor(dx * two + mid)), -half), half)
            r = radii[angle[ay + half, ax + half]]
            r2 = dy * dy + dx * dx
            value = h[y, x]
            if r2 <= r * r:
                acc[0] += 1
                acc[1] += value
                acc[2] += value * value
                acc[3] += d[y, x]
                acc[8] += dy
                acc[9] += dx
                acc[10] += dy * dy
                acc[11] += dx * dx
                acc[12] += dy * dx
                if r2 <= np.float32(0.3) * r * r:
                    acc[4] += 1
                    acc[5] += value
            elif r2 <= (r + margin) * (r + margin):
                acc[6] += 1
                acc[7] += value
                acc[13] += d[y, x]
    _summary(acc, out)


@_jit
def _summary(acc, out):  # type: ignore[no-untyped-def]
    """Turn sums over pixels into the numbers of `measure`."""
    n = max(acc[0], 1.0)
    mean = acc[1] / n
    out[0] = acc[0]
    out[1] = mean
    out[2] = np.sqrt(max(acc[2] / n - mean * mean, 0.0))
    out[3] = acc[3] / n
    out[4] = acc[7] / max(acc[6], 1.0)
    out[5] = acc[13] / max(acc[6], 1.0)
    out[6] = acc[5] / max(acc[4], 1.0)
    out[7] = (acc[1] - acc[5]) / max(n - acc[4], 1.0)
    cy, cx = acc[8] / n, acc[9] / n
    # a pixel is not a point: 1/12 is the variance over its own side
    syy = acc[10] / n - cy * cy + 1.0 / 12
    sxx = acc[11] / n - cx * cx + 1.0 / 12
    sxy = acc[12] / n - cy * cx
    root = np.sqrt((syy - sxx) * (syy - sxx) * 0.25 + sxy * sxy)
    mid = 0.5 * (syy + sxx)
    out[8] = np.sqrt((mid + root) / max(mid - root, 1.0 / 12))


@_jit
def trace_all(h, brown, d, at, offset, level, tables, shape, rays, angle, margin,  # type: ignore[no-untyped-def]
              radii, edges, gain, centre, measures):
    """Trace and measure every candidate; `radii` come back in pixels."""
    work = np.zeros((3, tables.shape[1], tables.shape[2]), np.float32)
    step = tables[1, 0, 1]
    for i in range(at.shape[0]):
        gain[i] = trace(h, brown, at[i], offset[i], level[i], tables, shape, work, radii[i], edges[i])
        for k in range(radii.shape[1]):
            # the edge lies between the last step inside and the first one outside
            radii[i, k] = (radii[i, k] + np.float32(0.5)) * step
        centroid(radii[i], rays, centre[i])
        measure(h, d, at[i], offset[i], radii[i], angle, margin, measures[i])
