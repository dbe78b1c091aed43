"""Which cells are tumour, by the look of the nucleus and by what lies around it."""

from __future__ import annotations

from her2path.tumour.opinion import second_opinion
from her2path.tumour.selection import REACH_UM, classify
from her2path.tumour.surroundings import RING_COLUMNS, SURROUNDINGS, surroundings
from her2path.tumour.usual import sampled_nuclei, usual_nuclei

__all__ = [
    "REACH_UM",
    "RING_COLUMNS",
    "SURROUNDINGS",
    "classify",
    "sampled_nuclei",
    "second_opinion",
    "surroundings",
    "usual_nuclei",
]
