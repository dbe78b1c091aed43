"""The fitted trees, read once; `scripts/fit_tumour.py` makes the file."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from her2path.tumour._kernels import grow_trees

__all__ = ["FILE", "Model", "Trees", "model"]

#: the file beside this module
FILE = "weights.npz"
#: arrays of a stage, in the order of `grow_trees`
ARRAYS = ("feature", "limit", "left", "right", "value", "root")

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trees:
    """Boosted trees of one stage; see `grow_trees` for the arrays."""

    names: tuple[str, ...]
    arrays: tuple[npt.NDArray[Any], ...]
    base: float

    def odds(self, table: F64) -> F64:
        """Return the log odds (n,) of a table of features (n, len(names))."""
        return np.asarray(grow_trees(table, *self.arrays, self.base), np.float64)


@dataclass(frozen=True)
class Model:
    """Both stages, and what is added to the second one's log odds."""

    first: Trees
    second: Trees
    shift: float


@cache
def model() -> Model:
    """Return the fitted model."""
    data = resources.files(__package__).joinpath(FILE).read_bytes()
    with np.load(io.BytesIO(data), allow_pickle=False) as saved:
        stages = [_stage(saved, name) for name in ("first", "second")]
        return Model(stages[0], stages[1], float(saved["shift"]))


def _stage(saved: Any, name: str) -> Trees:
    return Trees(
        tuple(str(n) for n in saved[f"{name}_names"]),
        tuple(np.ascontiguousarray(saved[f"{name}_{a}"]) for a in ARRAYS),
        float(saved[f"{name}_base"]),
    )
