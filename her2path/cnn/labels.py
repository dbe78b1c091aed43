"""Labels of patches from the cells that lie in them, by a rule set."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from her2path.core.schema import PATTERNS, SCORES
from her2path.scoring import guidelines

__all__ = ["MIN_CELLS", "TumourCells", "label_patches", "whole_label"]

#: a patch with fewer tumour cells gets no label
MIN_CELLS = 8


@dataclass(frozen=True)
class TumourCells:
    """Tumour cells of one slide: ``x_um``, ``y_um`` float64 (N,); ``pattern`` int64 (N,) codes."""

    x_um: NDArray[np.float64]
    y_um: NDArray[np.float64]
    pattern: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.pattern)


@lru_cache(maxsize=100_000)
def _by_counts(counts: tuple[int, ...], guideline: str) -> int:
    found = guidelines.score(dict(zip(PATTERNS, counts, strict=True)), guideline)
    return SCORES.index(found.ihc)


def _score(cells: TumourCells, rows: NDArray[np.int64], guideline: str) -> int:
    codes = cells.pattern[rows]
    if not guidelines.rule_set(guideline).needs_clusters:
        counts = np.bincount(codes, minlength=len(PATTERNS))
        return _by_counts(tuple(int(c) for c in counts), guideline)
    table = pa.table(
        {
            "pattern": [PATTERNS[c] for c in codes],
            "x_um": cells.x_um[rows],
            "y_um": cells.y_um[rows],
        }
    )
    return SCORES.index(guidelines.score_cells(table, guideline).ihc)


def whole_label(cells: TumourCells, guideline: str) -> int:
    """Return the score 0..3 of all cells together."""
    return _score(cells, np.arange(len(cells)), guideline)


def label_patches(
    cells: TumourCells, centres_um: NDArray[np.float64], side_um: float, guideline: str
) -> NDArray[np.int64]:
    """Return the score of the tumour cells in a square around each centre.

    Parameters
    ----------
    cells : TumourCells
        All tumour cells of the slide.
    centres_um : float64 (N, 2)
        x, y in µm.
    side_um : float
        Side of the square, µm.
    guideline : str
        Rule set.

    Returns
    -------
    int64 (N,)
        0..3; -1 with fewer than `MIN_CELLS` cells.
    """
    out = np.full(len(centres_um), -1, np.int64)
    order = np.argsort(cells.x_um, kind="stable")
    x = cells.x_um[order]
    half = side_um / 2
    for i, (cx, cy) in enumerate(centres_um):
        a, b = np.searchsorted(x, [cx - half, cx + half])
        rows = order[a:b]
        rows = rows[np.abs(cells.y_um[rows] - cy) <= half]
        if len(rows) >= MIN_CELLS:
            out[i] = _score(cells, rows, guideline)
    return out
