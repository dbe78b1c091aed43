"""Tumour areas as the program sees them, as outlines that a reader can accept."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from her2path.viewer.tiles import Tiles

__all__ = ["proposals"]

#: areas of fewer tumour cells are not proposed; so many areas at most, the largest first
LEAST_CELLS, MOST = 50, 200
#: gaps up to this many bins are closed
_CLOSE_BINS = 5
#: an outline may leave the bins' edges by this, in bins
_SIMPLE_BINS = 0.75


def proposals(tiles: Tiles) -> list[dict[str, Any]]:
    """Return areas where at least half of the cells are tumour cells.

    Returns
    -------
    list of dict
        ``ring``, [[x, y], ...] level-0 px of the plane that is shown; ``tumour_cells``. The
        largest first.
    """
    here, counts = tiles.heat.tumour_bins()
    closed = cv2.morphologyEx(here.astype(np.uint8), cv2.MORPH_CLOSE,
                              cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_CLOSE_BINS,) * 2))
    # drawn twice as fine, an outline runs along the bins' edges and not through their centres
    fine = np.repeat(np.repeat(closed, 2, axis=0), 2, axis=1)
    outlines, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    found = []
    for outline in outlines:
        inside = np.zeros(here.shape, np.uint8)
        cv2.drawContours(inside, [outline // 2], -1, 1, cv2.FILLED)
        cells = int(counts[inside > 0].sum())
        ring = cv2.approxPolyDP(outline, 2 * _SIMPLE_BINS, True)[:, 0, :]
        if cells >= LEAST_CELLS and len(ring) >= 3:
            points = (ring + 0.5) / 2 * tiles.heat.bin_px
            found.append({"ring": np.round(points, 1).tolist(), "tumour_cells": cells})
    return sorted(found, key=lambda f: -f["tumour_cells"])[:MOST]
