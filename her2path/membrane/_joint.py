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
#: borders nearer than this are one line (µm)
SAME_UM = 0.6


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
    out : partner (N, RAYS) int32 = neighbour * RAYS + its ray, or -1;
        junction (N, RAYS), 1 where a second neighbour's border is as near;
        overlap (N, RAYS), how much of the neighbour's line this ray reads, 0..1
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
    partner, junction, overlap = out
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
    overlap[i, k] = min(max((GAP_UM - best) / (GAP_UM - SAME_UM), 0.0), 1.0)


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
def first_guess(data: tuple, own: F64, p: F64, a: F64, exists: F64) -> None:
    """Start: a shared line goes to the cell with more line around it, halves in a tie.

    How much line is around a cell is asked of its `own` (N, RAYS) readings alone, which keeps
    the reach short.
    """
    m, weight, sd, partner, overlap, _, _ = data
    closed = np.empty(m.shape[0])
    for i in range(m.shape[0]):
        lined, total = 0.0, 1e-9
        for k in range(RAYS):
            total += weight[i, k]
            lined += weight[i, k] if own[i, k] > 2.5 * sd[i, k] else 0.0
        closed[i] = (0.02 + lined / total) ** 3
    for i in range(m.shape[0]):
        total, count = 0.0, 0.0
        for k in range(RAYS):
            part = m[i, k]
            if partner[i, k] >= 0:
                j = partner[i, k] // RAYS
                part *= 1.0 - overlap[i, k] * closed[j] / (closed[i] + closed[j])
            p[i, k] = 0.1
            if part > 2.0 * sd[i, k]:
                p[i, k] = 0.6
                total += weight[i, k] * part
                count += weight[i, k]
        a[i] = total / count if count > 0 else 0.0
        exists[i] = 1.0


@njit(cache=True, nogil=True)
def likeness(residual: float, var: float) -> float:
    """Return Student's density (3 degrees of freedom, unscaled): no ray outvotes all others."""
    t = 1.0 + residual * residual / (3.0 * var)
    return 1.0 / (np.sqrt(var) * t * t)


@njit(cache=True, nogil=True)
def alike(own: float, other: float) -> float:
    """Return 1 for lines of the same strength, 0 where one is 4 times the other or more."""
    low, high = min(own, other), max(own, other)
    if high <= 0.0:
        return 0.0
    return min(max((low / high - 0.25) / 0.25, 0.0), 1.0)


@njit(cache=True, nogil=True)
def sweep(data: tuple, state: tuple, rule: tuple, new: tuple) -> None:
    """Update every cell once from the others' last state.

    data : m, weight, sd, partner, ghost (all (N, RAYS)), least (N,; smallest mass of a stained
        line, OD µm)
    state : p (N, RAYS), a (N,), exists (N,; probability that there is any staining)
    rule : heat, the power on the evidence of one ray (< 1 as neighbouring rays err together);
        spread, by how much of itself a line varies along a ring (grains, breaks, slant cuts);
        switch, the probability that staining begins or ends between two rays;
        needed, the log odds from which a cell counts as stained; relief and ease, by how much
        of themselves `needed` and `least` fall for a cell whose neighbours are all stained alike
    new : p, a, exists, known (N, RAYS; how well the data tell stained from not), evidence (N,;
        log odds of any staining against none), floor (N,; smallest mass of a stained line here)
    """
    m, weight, sd, partner, overlap, ghost, least = data
    heat, spread, switch, needed, relief, ease = rule
    p, a, exists = state
    new_p, new_a, new_exists, known, evidence, floor = new
    from_others, unsure = np.empty(RAYS), np.empty(RAYS)
    odds = np.empty(RAYS)
    for i in range(m.shape[0]):
        company, links = 0.0, 1.0
        for k in range(RAYS):
            e, v = 0.0, 0.0
            link = partner[i, k]
            if link >= 0:
                j, s = link // RAYS, link % RAYS
                q = exists[j] * p[j, s]
                links += 1.0
                company += exists[j] * alike(a[i], a[j])
                full = overlap[i, k] * a[j]
                e = q * full
                # two lines that only touch: how much is read of the other is not known well
                v = q * (1.0 - q) * full * full + q * (spread * full) ** 2
                v += q * (0.5 * (1.0 - overlap[i, k]) * full) ** 2
            elif ghost[i, k] > 0:
                v = m[i, k] * m[i, k]
            from_others[k] = e
            unsure[k] = v + sd[i, k] * sd[i, k]
        own = _own_mass(m[i], weight[i], p[i], from_others, unsure, (a[i], spread))
        new_a[i] = own
        company = min(company / links, 1.0)
        floor[i] = least[i] * (1.0 - ease * company)
        strength = max(own, floor[i])
        own_var = (spread * strength) ** 2
        for k in range(RAYS):
            rest = m[i, k] - from_others[k]
            on = likeness(rest - strength, unsure[k] + own_var)
            off = likeness(max(rest, 0.0), unsure[k])
            tells = weight[i, k] * np.log(on / off)
            known[i, k] = abs(tells)
            odds[k] = np.exp(heat * tells)
        evidence[i] = ring_posterior(odds, switch, new_p[i])
        new_exists[i] = 1.0 / (1.0 + np.exp(needed * (1.0 - relief * company) - evidence[i]))


@njit(cache=True, nogil=True)
def _own_mass(m: F64, weight: F64, p: F64, others: F64, unsure: F64, guess: tuple) -> float:
    last, spread = guess
    total, count = 0.0, 0.0
    for k in range(RAYS):
        rest = m[k] - others[k]
        var = unsure[k] + (spread * last) ** 2
        t = 1.0 + (rest - last) ** 2 / (3.0 * var)
        w = weight[k] * p[k] / (var * t)
        total += w * rest
        count += w
    return max(total / count, 0.0) if count > 1e-12 else 0.0


@njit(cache=True, nogil=True)
def ring_posterior(odds: F64, switch: float, out: F64) -> float:
    """Write P(stained) of each ray of a closed two-state chain; return log odds of any at all.

    Exact: products of 2 x 2 matrices before and after each ray.
    """
    stay, move = 1.0 - switch, switch
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
            h0 / scale,
            h1 / scale,
            h2 / scale,
            h3 / scale,
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
def share_reading(m: F64, partner: I32, overlap: F64) -> F64:
    """Return the mean of both cells' readings of a shared line, own ones of parted lines."""
    out = m.copy()
    for i in range(m.shape[0]):
        for k in range(RAYS):
            link = partner[i, k]
            if link >= 0:
                other = m[link // RAYS, link % RAYS]
                out[i, k] += 0.5 * overlap[i, k] * overlap[i, k] * (other - m[i, k])
    return out


@njit(cache=True, nogil=True)
def summarise(
    data: tuple, states: tuple, proof: tuple, lines: tuple, ring: tuple, blur: tuple, out: F64
) -> None:
    """Write the results of each cell.

    Parameters
    ----------
    data : as in `sweep`
    states : the neighbours' state (one sweep older, which keeps the reach short) and the own one
    proof : known, floor (see `sweep`)
    lines : crest OD and full width (µm) of each ray's line
    ring : length of border of each ray (µm) and junction
    blur : full width of the blur (µm), and the integral of a Gaussian of width and height 1
    out : (N, 10) OD, OD over the ring, mass, completeness, width, (cytoplasm), shared share,
        junction share, 1 where uncertain, (evidence); those in brackets are left alone
    """
    m, weight, _, partner, overlap, _, _ = data
    (other_p, other_a, other_exists), (p, a, exists) = states
    known, floor = proof
    for i in range(m.shape[0]):
        around, stained, shared, corner, open_ = 1e-9, 0.0, 0.0, 0.0, 0.0
        sums = np.zeros(4)
        for k in range(RAYS):
            length = ring[0][i, k]
            around += length
            stained += length * p[i, k]
            corner += length * ring[1][i, k]
            others = 0.0
            if partner[i, k] >= 0:
                j, s = partner[i, k] // RAYS, partner[i, k] % RAYS
                shared += length
                others = overlap[i, k] * other_exists[j] * other_p[j, s] * other_a[j]
            if known[i, k] < 1.0 and others > 3.0 * max(a[i], floor[i]):
                open_ += length
            own = a[i] / (a[i] + others) if a[i] > 0 else 0.0
            v = length * weight[i, k] * p[i, k] * own * own
            sums[0] += v * lines[0][i, k]
            sums[1] += v * max(m[i, k], 0.0)
            sums[2] += v * lines[1][i, k]
            sums[3] += v
        out[i, 6], out[i, 7] = shared / around, corner / around
        out[i, 8] = 1.0 if open_ > 0.3 * around else 0.0
        if exists[i] < 0.5 or a[i] < floor[i] or sums[0] <= 0 or sums[1] <= 0:
            continue
        _write_stained(a[i], stained / around, sums, blur, out[i])


@njit(cache=True, nogil=True)
def _write_stained(own: float, share: float, sums: F64, blur: tuple, out: F64) -> None:
    """Write OD, mass, completeness and width of a stained cell.

    The crest before the scanner's blur is what a line of that mass would have, were its width
    the blurred width less the blur's (in squares); its shape is taken as it was read.
    """
    blur_um, gauss = blur
    wide = sums[2] / sums[3]
    sharp = np.sqrt(max(wide * wide - blur_um * blur_um, 0.16 * wide * wide))
    shape = min(sums[0] / sums[1] * wide, 1.2 / gauss) / max(sharp, 0.2)
    out[0] = own * shape
    out[2] = own
    out[3] = share
    out[1] = out[0] * share
    out[4] = sharp
