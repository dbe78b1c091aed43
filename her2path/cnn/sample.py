"""A sample of cells that depends on the cells alone: by a hash of their identity."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["hashed_order", "sample_by_region"]


def _mixed(ids: NDArray[Any]) -> NDArray[np.uint64]:
    """Return a well mixed number a cell (splitmix64's finaliser)."""
    with np.errstate(over="ignore"):
        z = np.asarray(ids).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)))


def hashed_order(ids: NDArray[Any]) -> NDArray[np.int64]:
    """Return rows in a shuffled order that is always the same for the same identities."""
    return np.lexsort((np.asarray(ids), _mixed(ids))).astype(np.int64)


def sample_by_region(ids: NDArray[Any], region: NDArray[Any], most: int) -> NDArray[np.int64]:
    """Return up to ``most`` rows of every region, sorted; region -1 is none.

    Parameters
    ----------
    ids : int64 (N,)
        Identities of the cells.
    region : int (N,)
        Region of each, -1 where none.
    most : int
        Rows a region.
    """
    order = hashed_order(ids)
    order = order[np.asarray(region)[order] >= 0]
    order = order[np.argsort(np.asarray(region)[order], kind="stable")]
    mine = np.asarray(region)[order]
    first = np.searchsorted(mine, mine, side="left")
    return np.sort(order[np.arange(len(order)) - first < most])
