"""Cells whose pattern hangs on a little: all of them, the nearest to a cut-off first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.core.schema import OUTLINE_RAYS
from her2path.io.store import RunStore
from her2path.outputs.viewer.index import CellIndex

__all__ = ["ONE_RAY", "Borderline"]

#: completeness is counted on rays: one more or less moves it by this
ONE_RAY = 1 / OUTLINE_RAYS


class Borderline:
    """The stained tumour cells whose pattern a small error would change.

    Those within ``membrane.cutoffs_relative_error`` of an intensity cut-off, or within one ray of
    ``membrane.complete_at``. Nearness is the distance from the cut-off in parts of that error.

    Parameters
    ----------
    store : RunStore
        For cut-offs and measures.
    index : CellIndex
        Where the cells are.
    """

    def __init__(self, store: RunStore, index: CellIndex) -> None:
        self._index = index
        self.rows: NDArray[np.int64] = np.zeros(0, np.int64)
        self._why: NDArray[np.int64] = np.zeros(0, np.int64)
        if not store.cells_path.exists() or not len(index.cells):
            return
        membrane = store.settings().membrane
        table = store.cells(["cell_id", membrane.measure, "completeness"])
        at = index.rows_of(table["cell_id"].to_numpy())
        value = np.zeros(len(index.cells))
        complete = np.zeros(len(index.cells))
        value[at] = table[membrane.measure].to_numpy()
        complete[at] = table["completeness"].to_numpy()
        error = max(membrane.cutoffs_relative_error, 1e-9)
        far = np.stack([*(np.abs(value / cut - 1) / error for cut in membrane.cutoffs),
                        np.abs(complete - membrane.complete_at) / ONE_RAY])  # fmt: skip
        near, why = far.min(axis=0), far.argmin(axis=0)
        chosen = np.flatnonzero((value > 0) & index.tumour & (near <= 1))
        order = np.lexsort((index.cells.cell_id[chosen], near[chosen]))
        self.rows, self._why = chosen[order], why[chosen[order]]
        self.words = (
            *(f"{membrane.measure.replace('_', ' ')} near {cut:g}" for cut in membrane.cutoffs),
            f"completeness near {membrane.complete_at:g}",
        )

    def __len__(self) -> int:
        return len(self.rows)

    def facts(self, number: int) -> dict[str, Any]:
        """Return the cell at a place of the list: id, position (level-0 px), why it is here."""
        row = int(self.rows[number])
        cells = self._index.cells
        return {
            "cell_id": str(cells.cell_id[row]),
            "x_px": float(cells.x_px[row]),
            "y_px": float(cells.y_px[row]),
            "why": self.words[int(self._why[number])],
        }
