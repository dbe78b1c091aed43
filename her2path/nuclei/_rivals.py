"""Hot loops over pairs of candidates: who claims the same place, and who keeps it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["claims", "inside_share", "list_near", "near_pairs", "suppress"]

#: radii of the middles of three equal areas
THIRDS = np.array([0.408, 0.707, 0.913], np.float32)
_jit = njit(cache=True, nogil=True, error_model="numpy")


@_jit
def inside_share(ry, rx, radii_a, radii_b, rays, angle):  # type: ignore[no-untyped-def]
    """Return the share of contour a's area that lies in contour b; (ry, rx) = centre a - centre b.

    The area of a is sampled at three radii on every ray (the middles of three equal areas); each
    sample weighs the area that it stands for.
    """
    half = angle.shape[0] // 2
    two, mid = np.float32(2), np.float32(0.5)
    total = np.float32(0)
    hit = np.float32(0)
    for k in range(radii_a.size):
        weight = radii_a[k] * radii_a[k]
        total += np.float32(3) * weight
        for i in range(3):
            f = THIRDS[i]
            py = ry + f * radii_a[k] * rays[0, k]
            px = rx + f * radii_a[k] * rays[1, k]
            ay = int(np.floor(py * two + mid))
            ax = int(np.floor(px * two + mid))
            if abs(ay) <= half and abs(ax) <= half:
                r = radii_b[angle[ay + half, ax + half]]
                if py * py + px * px <= r * r:
                    hit += weight
    return hit / max(total, np.float32(1e-6))


@_jit
def list_near(place, most, pairs):  # type: ignore[no-untyped-def]
    """List the pairs of places whose squared distance is at most `most`.

    Parameters
    ----------
    place : int64 (N, 2)
        Places (y, x), sorted by y.
    most : int
        In the square of the places' unit.
    pairs : int32 (M, 2)
        Receives the pairs.

    Returns
    -------
    int
        How many there are; more than M means that the rest was not written.
    """
    count = 0
    for i in range(place.shape[0]):
        for j in range(i + 1, place.shape[0]):
            dy = place[j, 0] - place[i, 0]
            if dy * dy > most:
                break
            dx = place[j, 1] - place[i, 1]
            if dy * dy + dx * dx <= most:
                if count < pairs.shape[0]:
                    pairs[count, 0], pairs[count, 1] = i, j
                count += 1
    return count


def near_pairs(place: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int32]:
    """Return all pairs that `list_near` lists."""
    pairs = np.empty((16 * len(place) + 16, 2), np.int32)
    n = list_near(place, most, pairs)
    if n > len(pairs):
        pairs = np.empty((n, 2), np.int32)
        list_near(place, most, pairs)
    return pairs[:n]


@_jit
def claims(at, radii, limit, rays, angle, pairs):  # type: ignore[no-untyped-def]
    """Move the pairs of contours that claim the same place to the front; return how many.

    Parameters
    ----------
    at : int32 (N, 2)
        Origins of the rays (y, x), whole pixels.
    radii : float32 (N, K)
        Pixels.
    limit : float32
        Share of either contour that must be common.
    rays, angle
        As for the contours.
    pairs : int32 (M, 2)
    """
    count = 0
    for p in range(pairs.shape[0]):
        i, j = pairs[p, 0], pairs[p, 1]
        ry, rx = np.float32(at[j, 0] - at[i, 0]), np.float32(at[j, 1] - at[i, 1])
        share = inside_share(ry, rx, radii[j], radii[i], rays, angle)
        if share <= limit:
            share = inside_share(-ry, -rx, radii[i], radii[j], rays, angle)
        if share > limit:
            pairs[count, 0], pairs[count, 1] = i, j
            count += 1
    return count


@_jit
def suppress(pairs, score, key, rounds, state):  # type: ignore[no-untyped-def]
    """Keep local best objects in a fixed number of rounds.

    In each round an undecided object that beats all its undecided rivals is kept (1), then the
    undecided rivals of kept objects are dropped (2). What stays 0 was left undecided.

    Parameters
    ----------
    pairs : int32 (M, 2)
    score : float32 (N,)
    key : int64 (N,)
        Breaks ties of the score.
    rounds : int
        The reach of an outcome is 2 x rounds - 1 pairs.
    state : int8 (N,)
        All 0 on entry.
    """
    n = score.size
    best = np.empty(n, np.bool_)
    for _ in range(rounds):
        for i in range(n):
            best[i] = state[i] == 0
        for p in range(pairs.shape[0]):
            i, j = pairs[p, 0], pairs[p, 1]
            if state[i] == 0 and state[j] == 0:
                if score[i] > score[j] or (score[i] == score[j] and key[i] > key[j]):
                    best[j] = False
                else:
                    best[i] = False
        for i in range(n):
            if best[i]:
                state[i] = 1
        for p in range(pairs.shape[0]):
            i, j = pairs[p, 0], pairs[p, 1]
            if state[i] == 1 and state[j] == 0:
                state[j] = 2
            elif state[j] == 1 and state[i] == 0:
                state[i] = 2
