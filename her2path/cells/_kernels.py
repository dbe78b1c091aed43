"""Compiled loops of the cell borders: what a radius costs, and the border that costs least.

All lengths are pixels of the analysis plane. Every sample is taken relative to the cell's own
whole pixel, so that no rounding depends on where the block begins.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from her2path.cells._limits import RAYS, bin_points, neighbour_limits
from her2path.cells._profiles import (
    BEHIND_UM,
    FARTHER,
    NEAR,
    RUN,
    STEP_UM,
    line_behind,
    ridge_evidence,
    sample_ray,
)
from her2path.cells._rings import LANES, best_rings, ring_space

__all__ = ["grow"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
BOOL = NDArray[np.bool_]

EXPANSION, RIDGE, LIMIT = 0, 1, 2
#: a crest this near to the own nucleus' edge counts only when it is stronger than that
EDGE_UM, EDGE_CREST = 0.6, np.float32(0.55)
#: evidence from which a border lies on a line
LINE = np.float32(0.15)
#: what a change of the radius from ray to ray costs, a step
BEND = 0.35 * 0.16
#: µm from the home radius, and µm beyond the neighbour's limit, cost this
AWAY, BEYOND = np.float32(0.05), np.float32(0.12)
#: a radius that is not allowed, and one that no lane has
BARRED, NOWHERE = np.float32(50.0), np.float32(1e6)
NOTHING = np.float32(0.0)


@njit(cache=True, nogil=True)
def grow(
    d: F32, nuclei: tuple, wanted: BOOL, um: float, max_um: float, expansion_um: float
) -> tuple[F32, U8, U8]:
    """Return border radii, kinds and whether another line follows behind, (N, RAYS) each.

    `nuclei` = (x, y, radii); cells not `wanted` keep their nucleus as border.
    """
    x, y, nucleus = nuclei
    n, pad = int(max_um / STEP_UM) + 1, int(2.2 / STEP_UM) + 1
    radii = nucleus.copy()
    kind, behind = np.zeros(radii.shape, np.uint8), np.zeros(radii.shape, np.uint8)
    size = _mean_radii(nucleus)
    reach = 2.0 * max_um / um
    bins = (*bin_points(x, y, reach), reach)
    length = n + pad + int(BEHIND_UM / STEP_UM) + 2 + RUN
    profile = np.zeros((LANES, RAYS, length), np.float32)
    crest = np.empty((LANES, RAYS, n), np.float32)
    cost, space = np.empty(RAYS * n * LANES, np.float32), ring_space(n)
    soft, hard = np.empty((LANES, RAYS)), np.empty((LANES, RAYS))
    seen, path = np.zeros((LANES, RAYS), np.int64), np.zeros((LANES, RAYS), np.int64)
    spots = np.empty(length, np.int32), np.empty(length, np.float32), np.empty(length, np.float32)
    few = np.empty(RUN, np.float32)
    mine = np.flatnonzero(wanted)
    for first in range(0, mine.size, LANES):
        some = mine[first : first + LANES]
        used = 1
        for lane in range(some.size):
            i = some[lane]
            neighbour_limits(i, x, y, size, bins, soft[lane], hard[lane])
            marks = soft[lane], hard[lane], um, max_um, expansion_um
            used = max(used, _steps_seen(nucleus[i], marks, n, seen[lane]))
        costs = cost[: RAYS * used * LANES].reshape((RAYS, used * LANES))
        costs[:] = NOWHERE
        for lane in range(some.size):
            i = some[lane]
            marks = soft[lane], hard[lane], um, max_um, expansion_um
            rays = profile[lane], crest[lane], costs
            _weigh(d, (x[i], y[i]), nucleus[i], marks, (seen[lane], pad, lane), rays, spots)
        best_rings(costs, BEND, space, path)
        for lane in range(some.size):
            i = some[lane]
            seen_so = profile[lane], crest[lane], (seen[lane], pad), (spots, few)
            limits, out = (soft[lane], hard[lane], um), (radii[i], kind[i], behind[i])
            _write_border(d, (x[i], y[i]), path[lane], limits, seen_so, out)
    return radii, kind, behind


@njit(cache=True, nogil=True)
def _mean_radii(nucleus: F32) -> F64:
    size = np.empty(nucleus.shape[0])
    for i in range(size.size):
        total = 0.0
        for k in range(RAYS):
            total += nucleus[i, k]
        size[i] = total / RAYS
    return size


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
    """Write the profile, the crests and the costs of a border along every ray of a cell.

    `rays` = the cell's profiles and crests, (RAYS, ..), and the costs of all lanes.
    """
    soft, hard, um, max_um, expansion_um = marks
    seen, pad, lane = extent
    profile, crest, costs = rays
    step, row = STEP_UM / um, spots[1]
    for k in range(RAYS):
        some = seen[k]
        sample_ray(d, at, k, np.float32(step), (0, some + pad), profile[k], spots)
        ridge_evidence(profile[k], some, NEAR, FARTHER, crest[k])
        _mute_edge(crest[k, :some], int((nucleus[k] + EDGE_UM / um) / step) + 1)
        home = max(min(nucleus[k] + expansion_um / um, soft[k]), 0.8 * nucleus[k])
        home = min(home, max_um / um)
        lowest = 0.85 * nucleus[k] - 0.3 / um
        stop = max(min(hard[k], max_um / um), home)
        _ray_cost(crest[k, :some], step, um, (home, lowest, soft[k], stop), row[:some])
        for q in range(some):
            costs[k, q * LANES + lane] = row[q]


@njit(cache=True, nogil=True, error_model="numpy")
def _ray_cost(crest: F32, step: float, um: float, marks: tuple, out: F32) -> None:
    """Write what a border at each radius costs on one ray.

    A crest pays 1; lines that were crossed before it cost what they are worth (the first strong
    line outward wins); leaving the home radius and the neighbour's limit costs a little.
    """
    lag = int(0.7 / (step * um) + 0.5)
    first = lag
    while first < crest.size and (first - lag) * step <= marks[1]:
        first += 1
    first = min(first, crest.size)
    out[:first] = NOTHING
    one, each = np.float32(step), np.float32(step * um)
    crossed, rest, before = NOTHING, out[first:], crest[max(first - lag, 0) :]
    for q in range(rest.size):
        crossed += before[q] * each
        rest[q] = crossed
    home, lowest, soft = np.float32(marks[0]), np.float32(marks[1]), np.float32(marks[2])
    last, away = np.float32(marks[3] + step), AWAY * np.float32(um)
    beyond = BEYOND * np.float32(um)
    for q in range(crest.size):
        r = np.float32(np.int32(q)) * one
        value = out[q] - crest[q] + away * abs(r - home)
        value += beyond * max(r - soft, NOTHING)
        out[q] = value + (BARRED if (r < lowest) | (r > last) else NOTHING)


@njit(cache=True, nogil=True)
def _mute_edge(crest: F32, stop: int) -> None:
    """Silence weak crests up to a nucleus' edge: chroma subsampling paints the edge brown."""
    for q in range(min(stop, crest.size)):
        if crest[q] < EDGE_CREST:
            crest[q] = NOTHING


@njit(cache=True, nogil=True)
def _write_border(d: F32, at: tuple, path: I64, limits: tuple, rays: tuple, out: tuple) -> None:
    soft, hard, um = limits
    profile, crest, (seen, pad), (spots, few) = rays
    radii, kind, behind = out
    step = STEP_UM / um
    for k in range(RAYS):
        q = path[k]
        radii[k] = q * step
        if crest[k, q] >= LINE:
            kind[k] = RIDGE
            far = min(hard[k], q * step + BEHIND_UM / um)
            ray, part = (k, np.float32(step), seen[k] + pad), (q, int(far / step))
            behind[k] = line_behind(d, at, ray, part, profile[k], spots, few)
        elif q * step >= 0.9 * soft[k]:
            kind[k] = LIMIT
