"""Tumour areas as the program sees them, as outlines that a reader can accept."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from her2path.outputs.viewer.tiles import Tiles

__all__ = ["proposals"]

#: areas of fewer tumour cells are not proposed; so many areas at most, the largest first
LEAST_CELLS, MOST = 50, 200
#: gaps up to this many bins are closed
_CLOSE_BINS = 5
#: outlines are drawn on so many steps a bin, and may leave the smooth line by this, in bins
_FINE, _SIMPLE_BINS = 4, 0.3


def proposals(tiles: Tiles) -> list[dict[str, Any]]:
    """Return areas where at least half of the cells are tumour cells.

    Returns
    -------
    list of dict
        ``ring``, [[x, y], ...] level-0 px of the plane that is shown; ``tumour_cells``. The
        largest first.
    """
    here, counts = tiles.heat.tumour_bins()
    closed = cv2.morphologyEx(
        here.astype(np.uint8),
        cv2.MORPH_CLOSE,
        cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_CLOSE_BINS,) * 2),
    )
    # smoothed at a finer step, an outline runs along the tumour and not along the bins
    fine = cv2.resize(closed.astype(np.float32), None, fx=_FINE, fy=_FINE,
                      interpolation=cv2.INTER_LINEAR)  # fmt: skip
    fine = cv2.GaussianBlur(np.pad(fine, _FINE), (0, 0), _FINE)
    outlines, _ = cv2.findContours((fine > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL,
                                   cv2.CHAIN_APPROX_NONE)  # fmt: skip
    found = []
    for outline in outlines:
        points = (outline[:, 0, :] + 0.5) / _FINE - 1
        inside = np.zeros(here.shape, np.uint8)
        cv2.fillPoly(inside, [np.floor(points).astype(np.int32)], 1)
        cells = int(counts[inside > 0].sum())
        ring = cv2.approxPolyDP(outline, _SIMPLE_BINS * _FINE, True)[:, 0, :]
        if cells >= LEAST_CELLS and len(ring) >= 3:
            place = ((ring + 0.5) / _FINE - 1) * tiles.heat.bin_px
            found.append({"ring": np.round(place, 1).tolist(), "tumour_cells": cells})
    return sorted(found, key=lambda f: -f["tumour_cells"])[:MOST]
