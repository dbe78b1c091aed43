"""A hash of absolute coordinates, to break ties alike in every block."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["coordinate_hash", "keys"]


@njit(cache=True, nogil=True)
def coordinate_hash(y, x):  # type: ignore[no-untyped-def]
    """Return 32 well-mixed bits of an absolute position (the finaliser of murmur3)."""
    v = np.uint32(np.uint32(y) * np.uint32(0x9E3779B1))
    v = np.uint32(v ^ np.uint32(np.uint32(x) * np.uint32(0x85EBCA77)))
    v = np.uint32(v ^ (v >> np.uint32(16)))
    v = np.uint32(v * np.uint32(0x85EBCA6B))
    v = np.uint32(v ^ (v >> np.uint32(13)))
    v = np.uint32(v * np.uint32(0xC2B2AE35))
    v = np.uint32(v ^ (v >> np.uint32(16)))
    return np.int64(v)


@njit(cache=True, nogil=True)
def keys(at, oy, ox):  # type: ignore[no-untyped-def]
    """Return the hash of every pixel (y, x) of `at`, int32 (N, 2), given the block's origin."""
    out = np.empty(at.shape[0], np.int64)
    for i in range(at.shape[0]):
        out[i] = coordinate_hash(oy + at[i, 0], ox + at[i, 1])
    return out
