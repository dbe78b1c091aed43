"""What regions need of a cell table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.space.spatial.columns import codes_of, column_of, numbers_of

__all__ = ["Cells", "read_cells"]


@dataclass(frozen=True)
class Cells:
    """Columns of n cells, in the order of the input.

    Attributes
    ----------
    x, y : (n,) float64
        µm.
    tumour : (n,) bool
    pattern : (n,) int8
        Index into `schema.PATTERNS`; -1 for a cell without a pattern.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    tumour: NDArray[np.bool_]
    pattern: NDArray[np.int8]

    @property
    def n(self) -> int:
        """Number of cells."""
        return int(self.x.size)


def read_cells(table: Any) -> Cells:
    """Read the columns (see `make_regions`); without ``cell_type`` every cell is tumour.

    Raises
    ------
    ManifestError
        For a missing column, or a value that is not a number.
    """
    from her2path.core.schema import CELL_TYPES, PATTERNS

    x, y = numbers_of(table, "x_um"), numbers_of(table, "y_um")
    tumour = np.ones(x.size, bool)
    if column_of(table, "cell_type") is not None:
        tumour = codes_of(table, "cell_type", CELL_TYPES) == 0
    pattern = codes_of(table, "pattern", PATTERNS, missing_ok=True)
    return Cells(x, y, tumour & (pattern >= 0), pattern)
