"""Hot loops over candidates: trace a star-convex contour and measure it.

Positions are a whole pixel plus an offset relative to it, so that no float operation sees the
origin of the block.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from her2path._loops import put
from her2path.nuclei._outlines import centroid, long_over_short

__all__ = [
    "DRAFT_RAYS",
    "LANES",
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
#: contours that are traced side by side, one in each lane of a vector
LANES = 8
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
    """Return what `trace` works in, for `LANES` contours of so many steps."""
    size, wide = (steps + 2) * DRAFT_RAYS, (steps + 7) // 8 * 8
    return (
        np.zeros((2, LANES, size), np.float32),
        np.zeros((3, size), np.float32),
        np.zeros((DRAFT_RAYS, wide * LANES), np.float32),
        np.zeros(wide * LANES, np.float32),
        np.zeros((2, (wide + 6) * LANES), np.float32),
        np.zeros((DRAFT_RAYS + 2 * LEAD, wide * LANES), np.int32),
    )


@_jit
def trace(  # type: ignore[no-untyped-def]
    h, brown, level, cap, shape, work, radii, edges, walls, gain
):
    """Find star-convex contours around up to `LANES` points by dynamic programming over rays.

    Parameters
    ----------
    h, brown : float32 (L, J, K)
        Smoothed hematoxylin OD and height of DAB ridges (OD) at step j of ray k; K = `DRAFT_RAYS`.
    level : float32 (L,)
        H OD between nucleus and surroundings; growth over darker pixels gains, over paler costs.
    cap : float32 (L,)
        The most that a pixel's distance from the level, or an edge, counts, OD.
    shape : float32 (8,)
        First and last step of the contour, steps averaged on each side of the edge (`SIDE`),
        weight of earlier edges, weight of brown, cost of a step between rays (relative to the mean
        of the rays' strongest edges), weight of growth, cap of an edge relative to `cap`.
    work
        Of `workspace`, for J steps.
    radii, edges, walls : float32 (L, K)
        Receive the radius in steps, the H drop across the edge (OD), and the highest DAB ridge
        from the first step to just outside the edge (OD).
    gain : float32 (L,)
        Receives the mean of the optimised gain, OD.
    """
    for c in range(level.size):
        _weigh(h[c], brown[c], level[c], cap[c], shape, work, c)
    _follow(brown, shape, work, radii, edges, walls, gain)


@_jit
def _follow(brown, shape, work, radii, edges, walls, gain):  # type: ignore[no-untyped-def]
    """Find the contours of the lanes that were weighed."""
    kept, _, gains, cost, totals, moves = work
    first, last = int(shape[0]), int(shape[1])
    _closed_paths(gains, last + 1 - first, cost, totals, moves, radii, gain)
    for c in range(gain.size):
        drop, wall = kept[0, c], kept[1, c]
        for k in range(DRAFT_RAYS):
            j = int(radii[c, k])
            radii[c, k] = first + j
            edges[c, k] = drop[j * DRAFT_RAYS + k]
            beyond = max(brown[c, first + j + 1, k], brown[c, first + j + 2, k])
            walls[c, k] = max(wall[(j + 1) * DRAFT_RAYS + k], beyond)


@_jit
def _weigh(h, brown, level, cap, shape, work, c):  # type: ignore[no-untyped-def]
    """Write one contour's gain at every radius, and its cost of a step, into its lane."""
    kept, (before, fill, gain), gains, cost = work[0], work[1], work[2], work[3]
    drop, wall = kept[0, c], kept[1, c]
    first, last = int(shape[0]), int(shape[1])
    count = last + 1 - first
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
            gains[k, j * LANES + c] = gain[j * DRAFT_RAYS + k]
    one = shape[5] * peaks / np.float32(DRAFT_RAYS)
    cost[c::LANES] = one


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
def _closed_paths(gain, count, cost, totals, moves, radii, out):  # type: ignore[no-untyped-def]
    """Best closed paths over the rays: open ones over one turn and a half, their middle kept.

    A step between rays changes the radius by 3 at the most, at `cost` times the change squared.
    """
    turn = DRAFT_RAYS + 2 * LEAD
    size, used, edge = gain.shape[1], count * LANES, 3 * LANES
    totals[:] = np.float32(-1e9)
    put(totals[0], edge, gain[0, :used])
    for t in range(1, turn):
        now, new = totals[(t - 1) % 2], totals[t % 2]
        _step(now, cost, gain[t % DRAFT_RAYS], size, new[edge:], moves[t])
        new[edge + used : edge + size] = np.float32(-1e9)
    now = totals[(turn - 1) % 2, edge:]
    for c in range(out.size):
        at = 0
        for j in range(count):
            if now[j * LANES + c] > now[at * LANES + c]:
                at = j
        mean = np.float32(0)
        for t in range(turn - 1, LEAD - 1, -1):
            if t < LEAD + DRAFT_RAYS:
                k = t % DRAFT_RAYS
                radii[c, k] = at
                mean += gain[k, at * LANES + c]
            at += moves[t, at * LANES + c]
        out[c] = mean / np.float32(DRAFT_RAYS)


@_jit
def _step(now, cost, row, size, new, move):  # type: ignore[no-untyped-def]
    """Write the best total that reaches each radius from the ray before, and the move it took.

    Lane by lane: what lies `LANES` places on is the same contour's next radius. Sizes are whole
    vectors: a loop's scalar rest would cost more than the loop.
    """
    a, b, c, d = now, now[LANES:], now[2 * LANES :], now[3 * LANES :]
    e, f, g = now[4 * LANES :], now[5 * LANES :], now[6 * LANES :]
    four, nine = np.float32(4), np.float32(9)
    for j in range(size):
        top = d[j]
        m = np.int32(0)
        v = c[j] - cost[j]
        m = np.int32(-1) if v > top else m
        top = max(v, top)
        v = e[j] - cost[j]
        m = np.int32(1) if v > top else m
        top = max(v, top)
        v = b[j] - cost[j] * four
        m = np.int32(-2) if v > top else m
        top = max(v, top)
        v = f[j] - cost[j] * four
        m = np.int32(2) if v > top else m
        top = max(v, top)
        v = a[j] - cost[j] * nine
        m = np.int32(-3) if v > top else m
        top = max(v, top)
        v = g[j] - cost[j] * nine
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
def draft_all(fine, coarse, level, cap, step, rings, shape, rays,  # type: ignore[no-untyped-def]
              radii, edges, walls, gain, centre, measures):
    """Trace and measure every candidate; `radii` come back in pixels, `step` pixels a step.

    `fine` = (hematoxylin, DAB, candidates' pixels, table of steps); `coarse` = (DAB ridges,
    candidates' pixels there, table of steps there).
    """
    h, d, at, table = fine
    brown, low_at, low_table = coarse
    steps, count = table.shape[1], table.shape[2]
    flat, low_flat = flat_steps(table, h.shape[1]), flat_steps(low_table, brown.shape[1])
    span, low_span = np.abs(table).max(), np.abs(low_table).max()
    work = workspace(steps)
    seen = np.zeros((3, LANES, steps, count), np.float32)
    for low in range(0, at.shape[0], LANES):
        high = min(low + LANES, at.shape[0])
        for i in range(low, high):
            c = i - low
            _look(h, at[i], table, steps, flat, span, seen[0, c])
            _look(brown, low_at[i], low_table, steps, low_flat, low_span, seen[1, c])
            _weigh(seen[0, c], seen[1, c], level[i], cap[i], shape, work, c)
        _follow(
            seen[1], shape, work, radii[low:high], edges[low:high], walls[low:high], gain[low:high]
        )
        for i in range(low, high):
            rows = int(radii[i].max()) + 1 + rings
            _look(d, at[i], table, rows, flat, span, seen[2, i - low])
            measure_rays(seen[0, i - low], seen[2, i - low], radii[i], rings, measures[i])
            for k in range(count):
                # the edge lies between the last step inside and the first one outside
                radii[i, k] = (radii[i, k] + np.float32(0.5)) * step
            centroid(radii[i], rays, centre[i])
            measures[i, 8] = long_over_short(radii[i], rays, centre[i])


@_jit
def _look(plane, at, table, rows, flat, span, out):  # type: ignore[no-untyped-def]
    """Read a plane around a candidate: without a question where all its rays end inside."""
    height, width = plane.shape
    y, x = at[0], at[1]
    if span <= y < height - span and span <= x < width - span:
        place = np.int64(y) * width + x
        _sample_inner(plane.reshape(-1), place, flat, rows * table.shape[2], out.reshape(-1))
    else:
        sample(plane, at, table, rows, out)
