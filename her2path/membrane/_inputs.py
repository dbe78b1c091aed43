"""What the attribution is told of every ray and every cell, free of the slide's own scale.

A reading alone says little: 0.3 OD µm is a dark line among faint ones and a shadow beside intense
ones. So each ray's reading is also set beside the readings round its own ring, round the partner's
ring where the partner does not touch this cell, and beside the noise.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from her2path.cells._kernels import RAYS

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
BOOL = NDArray[np.bool_]

#: numbers a ray, and numbers a cell
RAY_INPUTS, CELL_INPUTS = 20, 16
#: fewer rays than this tell nothing of a ring's typical reading
FEW = 4
#: OD µm at which a reading counts as small
SMALL = 0.03
#: camera noise that the texture does not hold, OD µm
FLOOR = 0.012


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
def describe_cells(m: F64, partner: I32, rays: tuple, cells: tuple, wanted: BOOL, out: F32) -> None:
    """Write the numbers of each cell.

    Parameters
    ----------
    m : (N, RAYS) float64
        Readings, OD µm, shared lines already evened out.
    partner : (N, RAYS) int32
    rays : tuple of (N, RAYS) float64
        crest OD, width (µm), doubtful marks, kind.
    cells : tuple of (N,) float64
        noise (OD µm), cytoplasm OD, mpp.
    wanted : (N,) bool
        The others are left alone.
    out : (N, CELL_INPUTS) float32
    """
    crest, width, doubtful, kind = rays
    noise, cytoplasm, mpp = cells
    every, free = np.empty(RAYS), np.empty(RAYS)
    wide, high = np.empty(RAYS), np.empty(RAYS)
    for i in range(m.shape[0]):
        if not wanted[i]:
            continue
        sd = np.sqrt(noise[i] * noise[i] + FLOOR * FLOOR)
        n_free, clear, doubts, lines, behind = 0, 0.0, 0.0, 0.0, 0.0
        for k in range(RAYS):
            every[k], wide[k], high[k] = m[i, k], width[i, k], crest[i, k]
            clear += 1.0 if m[i, k] > 3.0 * sd else 0.0
            doubts += doubtful[i, k]
            lines += 1.0 if kind[i, k] % 4 == 1 else 0.0
            behind += 1.0 if kind[i, k] >= 4 else 0.0
            if partner[i, k] < 0:
                free[n_free] = m[i, k]
                n_free += 1
        sort_first(every, RAYS)
        sort_first(free, n_free)
        sort_first(wide, RAYS)
        sort_first(high, RAYS)
        for place, share in enumerate((0.1, 0.25, 0.5, 0.75, 0.9)):
            out[i, place] = log_of(rank_of(every, RAYS, share))
        out[i, 5] = log_of(rank_of(free, n_free, 0.5))
        out[i, 6] = log_of(rank_of(free, n_free, 0.85))
        out[i, 7] = n_free / RAYS
        out[i, 8] = clear / RAYS
        out[i, 9] = log_of(sd)
        out[i, 10] = 5.0 * min(max(cytoplasm[i], -0.1), 0.4)
        out[i, 11] = 2.0 * mpp[i]
        out[i, 12] = doubts / RAYS
        out[i, 13] = lines / RAYS
        out[i, 14] = behind / RAYS
        out[i, 15] = 0.5 * rank_of(wide, RAYS, 0.5)


@njit(cache=True, nogil=True, error_model="numpy")
def describe_rays(m: F64, links: tuple, rays: tuple, noise: F64, wanted: BOOL, out: F32) -> None:
    """Write the numbers of each ray.

    Parameters
    ----------
    m : (N, RAYS) float64
        As in `describe_cells`.
    links : tuple of (N, RAYS)
        partner (int32), junction, overlap.
    rays : tuple of (N, RAYS) float64
        mass as the cell alone reads it, crest OD, width (µm), doubtful marks, kind, ridge,
        distance to a nuclear edge (µm).
    noise : (N,) float64
        OD µm.
    wanted : (N,) bool
        The others are left alone.
    out : (N, RAYS, RAY_INPUTS) float32
    """
    partner, junction, overlap = links
    mass, crest, width, doubtful, kind, ridge, edge = rays
    own, far = np.empty(RAYS), np.empty(RAYS)
    for i in range(m.shape[0]):
        if not wanted[i]:
            continue
        sd = np.sqrt(noise[i] * noise[i] + FLOOR * FLOOR)
        n_free = 0
        for k in range(RAYS):
            if partner[i, k] < 0:
                own[n_free] = m[i, k]
                n_free += 1
        sort_first(own, n_free)
        free = rank_of(own, n_free, 0.6)
        own[:] = m[i]
        sort_first(own, RAYS)
        half, most = rank_of(own, RAYS, 0.5), rank_of(own, RAYS, 0.8)
        last, n_far, low_far = -1, 0, 0.0
        for k in range(RAYS):
            j = partner[i, k] // RAYS if partner[i, k] >= 0 else -1
            if j >= 0 and j != last:
                n_far = 0
                for s in range(RAYS):
                    # kept unless the ray looks back at cell i; -1 does not
                    far[n_far] = m[j, s]
                    n_far += partner[j, s] < i * RAYS or partner[j, s] >= (i + 1) * RAYS
                sort_first(far, n_far)
                low_far = log_of(rank_of(far, n_far, 0.25))
                last = j
            v = m[i, k]
            z = max(v, 0.0) / sd
            out[i, k, 0] = log_of(v)
            out[i, k, 1] = z / (3.0 + z)
            out[i, k, 2] = log_of(crest[i, k])
            out[i, k, 3] = 0.5 * width[i, k]
            out[i, k, 4] = min(edge[i, k], 1.5)
            out[i, k, 5] = doubtful[i, k]
            out[i, k, 6] = 1.0 if kind[i, k] % 4 == 1 else 0.0
            out[i, k, 7] = 1.0 if kind[i, k] % 4 == 2 else 0.0
            out[i, k, 8] = 1.0 if kind[i, k] >= 4 else 0.0
            out[i, k, 9] = 1.0 if j >= 0 else 0.0
            out[i, k, 10] = overlap[i, k] if j >= 0 else 0.0
            out[i, k, 11] = junction[i, k]
            out[i, k, 12] = ridge[i, k]
            out[i, k, 13] = beside(v, half)
            out[i, k, 14] = beside(v, most)
            out[i, k, 15] = beside(v, free) if n_free >= FEW else 0.5
            out[i, k, 16] = beside(v, rank_of(far, n_far, 0.5)) if j >= 0 else 1.0
            out[i, k, 17] = beside(v, rank_of(far, n_far, 0.8)) if j >= 0 else 1.0
            out[i, k, 18] = low_far if j >= 0 else 0.0
            reading = mass[j, partner[i, k] % RAYS] if j >= 0 else mass[i, k]
            out[i, k, 19] = beside(mass[i, k], reading)
