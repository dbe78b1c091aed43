"""Small steps that kernels share."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
from numba import njit

__all__ = ["put"]


@njit(cache=True, nogil=True, error_model="numpy")
def put(out: npt.NDArray[Any], begin: int, row: npt.NDArray[Any]) -> None:
    """Write a row (N,) to ``out[begin : begin + N]``.

    A loop, since a slice would make numba compile the words of an error about shapes: seconds a
    process, where kernels are compiled for the first time.
    """
    for k in range(row.size):
        out[begin + k] = row[k]
