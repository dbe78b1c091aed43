"""Hot loops over pixels: reduce, blur, scale response, and the maxima of a scale stack.

A value at a pixel is the same sequence of float operations wherever the block starts: sums run in
a fixed order and nothing is reassociated, so results do not depend on how a slide was cut.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from her2path.nuclei._hash import coordinate_hash

__all__ = [
    "beats", "blur", "bridge", "divide", "hide", "mark_floor", "mark_peaks", "reduce_mean",
    "response", "rise", "scale_maxima", "weigh",
]

_jit = njit(cache=True, nogil=True, error_model="numpy")


@_jit
def reduce_mean(plane, q, top, left, low, high, out):  # type: ignore[no-untyped-def]
    """Average q x q pixels, each first clipped to low..high, from (top, left) on."""
    scale = np.float32(1.0 / (q * q))
    if q == 2:  # the usual case: a stride known beforehand is vectorised
        for i in range(out.shape[0]):
            upper, lower = plane[top + 2 * i, left:], plane[top + 2 * i + 1, left:]
            _mean_of_four(upper, lower, low, high, scale, out[i])
        return
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            total = np.float32(0)
            for a in range(q):
                for b in range(q):
                    v = plane[top + i * q + a, left + j * q + b]
                    total += min(max(v, low), high)
            out[i, j] = total * scale


@_jit
def _mean_of_four(upper, lower, low, high, scale, out):  # type: ignore[no-untyped-def]
    for j in range(out.size):
        total = min(max(upper[2 * j], low), high)
        total += min(max(upper[2 * j + 1], low), high)
        total += min(max(lower[2 * j], low), high)
        total += min(max(lower[2 * j + 1], low), high)
        out[j] = total * scale


@_jit
def weigh(h, ridge, knee, weighted, weight):  # type: ignore[no-untyped-def]
    """Write h x w and w, where w falls from 1 to 0 as a DAB ridge rises from 0 to `knee`."""
    for y in range(h.shape[0]):
        for x in range(h.shape[1]):
            # the floor keeps the ratio defined where all around is brown
            w = max(np.float32(1) - ridge[y, x] / knee, np.float32(1e-3))
            weight[y, x] = w
            weighted[y, x] = h[y, x] * w


@_jit
def hide(h, ridge, mean, knee, leak, out):  # type: ignore[no-untyped-def]
    """Write H with ridges replaced by their surroundings, less what leaks from them."""
    for y in range(h.shape[0]):
        for x in range(h.shape[1]):
            w = min(ridge[y, x] / knee, np.float32(1))
            out[y, x] = h[y, x] + w * (mean[y, x] - h[y, x]) - leak * ridge[y, x]


@_jit
def divide(above, below, out):  # type: ignore[no-untyped-def]
    """Write the ratio."""
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] = above[y, x] / below[y, x]


@_jit
def bridge(h, ridge, mean, knee, q, top, left, taps, out):  # type: ignore[no-untyped-def]
    """Write H with DAB ridges bridged and blurred, at full size; only a few rows are held between.

    Parameters
    ----------
    h : float32 (H, W)
    ridge, mean : float32 (H / q, W / q)
        Height of DAB ridges, and H of the surroundings without them.
    knee : float32
        A ridge of this height hides hematoxylin wholly, OD.
    q, top, left : int
        The coarse planes' factor and first pixel; edges are clamped.
    taps : float32 (R + 1,)
        Of the blur, see `blur`.
    out : float32 (H, W)
    """
    height, width = h.shape
    reach, last = taps.size - 1, height - 1
    above, around = np.empty(width, np.float32), np.empty(width, np.float32)
    share, line = np.empty(width, np.float32), np.empty(width + 2 * reach, np.float32)
    held = np.empty((2 * reach + 1, width), np.float32)
    row, ready = -1, 0
    for y in range(height):
        while ready <= min(y + reach, last):
            i = min(max((ready - top) // q, 0), ridge.shape[0] - 1)
            if i != row:
                row = i
                _repeat(ridge[i], q, left, above)
                _repeat(mean[i], q, left, around)
                for x in range(width):
                    share[x] = min(above[x] / knee, np.float32(1))
            _bridge(h[ready], around, share, held[ready % held.shape[0]])
            ready += 1
        _down(held, y, last, taps, line[reach : reach + width])
        _across(line, taps, out[y])


@_jit
def _repeat(row, q, left, out):  # type: ignore[no-untyped-def]
    """Write every value of a row q times, the first from `left` on; the ends are continued."""
    last = row.size - 1
    out[:left] = row[0]
    x = left
    for j in range(min(row.size, (out.size - left) // q)):
        for _ in range(q):
            out[x] = row[j]
            x += 1
    out[x:] = row[last]


@_jit
def _bridge(row, around, share, out):  # type: ignore[no-untyped-def]
    for x in range(out.size):
        out[x] = row[x] + share[x] * (around[x] - row[x])


@_jit
def blur(plane, taps, out):  # type: ignore[no-untyped-def]
    """Convolve with a symmetric separable kernel; taps[0] is its centre. Edges are clamped."""
    height, width = plane.shape
    reach = taps.size - 1
    line = np.empty(width + 2 * reach, np.float32)
    for y in range(height):
        _down(plane, y, height - 1, taps, line[reach : reach + width])
        _across(line, taps, out[y])


@_jit
def _down(rows, y, last, taps, out):  # type: ignore[no-untyped-def]
    """Blur along the columns at row y; rows may be a plane or a ring of its rows."""
    reach, n = taps.size - 1, rows.shape[0]
    _scale(rows[y % n], taps[0], out)
    k = 1
    while k + 2 <= reach:
        a, b, c = max(y - k, 0) % n, max(y - k - 1, 0) % n, max(y - k - 2, 0) % n
        d, e, f = min(y + k, last) % n, min(y + k + 1, last) % n, min(y + k + 2, last) % n
        _add_pairs(
            rows[a], rows[d], rows[b], rows[e], rows[c], rows[f],
            taps[k], taps[k + 1], taps[k + 2], out,
        )
        k += 3
    while k <= reach:
        _add_pair(rows[max(y - k, 0) % n], rows[min(y + k, last) % n], taps[k], out)
        k += 1


@_jit
def _across(line, taps, out):  # type: ignore[no-untyped-def]
    """Blur along a row that lies in the middle of a line; the line's ends are filled here."""
    reach, width = taps.size - 1, out.size
    # slices, because an index that could be negative keeps a loop from being vectorised
    middle = line[reach : reach + width]
    line[:reach] = middle[0]
    line[reach + width :] = middle[width - 1]
    _scale(middle, taps[0], out)
    k = 1
    while k + 2 <= reach:
        left, right = line[reach - k :], line[reach + k :]
        left2, right2 = line[reach - k - 1 :], line[reach + k + 1 :]
        left3, right3 = line[reach - k - 2 :], line[reach + k + 2 :]
        _add_pairs(
            left, right, left2, right2, left3, right3, taps[k], taps[k + 1], taps[k + 2], out
        )
        k += 3
    while k <= reach:
        _add_pair(line[reach - k :], line[reach + k :], taps[k], out)
        k += 1


@_jit
def _scale(row, factor, out):  # type: ignore[no-untyped-def]
    """Write factor x row."""
    for x in range(out.size):
        out[x] = factor * row[x]


@_jit
def _add_pair(a, b, factor, out):  # type: ignore[no-untyped-def]
    """Add factor x (a + b)."""
    for x in range(out.size):
        out[x] += factor * (a[x] + b[x])


@_jit
def _add_pairs(a, b, c, d, e, f, one, two, three, out):  # type: ignore[no-untyped-def]
    """Add three pairs, one after the other: a third of the loads and stores of single pairs."""
    for x in range(out.size):
        v = out[x] + one * (a[x] + b[x])
        v += two * (c[x] + d[x])
        out[x] = v + three * (e[x] + f[x])


@_jit
def rise(sharp, wide, out):  # type: ignore[no-untyped-def]
    """Write how far `sharp` stands above `wide`, 0 where it does not."""
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] = max(sharp[y, x] - wide[y, x], np.float32(0))


@_jit
def response(h, d, ring, cap, out):  # type: ignore[no-untyped-def]
    """Difference of neighbouring scales of H, plus what a pale place in a brown ring adds.

    Parameters
    ----------
    h, d : float32 (S + 1, H, W)
        Hematoxylin and DAB OD, blurred at rising scales.
    ring : float32
        Weight of a DAB hollow (negative difference of scales).
    cap : float32
        The deepest hollow that counts, OD.
    out : float32 (S, H, W)
    """
    for s in range(out.shape[0]):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                hollow = min(max(d[s + 1, y, x] - d[s, y, x], np.float32(0)), cap)
                out[s, y, x] = h[s, y, x] - h[s + 1, y, x] + ring * hollow


@_jit
def beats(stack, s, y, x, t, v, u, oy, ox):  # type: ignore[no-untyped-def]
    """Whether (s, y, x) is above (t, v, u); ties go by the hash of absolute coordinates."""
    a = stack[s, y, x]
    b = stack[t, v, u]
    if a != b:
        return a > b
    key_a = coordinate_hash(oy + y, ox + x)
    key_b = coordinate_hash(oy + v, ox + u)
    return key_a > key_b or (key_a == key_b and s > t)


@_jit
def _is_peak(stack, s, y, x, oy, ox):  # type: ignore[no-untyped-def]
    """Whether (s, y, x) beats its 26 neighbours in position and scale."""
    for t in range(max(s - 1, 0), min(s + 2, stack.shape[0])):
        for v in range(y - 1, y + 2):
            for u in range(x - 1, x + 2):
                same = t == s and v == y and u == x
                if not same and not beats(stack, s, y, x, t, v, u, oy, ox):
                    return False
    return True


@_jit
def scale_maxima(stack, wide, relative, base, oy, ox, out):  # type: ignore[no-untyped-def]
    """List the maxima of a scale stack over 3 x 3 positions of the own and the adjacent scales.

    Parameters
    ----------
    stack : float32 (S, H, W)
    wide : float32 (H, W)
        Hematoxylin OD of the neighbourhood.
    relative, base : float32
        A maximum counts only above relative x (wide + base), OD.
    oy, ox : int
        Absolute position of pixel (0, 0), for ties.
    out : int32 (N, 3)
        Receives y, x, scale in raster order.

    Returns
    -------
    int
        How many there are; more than N means that the rest was not written.
    """
    scales, height, width = stack.shape
    n = 0
    floor, maybe = np.empty(width, np.float32), np.zeros(width, np.int32)
    for y in range(1, height - 1):
        mark_floor(wide[y], relative, base, floor)
        maybe[:] = 0
        for s in range(scales):
            row = stack[s, y]
            mark_peaks(
                row[1:], row, row[2:], stack[s, y - 1, 1:], stack[s, y + 1, 1:], floor[1:],
                maybe[1 : width - 1],
            )
        for x in range(1, width - 1):
            if maybe[x] == 0:
                continue
            for s in range(scales):
                if stack[s, y, x] > floor[x] and _is_peak(stack, s, y, x, oy, ox):
                    if n < out.shape[0]:
                        out[n, 0] = y
                        out[n, 1] = x
                        out[n, 2] = s
                    n += 1
    return n


@_jit
def mark_floor(wide, relative, base, out):  # type: ignore[no-untyped-def]
    """Write what a maximum must exceed along a row; see `scale_maxima`."""
    for x in range(out.size):
        out[x] = relative * (max(wide[x], np.float32(0)) + base)


@_jit
def mark_peaks(row, left, right, above, below, floor, out):  # type: ignore[no-untyped-def]
    """Mark where a row exceeds its floor and no direct neighbour is higher: few, and quickly."""
    for x in range(out.size):
        v = row[x]
        good = (v > floor[x]) & (v >= left[x]) & (v >= right[x]) & (v >= above[x]) & (v >= below[x])
        out[x] |= np.int32(good)
