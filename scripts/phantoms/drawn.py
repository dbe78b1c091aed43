"""What every generator of drawings gives, and what is asked of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

#: columns of every truth: the nucleus' centre in µm from the upper left corner (the body's where
#: the section missed the nucleus), the kind of cell, its pattern (null where none is known), and
#: whether the section shows its nucleus; a generator may tell more
TRUTH_COLUMNS = ("x_um", "y_um", "cell_type", "pattern", "has_nucleus")


@dataclass(frozen=True)
class Drawn:
    """A drawing: uint8 (H, W, 3) RGB, µm per pixel, and the truth, one row a cell.

    Raises
    ------
    ValueError
        Where the truth lacks one of `TRUTH_COLUMNS`.
    """

    rgb: np.ndarray
    mpp: float
    truth: pa.Table

    def __post_init__(self) -> None:
        lacking = [c for c in TRUTH_COLUMNS if c not in self.truth.column_names]
        if lacking:
            raise ValueError(f"the truth lacks {', '.join(lacking)}")

    def columns(self) -> dict[str, np.ndarray]:
        """Return the truth's columns as arrays (n,)."""
        return {n: self.truth.column(n).to_numpy(zero_copy_only=False)
                for n in self.truth.column_names}  # fmt: skip

    def at(self) -> np.ndarray:
        """Return where the cells lie, (n, 2) µm."""
        return np.column_stack([self.truth.column(n).to_numpy() for n in ("x_um", "y_um")])

    def away_from_edge(self, edge_um: float) -> np.ndarray:
        """Return which cells (n,) lie farther from every edge of the picture than so many µm."""
        x, y = self.at().T
        width, height = np.array(self.rgb.shape[1::-1]) * self.mpp
        return (x > edge_um) & (x < width - edge_um) & (y > edge_um) & (y < height - edge_um)


class Generator(Protocol):
    """Draws cells whose patterns are known; a module of this package is one.

    ``STYLES`` are the names of what it can draw.
    """

    STYLES: tuple[str, ...]

    def draw(
        self, seed: int, style: str, weights: Mapping[str, float], size_um: float = ...
    ) -> Drawn:
        """Draw once; the same arguments give the same drawing, byte for byte.

        Parameters
        ----------
        seed : int
        style : str
            One of `STYLES`.
        weights : mapping
            Staining pattern to weight.
        size_um : float
            Side of the square, µm.
        """
