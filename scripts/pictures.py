"""Pictures that the fits learn from: drawings of three generators, marked fields of real cores."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import drawn_phantoms
import numpy as np
from PIL import Image
from plain_phantoms import make_plain

from her2path.analysis import Optics
from her2path.case.plan import _nuclear_contrast
from her2path.geometry import analysis_factor
from her2path.phantom import TUMOURS, PhantomSpec, encode_decode, make_phantom
from her2path.settings import Settings
from her2path.stain import estimate, reduce_unmix

MARKS = Path(__file__).parent.parent / "tests" / "data" / "real_nuclei_marks.csv"
#: µm per pixel of the real cores, and side of a marked field, µm
REAL_MPP, FIELD_UM = 0.25, 75.0
CORES = ("0_a6d0", "1_154a", "2_a559", "2_aeb2")
OWN_UM, PLAIN_UM = 300.0, 260.0
#: seeds of outlined drawings that the fits learn from begin here
DRAWN_FROM = 2_500_000


@dataclass(frozen=True)
class Truth:
    """What is there: ``at`` (n, 2) µm, ``kind`` and ``radius`` (µm; nan where unknown) (n,).

    ``seen``: the section holds the nucleus; ``edge``: it lies at the picture's edge. ``fields``
    (k, 2) µm are the corners of the fields that are marked; without any, all is known.
    """

    at: np.ndarray
    kind: np.ndarray
    radius: np.ndarray
    seen: np.ndarray
    edge: np.ndarray
    fields: np.ndarray

    @property
    def tumour(self) -> np.ndarray:
        """Tell which are tumour cells."""
        return self.kind == "tumour"

    @property
    def findable(self) -> np.ndarray:
        """Tell which can be asked for."""
        return self.seen & ~self.edge

    def marked(self, at: np.ndarray) -> np.ndarray:
        """Tell which points lie where the truth is known."""
        if not len(self.fields):
            return np.ones(len(at), bool)
        inner = [((at >= f + 2.5) & (at < f + FIELD_UM - 2.5)).all(axis=1) for f in self.fields]
        return np.any(inner, axis=0)


@dataclass(frozen=True)
class Picture:
    """A picture, uint8 (H, W, 3), its pixel size in µm, and its truth."""

    rgb: np.ndarray
    mpp: float
    truth: Truth


@dataclass(frozen=True)
class Stains:
    """Hematoxylin and DAB OD on the analysis plane, its µm per pixel, the nuclear contrast."""

    h: np.ndarray
    d: np.ndarray
    mpp: float
    contrast: float | None


def own_picture(seed: int, extreme: bool = True) -> Picture:
    """Draw a random phantom of this program; with `extreme`, half of them beyond the usual."""
    rng = np.random.default_rng([seed, 99])
    beyond = _extremes(rng) if extreme else {}
    spec = PhantomSpec.random(seed, width_um=OWN_UM, height_um=OWN_UM, **beyond)
    phantom = make_phantom(spec)
    columns = ("x_um", "y_um", "cell_type", "has_nucleus", "touches_edge", "nucleus_radius_um")
    t = {n: np.asarray(phantom.truth[n].to_pylist()) for n in columns}
    truth = Truth(np.column_stack([t["x_um"], t["y_um"]]), t["cell_type"],
                  t["nucleus_radius_um"].astype(float), t["has_nucleus"], t["touches_edge"],
                  np.zeros((0, 2)))  # fmt: skip
    return Picture(encode_decode(phantom.rgb, spec.jpeg_quality, spec.subsampling), spec.mpp, truth)


def _extremes(rng: np.random.Generator) -> dict[str, Any]:
    """Half of the phantoms reach beyond what `PhantomSpec.random` draws."""
    if rng.random() < 0.5:
        return {}
    return {
        "tumour_share": float(rng.choice([0.1, 0.3, 0.9, 1.0])),
        "lymphocytes": float(rng.choice([0.0, 0.0, 0.5, 1.0])),
        "stroma_cells": float(rng.choice([0.0, 0.5, 1.0])),
        "cell_um": float(rng.uniform(9, 18)),
        "crowding": float(rng.uniform(0, 1)),
        "missing_nucleus_share": float(rng.choice([0.0, 0.05])),
    }


def plain_picture(seed: int, style: str) -> Picture:
    """Draw a plain phantom of a style."""
    drawn = make_plain(seed, style, PLAIN_UM)
    edge = ((drawn.at < 4.0) | (drawn.at > PLAIN_UM - 4.0)).any(axis=1)
    seen = np.ones(len(drawn.at), bool)
    truth = Truth(drawn.at, drawn.kind, drawn.radius, seen, edge, np.zeros((0, 2)))
    return Picture(drawn.rgb, drawn.mpp, truth)


def outlined_picture(number: int, style: str) -> Picture:
    """Draw a picture of `drawn_phantoms.py`: often vesicular nuclei, any share of stained cells."""
    mixture = list(TUMOURS.values())[number % len(TUMOURS)]
    painted = drawn_phantoms.paint(DRAWN_FROM + number, style, mixture, PLAIN_UM)
    cells, others = painted.nuclei, painted.others
    seen = np.concatenate([cells[:, 2] > 0, np.ones(len(others), bool)])
    at = np.concatenate([np.where(cells[:, 2:] > 0, cells[:, :2], painted.cells.at), others])
    edge = ((at < 4.0) | (at > PLAIN_UM - 4.0)).any(axis=1)
    kind = np.array(["tumour"] * len(cells) + painted.kinds)
    radius = np.concatenate([cells[:, 2], np.full(len(others), np.nan)])
    truth = Truth(at, kind, radius, seen, edge, np.zeros((0, 2)))
    return Picture(painted.rgb, painted.mpp, truth)


def real_core(folder: Path, image: str) -> Picture:
    """Return a real core, with the marks as truth; only marked fields count."""
    path = next((folder / "her2_tma_cores").glob(f"{image}*.jpg"))
    with MARKS.open(encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["image"] == image]
    at = np.array([[float(r["x_px"]), float(r["y_px"])] for r in rows]) * REAL_MPP
    fields = sorted({(int(r["field_x0"]), int(r["field_y0"])) for r in rows})
    n = len(at)
    truth = Truth(at, np.array([r["kind"] for r in rows]), np.full(n, np.nan), np.ones(n, bool),
                  np.zeros(n, bool), np.array(fields) * REAL_MPP)  # fmt: skip
    return Picture(np.asarray(Image.open(path).convert("RGB")), REAL_MPP, truth)


def stains(picture: Picture) -> Stains:
    """Return the stains of a picture, estimated from samples of it as the program does."""
    settings, mpp = Settings(), picture.mpp
    f = analysis_factor(mpp)
    rgb = picture.rgb[: picture.rgb.shape[0] // f * f, : picture.rgb.shape[1] // f * f]
    side = round(128 / mpp) // f * f
    tiles = [
        rgb[y : y + side, x : x + side]
        for y in range(0, rgb.shape[0] - side // 2, side)
        for x in range(0, rgb.shape[1] - side // 2, side)
    ]
    tiles = tiles[:: max(1, len(tiles) // 24)]
    optics = Optics(mpp, f, estimate(tiles, mpp, settings.stain))
    h, d = reduce_unmix(rgb, f, optics.stain)
    return Stains(h, d, optics.mpp_a, _nuclear_contrast(tiles, optics, settings))
