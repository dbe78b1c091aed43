"""Cheapest closed paths around a nucleus, several cells side by side in the lanes of a vector."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from her2path._loops import put
from her2path.cells._limits import RAYS

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

#: cells that are solved side by side
LANES = 16
#: rays by which the unrolled ring overlaps itself at either end
LEAD = RAYS // 4
TURNS = RAYS + 2 * LEAD
#: how the cheapest way to a place came: from the step above, from that below, or from the same
FALLS, STAYS = np.uint8(0), np.uint8(2)


@njit(cache=True, nogil=True)
def ring_space(steps: int) -> tuple:
    """Return what `best_rings` works in, for rings of at most so many steps."""
    size = steps * LANES
    two, ways = np.empty((2, size), np.float32), np.empty((TURNS, size), np.uint8)
    return two, np.empty_like(two), ways


@njit(cache=True, nogil=True)
def best_rings(cost: F32, bend: float, space: tuple, path: I64) -> None:
    """Write the cheapest closed paths; a step of |dr| between two rays costs `bend` x |dr|.

    The ring is unrolled to one turn and a half and the middle turn is kept, which closes it but
    for paths that never forget their start.

    Parameters
    ----------
    cost : (RAYS, steps * LANES) float32
        Cost of a radius on a ray; neighbouring lanes are neighbouring values.
    bend : float
    space : tuple
        Of `ring_space`.
    path : (LANES, RAYS) int64
        Receives the step on every ray.
    """
    totals, reached, ways = space
    size, one = cost.shape[1], np.float32(bend)
    outward, inward = reached[0, :size], reached[1, :size]
    put(totals[0], 0, cost[0])
    for t in range(1, TURNS):
        old, new = totals[(t - 1) % 2, :size], totals[t % 2, :size]
        _rise(old, one, outward)
        _fall(old, one, inward)
        _nearer(old, (outward, inward), cost[t % RAYS], new, ways[t, :size])
    for lane in range(LANES):
        _walk_back(totals[(TURNS - 1) % 2, :size], ways, lane, path[lane])


@njit(cache=True, nogil=True, error_model="numpy")
def _rise(old: F32, bend: float, out: F32) -> None:
    """Write the cheapest way to every step from those below it, or from itself."""
    # flat and unsigned: what lies `LANES` places back is the same cell's step before
    lanes = np.uint64(LANES)
    put(out, 0, old[:LANES])
    for place in range(LANES, old.size):
        i = np.uint64(place)
        out[i] = min(old[i], out[i - lanes] + bend)


@njit(cache=True, nogil=True, error_model="numpy")
def _fall(old: F32, bend: float, out: F32) -> None:
    """Write the cheapest way to every step from those above it, or from itself."""
    lanes, last = np.uint64(LANES), old.size - 1
    put(out, old.size - LANES, old[old.size - LANES :])
    for place in range(LANES, old.size):
        i = np.uint64(last - place)
        out[i] = min(old[i], out[i + lanes] + bend)


@njit(cache=True, nogil=True, error_model="numpy")
def _nearer(old: F32, reached: tuple, cost: F32, total: F32, way: U8) -> None:
    """Write the cheaper of both ways on, plus the cost, and how the way came (see `STAYS`)."""
    outward, inward = reached
    for i in range(total.size):
        best = min(outward[i], inward[i])
        total[i] = best + cost[i]
        rises = np.uint8(1) if outward[i] <= inward[i] else np.uint8(0)
        way[i] = rises if best != old[i] else STAYS


@njit(cache=True, nogil=True, error_model="numpy")
def _walk_back(total: F32, ways: U8, lane: int, path: I64) -> None:
    i = lane
    for other in range(lane + LANES, total.size, LANES):
        if total[other] < total[i]:
            i = other
    for t in range(TURNS - 1, LEAD - 1, -1):
        if t < LEAD + RAYS:
            path[t % RAYS] = i // LANES
        way = ways[t, i]
        while ways[t, i] == way and way != STAYS:
            i += LANES if way == FALLS else -LANES
