"""Fields of real cells that were read by eye, as pictures that teach, under all looks."""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from her2path.cells.stain import StainModel, estimate
from her2path.core.settings import Settings
from scripts.fit.looks import as_seen
from scripts.fit.pictures import Cells, Taught, planes_of, unknown
from scripts.fit.real_images import real_image

READS = Path(__file__).parents[2] / "tests" / "data" / "reads"
#: µm of picture around a field of read cells
AROUND_UM = 40.0
#: two centres nearer than this lie in one nucleus, µm
ONE_NUCLEUS_UM = 3.6
KINDS = ("tumour", "other", "nothing")
LEVELS = {"none": 0.0, "weak": 1.0, "moderate": 2.0, "strong": 3.0}


def real_pictures(folder: Path, looks: tuple[str, ...] = ()) -> list[Taught]:
    """Return every field of read cells as it was read, and as each of `looks` shows it."""
    out = []
    reads = read_cells()
    for field in csv.DictReader((READS / "fields.csv").open(encoding="utf-8")):
        mine = reads.get(field["field"])
        if mine is None:
            continue
        shown = [field["look"]] + [k for k in looks if k != field["look"]]
        for look in shown if field["look"] == "as_is" else shown[:1]:
            out.append(_real_field(folder, field, look, mine))
    return out


def read_cells() -> dict[str, dict[tuple[float, float], list[dict[str, str]]]]:
    """Return the reads of every field: place (px) to the voices."""
    out: dict[str, dict[tuple[float, float], list[dict[str, str]]]] = {}
    for row in csv.DictReader((READS / "reads.csv").open(encoding="utf-8")):
        place = float(row["x_px"]), float(row["y_px"])
        out.setdefault(row["field"], {}).setdefault(place, []).append(row)
    return out


def _real_field(folder: Path, field: dict[str, str], look: str, reads: Any) -> Taught:
    rgb, mpp = cached_image(folder, field["image"])
    x0, y0, side = (int(field[k]) for k in ("x0", "y0", "side"))
    pad = round(AROUND_UM / mpp)
    left, top = max(x0 - pad, 0) // 8 * 8, max(y0 - pad, 0) // 8 * 8
    cut = rgb[top : y0 + side + pad, left : x0 + side + pad]
    seen, to = as_seen(cut, mpp, look, len(look) + x0)
    planes, mpp_a = planes_of(seen, to, real_stain(folder, field["image"], look))
    corner = np.array([left, top])
    at, voices = one_nucleus_each((np.array(list(reads)) + 0.5) * mpp, list(reads.values()))
    at = at - corner * mpp
    low, high = (np.array([x0, y0]) - corner) * mpp, (np.array([x0, y0]) - corner + side) * mpp
    box = float(low[0]), float(low[1]), float(high[0]), float(high[1])
    return Taught(planes, mpp_a, _voices(at, voices), box, field["image"])


def one_nucleus_each(
    at: np.ndarray, voices: list[list[dict[str, str]]]
) -> tuple[np.ndarray, list[list[dict[str, str]]]]:
    """Return points (n, 2) µm and their voices with those that share a nucleus joined.

    Large pale nuclei got a point at each nucleolus, and readers called them all a cell. Points with
    a nucleus to every voice nearer than `ONE_NUCLEUS_UM` become one at their mean, with the voices
    of the first; where three lie in a row the nearest two are joined first.
    """
    at, voices = at.astype(float).copy(), list(voices)
    nucleus = np.array([all(v["kind"] in ("tumour", "other") for v in two) for two in voices], bool)
    kept, count = np.ones(len(at), bool), np.ones(len(at))
    gap = np.where(nucleus[:, None] & nucleus, cdist(at, at), np.inf)
    np.fill_diagonal(gap, np.inf)
    for i, j in zip(*np.unravel_index(np.argsort(gap, axis=None), gap.shape), strict=True):
        if gap[i, j] >= ONE_NUCLEUS_UM:
            break
        if i < j and kept[i] and kept[j] and np.hypot(*(at[i] - at[j])) < ONE_NUCLEUS_UM:
            at[i] = (count[i] * at[i] + count[j] * at[j]) / (count[i] + count[j])
            count[i] += count[j]
            kept[j] = False
    return at[kept], [v for v, k in zip(voices, kept, strict=True) if k]


def _voices(at: np.ndarray, reads: list[list[dict[str, str]]]) -> Cells:
    out, kind = unknown(len(at)), np.zeros((len(at), 3))
    for i, voices in enumerate(reads):
        for v in voices:
            if v["kind"] in KINDS:
                kind[i, KINDS.index(v["kind"])] += 1
        grades = [LEVELS[v["membrane"]] for v in voices
                  if v["kind"] == "tumour" and v["membrane"] in LEVELS]  # fmt: skip
        whole = [float(v["complete"] == "yes") for v in voices
                 if v["kind"] == "tumour" and v["complete"] in ("yes", "no")]  # fmt: skip
        if grades:
            out["stained"][i] = np.mean([g > 0 for g in grades])
            out["level"][i] = np.mean(grades)
            if max(grades) == 0:
                out["own"][i], out["share"][i] = 0.0, 0.0
        if whole:
            out["complete"][i] = np.mean(whole)
    return Cells(at, kind, **out)


@lru_cache(4)
def cached_image(folder: Path, image: str) -> tuple[np.ndarray, float]:
    """Return a real image as `real_image` does; the last four stay in memory."""
    return real_image(folder, image)


@lru_cache(64)
def real_stain(folder: Path, image: str, look: str) -> StainModel:
    """Estimate the stain of a whole image as a look shows it, from tiles spread over it."""
    rgb, mpp = cached_image(folder, image)
    side = round(128 / mpp)
    tiles = [
        rgb[y : y + side, x : x + side]
        for y in range(0, max(rgb.shape[0] - side // 2, 1), side)
        for x in range(0, max(rgb.shape[1] - side // 2, 1), side)
    ]
    some = tiles[:: max(1, len(tiles) // 60)]
    shown = [as_seen(np.ascontiguousarray(t), mpp, look) for t in some]
    return estimate([t for t, _ in shown], shown[0][1], Settings().stain)
