"""The scale that readers read on: four scores, the cut-offs between them, weights of distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from her2path.core.schema import SCORES

__all__ = ["CUTOFFS", "LOW", "LOW_CLASSES", "collapsed", "distance"]

Floats = NDArray[np.float64]
#: name of a cut-off -> the lowest score that lies above it
CUTOFFS: dict[str, int] = {f"{SCORES[k - 1]}|{SCORES[k]}": k for k in range(1, len(SCORES))}
#: the threefold division at the lower end; `low` stands for 1+ and everything above it
LOW = "null|ultralow|low"
LOW_CLASSES = ("null", "ultralow", "low")


def distance(classes: int, power: int) -> Floats:
    """Return disagreement weights (q, q): 0 on the diagonal, 1 between the two ends.

    Parameters
    ----------
    classes : int
        Number of classes, q.
    power : int
        0 counts every disagreement as 1, 1 is linear, 2 quadratic.
    """
    step = np.abs(np.subtract.outer(np.arange(classes), np.arange(classes)))
    if power == 0:
        return (step > 0).astype(float)
    return (step / (classes - 1)) ** power


def collapsed(table: Floats, above: int) -> Floats:
    """Return a contingency table (q, q, ...) as (2, 2, ...): below a cut-off, and above it."""
    rows = (table[:above].sum(0), table[above:].sum(0))
    return np.stack([np.stack([r[:above].sum(0), r[above:].sum(0)]) for r in rows])
