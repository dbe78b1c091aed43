"""The fitted message passing, evaluated: a fixed number of rounds over the places along the rings.

Every place carries `STATES` numbers in -1..1. The first says whether the cell's own membrane is
stained there, the second how far the place is to be trusted with the strength of the line, the
others mean what the fit made of them. In each round a place sees its own inputs, its own state,
that of the places beside it, of the partner's place on the same line, and the means of its own and
of the partner's ring; all places of all cells take the same step at the same time. Sums run in a
fixed order and only over one cell and its partners, so a result does not know where the slide was
cut. `scripts/membrane_model.py` holds the same model for fitting.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from her2path._loops import put
from her2path.membrane._inputs import CELL_INPUTS, PLACE_INPUTS, PLACES, beside

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
BOOL = NDArray[np.bool_]

#: rounds, numbers carried by a place, hidden units of a place's step and of a cell's verdict
ROUNDS, STATES, HIDDEN, VERDICT = 5, 10, 32, 32
#: inputs of a place that change from round to round
MOVING = 8
#: samples across the border of which a place's look is made, and in how many ways they are seen;
#: hidden units and numbers of a look
LOOK_TAPS, LOOK_KINDS, LOOK_HIDDEN, LOOKS = 13, 4, 24, 16
LOOK_INPUTS = LOOK_KINDS * LOOK_TAPS
#: all inputs of a place that change, in whole fours
GATHERED = (MOVING + 5 * STATES + 3) // 4 * 4
#: inputs of a cell's verdict, and what it says: stained, mass, OD, doubt, completeness
FINAL, SAYS = 2 * STATES + 2 + CELL_INPUTS + 2 + 4, 5
#: a cell whose places are doubtful in more than this share shows nothing; their place among inputs
BLIND, DOUBTS = 0.9, 12
NOTHING, QUARTER, HALF, ONE = (np.float32(v) for v in (0.0, 0.25, 0.5, 1.0))
#: a little mass (OD µm) that keeps ratios of nothing defined
TRACE = 1e-3


@njit(cache=True, nogil=True, error_model="numpy")
def squash(x: float) -> float:
    """Return x pressed into -1..1; exact arithmetic, the same on every machine."""
    return x / np.sqrt(1.0 + x * x)


@njit(cache=True, nogil=True, error_model="numpy")
def add_rows(x: F32, w: F32, rows: int, z: F32) -> None:
    """Add w[:rows].T @ x[:rows] to z (units, PLACES); `rows` in whole fours, units in pairs.

    The order of the sums is fixed: only places, which do not meet, are added at once.
    """
    # flat and unsigned: no check for counting from the end, and pairs share what they load
    flat_x, flat_z, n = x.reshape(x.size), z.reshape(z.size), np.uint64(PLACES)
    for u in range(0, z.shape[0], 2):
        c = np.uint64(u * PLACES)
        for a in range(0, rows, 4):
            p, q, r, s = w[a, u], w[a + 1, u], w[a + 2, u], w[a + 3, u]
            e, f, g, h = w[a, u + 1], w[a + 1, u + 1], w[a + 2, u + 1], w[a + 3, u + 1]
            b = np.uint64(a * PLACES)
            for place in range(n):
                k = np.uint64(place)
                i, j = flat_x[b + k], flat_x[b + n + k]
                v, y = flat_x[b + n + n + k], flat_x[b + n + n + n + k]
                flat_z[c + k] += (i * p + j * q) + (v * r + y * s)
                flat_z[c + n + k] += (i * e + j * f) + (v * g + y * h)


@njit(cache=True, nogil=True, error_model="numpy")
def fixed_part(place: F32, cell: F32, first: tuple, wanted: BOOL, out: F32) -> None:
    """Write what the unchanging inputs add to every round's hidden units, (N, HIDDEN, PLACES)."""
    by_place, by_cell = first
    x = np.empty((PLACE_INPUTS, PLACES), np.float32)
    for i in range(place.shape[0]):
        if not wanted[i]:
            continue
        for u in range(HIDDEN):
            common = np.float32(0.0)
            for a in range(0, CELL_INPUTS, 4):
                common += (cell[i, a] * by_cell[a, u] + cell[i, a + 1] * by_cell[a + 1, u]) + (
                    cell[i, a + 2] * by_cell[a + 2, u] + cell[i, a + 3] * by_cell[a + 3, u]
                )
            for k in range(PLACES):
                out[i, u, k] = common
        for k in range(PLACES):
            for a in range(PLACE_INPUTS):
                x[a, k] = place[i, k, a]
        add_rows(x, by_place, PLACE_INPUTS, out[i])


@njit(cache=True, nogil=True, error_model="numpy")
def neighbours_part(i: int, k: int, lines: tuple, state: tuple) -> tuple:
    """Return the partner cell (-1 if none), its place, its strength and what it adds here."""
    partner, overlap = lines
    h, a = state
    link = partner[i, k]
    if link < 0:
        return -1, 0, 0.0, 0.0
    j, s = link // PLACES, link % PLACES
    return j, s, a[j], overlap[i, k] * (0.5 + 0.5 * h[j, 0, s]) * a[j]


@njit(cache=True, nogil=True, error_model="numpy")
def moving_inputs(m: F64, sd: float, own: float, lines: tuple, x: F32) -> None:
    """Write the inputs of a cell's places that depend on the last round, x[:MOVING].

    `lines` = strength of the partners, and what they add here, (PLACES,) each.
    """
    other, part = lines
    for k in range(PLACES):
        x[0, k] = beside(m[k], own)
        x[1, k] = beside(m[k], part[k])
        x[2, k] = beside(own, other[k])
        x[3, k] = (m[k] + TRACE) / (m[k] + own + part[k] + 2 * TRACE)
        x[4, k] = own / (own + 3.0 * sd)
        rest = m[k] - part[k]
        x[5, k] = rest / (abs(rest) + own + sd)
        x[6, k] = beside(m[k], other[k])
        x[7, k] = (m[k] + TRACE) / (m[k] + own + other[k] + 2 * TRACE)


@njit(cache=True, nogil=True, error_model="numpy")
def ring_means(h: F32, out: F32) -> None:
    """Write the mean state of every ring, (N, STATES)."""
    for i in range(h.shape[0]):
        for c in range(STATES):
            total = 0.0
            for k in range(PLACES):
                total += h[i, c, k]
            out[i, c] = total / PLACES


@njit(cache=True, nogil=True, error_model="numpy")
def step_weights(moving: F32, talk: F32) -> F32:
    """Return the weights of `gather`'s inputs, one below the other, padded to whole fours."""
    out = np.zeros((GATHERED, HIDDEN), np.float32)
    # loops, not slices: much quicker to compile
    for u in range(HIDDEN):
        for a in range(MOVING):
            out[a, u] = moving[a, u]
        for place, part in enumerate((0, 1, 2, 3, 5)):
            for c in range(STATES):
                out[MOVING + place * STATES + c, u] = talk[part, c, u]
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def gather(i: int, partner: I32, states: tuple, ring: F32, x: F32) -> None:
    """Write what a cell's places hear, from x[MOVING] on.

    Their own state, that of the places one step and two to three steps along the ring, the
    partner places', and the mean of the partner's ring; zeros without a partner. `ring` is
    workspace of PLACES + 6: one state with three places more at both ends.
    """
    h, mean = states
    for c in range(STATES):
        own, near, far = MOVING + c, MOVING + STATES + c, MOVING + 2 * STATES + c
        for k in range(PLACES):
            x[own, k] = ring[k + 3] = h[i, c, k]
        for k in range(3):
            ring[k], ring[PLACES + 3 + k] = ring[PLACES + k], ring[3 + k]
        for k in range(PLACES):
            x[near, k] = HALF * (ring[k + 2] + ring[k + 4])
            x[far, k] = QUARTER * ((ring[k + 1] + ring[k + 5]) + (ring[k] + ring[k + 6]))
    line, whole = MOVING + 3 * STATES, MOVING + 4 * STATES
    for k in range(PLACES):
        link = partner[k]
        if link < 0:
            for c in range(STATES):
                x[line + c, k] = x[whole + c, k] = NOTHING
            continue
        j, s = link // PLACES, link % PLACES
        for c in range(STATES):
            x[line + c, k], x[whole + c, k] = h[j, c, s], mean[j, c]


@njit(cache=True, nogil=True, error_model="numpy")
def take_round(
    number: int, data: tuple, state: tuple, weights: tuple, wanted: BOOL, new: tuple
) -> None:
    """Take one step of every place.

    Parameters
    ----------
    number : int
        0 is the first round, in which no place has said anything yet.
    data : tuple
        m (N, PLACES) >= 0, share of the perimeter (N, PLACES), sd (N,), partner, overlap,
        `fixed_part`.
    state : tuple
        h (N, STATES, PLACES) float32, a (N,) float64: own strength, OD µm.
    weights : tuple
        Of every round: bias, moving, from states (6, STATES, HIDDEN), to states, their bias.
    wanted : (N,) bool
        Cells that take the step.
    new : tuple
        h, a to be written.
    """
    m, length, sd, partner, overlap, fixed = data
    h, a = state
    bias, moving, talk, last, last_bias = weights
    mean = np.empty((m.shape[0], STATES), np.float32)
    ring_means(h, mean)
    w, own_mean = step_weights(moving[number], talk[number]), talk[number, 4]
    rows = GATHERED if number > 0 else MOVING
    x, ring = np.zeros((GATHERED, PLACES), np.float32), np.empty(PLACES + 6, np.float32)
    z = np.empty((HIDDEN, PLACES), np.float32)
    other, part, common = np.empty(PLACES), np.empty(PLACES), np.empty(HIDDEN, np.float32)
    for i in range(m.shape[0]):
        if not wanted[i]:
            continue
        for k in range(PLACES):
            _, _, other[k], part[k] = neighbours_part(i, k, (partner, overlap), (h, a))
        put(common, 0, bias[number])
        if number > 0:
            for c in range(STATES):
                for u in range(HIDDEN):
                    common[u] += mean[i, c] * own_mean[c, u]
        for u in range(HIDDEN):
            for k in range(PLACES):
                z[u, k] = fixed[i, u, k] + common[u]
        moving_inputs(m[i], sd[i], a[i], (other, part), x)
        if number > 0:
            gather(i, partner[i], (h, mean), ring, x)
        add_rows(x, w, rows, z)
        new_states(z, last[number], last_bias[number], new[0][i])
        new[1][i] = _strength(i, (m, length, part), new[0], a[i])


@njit(cache=True, nogil=True, error_model="numpy")
def new_states(z: F32, last: F32, last_bias: F32, y: F32) -> None:
    """Write the states (STATES, PLACES) that follow from the hidden units."""
    for u in range(HIDDEN):
        for k in range(PLACES):
            z[u, k] = max(z[u, k], NOTHING)
    for c in range(STATES):
        for k in range(PLACES):
            y[c, k] = last_bias[c]
    add_rows(z, last, HIDDEN, y)
    for c in range(STATES):
        for k in range(PLACES):
            y[c, k] = y[c, k] / np.sqrt(ONE + y[c, k] * y[c, k])


@njit(cache=True, nogil=True, error_model="numpy")
def _strength(i: int, lines: tuple, h: F32, old: float) -> float:
    """Return a cell's own strength: its readings less the partners' parts, by trust."""
    m, length, part = lines
    total, count = 0.0, 1e-4
    for k in range(PLACES):
        trust = length[i, k] * trust_of(h, i, k)
        total += trust * m[i, k] * (old + TRACE) / (old + part[k] + TRACE)
        count += trust
    return total / count


@njit(cache=True, nogil=True, error_model="numpy")
def trust_of(h: F32, i: int, k: int) -> float:
    """Return how much a place counts for the strength of its cell's line."""
    return (0.52 + 0.5 * h[i, 1, k]) * (0.5 + 0.5 * h[i, 0, k])


@njit(cache=True, nogil=True, error_model="numpy")
def ring_sums(i: int, data: tuple, states: tuple, lines: tuple, x: F32, sums: F64) -> None:
    """Gather one ring for its verdict.

    Parameters
    ----------
    i : int
        The cell.
    data : tuple
        As in `take_round`.
    states : tuple
        (h, a, `ring_means` of h) before the last round, and (h, a) after it.
    lines : tuple of (N, PLACES)
        crest OD and width (µm).
    x : (FINAL,) float32, zero
        Inputs of the verdict, less the numbers of the cell and its strength.
    sums : (8,) float64
        0 stained share; 1-4 weighted crest, mass, width, weight; 5 share of the perimeter where
        a partner's line hides this cell's; 6 shared share.
    """
    m, length, _, partner, overlap, _ = data
    (old_h, old_a, old_mean), (h, a) = states
    sums[:] = 0.0
    for k in range(PLACES):
        j, s, _, part = neighbours_part(i, k, (partner, overlap), (old_h, old_a))
        p, size = 0.5 + 0.5 * h[i, 0, k], length[i, k]
        for c in range(STATES):
            x[c] += h[i, c, k] / PLACES
            x[STATES + c] += h[i, c, k] / PLACES if j < 0 else 0.0
        x[2 * STATES] += size * p * p
        sums[0] += size * p
        at = FINAL - 4
        x[at + 2] += size * part / (part + a[i] + 0.03)
        if j < 0:
            x[2 * STATES + 1] += size * p
        else:
            sums[6] += size
            x[at] += size * (0.5 + 0.5 * old_h[j, 0, s])
            x[at + 1] += size * beside(old_a[i], old_a[j])
            x[at + 3] += size * (0.5 + 0.5 * old_mean[j, 0])
        share = (old_a[i] + TRACE) / (old_a[i] + part + TRACE)
        v = size * trust_of(h, i, k) * share * share + 1e-6
        sums[1] += v * max(lines[0][i, k], 0.0)
        sums[2] += v * m[i, k]
        sums[3] += v * lines[1][i, k]
        sums[4] += v
        sums[5] += size if part > 3.0 * max(a[i] * p, 0.05) else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def judge(x: F32, weights: tuple, says: F32) -> None:
    """Write the verdict's numbers (SAYS,) from its inputs (FINAL,)."""
    first, first_bias, second, second_bias = weights
    z = first_bias.copy()
    for a in range(FINAL):
        for u in range(VERDICT):
            z[u] += x[a] * first[a, u]
    put(says, 0, second_bias)
    for u in range(VERDICT):
        if z[u] > 0:
            for q in range(SAYS):
                says[q] += z[u] * second[u, q]


@njit(cache=True, nogil=True, error_model="numpy")
def sharp_shape(sums: F64, blur_um: float, gauss: float) -> tuple[float, float]:
    """Return crest OD for one unit of mass, and the full width, both before the blur."""
    crest, mass, wide = sums[1] / sums[4], sums[2] / sums[4], sums[3] / sums[4]
    sharp = np.sqrt(max(wide * wide - blur_um * blur_um, 0.16 * wide * wide) + 1e-6)
    shape = min(max(crest / (mass + TRACE) * wide, 0.4), 1.2 / gauss)
    return shape / max(sharp, 0.2), sharp


@njit(cache=True, nogil=True, error_model="numpy")
def verdicts(
    data: tuple, states: tuple, lines: tuple, cells: tuple, optics: tuple, weights: tuple, out: F64
) -> None:
    """Write the wanted cells' results.

    Parameters
    ----------
    data, states, lines : tuple
        As in `ring_sums`.
    cells : tuple
        Inputs (N, CELL_INPUTS) float32, and which cells are wanted, (N,) bool.
    optics : tuple
        Full width of the blur (µm), and a Gaussian's integral at width and height 1.
    weights : tuple
        Of `judge`.
    out : (N, 10) float64
        OD, OD over the ring, mass, completeness, width (these five as if the cell were stained),
        (cytoplasm), shared share, (junction share), 1 where uncertain, log odds of any staining;
        those in brackets are left alone.
    """
    blur_um, gauss = optics
    cell, wanted = cells
    sd, a = data[2], states[1][1]
    x, says, sums = np.empty(FINAL, np.float32), np.empty(SAYS, np.float32), np.empty(8)
    for i in range(a.size):
        if not wanted[i]:
            continue
        x[:] = 0.0
        ring_sums(i, data, states, lines, x, sums)
        at = 2 * STATES + 2
        put(x, at, cell[i])
        x[at + CELL_INPUTS] = np.log1p(a[i] / 0.03)
        x[at + CELL_INPUTS + 1] = a[i] / (a[i] + 3.0 * sd[i])
        judge(x, weights, says)
        sure = 0.5 + 0.5 * squash(says[0])
        out[i, 6] = sums[6]
        out[i, 9] = np.log(max(sure, 1e-6) / max(1.0 - sure, 1e-6))
        out[i, 8] = 1.0 if says[3] > 0.0 or sums[5] > 0.3 else 0.0
        shape, out[i, 4] = sharp_shape(sums, blur_um, gauss)
        out[i, 2] = a[i] * np.exp(0.5 * squash(says[1]))
        out[i, 0] = out[i, 2] * shape * np.exp(0.7 * squash(says[2]))
        out[i, 3] = min(max(sums[0] + 0.3 * squash(says[4]), 0.0), 1.0)
        out[i, 1] = out[i, 0] * out[i, 3]


SHAPES: dict[str, tuple[int, ...]] = {
    "place": (PLACE_INPUTS, HIDDEN),
    "cell": (CELL_INPUTS, HIDDEN),
    "look": (LOOK_INPUTS, LOOK_HIDDEN), "look_bias": (LOOK_HIDDEN,),
    "near": (3 * LOOK_HIDDEN, LOOKS), "near_bias": (LOOKS,),
    "far": (3 * LOOKS, LOOKS), "far_bias": (LOOKS,),
    "look_place": (LOOKS, HIDDEN), "look_cell": (2 * LOOKS, HIDDEN),
    "bias": (ROUNDS, HIDDEN),
    "moving": (ROUNDS, MOVING, HIDDEN),
    "talk": (ROUNDS, 6, STATES, HIDDEN),
    "last": (ROUNDS, HIDDEN, STATES),
    "last_bias": (ROUNDS, STATES),
    "verdict": (FINAL, VERDICT), "verdict_bias": (VERDICT,),
    "says": (VERDICT, SAYS), "says_bias": (SAYS,),
}  # fmt: skip
"""Names and shapes of the weights."""
