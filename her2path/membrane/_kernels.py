"""Compiled loops of the membrane measurement at the slide's finest level.

Lengths in level-0 pixels unless a name ends in `um`; every sample is relative to the cell's own
whole pixel, so that no rounding depends on where the block begins.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from her2path.cells._limits import COS, RAYS, SIN, bin_points
from her2path.membrane._inputs import PLACES, ranked
from her2path.membrane._network import LOOK_TAPS

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
BOOL = NDArray[np.bool_]

#: samples across a line: -3.25 .. 3.25 µm in steps of 0.25 µm
STEP_UM = 0.25
HALF = 13
TAPS = 2 * HALF + 1
#: every second sample is kept for the looks: µm between these
LOOK_STEP_UM = 2 * STEP_UM
#: what a ray reads as mass for one unit of texture, µm
TEXTURE_UM = 1.3
#: share of a line's crest that its grains show beside it
OWN_GRAIN = 0.12
#: a line whose red OD rises by this share of its blue one is grey (a refractile edge), not brown;
#: darker lines than GREY_CREST saturate and are not asked
GREY, GREY_CREST = 0.85, 0.6
LOG = -np.log10(np.maximum(np.arange(256), 1) / 255.0)
#: [n, i] = i / n: how far along a line of n steps the i-th sample lies
SHARE = np.arange(TAPS) / np.maximum(np.arange(TAPS), 1)[:, None]
#: places of one line's result
R_UM, MASS, CREST, FWHM, RIDGE, INNER = 0, 1, 2, 3, 4, 5


@njit(cache=True, nogil=True, error_model="numpy")
def sample_od(rgb: U8, luts: F32, iy: int, ix: int, gy: float, gx: float) -> float:
    """Return the DAB OD at (iy + gy, ix + gx), bilinear in OD; the edge's value outside."""
    height, width = rgb.shape[0], rgb.shape[1]
    fy, fx = int(np.floor(gy)), int(np.floor(gx))
    gy -= fy
    gx -= fx
    y0, x0 = iy + fy, ix + fx
    y1, x1 = y0 + 1, x0 + 1
    if x0 < 0 or y0 < 0 or x1 >= width or y1 >= height:
        y0, y1 = min(max(y0, 0), height - 1), min(max(y1, 0), height - 1)
        x0, x1 = min(max(x0, 0), width - 1), min(max(x1, 0), width - 1)
    a = luts[0, rgb[y0, x0, 0]] + luts[1, rgb[y0, x0, 1]] + luts[2, rgb[y0, x0, 2]]
    b = luts[0, rgb[y0, x1, 0]] + luts[1, rgb[y0, x1, 1]] + luts[2, rgb[y0, x1, 2]]
    c = luts[0, rgb[y1, x0, 0]] + luts[1, rgb[y1, x0, 1]] + luts[2, rgb[y1, x0, 2]]
    e = luts[0, rgb[y1, x1, 0]] + luts[1, rgb[y1, x1, 1]] + luts[2, rgb[y1, x1, 2]]
    upper = a + gx * (b - a)
    return upper + gy * (c + gx * (e - c) - upper)


@njit(cache=True, nogil=True, error_model="numpy")
def sample_lines(
    rgb: U8, luts: F32, at: tuple, ring: tuple, step: float, out: F64, sparse: F64
) -> None:
    """Write the OD across the border on every ray, as `sample_od` reads it.

    DAB (`luts[1]`) into `out` (RAYS, TAPS), hematoxylin (`luts[0]`) into `sparse` (RAYS, LOOK_TAPS)
    at every second of the same places. `at` = (ix, iy, fx, fy), `ring` = (radius, nx, ny). A cell
    that lies well inside the block asks for no edge, sample by sample.
    """
    ix, iy, fx, fy = at
    radius, nx, ny = ring
    height, width = rgb.shape[0], rgb.shape[1]
    room = int(radius.max() + HALF * step) + 3
    inner = ix >= room and iy >= room and ix + room < width and iy + room < height
    flat, here = rgb.reshape(rgb.size), iy * width + ix
    hematoxylin, dab = luts[0], luts[1]
    place, gx, gy = np.empty(TAPS, np.int32), np.empty(TAPS), np.empty(TAPS)
    few = np.empty(LOOK_TAPS, np.int32), np.empty(LOOK_TAPS), np.empty(LOOK_TAPS)
    for k in range(RAYS):
        bx, by = fx + radius[k] * COS[k], fy + radius[k] * SIN[k]
        if not inner:
            for q in range(TAPS):
                t = (q - HALF) * step
                y, x = by + t * ny[k], bx + t * nx[k]
                out[k, q] = sample_od(rgb, dab, iy, ix, y, x)
                if q % 2 == 1:
                    sparse[k, q // 2] = sample_od(rgb, hematoxylin, iy, ix, y, x)
            continue
        _places(bx, by, (nx[k], ny[k]), step, width, (place, gx, gy))
        _lerp(flat, dab, here, width, (place, gx, gy), out[k])
        for q in range(LOOK_TAPS):
            few[0][q], few[1][q], few[2][q] = place[2 * q + 1], gx[2 * q + 1], gy[2 * q + 1]
        _lerp(flat, hematoxylin, here, width, few, sparse[k])


@njit(cache=True, nogil=True, error_model="numpy")
def _places(bx: float, by: float, normal: tuple, step: float, width: int, out: tuple) -> None:
    """Write where the samples of one line lie: pixel, and how far right and below of it."""
    place, gx, gy = out
    wide = np.int32(width)
    for q in range(TAPS):
        t = (q - HALF) * step
        y, x = by + t * normal[1], bx + t * normal[0]
        low_y, low_x = np.floor(y), np.floor(x)
        gy[q], gx[q] = y - low_y, x - low_x
        place[q] = np.int32(low_y) * wide + np.int32(low_x)


@njit(cache=True, nogil=True, error_model="numpy")
def _lerp(flat: U8, luts: F32, here: int, width: int, places: tuple, out: F64) -> None:
    place, gx, gy = places
    reds, greens, blues = luts[0], luts[1], luts[2]
    # unsigned places: no check for counting from the end
    u1, u2, u3 = np.uint64(1), np.uint64(2), np.uint64(3)
    u4, u5 = np.uint64(4), np.uint64(5)
    for q in range(out.size):
        p = np.uint64(3 * (here + place[q]))
        r = p + np.uint64(3 * width)
        a = reds[flat[p]] + greens[flat[p + u1]] + blues[flat[p + u2]]
        b = reds[flat[p + u3]] + greens[flat[p + u4]] + blues[flat[p + u5]]
        c = reds[flat[r]] + greens[flat[r + u1]] + blues[flat[r + u2]]
        e = reds[flat[r + u3]] + greens[flat[r + u4]] + blues[flat[r + u5]]
        upper = a + gx[q] * (b - a)
        out[q] = upper + gy[q] * (c + gx[q] * (e - c) - upper)


@njit(cache=True, nogil=True, error_model="numpy")
def read_line(p: F64, smooth: F64, reach: int, out: F64) -> None:
    """Read one line from a profile across it.

    Parameters
    ----------
    p : (TAPS,) OD across the border, inside first
    smooth : (TAPS,) workspace
    reach : how many samples the crest may lie off the middle
    out : (6,) offset of the crest (µm), mass (OD µm), crest OD over the background, full width
        at half maximum (µm), ridge quality 0..1 (lower of the two shoulders' drops over the
        higher one; 0 is a step), OD on the inner side
    """
    smooth[0], smooth[TAPS - 1] = p[0], p[TAPS - 1]
    for q in range(1, TAPS - 1):
        smooth[q] = 0.25 * (p[q - 1] + 2.0 * p[q] + p[q + 1])
    c, best = HALF, smooth[HALF]
    for s in range(1, reach + 1):
        for q in (HALF - s, HALF + s):
            if smooth[q] - 0.004 * s > best:
                c, best = q, smooth[q] - 0.004 * s
    left, right = _valley(smooth, c, -1), _valley(smooth, c, 1)
    low_l, low_r = _mean3(p, left), _mean3(p, right)
    wide = _mass(p, left, right, low_l, low_r)
    strong = smooth[c] - max(low_l, low_r)
    strong = min(max((strong - 0.12) / 0.20, 0.0), 1.0)
    # a weak line is read between fixed shoulders: chosen valleys would turn noise into mass
    a, b = max(c - 5, 1), min(c + 5, TAPS - 2)
    fix_l, fix_r = _mean3(p, a), _mean3(p, b)
    narrow = _mass(p, a, b, fix_l, fix_r)
    shoulder_l = fix_l + strong * (low_l - fix_l)
    shoulder_r = fix_r + strong * (low_r - fix_r)
    high, low = max(shoulder_l, shoulder_r), min(shoulder_l, shoulder_r)
    rise = smooth[c] - low
    quality = 0.0
    if rise > 0 and smooth[c] > high:
        quality = (smooth[c] - high) / rise
    trust = min(quality / 0.35, 1.0)
    base = 0.5 * (shoulder_l + shoulder_r)
    out[R_UM] = (c - HALF) * STEP_UM
    mass = narrow + strong * (wide - narrow)
    out[MASS] = mass * trust if mass > 0 else mass
    out[CREST] = (smooth[c] - base) * trust
    out[FWHM] = _width(smooth, c, base)
    out[RIDGE] = quality
    out[INNER] = shoulder_l


@njit(cache=True, nogil=True, error_model="numpy")
def _valley(smooth: F64, c: int, way: int) -> int:
    """Return the lowest sample on one side, before another line rises."""
    at = c + 3 * way
    at = min(max(at, 1), TAPS - 2)
    q = at
    while 1 <= q + way <= TAPS - 2 and abs(q + way - c) <= 10:
        q += way
        if smooth[q] < smooth[at]:
            at = q
        elif smooth[q] - smooth[at] > 0.25 * max(smooth[c] - smooth[at], 0.0) + 0.02:
            break
    return at


@njit(cache=True, nogil=True, error_model="numpy")
def _mean3(p: F64, q: int) -> float:
    return (p[q - 1] + p[q] + p[q + 1]) / 3.0


@njit(cache=True, nogil=True, error_model="numpy")
def _texture(p: F64, before: F64, after: F64) -> float:
    """Return how much the OD changes along the border, on both sides of the line.

    Granules and camera noise do, a membrane or the edge of a nucleus hardly.
    """
    inner, outer = 0.0, 0.0
    for q in range(3, 8):
        inner += 0.2 * abs(before[q] - 2.0 * p[q] + after[q])
        far = TAPS - 1 - q
        outer += 0.2 * abs(before[far] - 2.0 * p[far] + after[far])
    # a neighbour's dark line a little farther out is not texture
    return 0.5 * (inner + min(outer, 2.0 * inner + 0.01))


@njit(cache=True, nogil=True, error_model="numpy")
def _mass(p: F64, a: int, b: int, low_a: float, low_b: float) -> float:
    """Return OD x µm between two shoulders, above the straight line that joins them."""
    total, steps, rise = 0.0, b - a, low_b - low_a
    part, share = p[a : b + 1], SHARE[steps]
    for i in range(steps + 1):
        weight = 0.5 if i in (0, steps) else 1.0
        total += weight * (part[i] - (low_a + share[i] * rise))
    return total * STEP_UM


@njit(cache=True, nogil=True, error_model="numpy")
def _width(smooth: F64, c: int, base: float) -> float:
    """Return the full width at half maximum (µm), 0 where there is no crest."""
    half = base + 0.5 * (smooth[c] - base)
    if smooth[c] <= base:
        return 0.0
    total = 0.0
    for way in (-1, 1):
        q = c
        while 0 < q < TAPS - 1 and smooth[q + way] > half:
            q += way
        nxt = q + way
        if 0 <= nxt < TAPS and smooth[q] > smooth[nxt]:
            total += abs(q - c) + (smooth[q] - half) / (smooth[q] - smooth[nxt])
        else:
            total += abs(q - c)
    return total * STEP_UM


@njit(cache=True, nogil=True, error_model="numpy")
def colour_rise(
    rgb: U8, iy: int, ix: int, at: tuple, normal: tuple, shoulder: float
) -> tuple[float, float]:
    """Return by how much red and blue OD rise from both shoulders to the crest at `at`."""
    y, x = at
    ny, nx = normal
    red, blue = 0.0, 0.0
    for side in range(-1, 2):
        row = iy + int(np.floor(y + side * shoulder * ny + 0.5))
        column = ix + int(np.floor(x + side * shoulder * nx + 0.5))
        row = min(max(row, 0), rgb.shape[0] - 1)
        column = min(max(column, 0), rgb.shape[1] - 1)
        weight = 1.0 if side == 0 else -0.5
        red += weight * LOG[rgb[row, column, 0]]
        blue += weight * LOG[rgb[row, column, 2]]
    return red, blue


@njit(cache=True, nogil=True, error_model="numpy")
def drop_grey(red: F64, blue: F64, mass: F32, crest: F32) -> None:
    """Empty the rays whose line, over five rays, is grey."""
    for k in range(RAYS):
        if crest[k] <= 0.04 or crest[k] >= GREY_CREST:
            continue
        r, b = 0.0, 0.0
        for s in range(-2, 3):
            r += red[(k + s + RAYS) % RAYS]
            b += blue[(k + s + RAYS) % RAYS]
        if b > 0.2 and r > GREY * b:
            mass[k] = 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def ring_normals(radius: F64, nx: F64, ny: F64) -> None:
    """Write the outward unit normals of a ring given by its radii."""
    for k in range(RAYS):
        a, b = (k + 1) % RAYS, (k + RAYS - 1) % RAYS
        e, f = (k + 2) % RAYS, (k + RAYS - 2) % RAYS
        tx = radius[a] * COS[a] - radius[b] * COS[b] + radius[e] * COS[e] - radius[f] * COS[f]
        ty = radius[a] * SIN[a] - radius[b] * SIN[b] + radius[e] * SIN[e] - radius[f] * SIN[f]
        norm = np.sqrt(tx * tx + ty * ty)
        nx[k], ny[k] = COS[k], SIN[k]
        if norm > 1e-9 and (ty * COS[k] - tx * SIN[k]) > 0.2 * norm:
            nx[k], ny[k] = ty / norm, -tx / norm


@njit(cache=True, nogil=True, error_model="numpy")
def near_nuclei(i: int, x: F64, y: F64, size: F64, bins: tuple, reach: float, out: I64) -> int:
    """Write the nuclei that may come near cell i's border; return how many (at most out.size)."""
    start, order, columns, rows, side = bins
    count = 0
    bx, by = int(max(x[i], 0.0) / side), int(max(y[i], 0.0) / side)
    for v in range(max(by - 1, 0), min(by + 2, rows)):
        for u in range(max(bx - 1, 0), min(bx + 2, columns)):
            for place in range(start[v * columns + u], start[v * columns + u + 1]):
                j = order[place]
                dx, dy = x[j] - x[i], y[j] - y[i]
                limit = reach + size[j]
                if j != i and dx * dx + dy * dy < limit * limit and count < out.size:
                    out[count] = j
                    count += 1
    return count


@njit(cache=True, nogil=True, error_model="numpy")
def edge_distance(px: float, py: float, xy: tuple, near: I64, nucleus: F32, cap: float) -> float:
    """Return the distance from a point to the nearest edge of the nuclei `near`, at most cap."""
    x, y, largest = xy
    best = cap
    for s in range(near.size):
        j = near[s]
        dx, dy = px - x[j], py - y[j]
        far2 = dx * dx + dy * dy
        limit = largest[j] + best
        if far2 < limit * limit:
            ray = int(np.floor(np.arctan2(dy, dx) * (RAYS / (2 * np.pi)) + 0.5)) % RAYS
            best = min(best, abs(np.sqrt(far2) - nucleus[j, ray]))
    return best


@njit(cache=True, nogil=True, error_model="numpy")
def measure(
    rgb: U8, luts: F32, scale: tuple, nuclei: tuple, wanted: BOOL, ring: F32, found: tuple
) -> None:
    """Fill the raw columns of every cell.

    `scale` = (factor, mpp); `nuclei` = (x, y, radii) and `ring` in analysis pixels; `found` = the
    output arrays (line_r, mass, crest, fwhm, ridge, edge: (N, RAYS) each in float32; cytoplasm,
    noise: (N,); seen (N, 2, PLACES, LOOK_TAPS): hematoxylin and DAB across the border, thinned).
    """
    factor, mpp = scale
    x, y, nucleus = nuclei
    line_r, mass, crest, fwhm, ridge, edge, cytoplasm, noise, seen = found
    n_cells = x.size
    um = mpp * factor
    largest = np.zeros(n_cells)
    for i in range(n_cells):
        for k in range(RAYS):
            largest[i] = max(largest[i], nucleus[i, k])
    side = 40.0 / um
    start, order, columns, rows = bin_points(x, y, side)
    bins = (start, order, columns, rows, side)
    reach = 4 if mpp >= 0.4 else 3
    step = STEP_UM / mpp
    nx, ny, radius = np.empty(RAYS), np.empty(RAYS), np.empty(RAYS)
    raw, smooth = np.empty((RAYS, TAPS)), np.empty(TAPS)
    line = np.empty(6)
    profile, texture = np.empty((RAYS, TAPS)), np.empty(RAYS)
    sparse = np.empty((RAYS, LOOK_TAPS))
    inside, shoulder = np.empty(RAYS), np.empty(RAYS)
    red, blue = np.empty(RAYS), np.empty(RAYS)
    near = np.empty(512, np.int64)
    for i in range(n_cells):
        if not wanted[i]:
            continue
        x0, y0 = (x[i] + 0.5) * factor - 0.5, (y[i] + 0.5) * factor - 0.5
        ix, iy = int(np.floor(x0)), int(np.floor(y0))
        fx, fy = x0 - ix, y0 - iy
        widest = 0.0
        for k in range(RAYS):
            radius[k] = ring[i, k] * factor
            widest = max(widest, float(ring[i, k]))
        ring_normals(radius, nx, ny)
        count = near_nuclei(i, x, y, largest, bins, widest + 2.5 / um, near)
        n_inside = 0
        sample_lines(rgb, luts, (ix, iy, fx, fy), (radius, nx, ny), step, raw, sparse)
        for k in range(RAYS):
            # along the border a line goes on, noise and granules do not
            before, after = (k + RAYS - 1) % RAYS, (k + 1) % RAYS
            p = profile[k]
            here, back, on = raw[k], raw[before], raw[after]
            for q in range(TAPS):
                p[q] = 0.25 * (back[q] + 2.0 * here[q] + on[q])
            read_line(p, smooth, reach, line)
            off = line[R_UM] / um
            lx = ring[i, k] * COS[k] + off * nx[k]
            ly = ring[i, k] * SIN[k] + off * ny[k]
            r = np.sqrt(lx * lx + ly * ly)
            own = abs(r - nucleus[i, k]) * um
            other = edge_distance(
                x[i] + lx, y[i] + ly, (x, y, largest), near[:count], nucleus, 2.5 / um
            )
            turn = off * factor
            red[k], blue[k] = colour_rise(
                rgb,
                iy,
                ix,
                (fy + radius[k] * SIN[k] + turn * ny[k], fx + radius[k] * COS[k] + turn * nx[k]),
                (ny[k], nx[k]),
                1.5 / mpp,
            )
            line_r[i, k] = r * um
            mass[i, k], crest[i, k], fwhm[i, k] = line[MASS], line[CREST], line[FWHM]
            ridge[i, k] = line[RIDGE]
            shoulder[k] = line[INNER]
            edge[i, k] = min(own, other * um)
            gap = (radius[k] - nucleus[i, k] * factor) * mpp
            if gap > 1.6:
                mid = (0.5 * (radius[k] + nucleus[i, k] * factor)) - 0.25 / mpp
                inside[n_inside] = sample_od(
                    rgb, luts[1], iy, ix, fy + mid * SIN[k], fx + mid * COS[k]
                )
                n_inside += 1
        for p in range(PLACES):
            k = 2 * p
            back, here, on = sparse[(k + RAYS - 1) % RAYS], sparse[k], sparse[k + 1]
            for q in range(LOOK_TAPS):
                seen[i, 0, p, q] = 0.25 * (back[q] + 2.0 * here[q] + on[q])
                seen[i, 1, p, q] = profile[k, 2 * q + 1]
        if mpp < 0.4:  # subsampled chroma makes thin lines grey at coarser pixels
            drop_grey(red, blue, mass[i], crest[i])
        # where the nucleus fills its cell, the line's inner shoulders stand in
        cytoplasm[i] = ranked(inside[:n_inside], 0.5) if n_inside >= 4 else ranked(shoulder, 0.5)
        for k in range(RAYS):
            before, after = (k + RAYS - 2) % RAYS, (k + 2) % RAYS
            texture[k] = _texture(profile[k], profile[before], profile[after])
            # a dark line's own grains spread that far; they are no texture of the cytoplasm
            texture[k] = max(texture[k] - OWN_GRAIN * max(crest[i, k], 0.0), 0.0)
        noise[i] = TEXTURE_UM * ranked(texture, 0.7)
