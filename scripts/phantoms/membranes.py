"""A second generator of membranes with known owners, built differently from `her2path.phantom`.

Cells are the analytic Voronoi cells of jittered, hexagonal or stretched seeds in a bent plane.
Every cell has its own ring at its own depth inside its border: rings of neighbours lie on one
another (one line, the sum), side by side, or apart. Rings have gaps (few long ones or many short
ones), grain, and optical densities and widths of other distributions than the program's phantoms.
The membrane fit learns on both, so that no weight hangs on one way of drawing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import cKDTree

from her2path.phantom import encode_decode
from scripts.phantoms.levels import CREST, laboratory

F64 = np.ndarray
#: places along a ring at which it is stained or not
BINS = 96
NEAR = 4
EDGE_UM = 6.0


@dataclass(frozen=True)
class Drawn:
    """A slide: pixels (H, W, 3), µm per pixel, truth by cell, and own OD at places.

    ``own`` takes rows of the truth (n,) and places (n, 48) in µm and returns the OD of these
    cells' own membrane there, -1 where the place is astray.
    """

    rgb: np.ndarray
    mpp: float
    truth: dict[str, np.ndarray]
    own: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Rings:
    """Own membranes of n cells: OD by bin of angle (n, BINS), sigma and depth (n,) µm."""

    od: np.ndarray
    sigma: np.ndarray
    depth: np.ndarray
    intensity: np.ndarray
    completeness: np.ndarray


@dataclass(frozen=True)
class Plane:
    """What lies where: nearest seeds (h, w, NEAR), depth inside each one's border, angles."""

    near: np.ndarray
    inside: np.ndarray
    turn: np.ndarray
    x: np.ndarray
    y: np.ndarray


def draw_mixture(rng: np.random.Generator) -> dict[str, float]:
    """Return weights of the patterns: any share of unstained cells beside any others."""
    none = float(rng.choice([0.0, 0.05, 0.12, 0.3, 0.5, 0.8]))
    level = rng.dirichlet([0.5, 0.5, 0.5])
    mix = {"none": none}
    for share, name in zip(level, ("faint", "moderate", "intense"), strict=True):
        whole = rng.uniform(0.1, 0.9)
        mix[f"{name}_complete"] = (1 - none) * share * whole
        mix[f"{name}_incomplete"] = (1 - none) * share * (1 - whole)
    return {k: float(v) for k, v in mix.items() if v > 0.005}


def draw_other(number: int, size_um: float) -> Drawn:
    """Return slide `number`."""
    rng = np.random.default_rng([number, 4242])
    mpp = float(rng.choice([0.2, 0.23, 0.25, 0.25, 0.2528, 0.27, 0.46, 0.5]))
    zoom = int(np.ceil(mpp / 0.28))
    px = mpp / zoom
    n_px = round(size_um / mpp) * zoom
    seeds = _seeds(rng, size_um)
    bend = [_smooth(rng, n_px, rng.uniform(5, 14) / px) for _ in range(2)]
    amount = rng.uniform(0.0, 0.7)
    v, u = (np.mgrid[0:n_px, 0:n_px] + 0.5) * px
    x, y = u + amount * bend[0], v + amount * bend[1]
    is_cell = _tumour(rng, seeds)
    plane = _plane(seeds, x, y, rng.choice([30.0, 7.5]))
    rings = _rings(rng, plane, is_cell, seeds)
    h, d = _matter(rng, plane, is_cell, px)
    d += _lines(rng, plane, rings, px)
    nuclei = _nuclei(rng, seeds, is_cell, plane, (h, d), px)
    rgb = _camera(rng, h, d, _grey(rng, plane, is_cell), (mpp, zoom))
    at = seeds + nuclei[:, :2]
    centre = _unbend(at, amount, bend, px)
    truth = _truth(rings, is_cell, nuclei, centre, size_um)

    def own(which: np.ndarray, px_um: np.ndarray, py_um: np.ndarray) -> np.ndarray:
        i, j = (np.clip((q / px).astype(int), 0, n_px - 1) for q in (py_um, px_um))
        bx, by = x[i, j] - seeds[which, 0][:, None], y[i, j] - seeds[which, 1][:, None]
        place = _bin(np.arctan2(by, bx))
        return np.where(is_cell[which][:, None], rings.od[which[:, None], place], 0.0)

    return Drawn(rgb, mpp, truth, own)


def _seeds(rng: np.random.Generator, size: float) -> np.ndarray:
    pitch, stretch = rng.uniform(9.5, 15.5), float(np.exp(rng.choice([0, 0, 0.3, 0.55])))
    px, py = pitch * stretch**0.5, 0.866 * pitch / stretch**0.5
    gx, gy = np.meshgrid(np.arange(-3, size / px + 3), np.arange(-3, size / py + 3))
    grid = np.stack([(gx + 0.5 * (gy % 2)) * px, gy * py], axis=-1).reshape(-1, 2)
    jitter = rng.choice([0.03, 0.1, 0.16, 0.22])
    return grid + rng.normal(0, jitter, grid.shape) * (px, py)


def _tumour(rng: np.random.Generator, seeds: np.ndarray) -> np.ndarray:
    """Return which seeds are tumour cells: nests, with holes; the others are ground."""
    wave = rng.uniform(60, 200)
    field = _waves(rng, seeds, wave)
    nests = field > np.quantile(field, rng.choice([0.0, 0.1, 0.3]))
    return nests & (rng.random(len(seeds)) > rng.choice([0.0, 0.02, 0.06]))


def _waves(rng: np.random.Generator, at: np.ndarray, wave: float) -> np.ndarray:
    total = np.zeros(len(at))
    for _ in range(16):
        turn, size = rng.uniform(0, 2 * np.pi), 2 * np.pi / (wave * rng.uniform(0.7, 1.6))
        along = at[:, 0] * np.cos(turn) + at[:, 1] * np.sin(turn)
        total += np.cos(size * along + rng.uniform(0, 2 * np.pi))
    return total


def _smooth(rng: np.random.Generator, n: int, sigma: float) -> np.ndarray:
    """Return a smooth field of mean 0 and deviation 1."""
    step = max(1, int(sigma / 3))
    small = cv2.GaussianBlur(rng.normal(0, 1, (n // step + 2,) * 2), (0, 0), sigma / step)
    field = cv2.resize(small / small.std(), (n, n), interpolation=cv2.INTER_CUBIC)
    return field


def _plane(seeds: np.ndarray, x: np.ndarray, y: np.ndarray, cap: float) -> Plane:
    """Return the nearest seeds of every pixel and how deep inside each one's cell it lies."""
    at = np.stack([x, y], axis=-1)
    far, near = cKDTree(seeds).query(at.reshape(-1, 2), k=NEAR)
    far, near = (a.reshape(*x.shape, NEAR) for a in (far, near))
    inside = np.full(far.shape, 1e3)
    for i in range(NEAR):
        for j in range(NEAR):
            if i != j:
                gap = np.hypot(*np.moveaxis(seeds[near[..., i]] - seeds[near[..., j]], -1, 0))
                to = (far[..., j] ** 2 - far[..., i] ** 2) / (2 * np.maximum(gap, 1e-6))
                inside[..., i] = np.minimum(inside[..., i], to)
        inside[..., i] = np.minimum(inside[..., i], cap - far[..., i])
    away = at[..., None, :] - seeds[near]
    return Plane(near, inside, np.arctan2(away[..., 1], away[..., 0]), x, y)


def _bin(turn: np.ndarray) -> np.ndarray:
    return np.floor(turn * (BINS / (2 * np.pi))).astype(int) % BINS


def _populations(rng: np.random.Generator, seeds: np.ndarray) -> list[str]:
    """Return each cell's pattern."""
    layout = rng.choice(
        ["one", "mosaic", "clones", "single", "unstained"], p=(0.4, 0.3, 0.1, 0.1, 0.1)
    )
    first, second = draw_mixture(rng), draw_mixture(rng)
    if layout == "single" or (layout != "one" and rng.random() < 0.3):
        first = {"none": 1.0}
    share = rng.uniform(0.15, 0.65)
    other = {
        "mosaic": rng.random(len(seeds)) < share,
        "clones": _waves(rng, seeds, 90.0) > 1.0,
        "single": rng.random(len(seeds)) < 0.07,
    }.get(str(layout), np.zeros(len(seeds), bool))
    if layout == "unstained":
        first = {"none": 1.0}
    out = []
    for flag in other:
        mix = second if flag else first
        weight = np.array(list(mix.values()))
        out.append(str(rng.choice(list(mix), p=weight / weight.sum())))
    return out


def _rings(rng: np.random.Generator, plane: Plane, is_cell: np.ndarray, seeds: np.ndarray) -> Rings:
    n = len(is_cell)
    pattern = _populations(rng, seeds)
    intensity = np.array(
        [("none", "faint", "moderate", "intense").index(p.split("_")[0]) for p in pattern]
    )
    intensity = np.where(is_cell, intensity, 0)
    whole = np.array([p.endswith("_complete") for p in pattern])
    wanted = np.where(whole, rng.uniform(0.8, 1.0, n), rng.uniform(0.15, 0.79, n))
    wanted = np.where(whole & (rng.random(n) < 0.35), 1.0, wanted) * (intensity > 0)
    low, high = np.array(CREST)[intensity].T
    squeeze = rng.uniform(0.2, 1.0)
    level = low + (high - low) * (0.5 + squeeze * (rng.random(n) - 0.5))
    level *= laboratory(rng)
    wide = rng.uniform(0.6, 1.2) * rng.uniform(1.0, 1.35) ** intensity
    fwhm = wide * np.exp(rng.normal(0, 0.12, n))
    style = rng.choice(["one line", "side by side", "parted"], p=(0.5, 0.3, 0.2))
    depth = {
        "one line": rng.uniform(0.0, 0.12, n),
        "side by side": rng.uniform(0.1, 0.6) * rng.uniform(0.5, 1.5, n),
        "parted": np.where(rng.random(n) < 0.3, rng.uniform(0.5, 1.8, n), 0.08),
    }[str(style)]
    on = _gaps(rng, wanted, _border(plane, n))
    grain = np.exp(
        rng.uniform(0.0, 0.35) * _along(rng, n, 14) + rng.uniform(0, 0.2) * _along(rng, n, 40)
    )
    od = on * grain
    mean = od.sum(1) / np.maximum(on.sum(1), 1)
    od *= (level / np.maximum(mean, 1e-9))[:, None]
    border = _border(plane, n)
    reached = (border * on).sum(1) / np.maximum(border.sum(1), 1e-9)
    return Rings(od, fwhm / 2.3548, depth, intensity, np.where(intensity > 0, reached, 0))


def _border(plane: Plane, n: int) -> np.ndarray:
    """Return the length of each cell's border by bin of angle, (n, BINS), any unit."""
    first, depth = plane.near[..., 0], plane.inside[..., 0]
    rim = depth < 0.5
    place = first[rim] * BINS + _bin(plane.turn[..., 0][rim])
    count = np.bincount(place, minlength=n * BINS)[: n * BINS].reshape(n, BINS)
    return count + 1e-3


def _along(rng: np.random.Generator, n: int, waves: int) -> np.ndarray:
    """Return n periodic noises of deviation 1 along a ring, with up to so many waves."""
    turn = np.arange(BINS) * (2 * np.pi / BINS)
    total = np.zeros((n, BINS))
    for k in range(1, waves + 1):
        a, b = rng.normal(size=(2, n, 1))
        total += a * np.cos(k * turn) + b * np.sin(k * turn)
    return total / np.sqrt(waves)


def _gaps(rng: np.random.Generator, wanted: np.ndarray, border: np.ndarray) -> np.ndarray:
    """Return where the rings are stained, (n, BINS): the highest places of a noise along them."""
    n = wanted.size
    noise = _along(rng, n, int(rng.choice([1, 2, 3, 6])))
    order = np.argsort(-noise, axis=1)
    part = np.cumsum(np.take_along_axis(border, order, 1), axis=1)
    part = part / part[:, -1:]
    on = np.zeros((n, BINS))
    np.put_along_axis(on, order, (part <= wanted[:, None] + 1e-9).astype(float), 1)
    return np.where(wanted[:, None] >= 1, 1.0, on) * (wanted[:, None] > 0)


def _lines(rng: np.random.Generator, plane: Plane, rings: Rings, px: float) -> np.ndarray:
    total = np.zeros(plane.x.shape)
    for i in range(NEAR):
        cell = plane.near[..., i]
        off = (plane.inside[..., i] - rings.depth[cell]) / rings.sigma[cell]
        line = rings.od[cell, _bin(plane.turn[..., i])] * np.exp(-0.5 * off**2)
        total += np.where(np.abs(off) < 4, line, 0)
    grain = _smooth(rng, total.shape[0], max(0.6, rng.uniform(0.3, 0.8) / px))
    return total * np.maximum(1 + rng.uniform(0, 0.4) * grain, 0)


def _matter(
    rng: np.random.Generator, plane: Plane, is_cell: np.ndarray, px: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return hematoxylin and DAB of cytoplasm and ground."""
    n, side = len(is_cell), plane.x.shape[0]
    first = plane.near[..., 0]
    cell = is_cell[first] & (plane.inside[..., 0] > 0)
    fine, middle = _smooth(rng, side, max(0.6, 0.4 / px)), _smooth(rng, side, 1.2 / px)
    h = rng.uniform(0.04, 0.14) * np.exp(0.2 * rng.normal(size=n))
    blush = rng.gamma(1.3, 0.025) * np.exp(rng.uniform(0.1, 0.6) * rng.normal(size=n))
    ground = rng.choice([0.0, 0.03, 0.08])
    h_plane = np.where(cell, h[first] * (1 + 0.2 * middle + 0.15 * fine), ground * (1 + 0.3 * fine))
    d_plane = np.where(cell, blush[first] * (1 + 0.3 * middle + 0.4 * fine), 0.01 * (ground > 0))
    seam = rng.uniform(0, 0.05) * np.exp(-0.5 * (plane.inside[..., 0] / 0.3) ** 2)
    return np.maximum(h_plane + seam * is_cell[first], 0), np.maximum(d_plane, 0)


def _nuclei(
    rng: np.random.Generator,
    seeds: np.ndarray,
    is_cell: np.ndarray,
    plane: Plane,
    planes: tuple[np.ndarray, np.ndarray],
    px: float,
) -> np.ndarray:
    """Paint nuclei; return offset x, y, radius (n, 3), radius 0 without a nucleus."""
    h, d = planes
    n = len(seeds)
    gap = cKDTree(seeds).query(seeds, k=2)[0][:, 1]
    mean = float(np.clip(rng.uniform(0.27, 0.38) * np.median(gap), 2.6, 5.2))
    radius = np.clip(mean * np.exp(rng.normal(0, 0.1, n)), 2.3, 0.47 * gap + 0.3)
    offset = rng.normal(0, rng.uniform(0.1, 0.9), (n, 2)).clip(-1.5, 1.5)
    has = rng.random(n) >= np.where(is_cell, rng.uniform(0.0, 0.14), rng.choice([0.4, 0.8, 1.0]))
    od = rng.uniform(0.18, 0.5) * np.exp(rng.normal(0, 0.2, n))
    dab, hollow = rng.gamma(1.2, 0.012), rng.random(n) < rng.choice([0.0, 0.4])
    grain = _smooth(rng, h.shape[0], 0.5 / px) * rng.uniform(0.05, 0.25)
    aspect, tilt = np.exp(np.abs(rng.normal(0, 0.15, n))), rng.uniform(0, np.pi, n)
    # lines lie on top, so the hematoxylin is added where the nucleus is, nearest seeds only
    for i in range(2):
        c = plane.near[..., i]
        dx, dy = plane.x - seeds[c, 0] - offset[c, 0], plane.y - seeds[c, 1] - offset[c, 1]
        cos, sin = np.cos(tilt[c]), np.sin(tilt[c])
        long, wide = (
            (dx * cos + dy * sin) / aspect[c] ** 0.5,
            (dy * cos - dx * sin) * aspect[c] ** 0.5,
        )
        rho = np.hypot(long, wide) / radius[c]
        cover = np.clip((1 - rho) * radius[c] / 0.4 + 0.5, 0, 1) * has[c]
        pale = np.where(hollow[c], 0.55 + 0.45 * np.clip(1 - np.abs(rho - 0.9) / 0.15, 0, 1), 1.0)
        h += cover * od[c] * pale * np.maximum(1 + grain, 0.2)
        d += cover * dab
    return np.column_stack([offset, np.where(has, radius, 0)])


def _grey(rng: np.random.Generator, plane: Plane, is_cell: np.ndarray) -> np.ndarray:
    """Return refractile seams between tumour and ground, grey OD."""
    level = rng.choice([0.0, 0.0, rng.uniform(0.05, 0.2)])
    first, second = is_cell[plane.near[..., 0]], is_cell[plane.near[..., 1]]
    return np.where(first != second, level * np.exp(-0.5 * (plane.inside[..., 0] / 0.35) ** 2), 0)


def _camera(
    rng: np.random.Generator, h: np.ndarray, d: np.ndarray, grey: np.ndarray, scale: tuple
) -> np.ndarray:
    """Stain to light, blur, pixels, noise, JPEG."""
    mpp, zoom = scale
    ends = ((0.65, 0.70, 0.29), (0.66, 0.63, 0.41)), ((0.27, 0.57, 0.78), (0.33, 0.55, 0.77))
    vectors = []
    for a, b in ends:
        share = rng.random()
        v = np.array(a) * (1 - share) + np.array(b) * share + rng.normal(0, 0.012, 3)
        vectors.append(v / np.linalg.norm(v))
    od = h[..., None] * vectors[0] + d[..., None] * vectors[1] + grey[..., None]
    light = np.float32(rng.uniform(230, 249) + rng.normal(0, 2, 3)) * np.float32(10.0) ** -od
    light = cv2.GaussianBlur(light, (0, 0), rng.uniform(0.12, 0.4) * zoom / mpp)
    if rng.random() < 0.3:
        soft = cv2.GaussianBlur(light, (0, 0), max(0.5, 0.35 * zoom / mpp))
        light = light + rng.uniform(0.1, 0.5) * (light - soft)
    if zoom > 1:
        side = light.shape[0] // zoom
        light = cv2.resize(light, (side, side), interpolation=cv2.INTER_AREA)
    light = light + rng.normal(0, rng.uniform(0.3, 2.5), light.shape)
    rgb = np.clip(np.rint(light), 0, 255).astype(np.uint8)
    chroma = str(rng.choice(["4:2:0", "4:2:0", "4:2:2", "4:4:4"]))
    return encode_decode(rgb, int(rng.integers(62, 94)), chroma)


def _unbend(at: np.ndarray, amount: float, bend: list[np.ndarray], px: float) -> np.ndarray:
    """Return where in the image the points of the bent plane lie."""
    found, last = at.copy(), bend[0].shape[0] - 1
    for _ in range(6):
        j, i = (np.clip((found[:, c] / px).astype(int), 0, last) for c in (0, 1))
        found = at - amount * np.column_stack([bend[0][i, j], bend[1][i, j]])
    return found


def _truth(
    rings: Rings, is_cell: np.ndarray, nuclei: np.ndarray, centre: np.ndarray, size: float
) -> dict[str, np.ndarray]:
    on = rings.od > 0
    crest = rings.od.sum(1) / np.maximum(on.sum(1), 1)
    out = (centre < EDGE_UM).any(1) | (centre > size - EDGE_UM).any(1)
    return {
        "x_um": centre[:, 0],
        "y_um": centre[:, 1],
        "cell_type": np.where(is_cell, "tumour", "stroma"),
        "has_nucleus": nuclei[:, 2] > 0,
        "nucleus_radius_um": nuclei[:, 2],
        "touches_edge": out,
        "intensity": rings.intensity,
        "completeness": rings.completeness,
        "od_crest": crest,
        "width_um": np.where(rings.intensity > 0, rings.sigma * 2.3548, 0),
    }
