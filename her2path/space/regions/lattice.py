"""The grid that the cores of a tissue microarray lie on, and each core's place on it.

Nothing is assumed of the grid but rows: it may be turned, wider than high, have places, rows or
columns missing, wider gaps between its sectors, or every other row shifted by half a step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["grid_positions"]

Float = NDArray[np.float64]
Int = NDArray[np.int64]
#: trial angles, degrees
STEP_DEG = 0.2
#: two cores are level when they differ by less than this share of the usual distance
LEVEL = 0.12
#: a turned grid must fit better than a straight one by this much
STRAIGHT = 0.03
#: a gap is a whole multiple of the pitch up to this share of it
MULTIPLE = 0.12
#: levels nearer than this share of the pitch are one
ONE_LEVEL = 0.6
#: a gap of this many pitches has an empty level in it; sectors are parted by less
EMPTY_FROM = 1.65


def grid_positions(centres: Float) -> tuple[Int, Int]:
    """Return each centre's row and column, from 0.

    The angle is the one at which most cores are level with others, in rows and in columns; it is
    refined by least squares on the places found. Rows shifted by half a step against each other
    keep their own numbering from the left.

    Parameters
    ----------
    centres : (n, 2) float64
        x, y; any unit.

    Returns
    -------
    row, column : (n,) int64
    """
    n = centres.shape[0]
    if n < 2:
        return np.zeros(n, np.int64), np.zeros(n, np.int64)
    usual = _usual_distance(centres)
    angle = _angle(centres, usual)
    for _ in range(2):
        u, v = _turned(centres, angle)
        row, col = _levels(v, usual), _levels(u, usual)
        angle += _tilt(u, v, row, col)
    u, v = _turned(centres, angle)
    row, col = _levels(v, usual), _levels(u, usual)
    return row, col // 2 if _staggered(row, col) else col


def _usual_distance(centres: Float) -> float:
    from scipy.spatial import cKDTree

    # pieces of a broken core lie closer than the usual distance, but are the minority
    return float(np.median(cKDTree(centres).query(centres, 2)[0][:, 1]))


def _turned(centres: Float, angle: float) -> tuple[Float, Float]:
    """Return coordinates along and across rows that run at an angle."""
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = centres.T
    return x * cos + y * sin, y * cos - x * sin


def _angle(centres: Float, usual: float) -> float:
    """Return the angle of the rows, -45 to 45 degrees."""
    trials = np.deg2rad(np.arange(-45.0, 45.0, STEP_DEG))
    level = np.array([
        sum(_level_pairs(part, LEVEL * usual) for part in _turned(centres, a)) for a in trials
    ])  # fmt: skip
    level = level - STRAIGHT * level.max() * np.abs(trials) / trials.max()
    return float(trials[int(np.argmax(level))])


def _level_pairs(values: Float, within: float) -> int:
    ordered = np.sort(values)
    return int((np.searchsorted(ordered, ordered + within) - np.arange(ordered.size)).sum())


def _levels(values: Float, usual: float) -> Int:
    """Return the number of each value's level, from 0, empty levels counted."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    pitch = _pitch(ordered, usual)
    group = _grouped(ordered, ONE_LEVEL * pitch)
    centre = np.bincount(group, ordered) / np.bincount(group)
    steps = np.floor(np.diff(centre) / pitch + 2.0 - EMPTY_FROM).astype(np.int64)
    number = np.concatenate([[0], np.cumsum(np.maximum(1, steps))])
    out = np.empty(values.size, np.int64)
    out[order] = number[group]
    return out


def _pitch(ordered: Float, usual: float) -> float:
    """Return the step between levels: the largest of which most gaps are whole multiples."""
    group = np.concatenate([[0], np.cumsum(np.diff(ordered) > 0.25 * usual)])
    centre = np.bincount(group, ordered) / np.bincount(group)
    gaps = np.diff(centre)
    gaps = gaps[gaps > 0.4 * usual]  # smaller ones part the pieces of a core
    trials = np.sort(gaps)[::-1]
    if trials.size == 0:
        return usual
    times = np.maximum(1.0, np.rint(gaps / trials[:, None]))
    off = np.median(np.abs(gaps / trials[:, None] - times), axis=1)
    best = int(np.argmax(off <= MULTIPLE)) if (off <= MULTIPLE).any() else trials.size - 1
    return float(np.median(gaps / times[best]))


def _grouped(ordered: Float, apart: float) -> Int:
    """Join neighbouring values, nearest first, until all groups are ``apart``; return the groups.

    Nearest first, so that a loose piece between two rows goes to the nearer one and does not
    bridge them.
    """
    first = list(range(ordered.size))
    centre, size = ordered.tolist(), [1] * ordered.size
    while len(centre) > 1:
        gaps = np.diff(centre)
        i = int(np.argmin(gaps))
        if gaps[i] >= apart:
            break
        both = size[i] + size[i + 1]
        centre[i] = (centre[i] * size[i] + centre[i + 1] * size[i + 1]) / both
        size[i] = both
        for part in (first, centre, size):
            del part[i + 1]
    starts = np.zeros(ordered.size, np.int64)
    starts[first[1:]] = 1
    return np.asarray(np.cumsum(starts), np.int64)


def _tilt(u: Float, v: Float, row: Int, col: Int) -> float:
    """Return how far the rows and columns found are still turned, radians, by least squares."""
    top = turned = 0.0
    for along, across, group in ((u, v, row), (-v, u, col)):
        size = np.bincount(group)
        a = along - (np.bincount(group, along) / np.maximum(size, 1))[group]
        b = across - (np.bincount(group, across) / np.maximum(size, 1))[group]
        top, turned = top + float(a @ b), turned + float(a @ a)
    return top / turned if turned > 0 else 0.0


def _staggered(row: Int, col: Int) -> bool:
    """Tell whether rows lie on odd and even columns by turns: shifted by half a step."""
    odd = [col[row == r] % 2 for r in np.unique(row)]
    share = np.array([float(part.mean()) for part in odd])
    size = np.array([part.size for part in odd])
    mixed = size @ np.minimum(share, 1 - share)
    half = np.round(share)
    return bool(size.sum() >= 6 and mixed <= 0.1 * size.sum() and 0 < half.mean() < 1)
