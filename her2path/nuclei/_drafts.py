"""Candidates with their contours, and the planes that they are traced on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["FIXED_POINT", "Drafts", "Planes"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]

#: centres are multiples of this, pixels
FIXED_POINT = 16


@dataclass(frozen=True)
class Planes:
    """What candidates are traced on."""

    smooth: F32  # (H, W) hematoxylin OD
    brown: F32  # (H / q, W / q) height of DAB ridges, OD
    dab: F32  # (H, W) DAB OD
    grid: tuple[int, int, int]  # q, and the pixel (y, x) where the coarse plane begins


@dataclass(frozen=True)
class Drafts:
    """Candidates with their contours; arrays of the same length."""

    at: I32  # (N, 2) whole pixel (y, x)
    near: F32  # (N,) H OD at nuclear scale
    wide: F32  # (N,) H OD of the neighbourhood
    radii: F32  # (N, K) px
    edges: F32  # (N, K) OD
    walls: F32  # (N, K) OD
    gain: F32  # (N,) OD
    centre: F32  # (N, 3) centroid relative to the centre, area in px
    measures: F32  # (N, MEASURES)
