"""A small convolutional net over the pixels around a nucleus: the compiled loops.

Nuclei are the last axis of every array and go through side by side. What is added up for one of
them is added in the same order wherever it stands among them.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["CHANNELS", "LANES", "cut", "see"]

_jit = njit(cache=True, nogil=True, error_model="numpy")
#: nuclei that go through the net side by side
LANES = 64
#: what is seen of every point: hematoxylin, DAB, inside or outside the contour
CHANNELS = 3
#: hematoxylin of the nucleus, OD, below which nothing is divided by it; bounds of the ratio
_FAINT, _LEAST, _MOST = np.float32(0.03), np.float32(-0.3), np.float32(2.2)
#: bounds of DAB, OD, and its unit
_DAB_FROM, _DAB_TO, _DAB_UNIT = np.float32(-0.05), np.float32(0.23), np.float32(0.14)
_ZERO, _ONE = np.float32(0), np.float32(1)


@_jit
def _places(at, offset, size, out):  # type: ignore[no-untyped-def]
    """Fill the pixels nearest to the offsets from a position, those at the edge for beyond."""
    whole = int(np.floor(at))
    rest = at - np.float32(whole)
    for k in range(offset.size):
        p = whole + int(np.floor(rest + offset[k] + np.float32(0.5)))
        out[k] = min(max(p, 0), size - 1)


@_jit
def _gapless(places):  # type: ignore[no-untyped-def]
    gaps = 0
    for k in range(1, places.size):
        gaps += places[k] != places[k - 1] + 1
    return gaps == 0


@_jit
def _mean_of_four(plane, rows, cols, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with means of 2 x 2 places; the usual case, no gaps, takes pixels in a row."""
    side = rows.size // 2
    if _gapless(cols):
        for i in range(side):
            upper = plane[rows[2 * i], cols[0] : cols[0] + 2 * side]
            lower = plane[rows[2 * i + 1], cols[0] : cols[0] + 2 * side]
            for j in range(side):
                total = upper[2 * j] + upper[2 * j + 1]
                total += lower[2 * j] + lower[2 * j + 1]
                out[i * side + j] = total * np.float32(0.25)
        return
    for i in range(side):
        upper, lower = rows[2 * i], rows[2 * i + 1]
        for j in range(side):
            left, right = cols[2 * j], cols[2 * j + 1]
            total = plane[upper, left] + plane[upper, right]
            total += plane[lower, left] + plane[lower, right]
            out[i * side + j] = total * np.float32(0.25)


@_jit
def cut(h, d, y, x, radii, offset, ray, away, soft, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (CHANNELS, side * side, LANES) with what is seen around at most LANES nuclei.

    Hematoxylin is taken as a share of the nucleus' own, the mean inside the contour. Positions
    are relative to the nucleus' own whole pixel, so that they round alike wherever the block
    begins.
    """
    rows, cols = np.empty(offset.size, np.int64), np.empty(offset.size, np.int64)
    seen = np.empty((2, ray.size), np.float32)
    for n in range(y.size):
        _places(y[n], offset, h.shape[0], rows)
        _places(x[n], offset, h.shape[1], cols)
        _mean_of_four(h, rows, cols, seen[0])
        _mean_of_four(d, rows, cols, seen[1])
        total, area = _ZERO, np.float32(1e-3)
        for p in range(ray.size):
            inside = min(max((radii[n, ray[p]] - away[p]) * soft, -_ONE), _ONE)
            out[2, p, n] = inside
            inside = max(inside, _ZERO)
            total += inside * seen[0, p]
            area += inside
        own = _ONE / max(total / area, _FAINT)
        for p in range(ray.size):
            out[0, p, n] = min(max(seen[0, p] * own, _LEAST), _MOST)
            out[1, p, n] = min(max(seen[1, p], _DAB_FROM), _DAB_TO) / _DAB_UNIT


@_jit
def _first(x, weight, bias, out, total):  # type: ignore[no-untyped-def]
    """Convolve 4 x 4 at every second point, and keep the largest of 2 x 2, or 0.

    Two channels at once: what is loaded serves both.
    """
    size = out.shape[1]
    out[:] = _ZERO
    one, two = total[0], total[1]
    for place in range(size * size):
        i, j = place // size, place % size
        for o in range(0, weight.shape[0], 2):
            for part in range(4):
                top, left = 2 * (2 * i + part // 2), 2 * (2 * j + part % 2)
                one[:] = bias[o]
                two[:] = bias[o + 1]
                for c in range(x.shape[0]):
                    for k in range(4):
                        row = top + k
                        w0, w1, w2, w3 = weight[o, c, k]
                        v0, v1, v2, v3 = weight[o + 1, c, k]
                        for n in range(LANES):
                            x0, x1 = x[c, row, left, n], x[c, row, left + 1, n]
                            x2, x3 = x[c, row, left + 2, n], x[c, row, left + 3, n]
                            one[n] = one[n] + w0 * x0 + w1 * x1 + w2 * x2 + w3 * x3
                            two[n] = two[n] + v0 * x0 + v1 * x1 + v2 * x2 + v3 * x3
                for n in range(LANES):
                    out[o, i, j, n] = max(out[o, i, j, n], one[n])
                    out[o + 1, i, j, n] = max(out[o + 1, i, j, n], two[n])


@_jit
def _second(x, weight, bias, out, total):  # type: ignore[no-untyped-def]
    """Convolve 3 x 3 at every point, 0 at least; two channels at once."""
    size = out.shape[1]
    one, two = total[0], total[1]
    for place in range(size * size):
        i, j = place // size, place % size
        for o in range(0, weight.shape[0], 2):
            one[:] = bias[o]
            two[:] = bias[o + 1]
            for c in range(x.shape[0]):
                for k in range(3):
                    row = i + k
                    w0, w1, w2 = weight[o, c, k]
                    v0, v1, v2 = weight[o + 1, c, k]
                    for n in range(LANES):
                        x0, x1, x2 = x[c, row, j, n], x[c, row, j + 1, n], x[c, row, j + 2, n]
                        one[n] = one[n] + w0 * x0 + w1 * x1 + w2 * x2
                        two[n] = two[n] + v0 * x0 + v1 * x1 + v2 * x2
            for n in range(LANES):
                out[o, i, j, n] = max(one[n], _ZERO)
                out[o + 1, i, j, n] = max(two[n], _ZERO)


@_jit
def _dense(x, weight, bias, least, out):  # type: ignore[no-untyped-def]
    """Weigh all values (a multiple of 4), ``least`` at least."""
    for o in range(weight.shape[0]):
        total = out[o]
        total[:] = bias[o]
        for k in range(0, weight.shape[1], 4):
            w0, w1, w2, w3 = weight[o, k], weight[o, k + 1], weight[o, k + 2], weight[o, k + 3]
            for n in range(LANES):
                total[n] = (
                    total[n] + w0 * x[k, n] + w1 * x[k + 1, n] + w2 * x[k + 2, n] + w3 * x[k + 3, n]
                )
        for n in range(LANES):
            total[n] = max(total[n], least)


@_jit
def see(x, w1, b1, w2, b2, w3, b3, w4, b4, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (w4 rows, LANES) with the net's outputs for ``x`` (CHANNELS, side, side, LANES).

    Two convolutions and two dense layers, each weight ``w`` with its bias ``b``.
    """
    total = np.empty((2, LANES), np.float32)
    half = (x.shape[1] - 4) // 4 + 1
    pooled = np.empty((w1.shape[0], half, half, LANES), np.float32)
    _first(x, w1, b1, pooled, total)
    deep = np.empty((w2.shape[0], half - 2, half - 2, LANES), np.float32)
    _second(pooled, w2, b2, deep, total)
    hidden = np.empty((w3.shape[0], LANES), np.float32)
    _dense(deep.reshape(-1, LANES), w3, b3, _ZERO, hidden)
    _dense(hidden, w4, b4, np.float32(-np.inf), out)
