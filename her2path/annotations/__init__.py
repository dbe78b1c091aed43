"""Annotations: where tumour is, and what is to be left out.

GeoJSON as QuPath writes it, XML of ASAP, ImageScope and HALO, all in level-0 pixels.
"""

from her2path.annotations.classes import Stated, control_of, receptors_of
from her2path.annotations.model import Annotation, Annotations
from her2path.annotations.read import SUFFIXES, read_annotations

__all__ = ["SUFFIXES", "Annotation", "Annotations", "Stated", "control_of",
           "read_annotations", "receptors_of"]  # fmt: skip
