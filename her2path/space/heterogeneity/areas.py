"""Areas, their classes, and the verdicts that rest on them.

References
----------
Filho OM et al. (2021), Cancer Discov 11:2474-2487. Vance GH et al. (2009), Arch Pathol Lab Med
133:611-612 (CAP). Wolff AC et al. (2018), J Clin Oncol 36:2105-2122.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.core.intervals import AreaRules, area_class, at_least, more_than, wilson

__all__ = ["AreaTable", "area_table", "filho", "in_band"]

Int = NDArray[np.int64]
Float = NDArray[np.float64]
CLASSES = ("positive", "heterogeneous", "negative", "indeterminate")


@dataclass(frozen=True)
class AreaTable:
    """Areas and their classes.

    Attributes
    ----------
    names : tuple of str
    positive, cells : (a,) int64
    area_um2 : (a,) float64
        Tumour area.
    kind : tuple of str
        Class of each area.
    certain : (a,) bool
    """

    names: tuple[str, ...]
    positive: Int
    cells: Int
    area_um2: Float
    kind: tuple[str, ...]
    certain: NDArray[np.bool_]

    @property
    def evaluable(self) -> NDArray[np.bool_]:
        """Areas that are not indeterminate."""
        return np.array([k != "indeterminate" for k in self.kind], bool)

    def count(self, kind: str) -> int:
        """Return how many areas have a class."""
        return self.kind.count(kind)

    def share(self, chosen: NDArray[np.bool_]) -> float | None:
        """Return tumour area of chosen areas over that of all evaluable ones; None without any."""
        whole = float(self.area_um2[self.evaluable].sum())
        if whole <= 0:
            return None
        return min(1.0, float(self.area_um2[chosen & self.evaluable].sum()) / whole)

    def rows(self) -> list[dict[str, Any]]:
        """Return one plain record an area."""
        out = []
        for i, name in enumerate(self.names):
            k, n = int(self.positive[i]), int(self.cells[i])
            low, high = wilson(k, n)
            out.append(
                {
                    "area_id": name,
                    "tumour_cells": n,
                    "positive_cells": k,
                    "positive_fraction": k / n if n else None,
                    "positive_low": low if n else None,
                    "positive_high": high if n else None,
                    "area_class": self.kind[i],
                    "area_class_certain": bool(self.certain[i]),
                }
            )
        return out


def area_table(
    names: tuple[str, ...], positive: Int, cells: Int, area_um2: Float, rules: AreaRules
) -> AreaTable:
    """Return the areas with their classes (`intervals.area_class`)."""
    classes = [
        area_class(int(k), int(n), rules.low, rules.high, rules.min_cells)
        for k, n in zip(positive, cells, strict=True)
    ]
    return AreaTable(
        names, positive, cells, area_um2,
        tuple(c[0] for c in classes), np.array([c[1] for c in classes], bool),
    )  # fmt: skip


def in_band(areas: AreaTable, rules: AreaRules) -> NDArray[np.bool_]:
    """Return which areas have low < p < high, strictly (the 5 % to 50 % band)."""
    pairs = zip(areas.positive.tolist(), areas.cells.tolist(), strict=True)
    inside = [
        n > 0 and more_than(k, n, rules.low) and not at_least(k, n, rules.high) for k, n in pairs
    ]
    return np.array(inside, bool)


def filho(
    areas: AreaTable, her2_positive: bool | None, why_open: str, negative: tuple[str, ...] = ()
) -> tuple[bool | None, str]:
    """Return Filho's verdict on a case and the reason.

    Parameters
    ----------
    areas : AreaTable
    her2_positive : bool or None
        None where the definition cannot be applied; ``why_open`` then says why.
    negative : tuple of str
        Areas whose own ISH result is negative.

    Returns
    -------
    (bool or None, str)
        Heterogeneous iff the case is HER2-positive and an area is heterogeneous or negative.
    """
    if her2_positive is None:
        return None, why_open
    if not areas.evaluable.any():
        return None, "no area has enough evaluable cells"
    if not her2_positive:
        return False, "the case is not HER2-positive"
    found = [
        f"{areas.count(kind)} of {int(areas.evaluable.sum())} areas {kind}"
        for kind in ("heterogeneous", "negative")
        if areas.count(kind)
    ]
    if negative:
        found.append(f"{len(negative)} with a negative ISH result")
    if found:
        return True, "HER2-positive, with " + " and ".join(found)
    return False, f"all {int(areas.evaluable.sum())} evaluable areas are positive"
