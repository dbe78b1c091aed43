"""Annotations: where tumour is, and what is to be left out.

GeoJSON as QuPath writes it, ASAP XML and ImageScope XML, all in level-0 pixels.
"""

from her2path.annotations.model import Annotation, Annotations
from her2path.annotations.read import read_annotations

__all__ = ["Annotation", "Annotations", "read_annotations"]
