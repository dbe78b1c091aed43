"""Coded words of the DICOM export: standard codes where there are, our own scheme elsewhere."""

from __future__ import annotations

from typing import Any

from her2path import __version__

__all__ = ["Code", "algorithm", "code"]

#: value, scheme, meaning
Code = tuple[str, str, str]
#: our own scheme: the prefix 99 marks a private one
SCHEME = "99HER2PATH"

ANATOMICAL: Code = ("91723000", "SCT", "Anatomical structure")
TUMOUR_CELL: Code = ("252987004", "SCT", "Tumor cell")
MEMBRANE_OD: Code = ("MEMBRANE_OD", SCHEME, "Membrane DAB optical density")
COMPLETENESS: Code = ("COMPLETENESS", SCHEME, "Membrane completeness")
OD: Code = ("{OD}", "UCUM", "optical density")
FRACTION: Code = ("1", "UCUM", "no units")
COUNT: Code = ("{cells}", "UCUM", "cells")
MM2: Code = ("mm2", "UCUM", "square millimeter")
DEVICE: Code = ("121007", "DCM", "Device")
HER2: Code = ("HER2_IHC", SCHEME, "HER2 immunohistochemistry")
IHC_METHOD: Code = ("DAB_IMAGE", SCHEME, "Image analysis of H-DAB staining")
PROCEDURE: Code = ("IHC_ANALYSIS", SCHEME, "Image analysis of HER2 immunohistochemistry")
TITLE: Code = ("126000", "DCM", "Imaging Measurement Report")
CELLS: Code = ("TUMOUR_CELLS", SCHEME, "Number of tumour cells")
TISSUE_AREA: Code = ("TISSUE_AREA", SCHEME, "Tissue area")
H_SCORE: Code = ("H_SCORE", SCHEME, "H-score")
POSITIVE: Code = ("POSITIVE_CELLS", SCHEME, "Fraction of HER2-positive tumour cells")
POSITIVE_AREA: Code = ("POSITIVE_AREA", SCHEME, "Fraction of tumour area that is HER2-positive")
STATUS: Code = ("STATUS", SCHEME, "Status of the analysis")
SCORE: Code = ("IHC_SCORE", SCHEME, "HER2 IHC score")
CATEGORY: Code = ("CATEGORY", SCHEME, "HER2 category")
GUIDELINE: Code = ("GUIDELINE", SCHEME, "Guideline")
LAYOUT: Code = ("LAYOUT", SCHEME, "Layout of HER2-positive cells")


def code(hd: Any, words: Code) -> Any:
    """Return a coded concept of highdicom."""
    value, scheme, meaning = words
    return hd.sr.CodedConcept(value=value, scheme_designator=scheme, meaning=meaning)


def algorithm(hd: Any) -> Any:
    """Return what says which program made an object."""
    return hd.AlgorithmIdentificationSequence(
        name="her2path",
        version=__version__,
        family=code(hd, ("IMAGE_ANALYSIS", SCHEME, "Classical image analysis")),
    )
