"""What the attribution is told of every place and every cell, free of the slide's own scale.

The 48 rays are thinned to `PLACES` along the ring, each a weighted mean of three rays. A reading
alone says little: 0.3 OD µm is a dark line among faint ones and a shadow beside intense ones. So
each place's reading is also set beside the readings round its own ring, round the partner's ring
where the partner does not touch this cell, and beside the noise.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from her2path._loops import put
from her2path.cells._limits import RAYS

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
BOOL = NDArray[np.bool_]

#: places along a ring: every second ray, with half of the rays beside it
PLACES = 24
#: numbers a place, and numbers a cell
PLACE_INPUTS, CELL_INPUTS = 24, 20
#: fewer places than this tell nothing of a ring's typical reading
FEW = 3
#: OD µm at which a reading counts as small
SMALL = 0.03
#: camera noise that the texture does not hold, OD µm
FLOOR = 0.012
#: a line fainter than this (crest OD) at a nuclear edge is doubtful: chroma subsampling paints
#: such edges brown, over two pixels
FAINT_OD = 0.15
#: readings below this are noise, OD µm
LEAST = -0.02


@njit(cache=True, nogil=True, error_model="numpy")
def log_of(mass: float) -> float:
    """Return how dark a reading is: 0 for none, about 1 for each threefold step."""
    return np.log1p(max(mass, 0.0) / SMALL)


@njit(cache=True, nogil=True, error_model="numpy")
def beside(own: float, other: float) -> float:
    """Return own / (own + other) of two amounts, one half where neither is anything."""
    own, other = max(own, 0.0) + 1e-3, max(other, 0.0) + 1e-3
    return own / (own + other)


@njit(cache=True, nogil=True, error_model="numpy")
def rank_of(ordered: F64, n: int, share: float) -> float:
    """Return the value at a share of the ranks of the first n, sorted; 0 of too few."""
    return ordered[int(share * (n - 1) + 0.5)] if n >= FEW else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def sort_first(values: F64, n: int) -> None:
    """Sort the first n values in place; none may be NaN."""
    # every value's rank is counted: for a ring's few values faster than anything that branches
    given = values[:n].copy()
    for k in range(n):
        v, below = given[k], 0
        for s in range(k):
            below += given[s] <= v
        for s in range(k + 1, n):
            below += given[s] < v
        values[below] = v


@njit(cache=True, nogil=True, error_model="numpy")
def ranked(values: F64, share: float) -> float:
    """Sort in place and return the value at a share of the ranks; 0 of nothing."""
    n = values.size
    if n == 0:
        return 0.0
    sort_first(values, n)
    return values[int(share * (n - 1) + 0.5)]


@njit(cache=True, nogil=True, error_model="numpy")
def thin(counts: F64, worth: float, least: float, out: F64) -> None:
    """Write the means over three rays (1/4, 1/2, 1/4) round every second one.

    Parameters
    ----------
    counts : (N, RAYS), a raw column in fixed point
    worth : what one count is worth
    least : what smaller values are raised to
    out : (N, PLACES) float64
    """
    row = np.empty(RAYS)
    for i in range(counts.shape[0]):
        for k in range(RAYS):
            row[k] = max(counts[i, k] * worth, least)
        for q in range(PLACES):
            k = 2 * q
            out[i, q] = 0.5 * row[k] + 0.25 * (row[(k + RAYS - 1) % RAYS] + row[k + 1])


@njit(cache=True, nogil=True, error_model="numpy")
def thin_marks(kind: NDArray[np.uint8], edge: F64, crest: F64, mpp: F64, out: tuple) -> None:
    """Write the shares (N, PLACES) of rays that ended on a line, at a limit, before a second line.

    And where a faint line lies on a nuclear edge: `doubtful`, 0 or 1.
    """
    line, limit, behind, doubtful = out
    for i in range(kind.shape[0]):
        near = min(max(2.0 * mpp[i], 0.4), 1.0)
        for q in range(PLACES):
            line[i, q] = limit[i, q] = behind[i, q] = 0.0
            for side in range(-1, 2):
                what = kind[i, (2 * q + side + RAYS) % RAYS]
                weight = 0.5 if side == 0 else 0.25
                line[i, q] += weight if what % 4 == 1 else 0.0
                limit[i, q] += weight if what % 4 == 2 else 0.0
                behind[i, q] += weight if what >= 4 else 0.0
            doubtful[i, q] = 1.0 if edge[i, q] < near and crest[i, q] < FAINT_OD else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def describe_cells(
    m: F64, radius: F64, partner: I32, rays: tuple, cells: tuple, wanted: BOOL, out: F32
) -> None:
    """Write the numbers of each cell.

    Parameters
    ----------
    m : (N, PLACES) float64
        Readings, OD µm, shared lines already evened out.
    radius : (N, PLACES) float64
        µm.
    partner : (N, PLACES) int32
    rays : tuple of (N, PLACES) float64
        width (µm), ridge, doubtful, line, behind.
    cells : tuple of (N,) float64
        noise (OD µm), cytoplasm OD, mpp.
    wanted : (N,) bool
        The others are left alone.
    out : (N, CELL_INPUTS) float32
    """
    width, ridge, doubtful, line, behind = rays
    noise, cytoplasm, mpp = cells
    every, free, shared = np.empty(PLACES), np.empty(PLACES), np.empty(PLACES)
    wide, steep = np.empty(PLACES), np.empty(PLACES)
    for i in range(m.shape[0]):
        if not wanted[i]:
            continue
        sd = np.sqrt(noise[i] * noise[i] + FLOOR * FLOOR)
        n_free, n_shared = 0, 0
        clear, doubts, lines, more, size = 0.0, 0.0, 0.0, 0.0, 0.0
        for k in range(PLACES):
            every[k], wide[k], steep[k] = m[i, k], width[i, k], ridge[i, k]
            clear += 1.0 if m[i, k] > 3.0 * sd else 0.0
            doubts += doubtful[i, k]
            lines += line[i, k]
            more += behind[i, k]
            size += radius[i, k]
            if partner[i, k] < 0:
                free[n_free] = m[i, k]
                n_free += 1
            else:
                shared[n_shared] = m[i, k]
                n_shared += 1
        sort_first(every, PLACES)
        sort_first(free, n_free)
        sort_first(shared, n_shared)
        sort_first(wide, PLACES)
        sort_first(steep, PLACES)
        for place, share in enumerate((0.1, 0.25, 0.5, 0.75, 0.9)):
            out[i, place] = log_of(rank_of(every, PLACES, share))
        out[i, 5] = log_of(rank_of(free, n_free, 0.5))
        out[i, 6] = log_of(rank_of(free, n_free, 0.85))
        out[i, 7] = n_free / PLACES
        out[i, 8] = clear / PLACES
        out[i, 9] = log_of(sd)
        out[i, 10] = 5.0 * min(max(cytoplasm[i], -0.1), 0.4)
        out[i, 11] = 2.0 * mpp[i]
        out[i, 12] = doubts / PLACES
        out[i, 13] = lines / PLACES
        out[i, 14] = more / PLACES
        out[i, 15] = 0.5 * rank_of(wide, PLACES, 0.5)
        out[i, 16] = size / (8.0 * PLACES)
        out[i, 17] = rank_of(steep, PLACES, 0.5)
        out[i, 18] = log_of(rank_of(free, n_free, 0.2))
        out[i, 19] = log_of(rank_of(shared, n_shared, 0.5))


@njit(cache=True, nogil=True, error_model="numpy")
def far_ranks(m: F64, partner: I32, i: int, j: int, work: F64) -> tuple:
    """Return what cell j's ring shows where it does not touch cell i.

    Number of its free places; 0.25 (as `log_of`), 0.5 and 0.8 of the ranks away from cell i; 0.6
    of the ranks of its free places. `work` is (2, PLACES).
    """
    far, free = work[0], work[1]
    n_far, n_free = 0, 0
    for s in range(PLACES):
        # kept unless the place looks back at cell i; -1 does not
        back = partner[j, s]
        far[n_far] = free[n_free] = m[j, s]
        n_far += back < i * PLACES or back >= (i + 1) * PLACES
        n_free += back < 0
    sort_first(far, n_far)
    sort_first(free, n_free)
    low = log_of(rank_of(far, n_far, 0.25))
    middle, high = rank_of(far, n_far, 0.5), rank_of(far, n_far, 0.8)
    return n_free, low, middle, high, rank_of(free, n_free, 0.6)


@njit(cache=True, nogil=True, error_model="numpy")
def describe_places(
    m: F64, radius: F64, links: tuple, rays: tuple, noise: F64, wanted: BOOL, out: F32
) -> None:
    """Write the numbers of each place.

    Parameters
    ----------
    m, radius : (N, PLACES) float64
        As in `describe_cells`.
    links : tuple of (N, PLACES)
        partner (int32), junction, overlap, gap (µm).
    rays : tuple of (N, PLACES) float64
        mass as the cell alone reads it, crest OD, width (µm), ridge, distance to a nuclear edge
        (µm), doubtful, line, limit, behind.
    noise : (N,) float64
        OD µm.
    wanted : (N,) bool
        The others are left alone.
    out : (N, PLACES, PLACE_INPUTS) float32
    """
    partner, junction, overlap, gap = links
    mass, crest, width, ridge, edge, doubtful, line, limit, behind = rays
    own, work = np.empty(PLACES), np.empty((2, PLACES))
    for i in range(m.shape[0]):
        if not wanted[i]:
            continue
        sd = np.sqrt(noise[i] * noise[i] + FLOOR * FLOOR)
        n_free, size = 0, 0.0
        for k in range(PLACES):
            size += radius[i, k] / PLACES
            if partner[i, k] < 0:
                own[n_free] = m[i, k]
                n_free += 1
        sort_first(own, n_free)
        free = rank_of(own, n_free, 0.6)
        put(own, 0, m[i])
        sort_first(own, PLACES)
        half, most = rank_of(own, PLACES, 0.5), rank_of(own, PLACES, 0.8)
        last, n_open, low_far, mid_far, high_far, open_far = -1, 0, 0.0, 0.0, 0.0, 0.0
        for k in range(PLACES):
            j = partner[i, k] // PLACES if partner[i, k] >= 0 else -1
            if j >= 0 and j != last:
                n_open, low_far, mid_far, high_far, open_far = far_ranks(m, partner, i, j, work)
                last = j
            v = m[i, k]
            z = max(v, 0.0) / sd
            before, after = radius[i, (k + PLACES - 1) % PLACES], radius[i, (k + 1) % PLACES]
            reading = mass[j, partner[i, k] % PLACES] if j >= 0 else mass[i, k]
            x = out[i, k]
            x[0] = log_of(v)
            x[1] = z / (3.0 + z)
            x[2] = log_of(crest[i, k])
            x[3] = 0.5 * width[i, k]
            x[4] = min(edge[i, k], 1.5)
            x[5] = doubtful[i, k]
            x[6] = line[i, k]
            x[7] = limit[i, k]
            x[8] = behind[i, k]
            x[9] = 1.0 if j >= 0 else 0.0
            x[10] = overlap[i, k] if j >= 0 else 0.0
            x[11] = junction[i, k]
            x[12] = ridge[i, k]
            x[13] = beside(v, half)
            x[14] = beside(v, most)
            x[15] = beside(v, free) if n_free >= FEW else 0.5
            x[16] = beside(v, mid_far) if j >= 0 else 1.0
            x[17] = beside(v, high_far) if j >= 0 else 1.0
            x[18] = low_far if j >= 0 else 0.0
            x[19] = beside(mass[i, k], reading)
            x[20] = beside(v, open_far) if j >= 0 and n_open >= FEW else 0.5
            x[21] = 0.5 * gap[i, k] if j >= 0 else 0.0
            x[22] = radius[i, k] / size - 1.0
            x[23] = min(abs(2.0 * radius[i, k] - before - after), 3.0)
