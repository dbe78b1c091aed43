"""What a nucleus and the pixels around it look like: a small learned net, run in pass 1.

Numbers measured on rings lose shapes: whether a contour follows an edge all around, how chromatin
lies, which way the cytoplasm stretches, what the nuclei beside it look like. The net sees 22 µm
around a nucleus at 1 µm: hematoxylin as a share of the nucleus' own, DAB clipped, the contour.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from her2path.nuclei.table import RAYS, Nuclei
from her2path.tumour._look import CHANNELS, LANES, cut, see
from her2path.tumour.weights import net

__all__ = ["LOOK_COLUMNS", "SIDE", "STEP_UM", "look", "patches"]

#: the raw columns that are added: by how much the net's output for a tumour nucleus, and for a
#: contour on no nucleus, exceeds the others
LOOK_COLUMNS = ("look_tumour", "look_false")
#: points a side, and between points, µm
SIDE, STEP_UM = 22, 1.0
#: over this distance from the contour inside becomes outside, µm
SOFT_UM = 1.2

F32 = npt.NDArray[np.float32]


def _grid() -> tuple[F32, F32, npt.NDArray[np.int64]]:
    """Return offsets of four samples a point along one axis, and distance and ray of points."""
    fine = (np.arange(2 * SIDE) - SIDE + 0.5) * (STEP_UM / 2)
    middle = (np.arange(SIDE) - (SIDE - 1) / 2) * STEP_UM
    dy, dx = (g.ravel() for g in np.meshgrid(middle, middle, indexing="ij"))
    ray = np.rint(np.arctan2(dy, dx) * (RAYS / (2 * np.pi))).astype(np.int64) % RAYS
    return fine.astype(np.float32), np.hypot(dy, dx).astype(np.float32), ray


_OFFSET_UM, _AWAY_UM, _RAY = _grid()


def _cut(found: Nuclei, planes: tuple[F32, F32], mpp: float) -> Iterator[tuple[slice, F32]]:
    """Cut the points around up to `LANES` nuclei at a time; the memory is used again."""
    scale = np.float32(1 / mpp)
    lanes = np.zeros((CHANNELS, SIDE * SIDE, LANES), np.float32)
    for first in range(0, len(found), LANES):
        which = slice(first, min(first + LANES, len(found)))
        some = found.take(np.arange(which.start, which.stop))
        cut(*planes, some.y, some.x, some.radii, _OFFSET_UM * scale, _RAY, _AWAY_UM * scale,
            np.float32(mpp / SOFT_UM), lanes)  # fmt: skip
        yield which, lanes


def patches(found: Nuclei, h: F32, d: F32, mpp: float) -> F32:
    """Return what the net sees of every nucleus (n, CHANNELS, SIDE, SIDE), for fits."""
    out = np.zeros((len(found), CHANNELS, SIDE * SIDE), np.float32)
    for which, lanes in _cut(found, (h, d), mpp):
        out[which] = lanes.transpose(2, 0, 1)[: which.stop - which.start]
    return out.reshape(-1, CHANNELS, SIDE, SIDE)


def look(
    found: Nuclei, h: F32, d: F32, mpp: float, weights: tuple[F32, ...] | None = None
) -> dict[str, F32]:
    """Let the net look at every nucleus.

    Parameters
    ----------
    found : Nuclei
        Nuclei of the block.
    h, d : float32 (rows, columns)
        Hematoxylin and DAB OD of the analysis plane.
    mpp : float
        µm per pixel of the plane.
    weights : tuple of float32 arrays, optional
        In the order of `her2path.tumour.weights.LAYERS`, in place of the fitted ones.

    Returns
    -------
    dict of float32 (n,)
        `LOOK_COLUMNS`; a nucleus' values rest on pixels within 11 µm, and on nothing else.
    """
    weights = weights or net()
    values = np.zeros((len(found), len(weights[-1])), np.float32)
    seen = np.zeros((len(weights[-1]), LANES), np.float32)
    for which, lanes in _cut(found, (h, d), mpp):
        see(lanes.reshape(CHANNELS, SIDE, SIDE, LANES), *weights, seen)
        values[which] = seen.T[: which.stop - which.start]
    other, tumour, false = values.T
    ahead = tumour - np.maximum(other, false), false - np.maximum(other, tumour)
    return dict(zip(LOOK_COLUMNS, ahead, strict=True))
