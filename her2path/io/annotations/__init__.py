"""Annotations: where tumour is, and what is to be left out.

GeoJSON as QuPath writes it, XML of ASAP, ImageScope, HALO and NDP.view, all made level-0 pixels.
"""

from her2path.io.annotations.classes import Stated, control_of, receptors_of
from her2path.io.annotations.model import Annotation, Annotations
from her2path.io.annotations.ndpa import SlideCentre
from her2path.io.annotations.read import SUFFIXES, areas_of_text, read_annotations, read_areas

__all__ = ["SUFFIXES", "Annotation", "Annotations", "SlideCentre", "Stated", "areas_of_text",
           "control_of", "read_annotations", "read_areas", "receptors_of"]  # fmt: skip
