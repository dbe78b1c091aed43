"""A third generator of H-DAB phantoms: for judging only; nothing is ever trained or fitted on it.

It paints with maps instead of outlines. Pixels go to the nearest seed under a bent, stretched
metric; a cell's own stain lies inside its own border, where the distance transform says so; nuclei
are what is left of a cell far from its border. Bricks in rows, or cells strewn at random. Uneven
light. Nothing of `her2path.phantom` or `outlined` is used here.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import pyarrow as pa
from scipy.spatial import cKDTree

from her2path.core.schema import PATTERNS
from scripts.phantoms.drawn import Drawn
from scripts.phantoms.jpeg import through_jpeg

STYLES: tuple[str, ...] = ("bricks", "strewn")
#: pixels are painted this fine (um), then averaged
FINE = 0.25
#: own crest OD and spread (sigma, um) of none, faint, moderate and intense lines
LINES = ((0.0, 0.0, 0.3), (0.035, 0.075, 0.27), (0.10, 0.22, 0.42), (0.30, 0.60, 0.8))
SECTORS = 24


def draw(seed: int, style: str, weights: Mapping[str, float], size_um: float = 240.0) -> Drawn:
    """Paint one phantom; see `drawn.Generator`."""
    rng = np.random.default_rng([seed, 3, *style.encode()])
    n = round(size_um / FINE)
    seeds = _seeds(rng, style, size_um)
    label = _label(rng, style, seeds, n)
    deep = _depth(label)
    cell = _cells(rng, label, seeds, weights)
    h, d = _ground(rng, label, deep)
    d += _lines(rng, label, deep, cell)
    nuclei, shown = _nuclei(rng, label, deep)
    h = np.maximum(h, nuclei)
    others = _strangers(rng, h, label)
    rgb, mpp = _light(rng, h, d)
    return Drawn(rgb, mpp, _truth(cell, shown, others))


def _seeds(rng: np.random.Generator, style: str, size: float) -> np.ndarray:
    if style == "bricks":
        wide, tall = rng.uniform(9, 13), rng.uniform(11, 19)
        gx, gy = np.meshgrid(np.arange(-2, size / wide + 2), np.arange(-2, size / tall + 2))
        shift = rng.uniform(0.2, 0.5) * (gy % 2)
        grid = np.stack([(gx + shift) * wide, gy * tall], axis=-1).reshape(-1, 2)
        return grid + rng.normal(0, 0.07 * wide, grid.shape)
    pitch = rng.uniform(9, 14)
    points = rng.uniform(-pitch, size + pitch, (int(4 * (size / pitch) ** 2), 2))
    taken = np.ones(len(points), bool)
    for i, j in sorted(cKDTree(points).query_pairs(0.8 * pitch)):
        if taken[i]:
            taken[j] = False
    return points[taken]


def _label(rng: np.random.Generator, style: str, seeds: np.ndarray, n: int) -> np.ndarray:
    """Return the cell (0, 1, ...) of every pixel; -1 outside the tumour."""
    y, x = (np.mgrid[0:n, 0:n] + 0.5) * FINE
    for size_px, most in ((40, 1.6), (12, 0.35)):
        x = x + most * rng.uniform(0.3, 1) * _noise(rng, n, size_px)
        y = y + most * rng.uniform(0.3, 1) * _noise(rng, n, size_px)
    stretch = np.array([1.0, rng.uniform(0.7, 1.0) if style == "strewn" else 0.75])
    points = np.stack([x, y], axis=-1).reshape(-1, 2) * stretch
    label = cKDTree(seeds * stretch).query(points)[1].reshape(n, n)
    if rng.random() < 0.6:
        outside = _noise(rng, n, n // 4) < rng.uniform(-1.2, -0.4)
        label = np.where(outside[tuple(np.clip(seeds[:, ::-1] / FINE, 0, n - 1).astype(int).T)]
                         [label], -1, label)  # fmt: skip
    return label


def _noise(rng: np.random.Generator, n: int, size_px: int) -> np.ndarray:
    few = max(4, n // max(size_px, 1) + 3)
    drawn = cv2.resize(rng.normal(0, 1, (few, few)), (n, n), interpolation=cv2.INTER_CUBIC)
    return drawn / max(drawn.std(), 1e-6)


def _depth(label: np.ndarray) -> np.ndarray:
    """Return the distance (um) of every pixel to the border of its own cell."""
    edge = np.zeros(label.shape, bool)
    edge[:, 1:] |= label[:, 1:] != label[:, :-1]
    edge[1:] |= label[1:] != label[:-1]
    return cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, 5) * FINE


def _cells(
    rng: np.random.Generator, label: np.ndarray, seeds: np.ndarray, weights: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """Draw patterns, stained sectors, and where cells lie (centre of their pixels)."""
    n = len(seeds)
    share = np.array([weights.get(p, 0.0) for p in PATTERNS])
    code = rng.choice(len(PATTERNS), n, p=share / share.sum())
    lines = np.array(LINES)[(code + 1) // 2]
    whole = (code > 0) & (code % 2 == 0)
    bare = np.where(whole, rng.integers(0, 4, n), rng.integers(8, 18, n))
    start = rng.integers(0, SECTORS, n)
    sector = (np.arange(SECTORS)[None] - start[:, None]) % SECTORS
    on = (sector >= bare[:, None]) & (code > 0)[:, None]
    mine = label >= 0
    count = np.maximum(np.bincount(label[mine], minlength=n), 1)
    y, x = np.nonzero(mine)
    cx = np.bincount(label[mine], weights=(x + 0.5) * FINE, minlength=n) / count
    cy = np.bincount(label[mine], weights=(y + 0.5) * FINE, minlength=n) / count
    size = np.bincount(label[mine], minlength=n) * FINE**2
    crest = lines[:, 0] + (lines[:, 1] - lines[:, 0]) * rng.random(n)
    return {"code": code, "on": on, "at": np.stack([cx, cy], axis=1), "seen": size > 25,
            "crest": crest, "sigma": lines[:, 2] * rng.uniform(0.8, 1.2, n)}  # fmt: skip


def _lines(
    rng: np.random.Generator, label: np.ndarray, deep: np.ndarray, cell: dict[str, np.ndarray]
) -> np.ndarray:
    """Return the DAB of the membranes: each inside its own cell, a little off the border."""
    mine = (label >= 0) & (deep < 4)
    k = label[mine]
    y, x = np.nonzero(mine)
    turn = np.arctan2((y + 0.5) * FINE - cell["at"][k, 1], (x + 0.5) * FINE - cell["at"][k, 0])
    sector = (turn / (2 * np.pi) * SECTORS).astype(int) % SECTORS
    off = (deep[mine] - rng.uniform(0.2, 0.5)) / cell["sigma"][k]
    out = np.zeros(label.shape)
    out[mine] = cell["crest"][k] * cell["on"][k, sector] * np.exp(-0.5 * off**2)
    return out


def _ground(
    rng: np.random.Generator, label: np.ndarray, deep: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    n = len(label)
    inside = label >= 0
    h = np.where(inside, rng.uniform(0.03, 0.12), rng.uniform(0.0, 0.06))
    h = h * (1 + 0.15 * _noise(rng, n, 30))
    stroma = np.where(inside, 0, np.abs(_noise(rng, n, 10))) * rng.uniform(0, 0.06)
    blush = rng.choice([0.0, 0.03, 0.07]) * inside * np.minimum(deep / 2, 1)
    return np.maximum(h + stroma, 0), blush + rng.choice([0, 0.3]) * stroma


def _nuclei(
    rng: np.random.Generator, label: np.ndarray, deep: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the hematoxylin of nuclei (the inner part of each cell), and which cells have one."""
    n = int(label.max()) + 1
    middle = np.zeros(n)
    mine = label >= 0
    np.maximum.at(middle, label[mine], deep[mine])
    margin = middle * rng.uniform(0.3, 0.55)
    dark = rng.uniform(0.2, 0.5) * np.exp(rng.normal(0, 0.2, n)) * (rng.random(n) > 0.08)
    out = np.zeros(label.shape)
    out[mine] = dark[label[mine]] * (deep[mine] > margin[label[mine]])
    grain = 1 + rng.choice([0.0, 0.2]) * _noise(rng, len(label), 4)
    return cv2.GaussianBlur(out * grain, (0, 0), 0.35 / FINE), dark > 0


def _strangers(rng: np.random.Generator, h: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Paint round dark nuclei outside the tumour; return where, (n, 2) um."""
    free = cv2.distanceTransform((label < 0).astype(np.uint8), cv2.DIST_L2, 5) * FINE > 5
    ys, xs = np.nonzero(free)
    if not len(ys):
        return np.zeros((0, 2))
    pick = rng.choice(len(ys), min(len(ys), int(len(ys) * FINE**2 * rng.uniform(0, 0.004))))
    at = np.stack([xs[pick], ys[pick]], axis=1)
    blobs = np.zeros(h.shape, np.float32)
    for x, y in at:
        radius, dark = int(rng.uniform(8, 13)), float(rng.uniform(0.4, 0.8))
        cv2.circle(blobs, (int(x), int(y)), radius, dark, -1)
    np.maximum(h, blobs, out=h)
    return (at + 0.5) * FINE


def _light(rng: np.random.Generator, h: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, float]:
    """Turn stain into uneven light; blur; half of the drawings at 0.5 um/px; noise; JPEG."""
    n = len(h)
    hv, dv = np.array([0.62, 0.70, 0.35]), np.array([0.28, 0.54, 0.79])
    hv, dv = hv + rng.normal(0, 0.025, 3), dv + rng.normal(0, 0.025, 3)
    od = h[..., None] * hv / np.linalg.norm(hv) + d[..., None] * dv / np.linalg.norm(dv)
    slope = 1 + 0.02 * _noise(rng, n, n // 2)
    light = rng.uniform(230, 248) * slope[..., None] * 10.0**-od
    light = cv2.GaussianBlur(light, (0, 0), rng.uniform(0.15, 0.35) / FINE)
    mpp = FINE
    if rng.random() < 0.5:
        mpp, half = 2 * FINE, n // 2
        light = cv2.resize(light, (half, half), interpolation=cv2.INTER_AREA)
    light += rng.normal(0, rng.uniform(0.5, 2), light.shape)
    rgb = np.clip(np.rint(light), 0, 255).astype(np.uint8)
    return through_jpeg(rgb, int(rng.integers(70, 95))), mpp


def _truth(cell: dict[str, np.ndarray], shown: np.ndarray, others: np.ndarray) -> pa.Table:
    seen = cell["seen"]
    nuclei = np.zeros(len(seen), bool)
    nuclei[: len(shown)] = shown
    at = np.concatenate([cell["at"][seen], others])
    tumour = int(seen.sum())
    pattern = np.concatenate([cell["code"][seen], np.zeros(len(others), int)])
    return pa.table({
        "cell_index": np.arange(len(at)),
        "x_um": at[:, 0], "y_um": at[:, 1],
        "cell_type": np.array(["tumour"] * tumour + ["lymphocyte"] * len(others), object),
        "pattern": np.array(PATTERNS, object)[pattern],
        "has_nucleus": np.concatenate([nuclei[seen], np.ones(len(others), bool)]),
    })  # fmt: skip
