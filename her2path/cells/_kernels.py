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
    for v in range(max(by - 1, 0), min(by + 2, rows)):
        for u in range(max(bx - 1, 0), min(bx + 2, columns)):
            for place in range(start[v * columns + u], start[v * columns + u + 1]):
                j = order[place]
                dx, dy = x[j] - x[i], y[j] - y[i]
                far2 = dx * dx + dy * dy
                if j == i or far2 > reach * reach or far2 == 0.0:
                    continue
                power = 0.5 * (far2 + size[i] * size[i] - size[j] * size[j])
                _limit_by(dx, dy, far2, max(power, 0.15 * far2), 0.8 * size[j], soft, hard)


@njit(cache=True, nogil=True)
def _limit_by(
    dx: float, dy: float, far2: float, power: float, disc: float, soft: F64, hard: F64
) -> None:
    for k in range(RAYS):
        along = COS[k] * dx + SIN[k] * dy
        if along <= 0.05:
            continue
        soft[k] = min(soft[k], power / along)
        side2 = far2 - along * along
        if side2 < disc * disc:
            hard[k] = min(hard[k], along - np.sqrt(disc * disc - side2))


@njit(cache=True, nogil=True)
def ridge_evidence(profile: F64, n: int, near: int, wide: int, out: F64) -> None:
    """Write 0..1 for each of the first n samples: is it the crest of a line?

    A crest is higher than both sides at one of two distances; the smaller of the two differences
    counts, so that a step (the edge of a blush or of a nucleus) is no crest. It saturates: a
    darker line farther out is no better than the first one.
    """
    last = profile.size - 1
    for q in range(n):
        c = profile[q]
        a = min(c - profile[max(q - near, 0)], c - profile[min(q + near, last)])
        b = min(c - profile[max(q - wide, 0)], c - profile[min(q + wide, last)])
        height = max(a, b) - 0.02
        out[q] = height / (height + 0.10) if height > 0 else 0.0


@njit(cache=True, nogil=True)
def best_ring(cost: F64, bend: float, path: I64, work: F64, back: I64) -> None:
    """Write the cheapest closed path through cost (RAYS, n); |dr| costs `bend` a step.

    The ring is unrolled to one turn and a half and the middle turn is kept, which closes it but
    for paths that never forget their start.
    """
    n = cost.shape[1]
    turns = RAYS + RAYS // 2
    for q in range(n):
        work[0, q] = cost[0, q]
    for t in range(1, turns):
        for q in range(n):
            work[t, q] = work[t - 1, q]
            back[t, q] = q
        for q in range(1, n):
            if work[t, q - 1] + bend < work[t, q]:
                work[t, q] = work[t, q - 1] + bend
                back[t, q] = back[t, q - 1]
        for q in range(n - 2, -1, -1):
            if work[t, q + 1] + bend < work[t, q]:
                work[t, q] = work[t, q + 1] + bend
                back[t, q] = back[t, q + 1]
        for q in range(n):
            work[t, q] += cost[t % RAYS, q]
    best = 0
    for q in range(1, n):
        if work[turns - 1, q] < work[turns - 1, best]:
            best = q
    lead = RAYS // 4
    for t in range(turns - 1, lead - 1, -1):
        if t < lead + RAYS:
            path[t % RAYS] = best
        best = back[t, best]


@njit(cache=True, nogil=True)
def grow(
    d: F32, nuclei: tuple, wanted: BOOL, um: float, max_um: float, expansion_um: float
) -> tuple[F32, U8, U8]:
    """Return border radii, kinds and whether another line follows behind, (N, RAYS) each.

    `nuclei` = (x, y, radii); cells not `wanted` keep their nucleus as border.
    """
    x, y, nucleus = nuclei
    n_cells = x.size
    step = 0.35 / um
    n = int(max_um / 0.35) + 1
    pad = int(2.2 / 0.35) + 1
    near, wide = int(1.05 / 0.35 + 0.5), int(2.1 / 0.35 + 0.5)
    radii = np.empty((n_cells, RAYS), np.float32)
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
    profile, crest = np.empty(n + pad), np.empty((RAYS, n))
    cost = np.empty((RAYS, n))
    work, back = np.empty((2 * RAYS, n)), np.zeros((2 * RAYS, n), np.int64)
    path, seen = np.zeros(RAYS, np.int64), np.zeros(RAYS, np.int64)
    for i in range(n_cells):
        if not wanted[i]:
            radii[i] = nucleus[i]
            continue
        neighbour_limits(i, x, y, size, bins, soft, hard)
        used = 0
        for k in range(RAYS):
            stop = min(hard[k], max(1.45 * soft[k], soft[k] + 2.0 / um), max_um / um)
            stop = max(stop, min(nucleus[i, k], max_um / um))
            seen[k] = min(int(stop / step) + 2, n)
            used = max(used, seen[k])
        ix, iy = np.floor(x[i]), np.floor(y[i])
        fx, fy = x[i] - ix, y[i] - iy
        for k in range(RAYS):
            some = seen[k]
            _sample_ray(d, int(ix), int(iy), fx, fy, k, step, profile[: some + pad])
            ridge_evidence(profile[: some + pad], some, near, wide, crest[k])
            _mute_edge(crest[k, :some], int((nucleus[i, k] + EDGE_UM / um) / step) + 1)
            crest[k, some:used] = 0.0
            home = max(min(nucleus[i, k] + expansion_um / um, soft[k]), 0.8 * nucleus[i, k])
            home = min(home, max_um / um)
            lowest = 0.85 * nucleus[i, k] - 0.3 / um
            stop = max(min(hard[k], max_um / um), home)
            _ray_cost(crest[k, :used], step, um, (home, lowest, soft[k], stop), cost[k, :used])
        best_ring(cost[:, :used], 0.35 * 0.16, path, work[:, :used], back[:, :used])
        for k in range(RAYS):
            q = path[k]
            radii[i, k] = q * step
            if crest[k, q] >= 0.15:
                kind[i, k] = RIDGE
                place = (int(ix), int(iy), fx, fy, k, step)
                far = min(hard[k], q * step + 16.0 / um)
                behind[i, k] = _line_behind(d, place, q, int(far / step), (near, wide))
            elif q * step >= 0.9 * soft[k]:
                kind[i, k] = LIMIT
    return radii, kind, behind


@njit(cache=True, nogil=True)
def _sample_ray(
    d: F32, ix: int, iy: int, fx: float, fy: float, k: int, step: float, out: F64
) -> None:
    for q in range(out.size):
        r = q * step
        out[q] = bilinear_at(d, ix, iy, fx + r * COS[k], fy + r * SIN[k])


@njit(cache=True, nogil=True)
def _ray_cost(crest: F64, step: float, um: float, marks: tuple, out: F64) -> None:
    """Write what a border at each radius costs on one ray.

    A crest pays 1; lines that were crossed before it cost what they are worth (the first strong
    line outward wins); leaving the home radius and the neighbour's limit costs a little.
    """
    home, lowest, soft, stop = marks
    crossed = 0.0
    lag = int(0.7 / (step * um) + 0.5)
    for q in range(crest.size):
        r = q * step
        if q >= lag and (q - lag) * step > lowest:
            crossed += crest[q - lag] * step * um / 1.0
        value = -crest[q] + crossed + 0.05 * abs(r - home) * um
        if r > soft:
            value += 0.12 * (r - soft) * um
        if r < lowest or r > stop + step:
            value += 50.0
        out[q] = value


@njit(cache=True, nogil=True)
def _mute_edge(crest: F64, stop: int) -> None:
    """Silence weak crests up to a nucleus' edge: chroma subsampling paints the edge brown."""
    for q in range(min(stop, crest.size)):
        if crest[q] < EDGE_CREST:
            crest[q] = 0.0


@njit(cache=True, nogil=True)
def _line_behind(d: F32, place: tuple, q: int, stop: int, widths: tuple) -> int:
    """Return 1 where a second line follows 4 µm or more behind the first (steps of 0.35 µm)."""
    ix, iy, fx, fy, k, step = place
    near, wide = widths
    begin = q + 11
    if stop <= begin:
        return 0
    profile = np.empty(stop - begin + 2 * wide)
    for s in range(profile.size):
        r = (begin - wide + s) * step
        profile[s] = bilinear_at(d, ix, iy, fx + r * COS[k], fy + r * SIN[k])
    crest = np.empty(profile.size - wide)
    ridge_evidence(profile, crest.size, near, wide, crest)
    for s in range(wide, crest.size):
        if crest[s] > 0.2:
            return 1
    return 0
