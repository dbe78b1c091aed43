"""Batches for the fits of the reading: pieces of pictures for the finder, cells for the reader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from her2path.cells.reading.inputs import (
    GRID_UM,
    PLACES,
    WRAP,
    place_angles,
    polar_stains,
    to_channels,
)
from scripts.fit.nets import MARGIN, STRIDE
from scripts.fit.pictures import Taught

#: grid points of the piece that a finder's batch shows, and of its answer
PIECE = 144
ANSWER = PIECE - 2 * MARGIN
#: spread of a nucleus' peak in the heat, µm; around a doubtful point nothing is taught
PEAK_UM, DOUBT_UM = 1.3, 3.0
#: grid points around a nucleus that its peak reaches
REACH = 7
#: background of a field of read cells, where a nucleus may have been left without a number
REAL_BACKGROUND = 0.6


def piece(picture: Taught, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return one augmented piece: input (4, PIECE, PIECE), heat, its weight, kind points."""
    x0, y0, x1, y1 = picture.known
    half = ANSWER * GRID_UM / 2
    span = max(min(x1 - x0, y1 - y0) / 2 - 0.6 * half, 1.0)
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2]) + rng.uniform(-span, span, 2)
    zoom, turn = float(np.exp(rng.normal(0, 0.09))), rng.uniform(0, 2 * np.pi)
    flip = -1.0 if rng.random() < 0.5 else 1.0
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    way = spin @ np.diag([flip, 1.0]) * zoom  # piece µm -> picture µm
    stains = _warped(picture, middle, way, rng)
    at = (picture.cells.at - middle) @ np.linalg.inv(way).T / GRID_UM + ANSWER / 2 - 0.5
    known = _known(picture, middle, way)
    return stains | _targets(picture, at, known)


def _warped(picture: Taught, middle: np.ndarray, way: np.ndarray, rng: Any) -> dict[str, Any]:
    fine = PIECE * 2
    spacing = GRID_UM / 2 / picture.mpp_a
    matrix = way * spacing
    start = middle / picture.mpp_a - 0.5 - matrix @ np.full(2, fine / 2 - 0.5)
    affine = np.column_stack([matrix, start])
    seen = cv2.warpAffine(
        _pixels(picture), affine, (fine, fine), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    seen = cv2.resize(seen, (PIECE, PIECE), interpolation=cv2.INTER_AREA).transpose(2, 0, 1)
    return {"x": restain(seen, rng)}


_kept: dict[int, np.ndarray] = {}


def _pixels(picture: Taught) -> np.ndarray:
    """Return the planes as float32 (H, W, 3); kept, for a fit asks for them again and again."""
    known = _kept.get(id(picture))
    if known is None:
        known = np.ascontiguousarray(picture.planes.astype(np.float32).transpose(1, 2, 0))
        _kept[id(picture)] = known
    return known


def restain(stains: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return stain planes (3, ...) as another laboratory and camera might give them."""
    gain = np.exp(rng.normal([0.0, 0.15, 0.0], [0.30, 0.40, 0.30]))
    out = (stains * gain[:, None, None]).astype(np.float32)
    out[1] += rng.normal(0, 0.06) * out[0]  # vectors a little off
    if rng.random() < 0.4:
        blur = rng.uniform(0.2, 0.75)
        out = np.stack([cv2.GaussianBlur(p, (0, 0), blur) for p in out])
    noise = np.float32(rng.uniform(0, 0.015))
    return out + noise * rng.standard_normal(out.shape, np.float32)


def _known(picture: Taught, middle: np.ndarray, way: np.ndarray) -> np.ndarray:
    v, u = np.mgrid[0:ANSWER, 0:ANSWER]
    place = (np.stack([u, v], axis=-1) - ANSWER / 2 + 0.5) * GRID_UM @ way.T + middle
    x0, y0, x1, y1 = picture.known
    x, y = place[..., 0], place[..., 1]
    return (x >= x0) & (x < x1) & (y >= y0) & (y < y1)


def _targets(picture: Taught, at: np.ndarray, known: np.ndarray) -> dict[str, np.ndarray]:
    cells, drawn = picture.cells, picture.source in ("own", "outlined", "plain")
    voices = cells.kind.sum(axis=1)
    real = np.divide(cells.kind[:, :2].sum(axis=1), voices, out=np.full(len(at), 0.5),
                     where=voices > 0)  # fmt: skip
    heat = np.zeros((ANSWER, ANSWER), np.float32)
    weight = np.where(known, 1.0 if drawn else REAL_BACKGROUND, 0.0).astype(np.float32)
    points, kinds = [], []
    for (x, y), share, kind in zip(at, real, cells.kind, strict=True):
        if not (-4 < x < ANSWER + 3 and -4 < y < ANSWER + 3):
            continue
        i, j = max(int(x) - REACH, 0), max(int(y) - REACH, 0)
        part = np.s_[j : int(y) + REACH + 1, i : int(x) + REACH + 1]
        rows, columns = heat[part].shape
        v, u = np.mgrid[j : j + rows, i : i + columns]
        far2 = ((u - x) ** 2 + (v - y) ** 2) * GRID_UM**2
        near = far2 < DOUBT_UM**2
        if 0.25 < share < 0.75:
            weight[part][near] = 0.0
            continue
        if share >= 0.75:
            peak = np.exp(-far2 / (2 * PEAK_UM**2)).astype(np.float32)
            heat[part] = np.maximum(heat[part], peak)
        weight[part][near & known[part]] = 1.0
        if 0 <= x < ANSWER and 0 <= y < ANSWER and kind.sum() > 0:
            points.append((int(y / STRIDE + 0.25), int(x / STRIDE + 0.25)))
            kinds.append(kind / kind.sum())
    return {"heat": heat, "weight": weight, "points": np.array(points, np.int64).reshape(-1, 2),
            "kinds": np.array(kinds, np.float32).reshape(-1, 3)}  # fmt: skip


def heat_loss(said: Tensor, heat: Tensor, weight: Tensor) -> Tensor:
    """Return the focal loss of peaks (Law & Deng 2018), summed over points by weight."""
    p = torch.sigmoid(said).clamp(1e-5, 1 - 1e-5)
    top = (heat > 0.9).float()
    hit = -top * (1 - p) ** 2 * torch.log(p)
    miss = -(1 - top) * (1 - heat) ** 4 * p**2 * torch.log(1 - p)
    return ((hit + miss) * weight).sum() / (top * weight).sum().clamp(min=1.0)


#: directions kept of a cell: with two sets of 24 a turn by half a place is a new picture
FINE_PLACES = 2 * PLACES
FINE_ANGLES = place_angles(FINE_PLACES)


def polar_cells(picture: Taught, rng: np.random.Generator, jitter_um: float) -> Any:
    """Return stains of every cell in polar form, float16 (n, 3, 48, 32), and the shifts (µm)."""
    planes = picture.planes.astype(np.float32)
    shift = rng.normal(0, jitter_um, (len(picture.cells), 2))
    at = np.round(((picture.cells.at + shift) / picture.mpp_a - 0.5) * 16) / 16
    stains = polar_stains(planes, at[:, 0], at[:, 1], picture.mpp_a, FINE_ANGLES)
    return stains.astype(np.float16), shift


def shifted_radii(radii: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return star radii (n, PLACES) about centres moved by shift (n, 2), µm; NaN stays."""
    turn = place_angles()
    x = radii * np.cos(turn) - shift[:, :1]
    y = radii * np.sin(turn) - shift[:, 1:]
    far, angle = np.hypot(x, y), np.arctan2(y, x) % (2 * np.pi)
    out = np.full(radii.shape, np.nan)
    for i in range(len(radii)):
        ok = np.isfinite(far[i])
        if ok.sum() < 6:
            continue
        order = np.argsort(angle[i][ok])
        a, r = angle[i][ok][order], far[i][ok][order]
        a = np.concatenate([a[-1:] - 2 * np.pi, a, a[:1] + 2 * np.pi])
        r = np.concatenate([r[-1:], r, r[:1]])
        value = np.interp(turn, a, r)
        gap = np.diff(a)[np.clip(np.searchsorted(a, turn) - 1, 0, len(a) - 2)]
        out[i] = np.where(gap < 1.0, value, np.nan)
    return out


@dataclass(frozen=True)
class CellTruth:
    """What is known of a batch of cells; see `pictures.Cells`. NaN where it is not."""

    nucleus: Tensor
    border: Tensor
    own: Tensor
    kind: Tensor
    stained: Tensor
    complete: Tensor


@dataclass(frozen=True)
class Bank:
    """Views of cells: stains float16 (n, 3, 48, 32), the finder's features, truth (n, 77)."""

    stains: np.ndarray
    features: np.ndarray
    truth: np.ndarray


Features = Callable[[Taught], Callable[[np.ndarray], np.ndarray]]


def bank(pictures: list[Taught], versions: int, rng: np.random.Generator, look: Features) -> Bank:
    """Return every cell of the pictures, seen from so many places near its centre."""
    stains, features, truth = [], [], []
    for picture in pictures:
        at = look(picture)
        cells = picture.cells
        voices = cells.kind.sum(axis=1, keepdims=True)
        kind = np.where(voices > 0, cells.kind / np.maximum(voices, 1e-9), np.nan)
        for version in range(versions):
            seen, shift = polar_cells(picture, rng, 0.8 if version else 0.3)
            stains.append(seen)
            features.append(at(cells.at + shift))
            truth.append(np.concatenate([
                shifted_radii(cells.nucleus, shift), shifted_radii(cells.border, shift), cells.own,
                kind, cells.stained[:, None], cells.complete[:, None],
            ], axis=1).astype(np.float32))  # fmt: skip
    return Bank(np.concatenate(stains), np.concatenate(features), np.concatenate(truth))


def cell_batch(cells: Bank, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, CellTruth]:
    """Return n augmented cells: the reader's inputs (n, 4, 30, 32) and (n, 24), and the truth."""
    rows = rng.integers(0, len(cells.truth), n)
    stains, truth = cells.stains[rows].astype(np.float32), cells.truth[rows]
    rings = np.stack([truth[:, k * PLACES : (k + 1) * PLACES] for k in range(3)])
    if rng.random() < 0.5:  # mirrored
        stains = stains[:, :, -np.arange(FINE_PLACES) % FINE_PLACES]
        rings = rings[:, :, -np.arange(PLACES) % PLACES]
    turn = int(rng.integers(PLACES))
    stains = np.roll(stains, -2 * turn, axis=2)[:, :, ::2]
    rings = np.roll(rings, -turn, axis=2)
    stains = np.concatenate([stains[:, :, -WRAP:], stains, stains[:, :, :WRAP]], axis=2)
    gain = np.exp(rng.normal([0.0, 0.12, 0.0], [0.25, 0.35, 0.30], (n, 3))).astype(np.float32)
    stains = stains * gain[:, :, None, None]
    stains[:, 1] += rng.normal(0, 0.05, (n, 1, 1)).astype(np.float32) * stains[:, 0]
    noise = rng.uniform(0, 0.012, (n, 1, 1, 1)).astype(np.float32)
    stains = stains + noise * rng.standard_normal(stains.shape, np.float32)
    rest = torch.from_numpy(truth[:, 3 * PLACES :])
    nucleus, border, own = (torch.from_numpy(np.ascontiguousarray(r)) for r in rings)
    known = CellTruth(nucleus, border, own, rest[:, :3], rest[:, 3], rest[:, 4])
    return (torch.from_numpy(to_channels(stains)), torch.from_numpy(cells.features[rows]), known)
