"""Every quality-control flag that a result can carry: code, severity and sentence, in one place."""

from __future__ import annotations

from typing import Literal

from her2path.core.results import QcFlag

__all__ = ["FLAGS", "Severity", "flag", "merge"]

Severity = Literal["info", "warning", "fail"]

#: code: (severity unless stated otherwise, sentence)
FLAGS: dict[str, tuple[Severity, str]] = {
    "NO_TISSUE": ("fail", "No tissue was found on the slide."),
    "LITTLE_TISSUE": ("warning", "There is little tissue; figures rest on few cells."),
    "NOT_H_DAB": ("fail", "The slide does not look like hematoxylin with DAB."),
    "DARK_BACKGROUND": ("fail", "The background is dark, as in fluorescence."),
    "COARSE_MPP": ("fail", "The pixels are too coarse to read membranes."),
    "MPP_OVERRIDDEN": ("info", "The pixel size was given by the user."),
    "MPP_NOT_USED": ("warning", "The pixel size given by the user differs from the file's own."),
    "ANISOTROPIC_MPP": ("info", "The file's pixels are not square; they were resampled."),
    "COLOUR_TAG_WRONG": (
        "warning",
        "The file's pixels contradict what it says of their colour; the pixels were believed.",
    ),
    "ALPHA_TAG_WRONG": (
        "warning",
        "What the file says of its transparency contradicts its pixels; they were believed.",
    ),
    "TRANSPARENT_PIXELS": ("info", "Pixels are transparent; they were laid over white."),
    "SCALED_TO_8_BIT": ("info", "The pixels were scaled to 8 bit."),
    "ORIENTATION_IGNORED": (
        "info",
        "The file states an orientation; pixels are read, and coordinates given, as stored.",
    ),
    "LEVEL_ORDER": (
        "info",
        "The file's first image is not its finest; the largest one was read as level 0.",
    ),
    "SEVERAL_IMAGES": ("warning", "The file holds several images; one of them was read."),
    "READERS_DIFFER": (
        "info",
        "Raw tiles differ from OpenSlide's pixels: it was read by OpenSlide.",
    ),
    "OUT_OF_FOCUS": ("fail", "Too little of the tissue is in focus."),
    "MPP_UNLIKELY": ("fail", "The nuclei contradict the pixel size."),
    "TOO_LITTLE_LEFT": ("fail", "Too little of the tissue is free of artefacts."),
    "NO_EPITHELIUM": ("fail", "No epithelium was recognised on the slide."),
    "ARTEFACTS": ("info", "Artefacts were left out of every figure; the quality map shows them."),
    "SOFT": ("warning", "The scan is soft: faint membranes may be missed, and 0 is not certain."),
    "BURNT_IN_MARK": (
        "warning",
        "A scale bar or mark seems burnt into the picture; give the slide without it.",
    ),
    "STAIN_VECTORS_UNUSUAL": (
        "warning",
        "The colours of the stains are far from what is usual for hematoxylin and DAB.",
    ),
    "LITTLE_TUMOUR": ("warning", "There is little tumour; fractions are uncertain."),
    "NUCLEI_HIDDEN": (
        "warning",
        "Many nuclei lie hidden under brown; cells there may be missed or merged.",
    ),
    "PARTLY_OUT_OF_FOCUS": ("warning", "Part of the tissue is out of focus."),
    "PEN_MARKS": ("info", "Pen marks lie on or near the tissue; they were left out."),
    "FOLDS": ("warning", "The tissue is folded in places; cells there are unreliable."),
    "DARK_BORDER": ("info", "Dark borders of the slide or scan were left out."),
    "NO_GLASS": ("info", "No empty glass was found around the tissue."),
    "WHITE_FALLBACK": ("warning", "The white point could not be read from empty glass."),
    "STAIN_FALLBACK": (
        "warning",
        "The stain colours could not be estimated; fixed ones were used.",
    ),
    "STAIN_DAB_FALLBACK": (
        "info",
        "Too little DAB to estimate its colour; the fixed one was used.",
    ),
    "STAIN_H_FALLBACK": (
        "warning",
        "Too little hematoxylin to estimate its colour; the fixed one was used.",
    ),
    "PALE_STAIN": ("warning", "The hematoxylin is pale; nuclei may be missed."),
    "STRONG_COUNTERSTAIN": ("warning", "The hematoxylin is strong; faint membranes may be hidden."),
    "HIGH_BACKGROUND": ("warning", "There is DAB in the background; faint staining is unreliable."),
    "UNREADABLE_TILES": ("warning", "Part of the slide could not be read."),
    "IN_SITU_NOT_EXCLUDED": (
        "warning",
        "Tumour cells were selected by morphology, which cannot tell invasive tumour from "
        "in-situ carcinoma or normal ducts.",
    ),
    "ALL_CELLS_COUNTED": ("warning", "Every cell was counted as tumour."),
    "TUMOUR_NOT_RECOGNISED": (
        "warning",
        "Much of what was counted as tumour may be something else.",
    ),
    "FEW_TUMOUR_CELLS": ("fail", "There are too few tumour cells for a score."),
    "UNCALIBRATED_CUTOFFS": (
        "warning",
        "The intensity cut-offs are not calibrated to controls or reads of this laboratory.",
    ),
    "UNDER_STAINED": (
        "warning",
        "Controls stain more weakly than the batch's: faint membranes may be lost.",
    ),
    "OVER_STAINED": (
        "warning",
        "Controls stain more strongly than the batch's: scores may be too high.",
    ),
    "OTHER_ASSAY": ("warning", "The calibration was made for another assay."),
    "CONTROLS_NOT_USED": (
        "warning",
        "Control areas on the slide could not calibrate it; the settings' calibration was used.",
    ),
    "FAINT_CONTROL_UNSEEN": (
        "warning",
        "Hardly a cell of the 1+ control on the slide is seen: faint staining cannot be told from "
        "none here.",
    ),
    "RECEPTORS_OUTSIDE_RANGE": (
        "info",
        "Tumour cells lie outside the range of the calibrators; no receptors are given for them.",
    ),
    "FAINT_NOT_MEASURABLE": (
        "warning",
        "This slide does not tell 0 from 1+: faint membranes do not show on it.",
    ),
    "ICC_NOT_APPLIED": ("info", "The file has an ICC profile, which was not applied."),
    "ANNOTATIONS_MENDED": ("warning", "Annotated outlines crossed themselves and were mended."),
    "ANNOTATION_CLASSES_UNKNOWN": (
        "warning",
        "Annotated areas of classes on no list count neither as tumour nor as left out.",
    ),
    "ANNOTATIONS_WITHOUT_CLASS": (
        "warning",
        "Annotated areas without a class count as tumour beside areas with one.",
    ),
    "ANNOTATIONS_NOT_SELECTING": (
        "warning",
        "Annotations were given, and no tumour was selected by them.",
    ),
    "ANNOTATION_OBJECTS_LEFT_OUT": (
        "warning",
        "Objects of the annotations that are no areas were left out.",
    ),
    "SLIDES_MISSING": ("warning", "Slides of the case failed; its figures rest on the others."),
    "SLIDES_NOT_EVALUABLE": ("warning", "Slides of the case could not be evaluated."),
    "TIMES_BY_NAME": (
        "warning",
        "Time points are words without numbers: the alphabet orders them, not time.",
    ),
    "READER_CORRECTED": (
        "info",
        "A reader corrected cells or drew what is tumour; the score rests on it.",
    ),
    "CNN_DISAGREES": (
        "warning",
        "The CNN's second look differs from the rule-based score by a class or more.",
    ),
}


def flag(code: str, detail: str = "", severity: Severity | None = None) -> QcFlag:
    """Return a flag of the catalogue.

    Parameters
    ----------
    code : str
        A key of `FLAGS`.
    detail : str
        Numbers or places of this case, appended to the catalogue's sentence.
    severity : {"info", "warning", "fail"}, optional
        In place of the catalogue's.

    Raises
    ------
    KeyError
        Where the catalogue does not know the code.
    """
    usual, sentence = FLAGS[code]
    message = f"{sentence} {detail}".strip()
    return QcFlag(code=code, severity=severity or usual, message=message)


def merge(*groups: tuple[QcFlag, ...] | list[QcFlag]) -> tuple[QcFlag, ...]:
    """Join groups of flags: one per code, the gravest kept, failures first."""
    order = {"fail": 0, "warning": 1, "info": 2}
    best: dict[str, QcFlag] = {}
    for group in groups:
        for one in group:
            seen = best.get(one.code)
            if seen is None or order[one.severity] < order[seen.severity]:
                best[one.code] = one
    return tuple(sorted(best.values(), key=lambda f: (order[f.severity], f.code)))
