"""Numba kernels that lay shapes onto the channels of one tile.

Channels are float32 planes of optical density. A tile's frame is
`(x0_um, y0_um, px_um)`: the corner of its first pixel and the pixel size;
pixel centres lie half a pixel inside. `corner` is the same in rendered pixels.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Frame = tuple[float, float, float]
Corner = tuple[int, int]

REACH = 3.0
REACH_MAX_PX = 64


@njit(cache=True, nogil=True)
def dot(plane: F32, x: float, y: float, sigma: float, peak: float) -> None:
    """Add a Gaussian dot; x, y, sigma in pixels (pixel centres at +0.5)."""
    half = min(REACH * sigma + 0.5, REACH_MAX_PX)
    j0, j1 = max(0, int(np.floor(x - half))), min(plane.shape[1], int(np.ceil(x + half)))
    i0, i1 = max(0, int(np.floor(y - half))), min(plane.shape[0], int(np.ceil(y + half)))
    if j0 >= j1 or i0 >= i1:
        return
    across = np.empty(2 * REACH_MAX_PX + 4, np.float32)
    scale = -0.5 / (sigma * sigma)
    for j in range(j0, j1):
        across[j - j0] = np.exp(np.float32(scale * (j + 0.5 - x) ** 2))
    for i in range(i0, i1):
        weight = np.float32(peak * np.exp(scale * (i + 0.5 - y) ** 2))
        for j in range(j0, j1):
            plane[i, j] += weight * across[j - j0]


@njit(cache=True, nogil=True)
def dots(plane: F32, frame: Frame, values: F64) -> None:
    """Add dots (n, 4): x, y, sigma (um), peak OD."""
    for k in range(values.shape[0]):
        x, y = (values[k, 0] - frame[0]) / frame[2], (values[k, 1] - frame[1]) / frame[2]
        dot(plane, x, y, max(values[k, 2] / frame[2], 0.35), values[k, 3])


@njit(cache=True, nogil=True)
def lines(
    plane: F32, frame: Frame, cells: I64, start: I64, points: tuple[F64, F64, F64, F64, F64]
) -> None:
    """Add the lines along outlines, as rows of dots that sum to a smooth line.

    Parameters
    ----------
    plane : (h, w) float32 array
        DAB channel.
    frame : tuple
    cells : (k,) int64 array
        Cells to draw.
    start : (n + 1,) int64 array
    points : tuple of (m,) float64 arrays
        x, y (um), length of outline a point stands for (um), crest OD, sigma (um).
    """
    x, y, piece, od, sigma = points
    root = np.sqrt(2 * np.pi)
    for c in cells:
        k = start[c]
        while k < start[c + 1]:
            if od[k] <= 0.0:
                k += 1
                continue
            mass = sx = sy = length = 0.0
            wide = sigma[k]
            while k < start[c + 1] and length < 0.7 * wide and od[k] > 0.0:
                mass += od[k] * piece[k]
                sx += x[k] * piece[k]
                sy += y[k] * piece[k]
                length += piece[k]
                k += 1
            px, py = (sx / length - frame[0]) / frame[2], (sy / length - frame[1]) / frame[2]
            dot(plane, px, py, wide / frame[2], mass / (root * wide))


@njit(cache=True, nogil=True)
def grainy(plane: F32, lines: F32, texture: F32, corner: Corner, grain: float) -> None:
    """Add lines to a plane, grainy by a texture of mean 0 (their mean stays)."""
    mask = texture.shape[0] - 1
    for i in range(plane.shape[0]):
        for j in range(plane.shape[1]):
            if lines[i, j] > 0.0:
                value = texture[(corner[1] + i + 311) & mask, (corner[0] + j + 77) & mask]
                plane[i, j] += lines[i, j] * max(0.0, 1.0 + grain * value)


@njit(cache=True, nogil=True)
def bodies(label: I32, frame: Frame, cells: I64, start: I64, x: F64, y: F64) -> None:
    """Fill outlines into a label plane (background -1), by the even-odd rule."""
    crossings = np.empty(64)
    for c in cells:
        a, b = start[c], start[c + 1]
        if b - a < 3:
            continue
        low = high = y[a]
        for k in range(a, b):
            low, high = min(low, y[k]), max(high, y[k])
        first = max(0, int((low - frame[1]) / frame[2]))
        last = min(label.shape[0], int((high - frame[1]) / frame[2]) + 1)
        for i in range(first, last):
            at = frame[1] + (i + 0.5) * frame[2]
            found = 0
            for k in range(a, b):
                j = k + 1 if k + 1 < b else a
                if (y[k] <= at) != (y[j] <= at) and found < 64:
                    value = x[k] + (at - y[k]) / (y[j] - y[k]) * (x[j] - x[k])
                    place = found
                    while place > 0 and crossings[place - 1] > value:
                        crossings[place] = crossings[place - 1]
                        place -= 1
                    crossings[place] = value
                    found += 1
            for k in range(0, found - 1, 2):
                left, right = crossings[k] - frame[0], crossings[k + 1] - frame[0]
                j0 = max(0, int(np.ceil(left / frame[2] - 0.5)))
                j1 = min(label.shape[1], int(np.ceil(right / frame[2] - 0.5)))
                for j in range(j0, j1):
                    label[i, j] = c


@njit(cache=True, nogil=True)
def ground(
    planes: tuple[F32, F32],
    label: I32,
    density: tuple[F32, float, float, float],
    cell: F32,
    texture: tuple[F32, F32, int, int],
    levels: tuple[float, float],
) -> None:
    """Write cytoplasm and stroma into the hematoxylin and DAB channels.

    Parameters
    ----------
    planes : tuple of (h, w) float32 arrays
        Hematoxylin and DAB, overwritten.
    label : (h, w) int32 array
        Cell of each pixel, -1 outside cells.
    density : tuple
        Coarse map of matter, its sample at the tile's corner (x, y), and
        samples per pixel.
    cell : (n, 2) float32 array
        Hematoxylin and DAB OD of each cell's cytoplasm.
    texture : tuple
        Two periodic textures of one power-of-two size, and the tile's corner (pixels).
    levels : tuple
        Hematoxylin and DAB OD of dense stroma.
    """
    h_plane, d_plane = planes
    coarse, u0, v0, per_px = density
    fine, middle, left, top = texture
    mask = fine.shape[0] - 1
    for i in range(label.shape[0]):
        v = v0 + (i + 0.5) * per_px
        for j in range(label.shape[1]):
            f = fine[(top + i) & mask, (left + j) & mask]
            m = middle[(top + i) & mask, (left + j) & mask]
            c = label[i, j]
            if c >= 0:
                h_plane[i, j] = cell[c, 0] * max(0.0, 1.0 + 0.16 * f + 0.22 * m)
                d_plane[i, j] = cell[c, 1] * max(0.0, 1.0 + 0.5 * f * abs(f) + 0.3 * m)
                continue
            u = u0 + (j + 0.5) * per_px
            iv, iu = int(v), int(u)
            fv, fu = v - iv, u - iu
            matter = (1 - fv) * ((1 - fu) * coarse[iv, iu] + fu * coarse[iv, iu + 1]) + fv * (
                (1 - fu) * coarse[iv + 1, iu] + fu * coarse[iv + 1, iu + 1]
            )
            if matter > 0.02:
                matter = min(1.0, max(0.0, (matter + 0.1 * m - 0.5) * 3.0 + 0.5))
            h_plane[i, j] = matter * levels[0] * max(0.0, 1.0 + 0.4 * f + 0.3 * m)
            d_plane[i, j] = matter * levels[1] * max(0.0, 1.0 + 0.4 * m)


@njit(cache=True, nogil=True)
def nuclei(
    planes: tuple[F32, F32], frame: Frame, values: F64, texture: F32, corner: Corner
) -> None:
    """Add nuclei (n, 19; see `her2path.phantom.nuclei.COLUMNS`)."""
    h_plane, d_plane = planes
    mask = texture.shape[0] - 1
    for k in range(values.shape[0]):
        v = values[k]
        px = frame[2]
        cx, cy = (v[0] - frame[0]) / px, (v[1] - frame[1]) / px
        a, b = v[2] / px, v[3] / px
        cos, sin = np.cos(v[4]), np.sin(v[4])
        reach = max(a, b) * 1.32 + 1.5
        soft = 0.42 / min(v[2], v[3])
        rim = 0.55 / min(v[2], v[3])
        shift = int(v[0] * 57.0) & 4095  # its own piece of the texture, whatever the tile
        ripple = np.array([np.cos(v[10]), np.sin(v[10]), np.cos(v[12]), np.sin(v[12])])
        for i in range(max(0, int(cy - reach)), min(h_plane.shape[0], int(cy + reach) + 1)):
            for j in range(max(0, int(cx - reach)), min(h_plane.shape[1], int(cx + reach) + 1)):
                dx, dy = j + 0.5 - cx, i + 0.5 - cy
                p, q = (dx * cos + dy * sin) / a, (dy * cos - dx * sin) / b
                rho = np.sqrt(p * p + q * q)
                if rho > 1.3:
                    continue
                c, s = (p / rho, q / rho) if rho > 1e-6 else (1.0, 0.0)
                c2, s2 = c * c - s * s, 2 * c * s
                c3, s3 = c2 * c - s2 * s, s2 * c + c2 * s
                c4, s4 = c2 * c2 - s2 * s2, 2 * c2 * s2
                wave = v[9] * (c3 * ripple[0] - s3 * ripple[1])
                wave += v[11] * (c4 * ripple[2] - s4 * ripple[3])
                rho /= 1.0 + wave
                cover = min(1.0, max(0.0, (1.0 - rho) / soft + 0.5))
                if cover <= 0.0:
                    continue
                grain = texture[(corner[1] + i + shift) & mask, (corner[0] + j) & mask]
                edge = max(0.0, 1.0 - abs(rho - 1.0 + rim) / rim)
                od = v[6] + (1.0 - v[6]) * edge
                od *= max(0.25, 1.0 + v[7] * grain)
                for n in (13, 16):
                    if v[n + 2] > 0.0:
                        away = np.hypot((p - v[n]) * v[2], (q - v[n + 1]) * v[3]) / v[n + 2]
                        od += 0.75 * max(0.0, 1.0 - away * away * away * away)
                h_plane[i, j] += cover * v[5] * od
                d_plane[i, j] = d_plane[i, j] * (1.0 - 0.5 * cover) + cover * v[8]


@njit(cache=True, nogil=True)
def red_cells(planes: tuple[F32, F32], frame: Frame, values: F64) -> None:
    """Add red blood cells to the haemoglobin and grey channels.

    A pale body, a dark refractile contour with an inner bright line; outlines
    are bumpy polygons rather than circles.
    """
    body, grey = planes
    for k in range(values.shape[0]):
        px = frame[2]
        cx, cy = (values[k, 0] - frame[0]) / px, (values[k, 1] - frame[1]) / px
        radius, tilt = values[k, 2] / px, values[k, 3]
        flat = 0.7 + 0.3 * abs(np.cos(7 * tilt))
        for i in range(max(0, int(cy - 2 * radius)), min(grey.shape[0], int(cy + 2 * radius) + 1)):
            lo, hi = max(0, int(cx - 2 * radius)), min(grey.shape[1], int(cx + 2 * radius) + 1)
            for j in range(lo, hi):
                dx, dy = j + 0.5 - cx, i + 0.5 - cy
                p = dx * np.cos(tilt) + dy * np.sin(tilt)
                q = (dy * np.cos(tilt) - dx * np.sin(tilt)) / flat
                away = np.hypot(p, q) / radius
                if away > 1.8:
                    continue
                theta = np.arctan2(q, p)
                away /= 1.0 + 0.07 * np.cos(4 * theta + 9 * tilt) + 0.09 * np.cos(3 * theta)
                ring = (away - 1.0) * radius * px
                if away < 1.0:
                    body[i, j] += 0.05 + 0.05 * away
                grey[i, j] += (0.10 + 0.16 * abs(np.sin(5 * tilt))) * np.exp(-((ring / 0.32) ** 2))
                grey[i, j] -= 0.045 * np.exp(-(((ring + 0.75) / 0.4) ** 2))
                grey[i, j] -= 0.03 * np.exp(-(((ring - 0.7) / 0.5) ** 2))


@njit(cache=True, nogil=True)
def light(planes: tuple[F32, F32, F32, F32], vectors: F32, white: F32, out: F32) -> None:
    """Turn ODs into transmitted light: out (h, w, 3) = white * 10 ** -OD.

    `vectors` (4, 3) are the OD vectors of the planes.
    """
    base = np.float32(-2.302585093)
    first, second, third, fourth = planes
    for i in range(first.shape[0]):
        for j in range(first.shape[1]):
            a, b, c, d = first[i, j], second[i, j], third[i, j], fourth[i, j]
            for channel in range(3):
                od = a * vectors[0, channel] + b * vectors[1, channel]
                od += c * vectors[2, channel] + d * vectors[3, channel]
                out[i, j, channel] = white[channel] * np.exp(base * od)


@njit(cache=True, nogil=True)
def add_noise(rgb: NDArray[np.uint8], noise: F32, shift: I64, level: float) -> None:
    """Add noise in place: constant read noise plus shot noise that grows with light.

    `noise` is a periodic power-of-two texture of unit variance; every block of
    rows takes it from another place (`shift` (rows, 2)).
    """
    mask = noise.shape[0] - 1
    gain = np.empty(256, np.float32)
    for value in range(256):
        gain[value] = level * np.sqrt(0.2 + 0.8 * value / 255.0)
    for i in range(rgb.shape[0]):
        for j in range(rgb.shape[1]):
            for channel in range(3):
                value = rgb[i, j, channel]
                u = (j + shift[i, 0] + 61 * channel) & mask
                w = (i + shift[i, 1] + 97 * channel) & mask
                mixed = value + gain[value] * noise[w, u] + 0.5
                rgb[i, j, channel] = np.uint8(min(255.0, max(0.0, mixed)))
