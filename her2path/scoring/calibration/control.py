"""A control: cells of known level, or of known receptor number, and how sure their figures are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2path.core.errors import UsageError

__all__ = ["LEAST_CELLS", "MEASURES", "Control", "blocks_of", "middle", "resampled"]

F64 = NDArray[np.float64]
#: columns of which a control keeps the values
MEASURES = ("membrane_od", "membrane_od_ring", "membrane_mass")
#: fewer cells are no control
LEAST_CELLS = 50
#: cells of one square stand or fall together in the bootstrap, µm
BLOCK_UM = 100.0
#: cells of one control that are worked with; more tell no more
MOST_CELLS = 20_000


@dataclass(frozen=True)
class Control:
    """Cells of one control.

    Attributes
    ----------
    name : str
        For people.
    values : dict of (N,) float64
        `MEASURES` and ``completeness`` of all of its cells; an unstained cell's are 0.
    block : (N,) int64
        Square of `BLOCK_UM` that each cell lies in.
    level : int or None
        0..3, where it was stated.
    receptors : float or None
        Molecules a cell, where stated.
    """

    name: str
    values: Mapping[str, F64]
    block: NDArray[np.int64]
    level: int | None = None
    receptors: float | None = None

    @classmethod
    def of(
        cls, name: str, columns: Mapping[str, NDArray[np.generic]], level: int | None = None,
        receptors: float | None = None,
    ) -> Control:  # fmt: skip
        """Return a control of cell columns: `MEASURES`, ``completeness``, ``x_um``, ``y_um``.

        Raises
        ------
        UsageError
            For fewer than `LEAST_CELLS` cells.
        """
        n = len(columns["x_um"])
        if n < LEAST_CELLS:
            raise UsageError(f"the control {name} has {n} cells, and {LEAST_CELLS} are needed",
                             "Draw it larger, or leave it out")  # fmt: skip
        keep = np.linspace(0, n - 1, min(n, MOST_CELLS)).round().astype(np.int64)
        x, y = (np.asarray(columns[c], np.float64)[keep] for c in ("x_um", "y_um"))
        values = {c: np.asarray(columns[c], np.float64)[keep]
                  for c in (*MEASURES, "completeness")}  # fmt: skip
        return cls(name, values, blocks_of(x, y), level, receptors)

    @property
    def cells(self) -> int:
        """Number of cells."""
        return len(self.block)

    def stained(self, measure: str) -> F64:
        """Return the measure of the stained cells."""
        return self.values[measure][self.values[measure] > 0]

    def median(self, measure: str) -> float:
        """Return the median of the measure over the stained cells; 0 where most are unstained.

        Whether a faint line is seen at all depends on its surroundings more than on its OD, so that
        unseen cells are no darker or paler than the seen ones: they are left out, not counted as 0.
        """
        return middle(self.values[measure])


def middle(values: F64) -> float:
    """Return the median of what is above 0; 0 where that is half of the values or less."""
    seen = values[values > 0]
    return float(np.median(seen)) if 2 * len(seen) > len(values) else 0.0


def blocks_of(x_um: F64, y_um: F64) -> NDArray[np.int64]:
    """Return the square of `BLOCK_UM` of each position, numbered from 0."""
    key = np.floor(y_um / BLOCK_UM).astype(np.int64) * (1 << 24)
    key += np.floor(x_um / BLOCK_UM).astype(np.int64)
    return np.unique(key, return_inverse=True)[1].astype(np.int64)


def resampled(
    control: Control, measure: str, figure: Callable[[F64], float], draws: int,
    rng: np.random.Generator,
) -> F64:  # fmt: skip
    """Return a figure of one measure over blocks drawn with replacement, (draws,)."""
    values, block = control.values[measure], control.block
    order = np.argsort(block, kind="stable")
    parts = np.split(values[order], np.flatnonzero(np.diff(block[order])) + 1)
    return np.array([
        figure(np.concatenate([parts[i] for i in rng.integers(0, len(parts), len(parts))]))
        for _ in range(draws)
    ])  # fmt: skip
