"""The quality map's grid: what every map cell measured, what is usual, and neighbourhoods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from her2path.cells.qc.assessment import GREY_PER_OD

__all__ = ["EMPTY", "F32", "LEAST_GREY", "Field", "Mask", "Usual", "grown", "mean", "morph",
           "patches", "stain_grey", "thin", "usual_of", "visibility"]  # fmt: skip

Mask = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]

#: grey levels of stain below which there is nothing to be sharp
LEAST_GREY = 8.0
#: fewer touching map cells than this are chance: a patch is larger than 30 µm
LEAST_CELLS = 3
#: emptier than this is lumen or glass, and nothing is to be said of it (share)
EMPTY = 0.9


@dataclass(frozen=True)
class Field:
    """What `classify` sees, all (rows, columns) of map cells.

    ``maps`` are the block's means and `features.FEATURES`, ``nuclei`` and ``epithelium`` counts of
    finds and of sure tumour cells, ``tissue`` and ``pen`` masks.
    """

    maps: Mapping[str, F32]
    tissue: Mask
    pen: Mask

    def __getitem__(self, name: str) -> F32:
        return self.maps[name]


@dataclass(frozen=True)
class Usual:
    """What is usual in this slide's tissue: medians over map cells that hold a nucleus."""

    hematoxylin: float
    nuclear: float
    visibility: float
    ratio: float
    floor: float


def visibility(field: Field) -> F32:
    """Return what differs at 1 µm, beside the stain's square."""
    stain = np.maximum(stain_grey(field), LEAST_GREY)
    seen = np.nan_to_num(field["focus"]) * field["contrast"] / (stain * stain)
    return np.asarray(seen, np.float32)


def usual_of(field: Field) -> Usual:
    """Return what is usual in a slide; where no nucleus was found, what is on most slides."""
    cells = field.tissue & (field["nuclei"] > 0) & (field["glass"] < 0.5)
    if not cells.any():
        return Usual(0.05, 0.15, 0.5, 0.5, 0.02)
    seen = visibility(field)
    return Usual(
        float(np.median(field["hematoxylin"][cells])),
        float(np.median(field["nuclear"][cells])),
        float(np.median(seen[cells])),
        float(np.median(np.nan_to_num(field["focus"])[cells])),
        float(np.median(field["floor"][cells])),
    )


def stain_grey(field: Field) -> F32:
    """Return the mean of both stains as grey levels below white."""
    both = field["hematoxylin"] + field["dab"]
    return np.asarray(np.maximum(both, 0.0) * GREY_PER_OD, np.float32)


def mean(plane: npt.NDArray[np.generic], side: int) -> F32:
    """Return the mean over a window of ``side`` map cells, mirrored at the slide's edge."""
    made = cv2.boxFilter(
        np.asarray(plane, np.float32), -1, (side, side), borderType=cv2.BORDER_REFLECT
    )
    return np.asarray(made, np.float32)


def morph(mask: Mask, op: int, side: int) -> Mask:
    """Apply one of OpenCV's morphological operations with a square of ``side`` map cells.

    Beyond the slide's edge there is nothing: neither does it grow from there, nor is it spared.
    """
    made = cv2.morphologyEx(mask.astype(np.uint8), op, np.ones((side, side), np.uint8),
                            borderType=cv2.BORDER_CONSTANT, borderValue=0)  # fmt: skip
    return np.asarray(made > 0)


def grown(mask: Mask) -> Mask:
    """Add the map cells around: a cell reaches 8 µm beyond its nucleus."""
    return morph(mask, cv2.MORPH_DILATE, 3)


def patches(mask: Mask, least: int = LEAST_CELLS) -> Mask:
    """Keep what is at least so many touching map cells."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= least
    keep[0] = False
    return np.asarray(keep[labels])


def thin(mask: Mask, long: int) -> Mask:
    """Keep what is narrower than three map cells, in pieces of at least ``long`` of them."""
    narrow = mask & ~morph(mask, cv2.MORPH_OPEN, 3)
    kept = patches(narrow, long)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(kept.astype(np.uint8))
    side = np.maximum(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
    keep = side >= long
    keep[0] = False
    return np.asarray(keep[labels])
