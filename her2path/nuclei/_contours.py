"""Hot loops over candidates: trace a star-convex contour and measure it.

Positions are a whole pixel plus an offset relative to it, so that no float operation sees the
origin of the block.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from her2path.nuclei._outlines import centroid, long_over_short

__all__ = [
    "DRAFT_RAYS",
    "MEASURES",
    "SIDE",
    "draft_all",
    "flat_steps",
    "measure_rays",
    "sample",
    "trace",
    "workspace",
]

#: rays of a candidate's contour: known beforehand, so that loops over them are vectorised
DRAFT_RAYS = 24
#: steps averaged on either side of an edge
SIDE = 2
_jit = njit(cache=True, nogil=True, error_model="numpy")
#: numbers about a contour: area in steps²; H inside, its standard deviation; DAB inside;
#: H outside; DAB outside; H of the core; H of the rest; long over short axis
MEASURES = 9
#: rays by which the closed path overlaps itself at either end
LEAD = DRAFT_RAYS // 4


@_jit
def sample(plane, at, table, rows, out):  # type: ignore[no-untyped-def]
    """Read a plane at the nearest pixels of the first steps of every ray, clamped to the plane.

    Parameters
    ----------
    plane : float32 (H, W)
    at : int32 (2,)
        Pixel (y, x) of the centre.
    table : int32 (2, J, K)
        Offsets (y, x) of step j on ray k.
    rows : int
        How many steps are read.
    out : float32 (J, K)
    """
    height, width = plane.shape
    for j in range(rows):
        for k in range(table.shape[2]):
            y = min(max(at[0] + table[0, j, k], 0), height - 1)
            x = min(max(at[1] + table[1, j, k], 0), width - 1)
            out[j, k] = plane[y, x]


@_jit
def flat_steps(table, width):  # type: ignore[no-untyped-def]
    """Return a table of offsets as places in a plane of that width, (J x K)."""
    out = np.empty(table.shape[1] * table.shape[2], np.int64)
    i = 0
    for j in range(table.shape[1]):
        for k in range(table.shape[2]):
            out[i] = np.int64(table[0, j, k]) * width + table[1, j, k]
            i += 1
    return out


@_jit
def _sample_inner(plane, place, flat, size, out):  # type: ignore[no-untyped-def]
    """Read a flat plane as `sample` does, for a centre whose rays all end inside of it."""
    for i in range(size):
        # unsigned: no test whether the index counts from the end
        out[i] = plane[np.uint64(place + flat[i])]


@_jit
def workspace(steps):  # type: ignore[no-untyped-def]
    """Return what `trace` works in, for contours of so many steps."""
    wide = (steps + 7) // 8 * 8
    return (
        np.zeros((6, (steps + 2) * DRAFT_RAYS), np.float32),
        np.empty((DRAFT_RAYS, wide), np.float32),
        np.empty((2, wide + 6), np.float32),
        np.empty((DRAFT_RAYS + 2 * LEAD, wide), np.int32),
    )


@_jit
def trace(  # type: ignore[no-untyped-def]
    h, brown, level, cap, shape, work, radii, edges, walls
):
    """Find the star-convex contour around a point by dynamic programming over rays.

    Parameters
    ----------
    h, brown : float32 (J, K)
        Smoothed hematoxylin OD and height of DAB ridges (OD) at step j of ray k; K = `DRAFT_RAYS`.
    level : float32
        H OD between nucleus and surroundings; growth over darker pixels gains, over paler costs.
    cap : float32
        The most that a pixel's distance from the level, or an edge, counts, OD.
    shape : float32 (8,)
        First and last step of the contour, steps averaged on each side of the edge (`SIDE`),
        weight of earlier edges, weight of brown, cost of a step between rays (relative to the mean
        of the rays' strongest edges), weight of growth, cap of an edge relative to `cap`.
    work
        Of `workspace`, for J steps.
    radii, edges, walls : float32 (K,)
        Receive the radius in steps, the H drop across the edge (OD), and the highest DAB ridge
        from the first step to just outside the edge (OD).

    Returns
    -------
    float
        The mean of the optimised gain, OD.
    """
    planes, gains, totals, moves = work
    first, last = int(shape[0]), int(shape[1])
    count = last + 1 - first
    drop, wall, before, fill, gain = planes[0], planes[1], planes[2], planes[3], planes[4]
    size = count * DRAFT_RAYS
    _edges(h.reshape(-1)[(first - 1) * DRAFT_RAYS :], size, drop)
    _highest(brown.reshape(-1)[first * DRAFT_RAYS :], size, wall)
    # an edge counts as an earlier one from the second step behind it
    _highest(drop, size, before[DRAFT_RAYS:])
    _growth(h.reshape(-1)[first * DRAFT_RAYS :], size, level, cap, fill)
    _gain(
        drop, before, wall[DRAFT_RAYS:], fill[DRAFT_RAYS:],
        (cap * shape[7], shape[3], shape[4], shape[6]), size, gain,
    )
    peaks = np.float32(0)
    for k in range(DRAFT_RAYS):
        peaks += before[size + DRAFT_RAYS + k]
        for j in range(count):
            gains[k, j] = gain[j * DRAFT_RAYS + k]
    cost = shape[5] * peaks / np.float32(DRAFT_RAYS)
    mean = _closed_path(gains, count, cost, totals, moves, radii)
    for k in range(DRAFT_RAYS):
        j = int(radii[k])
        radii[k] = first + j
        edges[k] = drop[j * DRAFT_RAYS + k]
        beyond = max(brown[first + j + 1, k], brown[first + j + 2, k])
        walls[k] = max(wall[(j + 1) * DRAFT_RAYS + k], beyond)
    return mean


@_jit
def _edges(line, size, out):  # type: ignore[no-untyped-def]
    """Write half of: two steps inside of the edge minus two steps outside of it."""
    inner, outer, outmost = line[DRAFT_RAYS:], line[2 * DRAFT_RAYS :], line[3 * DRAFT_RAYS :]
    for i in range(size):
        out[i] = np.float32(0.5) * ((line[i] - outer[i]) + (inner[i] - outmost[i]))


@_jit
def _highest(line, size, out):  # type: ignore[no-untyped-def]
    """Write the running maximum along every ray, from 0; one row of zeros first."""
    for k in range(DRAFT_RAYS):
        out[k] = np.float32(0)
    for i in range(size):
        out[i + DRAFT_RAYS] = max(out[i], line[i])


@_jit
def _growth(line, size, level, cap, out):  # type: ignore[no-untyped-def]
    """Write the running sum of the capped distance from the level; one row of zeros first."""
    for k in range(DRAFT_RAYS):
        out[k] = np.float32(0)
    for i in range(size):
        out[i + DRAFT_RAYS] = out[i] + min(max(line[i] - level, -cap), cap)


@_jit
def _gain(drop, before, wall, fill, weights, size, out):  # type: ignore[no-untyped-def]
    top, earlier, barrier, growth = weights
    for i in range(size):
        out[i] = (
            min(drop[i], top) - earlier * before[i] - barrier * wall[i] + growth * fill[i]
        )


@_jit
def _closed_path(gain, count, cost, totals, moves, radii):  # type: ignore[no-untyped-def]
    """Best closed path over the rays: an open one over one turn and a half, its middle kept.

    A step between rays changes the radius by 3 at the most, at `cost` times the change squared.
    """
    turn = DRAFT_RAYS + 2 * LEAD
    wide = (count + 7) // 8 * 8
    totals[:] = np.float32(-1e9)
    for j in range(count):
        totals[0, j + 3] = gain[0, j]
    for t in range(1, turn):
        now, new = totals[(t - 1) % 2], totals[t % 2]
        _step(now, cost, gain[t % DRAFT_RAYS], wide, new[3:], moves[t])
        for j in range(count, wide):
            new[j + 3] = np.float32(-1e9)
    now = totals[(turn - 1) % 2, 3:]
    at = 0
    for j in range(count):
        if now[j] > now[at]:
            at = j
    mean = np.float32(0)
    for t in range(turn - 1, LEAD - 1, -1):
        if t < LEAD + DRAFT_RAYS:
            k = t % DRAFT_RAYS
            radii[k] = at
            mean += gain[k, at]
        at += moves[t, at]
    return mean / np.float32(DRAFT_RAYS)


@_jit
def _step(now, cost, row, size, new, move):  # type: ignore[no-untyped-def]
    """Write the best total that reaches each radius from the ray before, and the move it took.

    Whole vectors of 8: a loop's scalar rest would cost more than the loop.
    """
    a, b, c, d, e, f, g = now, now[1:], now[2:], now[3:], now[4:], now[5:], now[6:]
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
        new[j] = top + row[j]
        move[j] = m


@_jit
def measure_rays(h, d, radii, rings, out):  # type: ignore[no-untyped-def]
    """Measure a contour on its ray samples, each weighing the area that it stands for.

    Parameters
    ----------
    h, d : float32 (J, K)
        Hematoxylin and DAB OD at step j of ray k.
    radii : float32 (K,)
        Steps.
    rings : int
        Steps outside that the inside is compared with.
    out : float32 (MEASURES,)
        Elongation is left alone.
    """
    zero = np.float32(0)
    n, sum_h, square, sum_d, core_n, core_h = zero, zero, zero, zero, zero, zero
    out_n, out_h, out_d = zero, zero, zero
    for k in range(radii.size):
        edge = int(radii[k])
        core = edge * 0.55
        for j in range(edge + 1):
            # step 0 stands for a disc of half a step's radius, shared by all rays
            w = np.float32(j) if j else np.float32(0.125)
            v = h[j, k]
            n += w
            sum_h += w * v
            square += w * v * v
            sum_d += w * d[j, k]
            if j <= core:
                core_n += w
                core_h += w * v
        for j in range(edge + 1, edge + 1 + rings):
            w = np.float32(j)
            out_n += w
            out_h += w * h[j, k]
            out_d += w * d[j, k]
    mean = sum_h / n
    out[0] = n
    out[1] = mean
    out[2] = np.sqrt(max(square / n - mean * mean, zero))
    out[3] = sum_d / n
    out[4] = out_h / out_n
    out[5] = out_d / out_n
    out[6] = core_h / core_n
    out[7] = (sum_h - core_h) / max(n - core_n, np.float32(1))


@_jit
def draft_all(h, brown, d, at, level, cap, table, step, rings, shape, rays,  # type: ignore[no-untyped-def]
              radii, edges, walls, gain, centre, measures):
    """Trace and measure every candidate; `radii` come back in pixels, `step` pixels a step."""
    steps, count = table.shape[1], table.shape[2]
    height, width = h.shape
    flat = flat_steps(table, width)
    span = -table[1, steps - 1, count // 2]
    work = workspace(steps)
    seen = np.empty((3, steps, count), np.float32)
    for i in range(at.shape[0]):
        y, x = at[i, 0], at[i, 1]
        inner = span <= y < height - span and span <= x < width - span
        place = np.int64(y) * width + x
        for p in range(2):
            plane = h if p == 0 else brown
            if inner:
                _sample_inner(plane.reshape(-1), place, flat, flat.size, seen[p].reshape(-1))
            else:
                sample(plane, at[i], table, steps, seen[p])
        gain[i] = trace(
            seen[0], seen[1], level[i], cap[i], shape, work, radii[i], edges[i], walls[i]
        )
        rows = int(radii[i].max()) + 1 + rings
        if inner:
            _sample_inner(d.reshape(-1), place, flat, rows * count, seen[2].reshape(-1))
        else:
            sample(d, at[i], table, rows, seen[2])
        measure_rays(seen[0], seen[2], radii[i], rings, measures[i])
        for k in range(count):
            # the edge lies between the last step inside and the first one outside
            radii[i, k] = (radii[i, k] + np.float32(0.5)) * step
        centroid(radii[i], rays, centre[i])
        measures[i, 8] = long_over_short(radii[i], rays, centre[i])
