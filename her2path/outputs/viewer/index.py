"""Cells by place: what a tile shows, and which cell lies under the pointer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from her2path.core.geometry import Box, Planes
from her2path.core.schema import INTENSITY, OUTLINE_PER_UM, OUTLINE_RAYS, PATTERNS
from her2path.io.corrections import Correction
from her2path.io.store import RunStore, dictionary_codes

__all__ = ["CLASSES", "OTHER", "CellIndex", "Cells", "build_index"]

#: class of cells that are not tumour; tumour cells have their pattern's code
OTHER = len(PATTERNS)
CLASSES = len(PATTERNS) + 1
#: side of a search bin, level-0 px
_BIN_PX = 256
#: radii are kept in steps of this, µm: a quarter of the file's size, and finer than a pixel
_RADIUS_STEP_UM = 0.1
_COLUMNS = ("cell_id", "x_px", "y_px", "cell_type", "pattern", "score", "outline")
_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Cells:
    """Cells, one row each.

    Attributes
    ----------
    cell_id : (n,) int64
    x_px, y_px : (n,) float32
        Centre, px of the square plane.
    kind : (n,) uint8
        Pattern code, or `OTHER`.
    score : (n,) int8
    radius : (n, 48) uint8
        Outline in steps of 0.1 µm.
    pattern : (n,) uint8
        Pattern code, of cells that are not tumour too.
    """

    cell_id: NDArray[np.int64]
    x_px: NDArray[np.float32]
    y_px: NDArray[np.float32]
    kind: NDArray[np.uint8]
    score: NDArray[np.int8]
    radius: NDArray[np.uint8]
    pattern: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.cell_id)

    def take(self, rows: NDArray[np.int64]) -> Cells:
        """Return some rows."""
        return Cells(*(getattr(self, k)[rows] for k in self.__dataclass_fields__))


class CellIndex:
    """Cells sorted by bins of the level-0 plane.

    Parameters
    ----------
    cells : Cells
        In any order.
    mpp : float
        µm per level-0 px.
    """

    def __init__(self, cells: Cells, mpp: float) -> None:
        self.mpp = mpp
        self._across = int(cells.x_px.max() // _BIN_PX) + 1 if len(cells) else 1
        key = self._keys(cells.x_px, cells.y_px)
        order = np.argsort(key, kind="stable")
        self.cells = cells.take(order)
        self._key = key[order]
        #: as in the table, whatever a reader corrects since
        self._stored = self.cells.kind.copy(), self.cells.score.copy()
        #: (n,) bool, cells that a reader corrected
        self.corrected = np.zeros(len(cells), bool)
        self._pattern = self.cells.pattern
        self._by_id = np.argsort(self.cells.cell_id, kind="stable")
        #: farthest that an outline reaches from its centre, px
        self.reach_px = float(cells.radius.max(initial=0)) * _RADIUS_STEP_UM / mpp + 1

    def _keys(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.int64]:
        return (y // _BIN_PX).astype(np.int64) * self._across + (x // _BIN_PX).astype(np.int64)

    @property
    def tumour(self) -> NDArray[np.bool_]:
        """Which cells are tumour, (n,)."""
        return self.cells.kind != OTHER

    def rows_of(self, cell_id: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of cells by their identity; -1 where there is none."""
        if not len(self.cells):
            return np.full(len(cell_id), -1, np.int64)
        ids = self.cells.cell_id[self._by_id]
        at = np.minimum(np.searchsorted(ids, cell_id), len(ids) - 1)
        rows: NDArray[np.int64] = np.where(ids[at] == cell_id, self._by_id[at], -1)
        return rows

    def correct(self, corrections: Sequence[Correction], incomplete_score: int = 2) -> None:
        """Show cells as a reader corrected them, all others as the table has them.

        Parameters
        ----------
        corrections : sequence of Correction
            In their order: the last one of a cell counts.
        incomplete_score : int
            As in `patterns.classify`.
        """
        cells = self.cells
        cells.kind[:], cells.score[:] = self._stored
        self.corrected[:] = False
        rows = self.rows_of(np.array([c.cell_id for c in corrections], np.int64))
        for row, c in zip(rows.tolist(), corrections, strict=True):
            if row < 0:
                continue
            self.corrected[row] = True
            if c.pattern is not None:
                intense = c.pattern == "intense_incomplete"
                cells.score[row] = incomplete_score if intense else INTENSITY[c.pattern]
                if cells.kind[row] != OTHER or c.cell_type == "tumour":
                    cells.kind[row] = PATTERNS.index(c.pattern)
            if c.cell_type == "other":
                cells.kind[row] = OTHER
            elif c.cell_type == "tumour" and cells.kind[row] == OTHER:
                cells.kind[row] = self._pattern[row]

    def in_box(self, box: Box) -> NDArray[np.int64]:
        """Return the rows of the cells whose centre lies in a level-0 box."""
        first = max(0, box.x0 // _BIN_PX)
        last = min(self._across - 1, (box.x1 - 1) // _BIN_PX)
        if first > last or not len(self.cells):
            return _NONE
        rows = np.arange(max(0, box.y0 // _BIN_PX), max(0, -(-box.y1 // _BIN_PX)))
        starts = np.searchsorted(self._key, rows * self._across + first, "left")
        ends = np.searchsorted(self._key, rows * self._across + last, "right")
        spans = [np.arange(a, b) for a, b in zip(starts, ends, strict=True) if a < b]
        if not spans:
            return _NONE
        found = np.concatenate(spans)
        x, y = self.cells.x_px[found], self.cells.y_px[found]
        inside = (x >= box.x0) & (x < box.x1) & (y >= box.y0) & (y < box.y1)
        return found[inside]

    def outlines_px(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return outlines, (n, 48, 2) level-0 px as x, y."""
        angle = 2 * np.pi * np.arange(OUTLINE_RAYS) / OUTLINE_RAYS
        rays = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        centre = np.stack([self.cells.x_px[rows], self.cells.y_px[rows]], axis=1)
        reach = self.cells.radius[rows] * (_RADIUS_STEP_UM / self.mpp)
        ring: NDArray[np.float64] = centre[:, None].astype(np.float64) + reach[..., None] * rays
        return ring

    def at(self, x_px: float, y_px: float) -> int | None:
        """Return the row of the cell whose outline holds a point (the nearest centre), or None."""
        reach = int(np.ceil(self.reach_px))
        x, y = int(x_px), int(y_px)
        rows = self.in_box(Box(x, y, x + 1, y + 1).grow(reach))
        dx = x_px - self.cells.x_px[rows].astype(np.float64)
        dy = y_px - self.cells.y_px[rows].astype(np.float64)
        far = np.hypot(dx, dy)
        ray = np.round(np.arctan2(dy, dx) / (2 * np.pi) * OUTLINE_RAYS).astype(int) % OUTLINE_RAYS
        limit = self.cells.radius[rows, ray] * (_RADIUS_STEP_UM / self.mpp)
        hit = np.flatnonzero(far <= limit)
        return int(rows[hit[np.argmin(far[hit])]]) if len(hit) else None


def build_index(store: RunStore, planes: Planes) -> CellIndex:
    """Read the cells of a run, piece by piece, into an index on the square plane."""
    mpp = planes.square.mpp_x
    pieces = list(_pieces(store, planes)) if store.cells_path.exists() else []
    names = Cells.__dataclass_fields__
    if not pieces:
        nothing = Cells(
            np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32),
            np.zeros(0, np.uint8), np.zeros(0, np.int8), np.zeros((0, OUTLINE_RAYS), np.uint8),
            np.zeros(0, np.uint8),
        )  # fmt: skip
        return CellIndex(nothing, mpp)
    return CellIndex(Cells(*(np.concatenate([getattr(p, k) for p in pieces]) for k in names)), mpp)


def _pieces(store: RunStore, planes: Planes) -> Iterator[Cells]:
    for table in store.iter_cells(columns=_COLUMNS):
        pattern = dictionary_codes(table, "pattern").to_numpy()
        other = dictionary_codes(table, "cell_type").to_numpy() != 0
        x, y = planes.file.move(table["x_px"].to_numpy(), table["y_px"].to_numpy(), planes.square)
        yield Cells(
            table["cell_id"].to_numpy(),
            x.astype(np.float32, copy=False),
            y.astype(np.float32, copy=False),
            np.where(other, OTHER, pattern).astype(np.uint8),
            table["score"].to_numpy(),
            _radii(table["outline"].combine_chunks()),
            pattern.astype(np.uint8),
        )


def _radii(outline: pa.Array) -> NDArray[np.uint8]:
    radii = np.asarray(outline.flatten()).reshape(len(outline), OUTLINE_RAYS)
    steps = np.round(radii / (OUTLINE_PER_UM * _RADIUS_STEP_UM))
    return np.clip(steps, 0, 255).astype(np.uint8)
