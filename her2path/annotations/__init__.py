"""Annotations: where tumour is, and what is to be left out.

GeoJSON as QuPath writes it, XML of ASAP, ImageScope and HALO, all in level-0 pixels.
"""

from her2path.annotations.model import Annotation, Annotations
from her2path.annotations.read import SUFFIXES, areas_of_text, read_annotations, read_areas

__all__ = ["SUFFIXES", "Annotation", "Annotations", "areas_of_text", "read_annotations",
           "read_areas"]  # fmt: skip
