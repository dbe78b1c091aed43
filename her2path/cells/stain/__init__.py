"""Stain: the slide's white point and vectors, and RGB to hematoxylin and DAB."""

from __future__ import annotations

from her2path.cells.stain.estimation import estimate
from her2path.cells.stain.identity import is_h_dab
from her2path.cells.stain.model import StainModel
from her2path.cells.stain.sampling import sample_boxes
from her2path.cells.stain.unmixing import mix, reduce_planes, reduce_unmix, unmix

__all__ = [
    "StainModel",
    "estimate",
    "is_h_dab",
    "mix",
    "reduce_planes",
    "reduce_unmix",
    "sample_boxes",
    "unmix",
]
