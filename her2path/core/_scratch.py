"""Memory that a worker thread uses again from block to block.

Fresh pages cost a tenth of a block's time. What is taken here is uninitialised and belongs to the
caller until the same thread takes the same name again: for results that leave a function, make
an array of your own.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["release", "scratch"]

Held = dict[str, npt.NDArray[np.uint8]]


class _Pools(threading.local):
    """The arrays of one thread, known to all so that they can be released."""

    def __init__(self) -> None:
        self.held: Held = {}
        with _lock:
            _all.append(self.held)


_lock = threading.Lock()
_all: list[Held] = []
_mine = _Pools()


def scratch(
    name: str, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32
) -> npt.NDArray[Any]:
    """Return an uninitialised array of this thread's own.

    Parameters
    ----------
    name : str
        What it is for; the same name gives the same memory again.
    shape : tuple of int
    dtype : dtype
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    held = _mine.held.get(name)
    if held is None or held.size < size:
        held = _mine.held[name] = np.empty(size, np.uint8)
    return held[:size].view(dtype).reshape(shape)


def release() -> None:
    """Give back what all threads hold; what is in use stays with its user."""
    with _lock:
        for held in _all:
            held.clear()
