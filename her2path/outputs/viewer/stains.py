"""One stain alone, as the slide would look without the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from her2path.cells.stain import StainModel, unmix
from her2path.core.errors import Her2PathError
from her2path.core.results import Result

__all__ = ["one_stain", "stain_of"]

Rgb = NDArray[np.uint8]


def stain_of(result: Result) -> StainModel | None:
    """Return the slide's stains; None where they were not measured."""
    facts = result.stain
    if facts is None:
        return None
    white, h, d = (tuple(float(v) for v in vector)
                   for vector in (facts.white_point, facts.hematoxylin, facts.dab))  # fmt: skip
    model = StainModel(white, h, d)  # type: ignore[arg-type]
    try:
        model.inverse()
    except Her2PathError:
        return None
    return model


def one_stain(pixels: Rgb, model: StainModel, view: str) -> Rgb:
    """Return a picture of one stain alone, in its own colour on the slide's own white."""
    densities = unmix(np.ascontiguousarray(pixels), model)
    density = np.maximum(densities[0 if view == "hematoxylin" else 1], 0)
    vector = np.asarray(model.hematoxylin if view == "hematoxylin" else model.dab)
    vector = vector / np.linalg.norm(vector)
    light = np.asarray(model.white_point) * 10 ** (-density[..., None] * vector)
    return np.asarray(np.clip(np.round(light), 0, 255), np.uint8)
