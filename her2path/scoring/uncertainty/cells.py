"""The table made ready for drawing: what every cell can be, on a fine grid.

A cell is *fixed* where no cut-off within reach changes its pattern; fixed cells are only counted.
A cell whose staining measure lies near a cut-off is *movable*: every draw cuts it again. A cell
marked ``uncertain`` (a faint line beside a strong one cannot be told from its absence) that reads
none or faint incomplete is drawn either way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from her2path.core.errors import NotEvaluable, UsageError
from her2path.core.schema import INTENSITY, PATTERNS
from her2path.core.settings import MembraneSettings
from her2path.scoring.guidelines.tables import column, column_names, pattern_column, tumour_mask

__all__ = ["Cells", "Gridded", "grid_cells", "read_cells"]

_INTENSITY = np.array([INTENSITY[p] for p in PATTERNS])
_CODE = np.array(
    [[0, 0]] + [[PATTERNS.index(f"{i}_incomplete"), PATTERNS.index(f"{i}_complete")]
                for i in ("faint", "moderate", "intense")]
)  # fmt: skip
FAINT = PATTERNS.index("faint_incomplete")


@dataclass(frozen=True)
class Cells:
    """Tumour cells, in any order: only whole numbers are summed over them.

    ``measure`` is the column that the cut-offs cut (0 where a cell is unstained), None where the
    table has none; ``complete`` tells whether a stained membrane is complete; ``follows`` whether
    the pattern is what the cut-offs give (a corrected cell's is not, and stays as it is);
    ``rank`` orders the uncertain cells from 0 to 1 and is -1 for the others; ``certainty`` of the
    kind of each cell is None where the table has none.
    """

    x: np.ndarray
    y: np.ndarray
    pattern: np.ndarray
    measure: np.ndarray | None
    complete: np.ndarray
    follows: np.ndarray
    rank: np.ndarray
    certainty: np.ndarray | None = None


@dataclass(frozen=True)
class Gridded:
    """Cells by grid square: fixed ones counted, shape (squares, 7); the others listed.

    ``row``, ``col`` are the squares' places; ``start`` (squares + 1) indexes ``kind`` (0 movable
    incomplete, 1 movable complete, 2 uncertain) and ``value`` (measure, or rank).
    """

    row: np.ndarray
    col: np.ndarray
    fixed: np.ndarray
    start: np.ndarray
    kind: np.ndarray
    value: np.ndarray


def read_cells(table: Any, settings: MembraneSettings) -> Cells:
    """Read the columns that the bootstrap needs.

    Raises
    ------
    NotEvaluable
        Without any tumour cell.
    UsageError
        For a missing column, an unknown pattern, or a position or measure that is no number.
    """
    tumour = tumour_mask(table)
    keep: Any = slice(None) if tumour is None else tumour
    x, y = (_finite(table, name)[keep] for name in ("x_um", "y_um"))
    pattern = pattern_column(table)[keep]
    if not len(pattern):
        raise NotEvaluable(
            "there are no tumour cells", "Check the tumour selection", "NO_TUMOUR_CELLS"
        )
    known = column_names(table)
    measure, complete = None, np.zeros(len(x), dtype=bool)
    if settings.measure in known and "completeness" in known:
        share = _finite(table, "completeness").astype(np.float32)[keep]
        raw = _finite(table, settings.measure).astype(np.float32)[keep]
        measure = np.where(share >= np.float32(settings.stained_at), raw, np.float32(0))
        complete = share >= np.float32(settings.complete_at)
    doubt = column(table, "uncertain").astype(bool)[keep] if "uncertain" in known else None
    follows = _follows(pattern, measure, complete, settings)
    rank = _ranks(x, y, pattern, doubt)
    certainty = _certainty(table, known)
    kinds = None if certainty is None else certainty[keep]
    return Cells(x, y, pattern, measure, complete, follows, rank, kinds)


def _certainty(table: Any, known: Any) -> np.ndarray | None:
    """Return how sure the kind of each cell is; a reader who corrected a cell is sure."""
    if "kind_certainty" not in known:
        return None
    sure = _finite(table, "kind_certainty")
    if "reader" not in known:
        return sure
    read = np.array([bool(name) for name in np.asarray(column(table, "reader"), object)])
    return np.where(read, 1.0, sure)


def _finite(table: Any, name: str) -> np.ndarray:
    try:
        values = np.asarray(column(table, name), dtype=np.float64)
    except (TypeError, ValueError) as exc:
        raise UsageError(f"column {name} does not hold numbers", "Give numbers") from exc
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise UsageError(f"row {row}, column {name}: not a number", "Give every cell a number")
    return values


def _follows(
    pattern: np.ndarray,
    measure: np.ndarray | None,
    complete: np.ndarray,
    settings: MembraneSettings,
) -> np.ndarray:
    if measure is None:
        return np.zeros(len(pattern), dtype=bool)
    limits = np.asarray(settings.cutoffs, dtype=np.float32)
    level = np.searchsorted(limits, measure, side="right")
    return np.asarray(_CODE[level, complete.astype(np.int64)] == pattern)


def _ranks(
    x: np.ndarray, y: np.ndarray, pattern: np.ndarray, doubt: np.ndarray | None
) -> np.ndarray:
    """Return a number 0..1 for every cell that may be none or faint, from its position alone."""
    if doubt is None:
        return np.full(len(x), -1.0, dtype=np.float32)
    open_ = doubt & ((pattern == 0) | (pattern == FAINT))
    # a multiplicative hash of the position in 1/64 µm
    place = (np.rint(x * 64).astype(np.int64) * 73856093) ^ (
        np.rint(y * 64).astype(np.int64) * 19349663
    )
    mixed = (place.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
    return np.where(open_, mixed / float(1 << 24), -1.0).astype(np.float32)


def grid_cells(cells: Cells, pitch: float, settings: MembraneSettings, widest: float) -> Gridded:
    """Sort cells into squares.

    Parameters
    ----------
    cells : Cells
        The cells.
    pitch : float
        Side of a square, µm.
    settings : MembraneSettings
        The cut-offs.
    widest : float
        The largest factor by which a draw moves the cut-offs.
    """
    col = np.floor((cells.x - cells.x.min()) / pitch).astype(np.int64)
    row = np.floor((cells.y - cells.y.min()) / pitch).astype(np.int64)
    key = row * (int(col.max()) + 1) + col
    order = np.argsort(key, kind="stable")
    squares, inverse = np.unique(key[order], return_inverse=True)
    kind = _kinds(cells, settings, widest)[order]
    pattern = cells.pattern[order]
    still = kind < 0
    flat = np.bincount(inverse[still] * 7 + pattern[still], minlength=len(squares) * 7)
    value = np.zeros(len(order), np.float32) if cells.measure is None else cells.measure[order]
    value = np.where(kind == 2, cells.rank[order], value)
    counts = np.bincount(inverse[~still], minlength=len(squares))
    return Gridded(
        row=squares // (int(col.max()) + 1),
        col=squares % (int(col.max()) + 1),
        fixed=flat.reshape(-1, 7).astype(np.int64),
        start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        kind=kind[~still].astype(np.int8),
        value=value[~still].astype(np.float32),
    )


def _kinds(cells: Cells, settings: MembraneSettings, widest: float) -> np.ndarray:
    """Return -1 fixed, 0 movable incomplete, 1 movable complete, 2 uncertain."""
    kind = np.full(len(cells.x), -1, dtype=np.int8)
    if cells.measure is not None:
        limits = np.asarray(settings.cutoffs, dtype=np.float64)
        near = np.zeros(len(kind), dtype=bool)
        for limit in limits:
            near |= (cells.measure >= limit / widest) & (cells.measure <= limit * widest)
        near &= cells.follows
        kind[near] = cells.complete[near].astype(np.int8)
    kind[cells.rank >= 0] = 2
    return kind
