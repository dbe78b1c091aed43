"""What the border looks like, place by place, boiled down to a few fitted numbers.

A reading sums the brown up; how it lies says more: a line or a slope, one or two, on the edge of a
nucleus or off it. So a small fitted network sees both stains across the border, as
`_kernels.measure` samples them, each place with its neighbours along the ring. All of it happens in
pass 1, where the pixels are; pass 2 finds `LOOKS` numbers a place. Sums run in a fixed order and
over one cell only.
`scripts/membrane_model.py` holds the same network for fitting.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from her2path.membrane._inputs import PLACES
from her2path.membrane._network import (
    LOOK_HIDDEN,
    LOOK_INPUTS,
    LOOK_TAPS,
    LOOKS,
    add_rows,
)

F32 = NDArray[np.float32]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
BOOL = NDArray[np.bool_]

#: the middle sample lies on the border
MIDDLE = LOOK_TAPS // 2
#: counts for 1 in a number of a look
FULL = 127
#: what texture that reads as so much mass (µm) is as OD, and camera noise that it does not hold
TEXTURE_UM, CAMERA_OD = 1.3, 0.01
#: OD at which hematoxylin, and both stains together, count as half seen
HEMATOXYLIN_OD, BOTH_OD = 0.12, 0.08
#: how dark one OD of DAB and one of hematoxylin look: JPEG keeps brightness sharper than colour
DAB_DARK, HEMATOXYLIN_DARK = 0.5, 0.64


@njit(cache=True, nogil=True, error_model="numpy")
def press(x: F32) -> None:
    """Press flat numbers into -1..1, in place; exact arithmetic, the same on every machine."""
    one = np.float32(1.0)
    for k in range(x.size):
        x[k] = x[k] / np.sqrt(one + x[k] * x[k])


@njit(cache=True, nogil=True, error_model="numpy")
def look_inputs(profile: F32, noise: float, x: F32) -> None:
    """Write what the network sees of one cell, x (LOOK_INPUTS, PLACES), from (2, PLACES, TAPS).

    DAB over its inner shoulder, as a share of the profile's own largest, and beside the noise
    (OD µm, as `line_noise`); hematoxylin, and the darkness of both, against the border itself.
    """
    grain = np.sqrt(noise * noise / (TEXTURE_UM * TEXTURE_UM) + CAMERA_OD * CAMERA_OD)
    twice = np.float32(2.0 * grain)
    by_noise, third = np.float32(0.5 / grain), np.float32(1.0 / 3.0)
    by_h, by_both = np.float32(1.0 / HEMATOXYLIN_OD), np.float32(1.0 / BOTH_OD)
    dark_d, dark_h = np.float32(DAB_DARK), np.float32(HEMATOXYLIN_DARK)
    for k in range(PLACES):
        h, d = profile[0, k], profile[1, k]
        low = (d[1] + d[2] + d[3]) * third
        middle_h = (h[MIDDLE - 1] + h[MIDDLE] + h[MIDDLE + 1]) * third
        middle_d = (d[MIDDLE - 1] + d[MIDDLE] + d[MIDDLE + 1]) * third
        most = np.float32(0.0)
        for q in range(LOOK_TAPS):
            most = max(most, abs(d[q] - low))
        by_most = np.float32(1.0) / (most + twice)
        for q in range(LOOK_TAPS):
            rise, fall = d[q] - low, h[q] - middle_h
            x[q, k] = rise * by_most
            x[LOOK_TAPS + q, k] = rise * by_noise
            x[2 * LOOK_TAPS + q, k] = fall * by_h
            both = dark_d * (d[q] - middle_d) + dark_h * fall
            x[3 * LOOK_TAPS + q, k] = both * by_both
    press(x[LOOK_TAPS:].reshape((LOOK_INPUTS - LOOK_TAPS) * PLACES))


@njit(cache=True, nogil=True, error_model="numpy")
def layer(x: F32, w: F32, bias: F32, z: F32) -> None:
    """Write the pressed sums z (units, PLACES) of the inputs x (rows, PLACES)."""
    for u in range(z.shape[0]):
        for k in range(PLACES):
            z[u, k] = bias[u]
    add_rows(x, w, x.shape[0], z)
    press(z.reshape(z.size))


@njit(cache=True, nogil=True, error_model="numpy")
def with_neighbours(z: F32, x: F32) -> None:
    """Write each place's numbers below those of the places before and after it."""
    n = z.shape[0]
    for u in range(n):
        for k in range(PLACES):
            x[u, k] = z[u, (k + PLACES - 1) % PLACES]
            x[n + u, k] = z[u, k]
            x[2 * n + u, k] = z[u, (k + 1) % PLACES]


@njit(cache=True, nogil=True, error_model="numpy")
def boil_down(profiles: F32, noise: F32, weights: tuple, wanted: BOOL, out: I8) -> None:
    """Write the looks (N, PLACES * LOOKS) of profiles (N, 2, PLACES, LOOK_TAPS)."""
    look, look_bias, near, near_bias, far, far_bias = weights
    x = np.empty((LOOK_INPUTS, PLACES), np.float32)
    first = np.empty((LOOK_HIDDEN, PLACES), np.float32)
    last = np.empty((LOOKS, PLACES), np.float32)
    wide = np.empty((3 * LOOK_HIDDEN, PLACES), np.float32)
    wider = np.empty((3 * LOOKS, PLACES), np.float32)
    for i in range(profiles.shape[0]):
        if not wanted[i]:
            continue
        look_inputs(profiles[i], noise[i], x)
        layer(x, look, look_bias, first)
        with_neighbours(first, wide)
        layer(wide, near, near_bias, last)
        with_neighbours(last, wider)
        layer(wider, far, far_bias, last)
        for k in range(PLACES):
            for u in range(LOOKS):
                out[i, k * LOOKS + u] = np.int8(np.rint(FULL * last[u, k]))


@njit(cache=True, nogil=True, error_model="numpy")
def add_looks(looks: I8, partner: I32, weights: tuple, wanted: BOOL, out: F32) -> None:
    """Add what the looks add to every round's hidden units, (N, HIDDEN, PLACES).

    A place's own look, and the means over the ring and over its free border.
    """
    by_place, by_cell = weights
    x, mean = np.empty((LOOKS, PLACES), np.float32), np.empty(2 * LOOKS, np.float32)
    worth = np.float32(1.0 / FULL)
    for i in range(looks.shape[0]):
        if not wanted[i]:
            continue
        free = 0
        for k in range(PLACES):
            free += partner[i, k] < 0
        for u in range(LOOKS):
            whole, open_part = 0, 0
            for k in range(PLACES):
                count = int(looks[i, k * LOOKS + u])
                x[u, k] = worth * np.float32(count)
                whole += count
                open_part += count if partner[i, k] < 0 else 0
            mean[u] = whole / (PLACES * FULL)
            mean[LOOKS + u] = open_part / ((free + 1) * FULL)
        for u in range(out.shape[1]):
            common = np.float32(0.0)
            for a in range(2 * LOOKS):
                common += mean[a] * by_cell[a, u]
            for k in range(PLACES):
                out[i, u, k] += common
        add_rows(x, by_place, LOOKS, out[i])
