"""Boosted trees as plain arrays, walked by a compiled loop: fitted elsewhere, the same anywhere."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["Trees", "read_arrays", "read_trees"]

I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]

_jit = njit(cache=True, nogil=True, error_model="numpy")
#: rows that go down a tree side by side: many short walks without a branch to guess wrong
_ROWS = 64


@_jit
def _grow(table, feature, limit, child, value, root, depth, base):  # type: ignore[no-untyped-def]
    count, width = table.shape
    flat = table.reshape(-1)
    out = np.full(count, base)
    at = np.empty(_ROWS, np.int64)
    for first in range(0, count, _ROWS):
        rows = min(_ROWS, count - first)
        for t in range(root.size):
            at[:] = root[t]
            for _ in range(depth[t]):
                for i in range(rows):
                    node = np.uint64(at[i])
                    right = flat[np.uint64((first + i) * width + feature[node])] > limit[node]
                    at[i] = child[np.uint64(2) * node + np.uint64(right)]
            for i in range(rows):
                out[first + i] += value[np.uint64(at[i])]
    return out


@dataclass(frozen=True)
class Trees:
    """Boosted trees of one model.

    Attributes
    ----------
    names : tuple of str
        Features, in order.
    feature, limit : int64, float32 (nodes,)
        A row goes left where the node's feature is at most its limit.
    child : int64 (2 nodes,)
        Left and right child of every node; a leaf is its own child.
    value : float32 (nodes,)
        Log odds that a leaf adds.
    root, depth : int64 (trees,)
        First node of every tree, and the steps to its deepest leaf.
    base : float
        Log odds before the first tree.
    """

    names: tuple[str, ...]
    feature: I64
    limit: F32
    child: I64
    value: F32
    root: I64
    depth: I64
    base: float

    def odds(self, table: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Return the log odds (n,) of features (n, len(names)), added tree by tree in order."""
        table = np.ascontiguousarray(table)
        arrays = (self.feature, self.limit, self.child, self.value, self.root, self.depth)
        return np.asarray(_grow(table, *arrays, self.base), np.float64)


def read_arrays(package: str, file: str) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of an npz file that lies in a package."""
    data = resources.files(package).joinpath(file).read_bytes()
    with np.load(io.BytesIO(data), allow_pickle=False) as saved:
        return dict(saved)


def read_trees(saved: Mapping[str, npt.NDArray[Any]], name: str) -> Trees:
    """Return the forest of that name from the arrays of a file.

    They are ``names``, ``base``, ``root`` (first node of every tree), and, node by node,
    ``feature`` (-1 at a leaf), ``limit``, ``left`` and ``right`` (counted from the tree's root,
    behind their parent), ``value``.
    """
    feature, left, right, root = (
        saved[f"{name}_{a}"].astype(np.int64) for a in ("feature", "left", "right", "root")
    )
    count = np.diff(np.append(root, len(feature)))
    start = np.repeat(root, count)
    leaf, own = feature < 0, np.arange(len(feature))
    child = np.column_stack([np.where(leaf, own, start + side) for side in (left, right)])
    level = np.zeros(len(feature), np.int64)
    for node in np.flatnonzero(~leaf):
        level[child[node]] = level[node] + 1
    return Trees(
        names=tuple(str(n) for n in saved[f"{name}_names"]),
        feature=np.where(leaf, 0, feature),
        limit=saved[f"{name}_limit"].astype(np.float32),
        child=child.reshape(-1),
        value=saved[f"{name}_value"].astype(np.float32),
        root=root,
        depth=np.maximum.reduceat(level, root),
        base=float(saved[f"{name}_base"]),
    )
