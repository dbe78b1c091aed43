"""The fitted trees, read once; `scripts/fit_tumour.py` makes the file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from her2path.trees import Trees, read_arrays, read_trees

__all__ = ["FILE", "Model", "model"]

#: the file beside this module
FILE = "weights.npz"


@dataclass(frozen=True)
class Model:
    """Both stages, and what is added to the second one's log odds."""

    first: Trees
    second: Trees
    shift: float


@cache
def model() -> Model:
    """Return the fitted model."""
    saved = read_arrays("her2path.tumour", FILE)
    return Model(read_trees(saved, "first"), read_trees(saved, "second"), float(saved["shift"]))
