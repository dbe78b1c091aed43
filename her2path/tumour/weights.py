"""The fitted net and trees, read once; `scripts/fit_tumour.py` makes the files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from her2path.trees import Trees, read_arrays, read_trees

__all__ = ["FILE", "LAYERS", "NET_FILE", "Model", "model", "net"]

#: the files beside this module: trees, and the net that looks at pixels
FILE, NET_FILE = "weights.npz", "look.npz"
#: the net's arrays in order: weights and biases of two convolutions and two dense layers
LAYERS = ("w1", "b1", "w2", "b2", "w3", "b3", "w4", "b4")


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


@cache
def net() -> tuple[npt.NDArray[np.float32], ...]:
    """Return the net's arrays, in the order of `LAYERS`."""
    saved = read_arrays("her2path.tumour", NET_FILE)
    return tuple(np.ascontiguousarray(saved[name], np.float32) for name in LAYERS)
