"""The fitted weights of the message passing; `scripts/fit_membrane.py` makes the file."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from her2path.membrane._network import SHAPES

__all__ = ["FILE", "Weights", "read", "weights"]

#: the file beside this module
FILE = "weights.npz"


@dataclass(frozen=True)
class Weights:
    """Weights in the groups that the compiled loops take.

    ``look``: three layers, weights and biases, and ``seen``: what a look adds by place and by cell;
    ``first``: by place and by cell; ``step``, by round: bias, moving inputs, states, to states and
    their bias;
    ``verdict``: two layers, weights and biases.
    """

    look: tuple[NDArray[np.float32], ...]
    seen: tuple[NDArray[np.float32], ...]
    first: tuple[NDArray[np.float32], ...]
    step: tuple[NDArray[np.float32], ...]
    verdict: tuple[NDArray[np.float32], ...]


def read(data: bytes) -> Weights:
    """Return the weights of an npz file.

    Raises
    ------
    ValueError
        Where an array is missing or has not the shape of `SHAPES`.
    """
    with np.load(io.BytesIO(data), allow_pickle=False) as saved:
        arrays = {n: np.ascontiguousarray(saved[n], np.float32) for n in saved.files}
    for name, shape in SHAPES.items():
        if name not in arrays or arrays[name].shape != shape:
            raise ValueError(f"membrane weights: {name} must be of shape {shape}")
    layers = ("look", "look_bias", "near", "near_bias", "far", "far_bias")
    return Weights(
        tuple(arrays[n] for n in layers),
        (arrays["look_place"], arrays["look_cell"]),
        (arrays["place"], arrays["cell"]),
        tuple(arrays[n] for n in ("bias", "moving", "talk", "last", "last_bias")),
        tuple(arrays[n] for n in ("verdict", "verdict_bias", "says", "says_bias")),
    )


@cache
def weights() -> Weights:
    """Return the fitted weights."""
    return read(resources.files(__package__).joinpath(FILE).read_bytes())
