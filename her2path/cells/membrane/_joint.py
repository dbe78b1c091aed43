"""Which places of which cells' rings lie on the same line.

Cells come sorted by cell_id; positions are differences of whole numbers; nothing depends on
where the slide was cut.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from her2path.cells.reading.inputs import PLACES
from her2path.cells.rings import sort_bins

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Links = NDArray[np.void]

COS = np.cos(np.arange(PLACES) * (2 * np.pi / PLACES))
SIN = np.sin(np.arange(PLACES) * (2 * np.pi / PLACES))
#: what links a place of a ring (N, PLACES) to the neighbour's line: partner = neighbour * PLACES +
#: its place, or -1; junction 1 where a second neighbour's border is as near, else 0; overlap, how
#: much of the neighbour's line this place reads, 0..1
LINK = np.dtype([("partner", np.int64), ("junction", np.float64), ("overlap", np.float64)])
#: so many neighbours of a cell are looked at
MOST_NEIGHBOURS = 512
#: a place's neighbour: its own border lies within this of the line (µm)
GAP_UM = 1.7
#: borders nearer than this are one line (µm)
SAME_UM = 0.6


@njit(cache=True, nogil=True)
def bin_cells(x: I64, y: I64, size: int) -> tuple[I64, I64, I64, int]:
    """Sort cells into absolute square bins; return bin keys, starts, order, columns."""
    bx, by = x // size, y // size
    x_low, y_low = bx.min(), by.min()
    columns, rows = bx.max() - x_low + 1, by.max() - y_low + 1
    where = (by - y_low) * columns + (bx - x_low)
    start, order = sort_bins(where, columns * rows)
    return where, start, order, columns


@njit(cache=True, nogil=True)
def link_places(at: I64, um: float, r: F64, far_um: float, links: Links) -> None:
    """Find, for every place, the neighbour that shares its line.

    Parameters
    ----------
    at : (2, N) int64 positions x, y, fixed point
    um : µm of one such unit
    r : (N, PLACES) radius of the line, µm
    far_um : neighbours farther than this are not looked at
    links : (N, PLACES) `LINK`, written
    """
    x, y = at[0], at[1]
    n = x.size
    largest = np.zeros(n)
    for i in range(n):
        for k in range(PLACES):
            largest[i] = max(largest[i], r[i, k])
    where, start, order, columns = bin_cells(x, y, int(np.ceil(far_um / um)))
    bins = start.size - 1
    near = np.empty(MOST_NEIGHBOURS, np.int64)
    for i in range(n):
        count = 0
        row, column = where[i] // columns, where[i] % columns
        for v in range(row - 1, row + 2):
            for u in range(max(column - 1, 0), min(column + 2, columns)):
                b = v * columns + u
                if b < 0 or b >= bins:
                    continue
                for place in range(start[b], start[b + 1]):
                    j = order[place]
                    dx, dy = (x[j] - x[i]) * um, (y[j] - y[i]) * um
                    limit = min(far_um, largest[i] + largest[j] + GAP_UM)
                    if j != i and dx * dx + dy * dy <= limit * limit and count < near.size:
                        near[count] = j
                        count += 1
        near[:count].sort()
        for k in range(PLACES):
            link_place(i, k, at, um, r, largest, near[:count], links)


@njit(cache=True, nogil=True)
def link_place(
    i: int, k: int, at: I64, um: float, r: F64, largest: F64, near: I64, links: Links
) -> None:
    """Link place `k` of cell `i` to the nearest border of the cells `near`."""
    x, y = at[0], at[1]
    px, py = r[i, k] * COS[k], r[i, k] * SIN[k]
    best, second, found = 1e9, 1e9, -1
    for s in range(near.size):
        j = near[s]
        dx, dy = px - (x[j] - x[i]) * um, py - (y[j] - y[i]) * um
        far2 = dx * dx + dy * dy
        limit = largest[j] + GAP_UM
        if far2 > limit * limit:
            continue
        turn = np.arctan2(dy, dx) * (PLACES / (2 * np.pi))
        low = int(np.floor(turn))
        share = turn - low
        a, b = low % PLACES, (low + 1) % PLACES
        gap = np.sqrt(far2) - (r[j, a] + share * (r[j, b] - r[j, a]))
        gap = gap if gap >= 0 else -0.5 * gap
        if gap < best:
            second = best
            best, found = gap, j * PLACES + (a if share < 0.5 else b)
        elif gap < second:
            second = gap
    link = links[i, k]
    link.partner = found if best <= GAP_UM else -1
    link.junction = 1.0 if second <= GAP_UM else 0.0
    link.overlap = min(max((GAP_UM - best) / (GAP_UM - SAME_UM), 0.0), 1.0)


@njit(cache=True, nogil=True)
def ring_lengths(r: F64) -> F64:
    """Return the length of border that each place stands for (µm)."""
    n = r.shape[0]
    piece = np.empty((n, PLACES))
    c, s = COS[1], SIN[1]
    for i in range(n):
        for k in range(PLACES):
            e = (k + 1) % PLACES
            dx, dy = r[i, e] * c - r[i, k], r[i, e] * s
            piece[i, k] = 0.5 * np.sqrt(dx * dx + dy * dy)
        last = piece[i, PLACES - 1]
        for k in range(PLACES - 1, 0, -1):
            piece[i, k] += piece[i, k - 1]
        piece[i, 0] += last
    return piece
