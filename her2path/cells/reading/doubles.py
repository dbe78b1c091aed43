"""One nucleus found twice: long ones are, now and then, at either end."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from her2path.cells.rings import COS, RAYS, SIN, bin_points

__all__ = ["REACH_UM", "are_doubles"]

F64 = NDArray[np.float64]
BOOL = NDArray[np.bool_]

#: whether a find is a double depends on finds within this, µm
REACH_UM = 12.0
#: borders are taken this much smaller, and so much of each must lie inside the other
SMALLER, MOST = 0.8, 0.85


def are_doubles(
    x_um: F64, y_um: F64, border_um: F64, heat: F64, cell_id: NDArray[np.int64]
) -> BOOL:
    """Tell which finds are second finds of a nucleus that was found more surely.

    Two finds are one where each centre lies inside the other's border, and so does most of the
    other's border itself, taken a little smaller: both are outlines of one cell.

    Parameters
    ----------
    x_um, y_um : float64 (N,)
        Centres, µm.
    border_um : float64 (N, 48)
        Radii of the borders, µm.
    heat : float64 (N,)
        Log odds of a nucleus; of equals the lower ``cell_id`` stands.
    cell_id : int64 (N,)

    Returns
    -------
    bool (N,)
    """
    out = np.zeros(len(x_um), np.bool_)
    if len(x_um):
        x, y = x_um - x_um.min(), y_um - y_um.min()
        _mark(x, y, np.ascontiguousarray(border_um), heat, cell_id, out)
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _inside(dx: float, dy: float, radii: F64) -> bool:
    ray = int(np.floor(np.arctan2(dy, dx) * (RAYS / (2 * np.pi)) + 0.5)) % RAYS
    return dx * dx + dy * dy < radii[ray] * radii[ray]


@njit(cache=True, nogil=True, error_model="numpy")
def _covered(dx: float, dy: float, outline: F64, by: F64) -> float:
    """Return which share of an outline, its centre at (dx, dy) of the other's, the other covers."""
    count = 0
    for k in range(RAYS):
        r = SMALLER * outline[k]
        count += 1 if _inside(dx + r * COS[k], dy + r * SIN[k], by) else 0
    return count / RAYS


@njit(cache=True, nogil=True, error_model="numpy")
def _mark(x, y, border, heat, cell_id, out):  # type: ignore[no-untyped-def]
    start, order, columns, rows = bin_points(x, y, REACH_UM)
    for i in range(x.size):
        bx, by = int(x[i] / REACH_UM), int(y[i] / REACH_UM)
        for v in range(max(by - 1, 0), min(by + 2, rows)):
            for u in range(max(bx - 1, 0), min(bx + 2, columns)):
                for place in range(start[v * columns + u], start[v * columns + u + 1]):
                    j = order[place]
                    weaker = heat[j] > heat[i] or (heat[j] == heat[i] and cell_id[j] < cell_id[i])
                    dx, dy = x[j] - x[i], y[j] - y[i]
                    if j == i or not weaker or dx * dx + dy * dy >= REACH_UM * REACH_UM:
                        continue
                    if not (_inside(dx, dy, border[i]) and _inside(-dx, -dy, border[j])):
                        continue
                    both = min(
                        _covered(dx, dy, border[j], border[i]),
                        _covered(-dx, -dy, border[i], border[j]),
                    )
                    if both >= MOST:
                        out[i] = True
