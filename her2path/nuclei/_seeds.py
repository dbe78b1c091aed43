"""Places where a contour is tried: besides the maxima over scale, the coarse blobs."""

from __future__ import annotations

import numpy as np
from numba import njit

from her2path.nuclei._planes import beats, mark_floor, mark_peaks

__all__ = ["add_coarse"]

_jit = njit(cache=True, nogil=True, error_model="numpy")


@_jit
def _is_flat_peak(stack, s, y, x, oy, ox):  # type: ignore[no-untyped-def]
    """Whether (s, y, x) beats its 8 neighbours in position."""
    for v in range(y - 1, y + 2):
        for u in range(x - 1, x + 2):
            if (v != y or u != x) and not beats(stack, s, y, x, s, v, u, oy, ox):
                return False
    return True


@_jit
def _is_taken(taken, y, x):  # type: ignore[no-untyped-def]
    for v in range(y - 1, y + 2):
        for u in range(x - 1, x + 2):
            if taken[v, u]:
                return True
    return False


@_jit
def add_coarse(stack, wide, relative, base, oy, ox, fine, least, coarse, out, count):  # type: ignore[no-untyped-def]
    """Drop the weak maxima of the finest scale, and add the maxima over position of coarse ones.

    A vesicular nucleus peaks over scale on pieces of its rim only; its whole shows as a maximum
    over position at the scale of its size. None is added beside a place that is listed already.

    Parameters
    ----------
    stack, wide, relative, base, oy, ox
        As for `scale_maxima`.
    fine : float32
        A maximum of the finest scale counts only above this many times the least response.
    least : int
        The finest of the coarse scales.
    coarse : float32
        A maximum of a coarse scale counts above this many times the least response.
    out : int32 (N, 3)
        Holds `count` maxima over scale (y, x, scale), and receives the rest behind them.
    count : int

    Returns
    -------
    int
        How many are listed now, at most N; coarse ones beyond N are left out.
    """
    scales, height, width = stack.shape
    taken = np.zeros((height, width), np.bool_)
    n = 0
    for i in range(count):
        y, x, s = out[i, 0], out[i, 1], out[i, 2]
        floor = relative * (max(wide[y, x], np.float32(0)) + base)
        if s == 0 and stack[0, y, x] <= fine * floor:
            continue
        out[n, 0], out[n, 1], out[n, 2] = y, x, s
        taken[y, x] = True
        n += 1
    floor, maybe = np.empty(width, np.float32), np.zeros(width, np.int32)
    for s in range(scales - 1, least - 1, -1):
        for y in range(1, height - 1):
            row = stack[s, y]
            mark_floor(wide[y], coarse * relative, base, floor)
            maybe[:] = 0
            up, down = stack[s, y - 1, 1:], stack[s, y + 1, 1:]
            mark_peaks(row[1:], row, row[2:], up, down, floor[1:], maybe[1 : width - 1])
            for x in range(1, width - 1):
                if maybe[x] == 0 or n == out.shape[0] or _is_taken(taken, y, x):
                    continue
                if _is_flat_peak(stack, s, y, x, oy, ox):
                    out[n, 0], out[n, 1], out[n, 2] = y, x, s
                    taken[y, x] = True
                    n += 1
    return n
