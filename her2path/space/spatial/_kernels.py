"""Compiled loops of the spatial statistics; each has a plain twin that the tests compare it to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = [
    "CORE",
    "FRAME",
    "POINT",
    "Cells",
    "cell_list",
    "count_rectangles",
    "count_sum",
    "lane_products",
    "link_components",
    "pair_histogram",
    "permuted_products",
    "random_lanes",
    "to_records",
]

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Lanes = NDArray[np.uint64]
Records = NDArray[np.void]
#: sorted cell list: bin key, and x, y in the order of the keys
Cells = tuple[Int, Float, Float]
#: bit planes of 64 counters: sums below 2^48
PLANES = 48
#: where the bins of a cell list begin, their side and number along x, and a rectangle's sides, µm
FRAME = np.dtype(
    [
        ("x0", np.float64),
        ("y0", np.float64),
        ("size", np.float64),
        ("columns", np.int64),
        ("length", np.float64),
        ("width", np.float64),
    ]
)
#: a rectangle's centre (µm) and angle (radians), and the draw that it belongs to
CORE = np.dtype([("x", np.float64), ("y", np.float64), ("angle", np.float64), ("draw", np.int64)])
#: one point: place (µm), class, and the last draw that took it, -1 for none
POINT = np.dtype([("x", np.float64), ("y", np.float64), ("code", np.int64), ("taken", np.int64)])


@njit(cache=True, nogil=True)
def _next(state: NDArray[np.uint64]) -> np.uint64:
    # splitmix64: one multiply-xorshift chain, the same on every machine
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(cache=True, nogil=True)
def _below(state: NDArray[np.uint64], n: int) -> int:
    return int((_next(state) >> np.uint64(11)) * (1.0 / 9007199254740992.0) * n)


@njit(cache=True, nogil=True)
def permuted_products(
    z: Float, indptr: Int, indices: NDArray[np.int32], data: Float, draws: int, seed: int
) -> Float:
    """Return sum w_ij z_i z_j for shuffled values, (draws,)."""
    n = z.size
    state = np.array([seed], np.uint64)
    shuffled = z.copy()
    out = np.empty(draws)
    for d in range(draws):
        for i in range(n - 1, 0, -1):
            j = _below(state, i + 1)
            shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
        total = 0.0
        for i in range(n):
            lag = 0.0
            for e in range(indptr[i], indptr[i + 1]):
                lag += data[e] * shuffled[indices[e]]
            total += shuffled[i] * lag
        out[d] = total
    return out


@njit(cache=True, nogil=True)
def random_lanes(n: int, marked: int, seed: int) -> Lanes:
    """Return 64 independent random labellings, one a bit, each with exactly ``marked`` ones.

    Independent bits with probability near marked / n are drawn first; then random ones (or zeros)
    are flipped until the count is right. Both steps treat all points alike, so that every subset
    of the size is equally likely.
    """
    state = np.array([seed], np.uint64)
    p16 = int(marked * 65536.0 / n)
    out = np.empty(n, np.uint64)
    count = np.zeros(64, np.int64)
    for i in range(n):
        word = np.uint64(0)
        for b in range(16):
            if (p16 >> b) & 1:
                word = word | _next(state)
            elif word != np.uint64(0):
                word = word & _next(state)
        if p16 >= 65536:
            word = ~np.uint64(0)
        out[i] = word
    for lane in range(64):
        bit = np.uint64(1) << np.uint64(lane)
        ones = 0
        for i in range(n):
            ones += int((out[i] >> np.uint64(lane)) & np.uint64(1))
        while ones != marked:
            i = _below(state, n)
            is_one = (out[i] & bit) != np.uint64(0)
            if ones < marked and not is_one:
                out[i] = out[i] | bit
                ones += 1
            elif ones > marked and is_one:
                out[i] = out[i] & ~bit
                ones -= 1
        count[lane] = ones
    return out


@njit(cache=True, nogil=True)
def _add(planes: Lanes, waiting: Lanes, full: NDArray[np.bool_], at: int, word: np.uint64) -> None:
    # 64 counters at once, one bit plane a power of two; two words wait for each other at a plane
    # and enter it together (a full adder), so that plane p is touched once in 2^p words
    while full[at]:
        a, b = planes[at], waiting[at]
        either = a ^ b
        carry = (a & b) | (either & word)
        planes[at] = either ^ word
        full[at] = False
        word = carry
        at += 1
    waiting[at] = word
    full[at] = True


@njit(cache=True, nogil=True)
def _totals(planes: Lanes, waiting: Lanes, full: NDArray[np.bool_]) -> Int:
    out = np.zeros(64, np.int64)
    for p in range(planes.size):
        rest = waiting[p] if full[p] else np.uint64(0)
        for lane in range(64):
            bits = ((planes[p] >> np.uint64(lane)) & np.uint64(1)) + (
                (rest >> np.uint64(lane)) & np.uint64(1)
            )
            out[lane] += np.int64(bits) << np.int64(p)
    return out


@njit(cache=True, nogil=True)
def lane_products(lanes: Lanes, near: NDArray[np.int32], indegree: Int) -> tuple[Int, Int]:
    """Return, for 64 labellings, sum_i b_i sum_j b_j over neighbours, and sum_j indegree_j b_j.

    ``near`` has at most 127 columns.
    """
    n, k = near.shape
    zero = np.uint64(0)
    both, single = np.zeros(PLANES, np.uint64), np.zeros(PLANES, np.uint64)
    wait_both, wait_single = np.zeros(PLANES, np.uint64), np.zeros(PLANES, np.uint64)
    full_both, full_single = np.zeros(PLANES, np.bool_), np.zeros(PLANES, np.bool_)
    for i in range(n):
        own = lanes[i]
        c0 = c1 = c2 = c3 = c4 = c5 = c6 = zero
        for e in range(0, k, 2):
            first = lanes[near[i, e]]
            second = lanes[near[i, e + 1]] if e + 1 < k else zero
            either = c0 ^ first
            t = (c0 & first) | (either & second)
            c0 = either ^ second
            c1, t = c1 ^ t, c1 & t
            c2, t = c2 ^ t, c2 & t
            c3, t = c3 ^ t, c3 & t
            if k > 14:
                c4, t = c4 ^ t, c4 & t
                c5, t = c5 ^ t, c5 & t
                c6 = c6 ^ t
        _add(both, wait_both, full_both, 0, c0 & own)
        _add(both, wait_both, full_both, 1, c1 & own)
        _add(both, wait_both, full_both, 2, c2 & own)
        _add(both, wait_both, full_both, 3, c3 & own)
        if k > 14:
            _add(both, wait_both, full_both, 4, c4 & own)
            _add(both, wait_both, full_both, 5, c5 & own)
            _add(both, wait_both, full_both, 6, c6 & own)
        degree, p = indegree[i], 0
        while degree:
            if degree & 1:
                _add(single, wait_single, full_single, p, own)
            degree >>= 1
            p += 1
    return _totals(both, wait_both, full_both), _totals(single, wait_single, full_single)


@njit(cache=True, nogil=True)
def count_sum(marks: NDArray[np.bool_], near: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return each point's number of marked neighbours."""
    out = np.zeros(near.shape[0], np.int32)
    for i in range(near.shape[0]):
        for e in range(near.shape[1]):
            out[i] += marks[near[i, e]]
    return out


def cell_list(x: Float, y: Float, size: float) -> tuple[Int, Int, int]:
    """Return (order, sorted bin keys, columns): points grouped by square bins, row after row.

    Keys are sparse, so that far-away points cost no memory. There is one empty column on either
    side, so that a range of bins never runs over the end of a row.
    """
    col = np.floor((x - x.min()) / size).astype(np.int64) + 1
    row = np.floor((y - y.min()) / size).astype(np.int64)
    columns = int(col.max()) + 2
    key = row * columns + col
    order = np.argsort(key, kind="stable")
    return order, key[order], columns


@njit(cache=True, nogil=True)
def pair_histogram(
    x: Float,
    y: Float,
    label: NDArray[np.bool_],
    keys: Int,
    columns: int,
    centres: Int,
    width: float,
    bins: int,
) -> NDArray[np.int32]:
    """Return ordered pairs (centre, other), (centres, 5, bins): all, ++, +-, -+, -- by distance.

    Points lie in the order of ``keys`` with bins of side ``width * bins``; a distance d falls into
    bin floor(d / width).
    """
    out = np.zeros((centres.size, 5, bins), np.int32)
    reach2 = (width * bins) ** 2
    for c in range(centres.size):
        i = centres[c]
        for dr in range(-1, 2):
            base = keys[i] + dr * columns
            lo = np.searchsorted(keys, base - 1)
            hi = np.searchsorted(keys, base + 2)
            for j in range(lo, hi):
                dx, dy = x[j] - x[i], y[j] - y[i]
                d2 = dx * dx + dy * dy
                if j == i or d2 >= reach2:
                    continue
                b = min(int(np.sqrt(d2) / width), bins - 1)
                out[c, 0, b] += 1
                out[c, 4 - 2 * int(label[i]) - int(label[j]), b] += 1
    return out


@njit(cache=True, nogil=True)
def _root(parent: Int, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def link_components(x: Float, y: Float, keys: Int, columns: int, reach: float) -> Int:
    """Return the root of each point's component, points at most ``reach`` apart being linked.

    Points lie in the order of ``keys`` with bins of side ``reach``. Roots are the smallest index
    of their component.
    """
    n = x.size
    parent = np.arange(n)
    reach2 = reach * reach
    for i in range(n):
        for dr in range(-1, 2):
            base = keys[i] + dr * columns
            lo = np.searchsorted(keys, base - 1)
            hi = min(np.searchsorted(keys, base + 2), i)
            for j in range(lo, hi):
                dx, dy = x[j] - x[i], y[j] - y[i]
                if dx * dx + dy * dy <= reach2:
                    a, b = _root(parent, i), _root(parent, j)
                    if a < b:
                        parent[b] = a
                    elif b < a:
                        parent[a] = b
    for i in range(n):
        parent[i] = _root(parent, i)
    return parent


@njit(cache=True, nogil=True)
def _span(
    low: float, high: float, cy: float, cos: float, sin: float, half_l: float, half_w: float
) -> tuple[float, float]:
    # range along the axis within which the rectangle can meet the band low..high
    t0, t1 = -half_l, half_l
    if abs(sin) > 1e-9:
        a, b = (low - cy - half_w) / sin, (high - cy + half_w) / sin
        if a > b:
            a, b = (high - cy + half_w) / sin, (low - cy - half_w) / sin
        t0, t1 = max(t0, a), min(t1, b)
    a, b = t0 * cos, t1 * cos
    return min(a, b) - half_w, max(a, b) + half_w


@njit(cache=True, nogil=True)
def _sweep(
    points: Records, keys: Int, frame: np.record, core: np.record, ends: Float, out: Int
) -> None:
    """Walk through one rectangle: find where its cells begin and end, or count them if known.

    Cells that an earlier rectangle of the same draw took are gone. `points` (n,) `POINT` in the
    order of `keys`, `frame` a `FRAME`, `core` a `CORE`, `ends` (2,) along it, µm, `out` (areas,
    classes).
    """
    x0, y0, size, columns = frame.x0, frame.y0, frame.size, frame.columns
    half_l, half_w = frame.length / 2, frame.width / 2
    cx, cy, cos, sin = core.x, core.y, np.cos(core.angle), np.sin(core.angle)
    known = ends[0] <= ends[1]
    low_t, high_t = np.inf, -np.inf
    reach = abs(sin) * half_l + half_w
    first = max(0, int(np.floor((cy - reach - y0) / size)))
    last = min(int(keys[-1] // columns), int(np.floor((cy + reach - y0) / size)))
    for row in range(first, last + 1):
        low = y0 + row * size
        a, b = _span(low, low + size, cy, cos, sin, half_l, half_w)
        if a > b:
            continue
        c0 = min(max(int(np.floor((cx + a - x0) / size)), -1), columns - 2)
        c1 = min(max(int(np.floor((cx + b - x0) / size)), -1), columns - 2)
        lo = np.searchsorted(keys, row * columns + c0 + 1)
        hi = np.searchsorted(keys, row * columns + c1 + 2)
        for j in range(lo, hi):
            point = points[j]
            dx, dy = point.x - cx, point.y - cy
            t, u = dx * cos + dy * sin, dy * cos - dx * sin
            if not (-half_l <= t < half_l and -half_w <= u < half_w) or point.taken == core.draw:
                continue
            if known:
                share = (t - ends[0]) / (ends[1] - ends[0]) if ends[1] > ends[0] else 0.0
                area = min(max(int(share * out.shape[0]), 0), out.shape[0] - 1)
                out[area, point.code] += 1
                point.taken = core.draw
            else:
                low_t, high_t = min(low_t, t), max(high_t, t)
    if not known:
        ends[0], ends[1] = low_t, high_t


@njit(cache=True, nogil=True)
def count_rectangles(
    points: Records, keys: Int, frame: np.record, cores: Records, areas: int, classes: int
) -> tuple[Int, Float]:
    """Count points in rotated rectangles cut across into areas; each point once in a draw.

    The areas share the stretch between a rectangle's first and last point equally.

    Parameters
    ----------
    points : (n,) `POINT`
        In the order of ``keys``; ``taken`` is written.
    keys : (n,) int64
        Bin of each point, of `cell_list`.
    frame : `FRAME`
    cores : (r,) `CORE`
        Those of one draw follow each other.
    areas, classes : int
        Areas a core, classes of points.

    Returns
    -------
    (r, areas, classes) int64, (r,) float64
        Counts, and the stretch between the first and the last point along the rectangle.
    """
    out = np.zeros((cores.size, areas, classes), np.int64)
    stretch = np.zeros(cores.size)
    ends = np.empty(2)
    for r in range(cores.size):
        ends[0], ends[1] = 1.0, 0.0
        _sweep(points, keys, frame, cores[r], ends, out[r])
        if ends[0] <= ends[1]:
            stretch[r] = ends[1] - ends[0]
            _sweep(points, keys, frame, cores[r], ends, out[r])
    return out, stretch


def to_records(dtype: np.dtype[np.void], **columns: NDArray[Any] | float) -> Records:
    """Return columns (n,) or single values as structured rows (n,)."""
    shape = np.broadcast_shapes(*(np.shape(v) for v in columns.values()))
    rows = np.empty(shape, dtype)
    for name, values in columns.items():
        rows[name] = values
    return rows
