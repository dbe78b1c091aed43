"""Hot loops over candidates: trace a star-convex contour, measure it, refine its centre.

Positions are a whole pixel plus an offset relative to it, so that no float operation sees the
origin of the block.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = [
    "MEASURES",
    "SIDE",
    "centroid",
    "draft_all",
    "long_over_short",
    "measure_rays",
    "perimeters",
    "recast",
    "recast_all",
    "row_means",
    "sample",
    "trace",
]

#: steps averaged on either side of an edge
SIDE = 2
_jit = njit(cache=True, nogil=True, error_model="numpy")
#: numbers about a contour: area in steps²; H inside, its standard deviation; DAB inside;
#: H outside; DAB outside; H of the core; H of the rest; long over short axis
MEASURES = 9


@_jit
def sample(plane, at, table, out):  # type: ignore[no-untyped-def]
    """Read a plane at the nearest pixels of every ray's steps, clamped to the plane.

    Parameters
    ----------
    plane : float32 (H, W)
    at : int32 (2,)
        Pixel (y, x) of the centre.
    table : int32 (2, K, J)
        Offsets (y, x) of step j on ray k.
    out : float32 (K, J)
    """
    height, width = plane.shape
    rays, steps = table.shape[1], table.shape[2]
    span = -table[1, rays // 2, steps - 1]
    y0, x0 = at[0], at[1]
    if span <= y0 < height - span and span <= x0 < width - span:
        for k in range(rays):
            for j in range(steps):
                out[k, j] = plane[y0 + table[0, k, j], x0 + table[1, k, j]]
        return
    for k in range(rays):
        for j in range(steps):
            y = min(max(y0 + table[0, k, j], 0), height - 1)
            x = min(max(x0 + table[1, k, j], 0), width - 1)
            out[k, j] = plane[y, x]


@_jit
def trace(  # type: ignore[no-untyped-def]
    h, brown, level, cap, shape, work, radii, edges, walls
):
    """Find the star-convex contour around a point by dynamic programming over rays.

    Parameters
    ----------
    h, brown : float32 (K, J)
        Smoothed hematoxylin OD and height of DAB ridges (OD) at step j of ray k.
    level : float32
        H OD between nucleus and surroundings; growth over darker pixels gains, over paler costs.
    cap : float32
        The most that a pixel's distance from the level, or an edge, counts, OD.
    shape : float32 (8,)
        First and last step of the contour, steps averaged on each side of the edge (`SIDE`),
        weight of earlier edges, weight of brown, cost of a step between rays (relative to the mean
        of the rays' strongest edges), weight of growth, cap of an edge relative to `cap`.
    work : float32 (3, K, J)
        Workspace.
    radii, edges, walls : float32 (K,)
        Receive the radius in steps, the H drop across the edge (OD), and the highest DAB ridge
        from the first step to just outside the edge (OD).

    Returns
    -------
    float
        The mean of the optimised gain, OD.
    """
    rays = h.shape[0]
    first, last = int(shape[0]), int(shape[1])
    gain, drop, high = work[0], work[1], work[2]
    peaks = np.float32(0)
    zero = np.float32(0)
    earlier, barrier, growth, top = shape[3], shape[4], shape[6], cap * shape[7]
    count = last + 1 - first
    for k in range(rays):
        line, lane = h[k, first:], brown[k, first:]
        lines, lanes, past = h[k, first - 1 :], brown[k, first + 1 :], drop[k, first:]
        gains, highs = gain[k, first:], high[k, first:]
        before, wall, peak, fill = zero, zero, zero, zero
        for j in range(count):
            # two steps on either side of the edge: inside minus outside
            g = np.float32(0.5) * ((lines[j] - lines[j + 2]) + (line[j] - lines[j + 3]))
            past[j] = g
            wall = max(wall, lane[j])
            highs[j] = max(wall, max(lanes[j], lanes[j + 1]))
            if j >= SIDE:
                before = max(before, past[j - SIDE])
            fill += min(max(line[j] - level, -cap), cap)
            gains[j] = min(g, top) - earlier * before - barrier * wall + growth * fill
            peak = max(peak, g)
        peaks += peak
    cost = shape[5] * peaks / np.float32(rays)
    mean = _closed_path(gain, first, last, cost, radii)
    for k in range(rays):
        at_step = int(radii[k])
        edges[k] = drop[k, at_step]
        walls[k] = high[k, at_step]
    return mean


@_jit
def _closed_path(gain, first, last, cost, radii):  # type: ignore[no-untyped-def]
    """Best closed path over the rays: an open one over one turn and a half, its middle kept.

    A step between rays changes the radius by 3 at the most, at `cost` times the change squared.
    """
    rays = gain.shape[0]
    lead = rays // 4
    turn = rays + 2 * lead
    count = last + 1
    # whole vectors of 8: a loop's scalar rest would cost more than the loop
    wide = (count + 7) // 8 * 8
    now = np.full(wide + 6, np.float32(-1e9))
    new = np.full(wide + 6, np.float32(-1e9))
    came = np.zeros((turn, wide), np.int32)
    best = np.empty(wide, np.float32)
    for j in range(first, count):
        now[j + 3] = gain[0, j]
    for t in range(1, turn):
        row = gain[t % rays]
        _step(now, cost, best, came[t])
        for j in range(first, count):
            new[j + 3] = best[j] + row[j]
        now, new = new, now
    at = first
    for j in range(first, count):
        if now[j + 3] > now[at + 3]:
            at = j
    mean = np.float32(0)
    for t in range(turn - 1, lead - 1, -1):
        if t < lead + rays:
            k = t % rays
            radii[k] = at
            mean += gain[k, at]
        at += came[t, at]
    return mean / np.float32(rays)


@_jit
def _step(now, cost, best, move):  # type: ignore[no-untyped-def]
    """Write the best total that reaches each radius from the ray before, and the move it took."""
    size = best.size
    a, b, c, d, e, f, g = (
        now[:size], now[1:], now[2:], now[3:], now[4:], now[5:], now[6:]
    )
    one, two, three = cost, cost * np.float32(4), cost * np.float32(9)
    for j in range(size):
        top = d[j]
        m = np.int32(0)
        v = c[j] - one
        m = np.int32(-1) if v > top else m
        top = max(v, top)
        v = e[j] - one
        m = np.int32(1) if v > top else m
        top = max(v, top)
        v = b[j] - two
        m = np.int32(-2) if v > top else m
        top = max(v, top)
        v = f[j] - two
        m = np.int32(2) if v > top else m
        top = max(v, top)
        v = a[j] - three
        m = np.int32(-3) if v > top else m
        top = max(v, top)
        v = g[j] - three
        m = np.int32(3) if v > top else m
        top = max(v, top)
        best[j] = top
        move[j] = m


@_jit
def measure_rays(h, d, radii, rings, out):  # type: ignore[no-untyped-def]
    """Measure a contour on its ray samples, each weighing the area that it stands for.

    Parameters
    ----------
    h, d : float32 (K, J)
        Hematoxylin and DAB OD at step j of ray k.
    radii : float32 (K,)
        Steps.
    rings : int
        Steps outside that the inside is compared with.
    out : float32 (MEASURES,)
        Elongation is left alone.
    """
    acc = np.zeros(9, np.float32)
    for k in range(radii.size):
        edge = int(radii[k])
        core = edge * 0.55
        for j in range(edge + 1):
            # step 0 stands for a disc of half a step's radius, shared by all rays
            w = np.float32(j) if j else np.float32(0.125)
            v = h[k, j]
            acc[0] += w
            acc[1] += w * v
            acc[2] += w * v * v
            acc[3] += w * d[k, j]
            if j <= core:
                acc[4] += w
                acc[5] += w * v
        for j in range(edge + 1, edge + 1 + rings):
            w = np.float32(j)
            acc[6] += w
            acc[7] += w * h[k, j]
            acc[8] += w * d[k, j]
    n = acc[0]
    mean = acc[1] / n
    out[0] = n
    out[1] = mean
    out[2] = np.sqrt(max(acc[2] / n - mean * mean, np.float32(0)))
    out[3] = acc[3] / n
    out[4] = acc[7] / acc[6]
    out[5] = acc[8] / acc[6]
    out[6] = acc[5] / acc[4]
    out[7] = (acc[1] - acc[5]) / max(n - acc[4], np.float32(1))


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
def draft_all(h, brown, d, at, level, cap, table, step, rings, shape, rays,  # type: ignore[no-untyped-def]
              radii, edges, walls, gain, centre, measures):
    """Trace and measure every candidate; `radii` come back in pixels, `step` pixels a step."""
    count, steps = table.shape[1], table.shape[2]
    work = np.zeros((3, count, steps), np.float32)
    seen = np.empty((3, count, steps), np.float32)
    for i in range(at.shape[0]):
        sample(h, at[i], table, seen[0])
        sample(brown, at[i], table, seen[1])
        sample(d, at[i], table, seen[2])
        gain[i] = trace(
            seen[0], seen[1], level[i], cap[i], shape, work, radii[i], edges[i], walls[i]
        )
        measure_rays(seen[0], seen[2], radii[i], rings, measures[i])
        for k in range(count):
            # the edge lies between the last step inside and the first one outside
            radii[i, k] = (radii[i, k] + np.float32(0.5)) * step
        centroid(radii[i], rays, centre[i])
        measures[i, 8] = long_over_short(radii[i], rays, centre[i])


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
def perimeters(radii, rays):  # type: ignore[no-untyped-def]
    """Return the perimeter of every contour, pixels."""
    out = np.zeros(radii.shape[0], np.float32)
    for i in range(radii.shape[0]):
        for k in range(radii.shape[1]):
            n = (k + 1) % radii.shape[1]
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
