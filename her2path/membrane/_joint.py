"""Compiled loops of the joint attribution of shared lines.

Cells come sorted by cell_id; positions are differences of whole numbers; nothing depends on
where the slide was cut. `m` is what each ray reads (OD µm), `p` the probability that the cell's
own membrane is stained there and `a` the cell's own mass where it is stained.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from her2path.cells._kernels import COS, RAYS, SIN

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]

#: a ray's neighbour: its own border lies within this of the line (µm)
GAP_UM = 1.7
#: lines of one kind vary by this much along a ring (granules, breaks, slant cuts)
SPREAD = 0.30
#: probability that staining begins or ends between two rays
SWITCH = 0.03


@njit(cache=True, nogil=True)
def bin_cells(x: I64, y: I64, size: int) -> tuple[I64, I64, I64, int]:
    """Sort cells into absolute square bins; return bin keys, starts, order, columns."""
    n = x.size
    bx, by = x // size, y // size
    x_low, y_low = bx.min(), by.min()
    columns, rows = bx.max() - x_low + 1, by.max() - y_low + 1
    where = (by - y_low) * columns + (bx - x_low)
    start = np.zeros(columns * rows + 1, np.int64)
    for i in range(n):
        start[where[i] + 1] += 1
    for b in range(columns * rows):
        start[b + 1] += start[b]
    fill = start[:-1].copy()
    order = np.empty(n, np.int64)
    for i in range(n):
        order[fill[where[i]]] = i
        fill[where[i]] += 1
    return where, start, order, columns


@njit(cache=True, nogil=True)
def link_rays(x: I64, y: I64, um: float, r: F64, far_um: float, out: tuple) -> None:
    """Find, for every ray, the neighbour that shares its line.

    Parameters
    ----------
    x, y : (N,) int64 positions in 1/16 analysis px
    um : µm of one such unit
    r : (N, RAYS) radius of the line, µm
    far_um : neighbours farther than this are not looked at
    out : partner (N, RAYS) int32 = neighbour * RAYS + its ray, or -1; and
        junction (N, RAYS), 1 where a second neighbour's border is as near
    """
    n = x.size
    largest = np.zeros(n)
    for i in range(n):
        for k in range(RAYS):
            largest[i] = max(largest[i], r[i, k])
    where, start, order, columns = bin_cells(x, y, int(np.ceil(far_um / um)))
    bins = start.size - 1
    near = np.empty(512, np.int64)
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
        for k in range(RAYS):
            _link_one(i, k, (x, y, um), r, largest, near[:count], out)


@njit(cache=True, nogil=True)
def _link_one(i: int, k: int, place: tuple, r: F64, largest: F64, near: I64, out: tuple) -> None:
    x, y, um = place
    partner, junction = out
    px, py = r[i, k] * COS[k], r[i, k] * SIN[k]
    best, second, found = 1e9, 1e9, -1
    for s in range(near.size):
        j = near[s]
        dx, dy = px - (x[j] - x[i]) * um, py - (y[j] - y[i]) * um
        far2 = dx * dx + dy * dy
        limit = largest[j] + GAP_UM
        if far2 > limit * limit:
            continue
        turn = np.arctan2(dy, dx) * (RAYS / (2 * np.pi))
        low = int(np.floor(turn))
        share = turn - low
        a, b = low % RAYS, (low + 1) % RAYS
        gap = np.sqrt(far2) - (r[j, a] + share * (r[j, b] - r[j, a]))
        gap = gap if gap >= 0 else -0.5 * gap
        if gap < best:
            second = best
            best, found = gap, j * RAYS + (a if share < 0.5 else b)
        elif gap < second:
            second = gap
    partner[i, k] = found if best <= GAP_UM else -1
    junction[i, k] = 1.0 if second <= GAP_UM else 0.0


@njit(cache=True, nogil=True)
def ring_lengths(r: F64) -> F64:
    """Return the length of border that each ray stands for (µm)."""
    n = r.shape[0]
    piece = np.empty((n, RAYS))
    c, s = COS[1], SIN[1]
    for i in range(n):
        for k in range(RAYS):
            e = (k + 1) % RAYS
            dx, dy = r[i, e] * c - r[i, k], r[i, e] * s
            piece[i, k] = 0.5 * np.sqrt(dx * dx + dy * dy)
        last = piece[i, RAYS - 1]
        for k in range(RAYS - 1, 0, -1):
            piece[i, k] += piece[i, k - 1]
        piece[i, 0] += last
    return piece


@njit(cache=True, nogil=True)
def first_guess(m: F64, weight: F64, sd: F64, partner: I32, p: F64, a: F64) -> None:
    """Start: a shared line is halved; a cell's mass is the mean of what stands out."""
    for i in range(m.shape[0]):
        total, count = 0.0, 0.0
        for k in range(RAYS):
            half = m[i, k] if partner[i, k] < 0 else 0.5 * m[i, k]
            p[i, k] = 0.1
            if half > 2.0 * sd[i, k]:
                p[i, k] = 0.6
                total += weight[i, k] * half
                count += weight[i, k]
        a[i] = total / count if count > 0 else 0.0


@njit(cache=True, nogil=True)
def likeness(residual: float, var: float) -> float:
    """Return Student's density (3 degrees of freedom, unscaled): no ray outvotes all others."""
    t = 1.0 + residual * residual / (3.0 * var)
    return 1.0 / (np.sqrt(var) * t * t)


@njit(cache=True, nogil=True)
def sweep(data: tuple, state: tuple, heat: float, least: float, new: tuple) -> None:
    """Update every cell once from the others' last state.

    data : m, weight, sd, partner, ghost (all (N, RAYS))
    state : p (N, RAYS), a (N,)
    heat : power on the evidence of one ray, < 1 as neighbouring rays err together
    least : smallest mass of a stained line (OD µm)
    new : p, a, known (N, RAYS; how well the data tell stained from not), evidence (N,; log odds
        of any staining against none)
    """
    m, weight, sd, partner, ghost = data
    p, a = state
    new_p, new_a, known, evidence = new
    from_others, unsure = np.empty(RAYS), np.empty(RAYS)
    odds = np.empty(RAYS)
    for i in range(m.shape[0]):
        for k in range(RAYS):
            e, v = 0.0, 0.0
            link = partner[i, k]
            if link >= 0:
                j, s = link // RAYS, link % RAYS
                q = p[j, s]
                e = q * a[j]
                v = q * (1.0 - q) * a[j] * a[j] + q * (SPREAD * a[j]) ** 2
            elif ghost[i, k] > 0:
                v = m[i, k] * m[i, k]
            from_others[k] = e
            unsure[k] = v + sd[i, k] * sd[i, k]
        own = _own_mass(m[i], weight[i], p[i], from_others, unsure, a[i])
        new_a[i] = own
        strength = max(own, least)
        own_var = (SPREAD * strength) ** 2
        for k in range(RAYS):
            rest = m[i, k] - from_others[k]
            on = likeness(rest - strength, unsure[k] + own_var)
            off = likeness(max(rest, 0.0), unsure[k])
            ratio = on / off
            known[i, k] = weight[i, k] * abs(np.log(ratio))
            odds[k] = ratio ** (heat * weight[i, k])
        evidence[i] = ring_posterior(odds, new_p[i])


@njit(cache=True, nogil=True)
def _own_mass(m: F64, weight: F64, p: F64, others: F64, unsure: F64, last: float) -> float:
    total, count = 0.0, 0.0
    for k in range(RAYS):
        rest = m[k] - others[k]
        var = unsure[k] + (SPREAD * last) ** 2
        t = 1.0 + (rest - last) ** 2 / (3.0 * var)
        w = weight[k] * p[k] / (var * t)
        total += w * rest
        count += w
    return max(total / count, 0.0) if count > 1e-12 else 0.0


@njit(cache=True, nogil=True)
def ring_posterior(odds: F64, out: F64) -> float:
    """Write P(stained) of each ray of a closed two-state chain; return log odds of any at all.

    Exact: products of 2 x 2 matrices before and after each ray.
    """
    stay, move = 1.0 - SWITCH, SWITCH
    after = np.empty((RAYS + 1, 4))
    after[RAYS, 0], after[RAYS, 1], after[RAYS, 2], after[RAYS, 3] = 1.0, 0.0, 0.0, 1.0
    log_scale = 0.0
    for k in range(RAYS - 1, -1, -1):
        o = odds[k]
        g0, g1, g2, g3 = after[k + 1, 0], after[k + 1, 1], after[k + 1, 2], after[k + 1, 3]
        h0, h1 = stay * g0 + move * o * g2, stay * g1 + move * o * g3
        h2, h3 = move * g0 + stay * o * g2, move * g1 + stay * o * g3
        scale = h0 + h1 + h2 + h3
        after[k, 0], after[k, 1], after[k, 2], after[k, 3] = (
            h0 / scale, h1 / scale, h2 / scale, h3 / scale,
        )
        log_scale += np.log(scale)
    every = np.log(after[0, 0] + after[0, 3]) + log_scale
    none = RAYS * np.log(stay)
    f0, f1, f2, f3 = 1.0, 0.0, 0.0, 1.0
    for k in range(RAYS):
        o = odds[k]
        g0, g1, g2, g3 = after[k + 1, 0], after[k + 1, 1], after[k + 1, 2], after[k + 1, 3]
        # before x transition = f t; then the state at k closes the ring with what is after
        t0, t1 = f0 * stay + f1 * move, f0 * move + f1 * stay
        t2, t3 = f2 * stay + f3 * move, f2 * move + f3 * stay
        off = g0 * t0 + g1 * t2
        on = o * (g2 * t1 + g3 * t3)
        out[k] = on / (on + off)
        f0, f1, f2, f3 = t0, t1 * o, t2, t3 * o
        scale = f0 + f1 + f2 + f3
        f0, f1, f2, f3 = f0 / scale, f1 / scale, f2 / scale, f3 / scale
    return max(every - none, 0.0)


@njit(cache=True, nogil=True)
def share_reading(m: F64, partner: I32) -> F64:
    """Return the mean of both cells' readings of a shared line."""
    out = m.copy()
    for i in range(m.shape[0]):
        for k in range(RAYS):
            link = partner[i, k]
            if link >= 0:
                out[i, k] = 0.5 * (m[i, k] + m[link // RAYS, link % RAYS])
    return out


@njit(cache=True, nogil=True)
def summarise(
    data: tuple, state: tuple, proof: tuple, lines: tuple, ring: tuple, limits: tuple, out: F64
) -> None:
    """Write (N, 9): OD, OD of the ring, mass, completeness, width, -, shared, corner, unsure."""
    m, weight, _, partner, _ = data
    p, a = state
    known, evidence = proof
    crest, width = lines
    length, junction = ring
    least_evidence, least, blur_um, gauss = limits
    for i in range(m.shape[0]):
        around, stained, shared, corner, open_ = 0.0, 0.0, 0.0, 0.0, 0.0
        peak, mass, wide, trust = 0.0, 0.0, 0.0, 0.0
        for k in range(RAYS):
            w = length[i, k]
            around += w
            stained += w * p[i, k]
            corner += w * junction[i, k]
            link = partner[i, k]
            others = 0.0
            if link >= 0:
                shared += w
                others = p[link // RAYS, link % RAYS] * a[link // RAYS]
            if known[i, k] < 1.0 and others > 3.0 * max(a[i], least):
                open_ += w
            own = a[i] / (a[i] + others) if a[i] > 0 else 0.0
            v = w * weight[i, k] * p[i, k] * own * own
            peak += v * crest[i, k]
            mass += v * max(m[i, k], 0.0)
            wide += v * width[i, k]
            trust += v
        around = max(around, 1e-9)
        out[i, 6], out[i, 7] = shared / around, corner / around
        out[i, 8] = 1.0 if open_ > 0.4 * around else 0.0
        if evidence[i] < least_evidence or a[i] < least or trust <= 0 or peak <= 0:
            continue
        blurred = wide / trust
        sharp = np.sqrt(max(blurred * blurred - blur_um * blur_um, 0.16 * blurred * blurred))
        shape = min(peak / max(mass, 1e-9) * blurred, 1.2 / gauss) / max(sharp, 0.2)
        out[i, 0] = a[i] * shape
        out[i, 2] = a[i]
        out[i, 3] = stained / around
        out[i, 1] = out[i, 0] * out[i, 3]
        out[i, 4] = sharp
