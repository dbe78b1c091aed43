"""Which finds may be halves of one nucleus, and what the trees are told of a pair."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from her2path.nuclei import _rivals, _twins
from her2path.nuclei._drafts import FIXED_POINT, Drafts, Planes

__all__ = ["TWIN_UM", "describe_pairs", "sixteenths"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]

#: halves' centres lie nearer than this, µm
TWIN_UM = 9.0


def sixteenths(drafts: Drafts, which: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    """Return the centroids (y, x), whole sixteenths of a pixel."""
    moved = np.rint(drafts.centre[which, :2] * np.float32(FIXED_POINT)).astype(np.int64)
    return drafts.at[which].astype(np.int64) * FIXED_POINT + moved


def describe_pairs(
    planes: Planes, drafts: Drafts, score: F32, kept: npt.NDArray[np.intp], mpp: float
) -> tuple[I32, F32]:
    """Return near pairs of kept candidates, as places in `kept`, and their features."""
    place = sixteenths(drafts, kept)
    order = np.lexsort((place[:, 1], place[:, 0]))
    mine, place = kept[order], place[order]
    reach = round(TWIN_UM / mpp * FIXED_POINT)
    pairs = _rivals.near_pairs(place, reach * reach - 1)
    finds = (
        drafts.at[mine], place, drafts.radii[mine], drafts.edges[mine], drafts.centre[mine, 2],
        drafts.measures[mine], score[mine],
    )  # fmt: skip
    table = np.empty((len(pairs), len(_twins.FEATURES)), np.float32)
    _twins.describe_pairs((planes.smooth, planes.dab), finds, pairs, np.float32(mpp), table)
    return order.astype(np.int32)[pairs], table
