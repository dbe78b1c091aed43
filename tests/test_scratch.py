"""Memory that a thread uses again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np

from her2path.core._scratch import release, scratch


def test_a_name_gives_the_same_memory_again_and_grows() -> None:
    release()
    first = scratch("test.a", (30, 20))
    assert first.dtype == np.float32
    assert first.flags["C_CONTIGUOUS"]
    again = scratch("test.a", (10, 5), np.uint8)
    assert again.shape == (10, 5)
    assert np.shares_memory(first, again)
    assert not np.shares_memory(first, scratch("test.b", (30, 20)))
    larger = scratch("test.a", (100, 100))
    assert not np.shares_memory(first, larger)


def test_threads_share_nothing() -> None:
    meet = Barrier(2)

    def take(value: float) -> np.ndarray:
        mine = scratch("test.c", (50, 50))
        meet.wait()
        mine[:] = value
        meet.wait()
        return mine

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(take, (1.0, 2.0))
    assert not np.shares_memory(one, two)
    assert (one == 1.0).all()
    assert (two == 2.0).all()


def test_released_memory_is_not_handed_out_again() -> None:
    held = scratch("test.d", (8, 8))
    held[:] = 7.0
    release()
    other = scratch("test.d", (8, 8))
    other[:] = 0.0
    assert (held == 7.0).all()
