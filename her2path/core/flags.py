"""Every quality-control flag that a result can carry: code, severity, sentence, who raises it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from her2path.core.results import QcFlag

__all__ = ["FLAGS", "Entry", "Severity", "flag", "merge"]

Severity = Literal["info", "warning", "fail"]


class Entry(NamedTuple):
    """What the catalogue knows of a flag."""

    #: unless it is raised with another one
    severity: Severity
    sentence: str
    #: the module of her2path that raises it first
    raised_in: str


FLAGS: dict[str, Entry] = {
    "NO_TISSUE": Entry("fail", "No tissue was found on the slide.", "cells.qc.assessment"),
    "LITTLE_TISSUE": Entry(
        "warning", "There is little tissue; figures rest on few cells.", "cells.qc.assessment"
    ),
    "NOT_H_DAB": Entry(
        "fail", "The slide does not look like hematoxylin with DAB.", "runs.case.plan"
    ),
    "DARK_BACKGROUND": Entry("fail", "The background is dark, as in fluorescence.", "cells.tissue"),
    "COARSE_MPP": Entry("fail", "The pixels are too coarse to read membranes.", "runs.case.plan"),
    "MPP_OVERRIDDEN": Entry("info", "The pixel size was given by the user.", "io.slide.mpp"),
    "MPP_NOT_USED": Entry(
        "warning", "The pixel size given by the user differs from the file's own.", "io.slide.mpp"
    ),
    "ANISOTROPIC_MPP": Entry(
        "info", "The file's pixels are not square; they were resampled.", "io.slide.mpp"
    ),
    "COLOUR_TAG_WRONG": Entry(
        "warning",
        "The file's pixels contradict what it says of their colour; the pixels were believed.",
        "io.slide.image",
    ),
    "ALPHA_TAG_WRONG": Entry(
        "warning",
        "What the file says of its transparency contradicts its pixels; they were believed.",
        "io.slide.image",
    ),
    "TRANSPARENT_PIXELS": Entry(
        "info", "Pixels are transparent; they were laid over white.", "io.slide.image"
    ),
    "SCALED_TO_8_BIT": Entry("info", "The pixels were scaled to 8 bit.", "io.slide.image"),
    "ORIENTATION_IGNORED": Entry(
        "info",
        "The file states an orientation; pixels are read, and coordinates given, as stored.",
        "io.slide.opening",
    ),
    "LEVEL_ORDER": Entry(
        "info",
        "The file's first image is not its finest; the largest one was read as level 0.",
        "io.slide.opening",
    ),
    "SEVERAL_IMAGES": Entry(
        "warning", "The file holds several images; one of them was read.", "io.slide.image"
    ),
    "READERS_DIFFER": Entry(
        "info",
        "Raw tiles differ from OpenSlide's pixels: it was read by OpenSlide.",
        "io.slide.opening",
    ),
    "OUT_OF_FOCUS": Entry("fail", "Too little of the tissue is in focus.", "cells.qc.assessment"),
    "MPP_UNLIKELY": Entry("fail", "The nuclei contradict the pixel size.", "runs.case.quality"),
    "TOO_LITTLE_LEFT": Entry(
        "fail", "Too little of the tissue is free of artefacts.", "runs.case.quality"
    ),
    "NO_EPITHELIUM": Entry(
        "fail", "No epithelium was recognised on the slide.", "runs.case.quality"
    ),
    "ARTEFACTS": Entry(
        "info",
        "Artefacts were left out of every figure; the quality map shows them.",
        "cells.qc.slide",
    ),
    "SOFT": Entry(
        "warning",
        "The scan is soft: faint membranes may be missed, and 0 is not certain.",
        "cells.qc.slide",
    ),
    "BURNT_IN_MARK": Entry(
        "warning",
        "A scale bar or mark seems burnt into the picture; give the slide without it.",
        "cells.qc.slide",
    ),
    "STAIN_VECTORS_UNUSUAL": Entry(
        "warning",
        "The colours of the stains are far from what is usual for hematoxylin and DAB.",
        "runs.case.quality",
    ),
    "LITTLE_TUMOUR": Entry(
        "warning", "There is little tumour; fractions are uncertain.", "runs.case.checks"
    ),
    "NUCLEI_HIDDEN": Entry(
        "warning",
        "Many nuclei lie hidden under brown; cells there may be missed or merged.",
        "cells.qc.slide",
    ),
    "PARTLY_OUT_OF_FOCUS": Entry(
        "warning", "Part of the tissue is out of focus.", "cells.qc.assessment"
    ),
    "PEN_MARKS": Entry(
        "info", "Pen marks lie on or near the tissue; they were left out.", "cells.tissue"
    ),
    "FOLDS": Entry(
        "warning", "The tissue is folded in places; cells there are unreliable.", "cells.qc.slide"
    ),
    "DARK_BORDER": Entry(
        "info", "Dark borders of the slide or scan were left out.", "cells.tissue"
    ),
    "NO_GLASS": Entry("info", "No empty glass was found around the tissue.", "cells.tissue"),
    "WHITE_FALLBACK": Entry(
        "warning", "The white point could not be read from empty glass.", "cells.stain.estimation"
    ),
    "STAIN_FALLBACK": Entry(
        "warning",
        "The stain colours could not be estimated; fixed ones were used.",
        "cells.stain.estimation",
    ),
    "STAIN_DAB_FALLBACK": Entry(
        "info",
        "Too little DAB to estimate its colour; the fixed one was used.",
        "cells.stain.estimation",
    ),
    "STAIN_H_FALLBACK": Entry(
        "warning",
        "Too little hematoxylin to estimate its colour; the fixed one was used.",
        "cells.stain.estimation",
    ),
    "PALE_STAIN": Entry(
        "warning", "The hematoxylin is pale; nuclei may be missed.", "cells.qc.assessment"
    ),
    "STRONG_COUNTERSTAIN": Entry(
        "warning",
        "The hematoxylin is strong; faint membranes may be hidden.",
        "cells.qc.assessment",
    ),
    "HIGH_BACKGROUND": Entry(
        "warning",
        "There is DAB in the background; faint staining is unreliable.",
        "cells.qc.assessment",
    ),
    "UNREADABLE_TILES": Entry(
        "warning", "Part of the slide could not be read.", "cells.qc.assessment"
    ),
    "IN_SITU_NOT_EXCLUDED": Entry(
        "warning",
        "Tumour cells were selected by morphology, which cannot tell invasive tumour from "
        "in-situ carcinoma or normal ducts.",
        "runs.case.outcome",
    ),
    "ALL_CELLS_COUNTED": Entry("warning", "Every cell was counted as tumour.", "runs.case.outcome"),
    "TUMOUR_NOT_RECOGNISED": Entry(
        "warning", "Much of what was counted as tumour may be something else.", "runs.case.checks"
    ),
    "FEW_TUMOUR_CELLS": Entry(
        "fail", "There are too few tumour cells for a score.", "runs.cohort.cases"
    ),
    "UNCALIBRATED_CUTOFFS": Entry(
        "warning",
        "The intensity cut-offs are not calibrated to controls or reads of this laboratory.",
        "runs.case.outcome",
    ),
    "UNDER_STAINED": Entry(
        "warning",
        "Controls stain more weakly than the batch's: faint membranes may be lost.",
        "scoring.calibration.staining",
    ),
    "OVER_STAINED": Entry(
        "warning",
        "Controls stain more strongly than the batch's: scores may be too high.",
        "scoring.calibration.staining",
    ),
    "OTHER_ASSAY": Entry(
        "warning", "The calibration was made for another assay.", "scoring.calibration.slidewise"
    ),
    "CONTROLS_NOT_USED": Entry(
        "warning",
        "Control areas on the slide could not calibrate it; the settings' calibration was used.",
        "scoring.calibration.slidewise",
    ),
    "FAINT_CONTROL_UNSEEN": Entry(
        "warning",
        "Hardly a cell of the 1+ control on the slide is seen: faint staining cannot be told "
        "from none here.",
        "scoring.calibration.slidewise",
    ),
    "RECEPTORS_OUTSIDE_RANGE": Entry(
        "info",
        "Tumour cells lie outside the range of the calibrators; no receptors are given for them.",
        "scoring.calibration.receptors",
    ),
    "FAINT_NOT_MEASURABLE": Entry(
        "warning",
        "This slide does not tell 0 from 1+: faint membranes do not show on it.",
        "runs.case.spiking",
    ),
    "ICC_NOT_APPLIED": Entry(
        "info", "The file has an ICC profile, which was not applied.", "io.slide.opening"
    ),
    "ANNOTATIONS_MENDED": Entry(
        "warning", "Annotated outlines crossed themselves and were mended.", "runs.case.drawn"
    ),
    "ANNOTATION_CLASSES_UNKNOWN": Entry(
        "warning",
        "Annotated areas of classes on no list count neither as tumour nor as left out.",
        "runs.case.drawn",
    ),
    "ANNOTATIONS_WITHOUT_CLASS": Entry(
        "warning",
        "Annotated areas without a class count as tumour beside areas with one.",
        "runs.case.drawn",
    ),
    "ANNOTATIONS_NOT_SELECTING": Entry(
        "warning", "Annotations were given, and no tumour was selected by them.", "runs.case.drawn"
    ),
    "ANNOTATION_OBJECTS_LEFT_OUT": Entry(
        "warning", "Objects of the annotations that are no areas were left out.", "runs.case.drawn"
    ),
    "SLIDES_MISSING": Entry(
        "warning", "Slides of the case failed; its figures rest on the others.", "runs.cohort.cases"
    ),
    "SLIDES_NOT_EVALUABLE": Entry(
        "warning", "Slides of the case could not be evaluated.", "runs.cohort.cases"
    ),
    "TIMES_BY_NAME": Entry(
        "warning",
        "Time points are words without numbers: the alphabet orders them, not time.",
        "runs.cohort.cases",
    ),
    "READER_CORRECTED": Entry(
        "info",
        "A reader corrected cells or drew what is tumour; the score rests on it.",
        "runs.case.by_reader",
    ),
    "CNN_DISAGREES": Entry(
        "warning",
        "The CNN's second look differs from the rule-based score by a class or more.",
        "cnn.verdict",
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
    known = FLAGS[code]
    message = f"{known.sentence} {detail}".strip()
    return QcFlag(code=code, severity=severity or known.severity, message=message)


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
