"""Slides to time: a drawn or real texture, repeated to so many pixels; where its tissue lies."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from her2path.phantom import TUMOURS, PhantomSpec, make_phantom, write_slide
from scripts.fit.real_images import real_image

#: side of one repeated unit of tissue, um
UNIT_UM = 512.0
TILE_PX = 256
#: parts of real cores, (image, left, top) in their own pixels: brown nests, glands, stroma, bare
REAL_PARTS = (
    ("2_0123", 1500, 1500),
    ("2_a559", 1800, 1800),
    ("1_154a", 1800, 1800),
    ("0_ccb6", 1800, 1800),
)
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Timed:
    """A slide to time: its file, its size (px), and the boxes (x, y, w, h; px) that hold tissue."""

    path: Path
    width: int
    height: int
    tissue: tuple[Box, ...]

    @property
    def tissue_px(self) -> int:
        """Pixels of level 0 that hold tissue."""
        return sum(w * h for _, _, w, h in self.tissue)


def drawn_unit(seed: int, mpp: float) -> NDArray[np.uint8]:
    """Return a drawn piece of tissue, (H, W, 3)."""
    spec = PhantomSpec(
        seed=seed,
        width_um=UNIT_UM,
        height_um=UNIT_UM,
        margin_um=0.0,
        mpp=mpp,
        layout="clustered",
        mixture=TUMOURS["1+"],
        second=TUMOURS["3+"],
        second_fraction=0.4,
    )
    return make_phantom(spec).rgb


def real_unit(mpp: float) -> NDArray[np.uint8]:
    """Return four pieces of real cores side by side, (H, W, 3); needs `HER2PATH_REAL_DATA`."""
    folder = os.environ.get("HER2PATH_REAL_DATA")
    if not folder:
        raise SystemExit("set HER2PATH_REAL_DATA, or time the drawn texture: --texture drawn")
    parts = []
    for image, left, top in REAL_PARTS:
        rgb, own = real_image(Path(folder), image)
        side = round(UNIT_UM / own)
        part = rgb[top : top + side, left : left + side]
        size = round(UNIT_UM / mpp)
        parts.append(cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA))
    rows = np.hstack(parts[:2]), np.hstack(parts[2:])
    return np.asarray(np.vstack(rows), np.uint8)


def with_glass(unit: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """Return the unit with bare glass at its right and below, so that tissue takes this share."""
    height, width = unit.shape[:2]
    grow = (1.0 / share) ** 0.5
    full = tuple(-(-round(side * grow) // TILE_PX) * TILE_PX for side in (height, width))
    glass = np.full((*full, 3), 243, np.uint8)
    glass[:height, :width] = unit
    return glass


def make_slide(
    path: Path,
    gigapixels: float,
    *,
    texture: str,
    mpp: float,
    subsampling: str,
    tissue: float = 1.0,
    seed: int = 1,
) -> Timed:
    """Write a pyramid whose tissue covers the share `tissue`, of so many gigapixels in all."""
    unit = real_unit(mpp) if texture == "real" else drawn_unit(seed, mpp)
    whole = tuple(side // TILE_PX * TILE_PX for side in unit.shape[:2])
    unit = unit[: whole[0], : whole[1]]
    rgb = with_glass(unit, tissue)
    height, width = rgb.shape[:2]
    n = max(1, round((gigapixels * 1e9 / (height * width)) ** 0.5))
    carrier = make_phantom(PhantomSpec(width_um=60, height_um=60, margin_um=0, mpp=mpp))
    spec = carrier.spec.model_copy(update={"mpp": mpp, "subsampling": subsampling})
    write_slide(replace(carrier, rgb=rgb, spec=spec), path, tile_repeat=(n, n))
    boxes = tuple(
        (column * width, row * height, unit.shape[1], unit.shape[0])
        for row in range(n)
        for column in range(n)
    )
    return Timed(path, width * n, height * n, boxes)
