"""Compiled loops of the cell borders; `reference.py` says the same in plain numpy.

All lengths are pixels of the analysis plane. Every sample is taken relative to the cell's own
whole pixel, so that no rounding depends on where the block begins.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
BOOL = NDArray[np.bool_]

RAYS = 48
COS = np.cos(np.arange(RAYS) * (2 * np.pi / RAYS))
SIN = np.sin(np.arange(RAYS) * (2 * np.pi / RAYS))
FAR = 1e30

#: a crest this near to the own nucleus' edge counts only when it is stronger than that
EDGE_UM, EDGE_CREST = 0.6, 0.55

EXPANSION, RIDGE, LIMIT = 0, 1, 2

#: step along a ray, µm; two half widths of a crest, in steps; how far a second line is looked for
STEP_UM = 0.35
NEAR, FARTHER = int(1.05 / STEP_UM + 0.5), int(2.1 / STEP_UM + 0.5)
BEHIND_UM = 16.0
#: crests of a second line are read so many at a time
RUN = 16


@njit(cache=True, nogil=True)
def bin_points(x: F64, y: F64, size: float) -> tuple[I64, I64, int, int]:
    """Sort points into square bins.

    Returns
    -------
    start : (bins + 1,) first place of each bin in `order`
    order : (N,) point numbers, ascending inside a bin
    columns, rows : number of bins along x and y
    """
    n = x.size
    columns, rows = 1, 1
    for i in range(n):
        columns = max(columns, int(max(x[i], 0.0) / size) + 1)
        rows = max(rows, int(max(y[i], 0.0) / size) + 1)
    start = np.zeros(columns * rows + 1, np.int64)
    where = np.empty(n, np.int64)
    for i in range(n):
        where[i] = int(max(y[i], 0.0) / size) * columns + int(max(x[i], 0.0) / size)
        start[where[i] + 1] += 1
    for b in range(columns * rows):
        start[b + 1] += start[b]
    fill = start[:-1].copy()
    order = np.empty(n, np.int64)
    for i in range(n):
        order[fill[where[i]]] = i
        fill[where[i]] += 1
    return start, order, columns, rows


@njit(cache=True, nogil=True)
def bilinear_at(d: F32, ix: int, iy: int, px: float, py: float) -> float:
    """Return the plane at pixel (ix, iy) + (px, py), the edge's value outside."""
    height, width = d.shape
    jx, jy = int(np.floor(px)), int(np.floor(py))
    gx, gy = px - jx, py - jy
    x0 = jx + ix
    y0 = jy + iy
    x1, y1 = x0 + 1, y0 + 1
    if x0 < 0 or y0 < 0 or x1 >= width or y1 >= height:
        x0, x1 = min(max(x0, 0), width - 1), min(max(x1, 0), width - 1)
        y0, y1 = min(max(y0, 0), height - 1), min(max(y1, 0), height - 1)
    upper = d[y0, x0] + gx * (d[y0, x1] - d[y0, x0])
    lower = d[y1, x0] + gx * (d[y1, x1] - d[y1, x0])
    return upper + gy * (lower - upper)


@njit(cache=True, nogil=True)
def neighbour_limits(i: int, x: F64, y: F64, size: F64, bins: tuple, soft: F64, hard: F64) -> None:
    """Write how far each ray of cell i reaches until its neighbours' realm.

    `soft` is the distance to the power line between the two nuclei (equal tangents), `hard` the
    entry into a neighbour's nucleus. Only minima are taken: the order of neighbours is free.
    """
    start, order, columns, rows, reach = bins
    for k in range(RAYS):
        soft[k] = FAR
        hard[k] = FAR
    bx, by = int(max(x[i], 0.0) / reach), int(max(y[i], 0.0) / reach)
    # near neighbours first: behind them the far ones seldom count
    for ring in range(2):
        most = FAR
        if ring == 1:
            most = soft.max()
        for v in range(max(by - 1, 0), min(by + 2, rows)):
            low = start[v * columns + max(bx - 1, 0)]
            high = start[v * columns + min(bx + 2, columns)]
            for place in range(low, high):
                j = order[place]
                dx, dy = x[j] - x[i], y[j] - y[i]
                far2 = dx * dx + dy * dy
                if j == i or far2 > reach * reach or far2 == 0.0:
                    continue
                if (far2 > 0.2 * reach * reach) != (ring == 1):
                    continue
                power = 0.5 * (far2 + size[i] * size[i] - size[j] * size[j])
                power = max(power, 0.15 * far2)
                if power * power < 1.001 * far2 * most * most:
                    _part(dx, dy, power, soft)
                _bar(dx, dy, far2, 0.8 * size[j], hard)


@njit(cache=True, nogil=True, error_model="numpy")
def _part(dx: float, dy: float, power: float, soft: F64) -> None:
    for k in range(RAYS):
        along = COS[k] * dx + SIN[k] * dy
        if along > 0.05 and power < 1.001 * soft[k] * along:
            soft[k] = min(soft[k], power / along)


@njit(cache=True, nogil=True, error_model="numpy")
def _bar(dx: float, dy: float, far2: float, disc: float, hard: F64) -> None:
    """Let a neighbour's disc stop the rays that meet it: those within its angle, and one more."""
    far = np.sqrt(far2)
    middle = int(np.floor(np.arctan2(dy, dx) * (RAYS / (2 * np.pi)) + 0.5)) + RAYS
    # an arc sine is at most a quarter turn for a whole one
    half = int(min(disc / far, 1.0) * (RAYS / 4)) + 1
    for ray in range(middle - half, middle + half + 1):
        k = ray % RAYS
        along = COS[k] * dx + SIN[k] * dy
        side2 = far2 - along * along
        if along > 0.05 and side2 < disc * disc:
            hard[k] = min(hard[k], along - np.sqrt(disc * disc - side2))


@njit(cache=True, nogil=True, error_model="numpy")
def ridge_evidence(profile: F64, n: int, near: int, wide: int, out: F64) -> None:
    """Write 0..1 for each of the first n samples: is it the crest of a line?

    A crest is higher than both sides at one of two distances; the smaller of the two differences
    counts, so that a step (the edge of a blush or of a nucleus) is no crest. It saturates: a
    darker line farther out is no better than the first one. The profile goes on for at least
    `wide` samples behind the n; before it, its first sample stands.
    """
    for q in range(min(wide, n)):
        before = profile[max(q - near, 0)], profile[0]
        out[q] = _crest(profile[q], before, (profile[q + near], profile[q + wide]))
    c, near_in, wide_in = profile[wide:], profile[wide - near :], profile
    near_out, wide_out, rest = profile[wide + near :], profile[2 * wide :], out[wide:]
    for q in range(n - wide):
        rest[q] = _crest(c[q], (near_in[q], wide_in[q]), (near_out[q], wide_out[q]))


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _crest(c: float, before: tuple, after: tuple) -> float:
    a = min(c - before[0], c - after[0])
    b = min(c - before[1], c - after[1])
    height = max(max(a, b) - 0.02, 0.0)
    return height / (height + 0.10)


@njit(cache=True, nogil=True)
def best_ring(cost: F64, bend: float, path: I64, total: F64, ways: tuple) -> None:
    """Write the cheapest closed path through cost (RAYS, n); |dr| costs `bend` a step.

    The ring is unrolled to one turn and a half and the middle turn is kept, which closes it but
    for paths that never forget their start. `total` and the two of `ways` are workspace of
    (3 RAYS / 2, n): the cheapest way to a place, and the cheapest ways on from the ray before,
    outward and inward.
    """
    n = cost.shape[1]
    turns = RAYS + RAYS // 2
    outward, inward = ways
    for q in range(n):
        total[0, q] = cost[0, q]
    for t in range(1, turns):
        old, rising, falling = total[t - 1], outward[t], inward[t]
        up, down = old[0], old[n - 1]
        rising[0], falling[n - 1] = up, down
        # two chains that do not wait for each other
        for q in range(1, n):
            up = min(old[q], up + bend)
            down = min(old[n - 1 - q], down + bend)
            rising[q] = up
            falling[n - 1 - q] = down
        new, here = total[t], cost[t % RAYS]
        for q in range(n):
            new[q] = min(rising[q], falling[q]) + here[q]
    _walk_back(total, ways, n, path)


@njit(cache=True, nogil=True)
def _walk_back(total: F64, ways: tuple, n: int, path: I64) -> None:
    turns, lead = RAYS + RAYS // 2, RAYS // 4
    outward, inward = ways
    q = 0
    for other in range(1, n):
        if total[turns - 1, other] < total[turns - 1, q]:
            q = other
    for t in range(turns - 1, lead - 1, -1):
        if t < lead + RAYS:
            path[t % RAYS] = q
        if outward[t, q] <= inward[t, q]:
            while outward[t, q] != total[t - 1, q]:
                q -= 1
        else:
            while inward[t, q] != total[t - 1, q]:
                q += 1


@njit(cache=True, nogil=True)
def grow(
    d: F32, nuclei: tuple, wanted: BOOL, um: float, max_um: float, expansion_um: float
) -> tuple[F32, U8, U8]:
    """Return border radii, kinds and whether another line follows behind, (N, RAYS) each.

    `nuclei` = (x, y, radii); cells not `wanted` keep their nucleus as border.
    """
    x, y, nucleus = nuclei
    n_cells = x.size
    n, pad = int(max_um / STEP_UM) + 1, int(2.2 / STEP_UM) + 1
    on = int(BEHIND_UM / STEP_UM) + 2 + RUN
    radii = nucleus.copy()
    kind = np.zeros((n_cells, RAYS), np.uint8)
    behind = np.zeros((n_cells, RAYS), np.uint8)
    size = np.empty(n_cells)
    for i in range(n_cells):
        total = 0.0
        for k in range(RAYS):
            total += nucleus[i, k]
        size[i] = total / RAYS
    reach = 2.0 * max_um / um
    start, order, columns, rows = bin_points(x, y, reach)
    bins = (start, order, columns, rows, reach)
    soft, hard = np.empty(RAYS), np.empty(RAYS)
    length = n + pad + on
    rays = np.zeros((RAYS, length)), np.empty((RAYS, n)), np.empty((RAYS, n))
    spots = np.empty(length, np.int32), np.empty(length), np.empty(length)
    space = spots, np.empty(RUN)
    # steps of one width lie close together in the processor's cache
    work = np.empty(3 * (RAYS + RAYS // 2) * n)
    seen, path = np.zeros(RAYS, np.int64), np.zeros(RAYS, np.int64)
    for i in range(n_cells):
        if not wanted[i]:
            continue
        neighbour_limits(i, x, y, size, bins, soft, hard)
        marks = soft, hard, um, max_um, expansion_um
        used = _steps_seen(nucleus[i], marks, n, seen)
        _weigh(d, (x[i], y[i]), nucleus[i], marks, (seen, used, pad), rays, spots)
        piece = (RAYS + RAYS // 2) * used
        ways = work[: 3 * piece].reshape((3, RAYS + RAYS // 2, used))
        best_ring(rays[2][:, :used], 0.35 * 0.16, path, ways[0], (ways[1], ways[2]))
        where = (x[i], y[i]), (seen, pad), space
        _write_border(d, where, path, marks, rays, radii[i], kind[i], behind[i])
    return radii, kind, behind


@njit(cache=True, nogil=True)
def _steps_seen(nucleus: F32, marks: tuple, n: int, seen: I64) -> int:
    """Write how many steps of each ray can hold the border; return the most."""
    soft, hard, um, max_um, _ = marks
    step = STEP_UM / um
    used = 0
    for k in range(RAYS):
        stop = min(hard[k], max(1.45 * soft[k], soft[k] + 2.0 / um), max_um / um)
        stop = max(stop, min(nucleus[k], max_um / um))
        seen[k] = min(int(stop / step) + 2, n)
        used = max(used, seen[k])
    return used


@njit(cache=True, nogil=True)
def _weigh(
    d: F32, at: tuple, nucleus: F32, marks: tuple, extent: tuple, rays: tuple, spots: tuple
) -> None:
    """Write the profile, the crests and the costs of a border along every ray of a cell."""
    soft, hard, um, max_um, expansion_um = marks
    seen, used, pad = extent
    profile, crest, cost = rays
    step = STEP_UM / um
    for k in range(RAYS):
        some = seen[k]
        _sample_ray(d, at, k, step, (0, some + pad), profile[k], spots)
        ridge_evidence(profile[k], some, NEAR, FARTHER, crest[k])
        _mute_edge(crest[k, :some], int((nucleus[k] + EDGE_UM / um) / step) + 1)
        crest[k, some:used] = 0.0
        home = max(min(nucleus[k] + expansion_um / um, soft[k]), 0.8 * nucleus[k])
        home = min(home, max_um / um)
        lowest = 0.85 * nucleus[k] - 0.3 / um
        stop = max(min(hard[k], max_um / um), home)
        _ray_cost(crest[k, :used], step, um, (home, lowest, soft[k], stop), cost[k, :used])


@njit(cache=True, nogil=True)
def _sample_ray(
    d: F32, at: tuple, k: int, step: float, part: tuple, out: F64, spots: tuple
) -> None:
    """Write samples part[0] .. part[1] - 1 of ray k; an inner ray asks for no edge.

    `spots` is workspace for where they lie.
    """
    low, high = part
    height, width = d.shape
    ix, iy = int(np.floor(at[0])), int(np.floor(at[1]))
    fx, fy = at[0] - ix, at[1] - iy
    room = int(high * step) + 2
    if ix < room or iy < room or ix + room >= width or iy + room >= height:
        for q in range(low, high):
            r = q * step
            out[q] = bilinear_at(d, ix, iy, fx + r * COS[k], fy + r * SIN[k])
        return
    _places((fx, fy), (COS[k], SIN[k]), step, (low, high), width, spots)
    _lerp(d.reshape(d.size), iy * width + ix, width, spots, out[low:high])


@njit(cache=True, nogil=True, error_model="numpy")
def _places(at: tuple, way: tuple, step: float, part: tuple, width: int, spots: tuple) -> None:
    """Write where the samples lie: pixel, and how far right and below of it."""
    place, gx, gy = spots
    (fx, fy), (c, s), (low, high), wide = at, way, part, np.int32(width)
    for q in range(high - low):
        r = (q + low) * step
        px, py = fx + r * c, fy + r * s
        floor_x, floor_y = np.floor(px), np.floor(py)
        gx[q], gy[q] = px - floor_x, py - floor_y
        place[q] = np.int32(floor_y) * wide + np.int32(floor_x)


@njit(cache=True, nogil=True, error_model="numpy")
def _lerp(flat: F32, here: int, width: int, spots: tuple, out: F64) -> None:
    place, gx, gy = spots
    for q in range(out.size):
        # unsigned: no test whether the place counts from the end
        p = np.uint64(here + place[q])
        below = p + np.uint64(width)
        a, b = flat[p], flat[below]
        upper = a + gx[q] * (flat[p + np.uint64(1)] - a)
        lower = b + gx[q] * (flat[below + np.uint64(1)] - b)
        out[q] = upper + gy[q] * (lower - upper)


@njit(cache=True, nogil=True, error_model="numpy")
def _ray_cost(crest: F64, step: float, um: float, marks: tuple, out: F64) -> None:
    """Write what a border at each radius costs on one ray.

    A crest pays 1; lines that were crossed before it cost what they are worth (the first strong
    line outward wins); leaving the home radius and the neighbour's limit costs a little.
    """
    home, lowest, soft, stop = marks
    lag = int(0.7 / (step * um) + 0.5)
    first = lag
    while first < crest.size and (first - lag) * step <= lowest:
        first += 1
    first = min(first, crest.size)
    out[:first] = 0.0
    crossed, rest, before = 0.0, out[first:], crest[max(first - lag, 0) :]
    for q in range(rest.size):
        crossed += before[q] * step * um
        rest[q] = crossed
    for q in range(crest.size):
        r = q * step
        value = -crest[q] + out[q] + 0.05 * abs(r - home) * um
        value += 0.12 * max(r - soft, 0.0) * um
        out[q] = value + (50.0 if (r < lowest) | (r > stop + step) else 0.0)


@njit(cache=True, nogil=True)
def _mute_edge(crest: F64, stop: int) -> None:
    """Silence weak crests up to a nucleus' edge: chroma subsampling paints the edge brown."""
    for q in range(min(stop, crest.size)):
        if crest[q] < EDGE_CREST:
            crest[q] = 0.0


@njit(cache=True, nogil=True)
def _write_border(
    d: F32,
    where: tuple,
    path: I64,
    marks: tuple,
    rays: tuple,
    radii: F32,
    kind: U8,
    behind: U8,
) -> None:
    soft, hard, um, _, _ = marks
    at, (seen, pad), (spots, few) = where
    profile, crest, _ = rays
    step = STEP_UM / um
    for k in range(RAYS):
        q = path[k]
        radii[k] = q * step
        if crest[k, q] >= 0.15:
            kind[k] = RIDGE
            far = min(hard[k], q * step + BEHIND_UM / um)
            ray, part = (k, step, seen[k] + pad), (q, int(far / step))
            behind[k] = _line_behind(d, at, ray, part, profile, spots, few)
        elif q * step >= 0.9 * soft[k]:
            kind[k] = LIMIT


@njit(cache=True, nogil=True)
def _line_behind(
    d: F32, at: tuple, ray: tuple, part: tuple, profile: F64, spots: tuple, crest: F64
) -> int:
    """Return 1 where a second line follows 4 µm or more behind the first (steps of 0.35 µm).

    `ray` = (its number, step, samples the profile holds already); more are taken when needed.
    `crest` is workspace for `RUN` samples.
    """
    k, step, have = ray
    q, stop = part
    p = profile[k]
    for s in range(q + 11, stop, RUN):
        count = min(RUN, stop - s)
        if s + count + FARTHER > have:
            _sample_ray(d, at, k, step, (have, s + count + FARTHER), p, spots)
            have = s + count + FARTHER
        _crests(p[s - FARTHER :], crest)
        for j in range(count):
            if crest[j] > 0.2:
                return 1
    return 0


@njit(cache=True, nogil=True, error_model="numpy")
def _crests(p: F64, out: F64) -> None:
    """Write the evidence of `RUN` crests, the first at p[FARTHER]: a length known beforehand."""
    c, near_in, near_out = p[FARTHER:], p[FARTHER - NEAR :], p[FARTHER + NEAR :]
    far_out = p[2 * FARTHER :]
    for j in range(RUN):
        out[j] = _crest(c[j], (near_in[j], p[j]), (near_out[j], far_out[j]))
