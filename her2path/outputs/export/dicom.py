"""DICOM: cells as microscopy bulk simple annotations, the findings as a structured report.

A slide that is no DICOM file has no study to belong to: the objects then refer to a stand-in
image whose identifiers are derived from the slide's hash, so that exporting twice gives the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from her2path import __version__
from her2path.core._optional import require
from her2path.core.errors import OutputError, actual
from her2path.core.geometry import FilePlane, FramePlane, Planes
from her2path.core.results import Result
from her2path.core.schema import PATTERNS
from her2path.io.store import RunStore, atomic_file
from her2path.outputs.export import dicom_codes as c
from her2path.outputs.export.geojson import outlines_px
from her2path.outputs.palette import PATTERN_COLOURS, WORDS, rgb

__all__ = ["write"]

log = logging.getLogger(__name__)
#: above this number cells are points: their outlines would fill gigabytes of memory
MAX_OUTLINES = 200_000
_COLUMNS = ["x_px", "y_px", "outline", "membrane_od", "completeness", "pattern", "cell_type"]


def write(store: RunStore, folder: Path, _offset: tuple[float, float]) -> Path:
    """Write ``annotations.dcm`` and ``report.dcm`` into a folder; return the folder.

    Raises
    ------
    MissingExtra
        Without highdicom and pydicom.
    OutputError
        Where the run has no cells.
    """
    hd = require("highdicom", "the DICOM export")
    result = store.result()
    source = source_image(result)
    if store.cells_path.exists():
        _save(_annotations(hd, store, result, source), folder / "annotations.dcm")
    _save(_report(hd, result, source), folder / "report.dcm")
    return folder


def _save(dataset: Any, path: Path) -> None:
    with atomic_file(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)


def _uid(*facts: str) -> str:
    pydicom = require("pydicom.uid", "the DICOM export")
    return str(pydicom.generate_uid(entropy_srcs=["her2path", *facts]))


def source_image(result: Result) -> Any:
    """Return the header of the slide's own DICOM file, or of a stand-in."""
    pydicom = require("pydicom", "the DICOM export")
    path = Path(actual(result.slide.path)) if result.slide.path else None
    if path is not None and path.is_dir():
        path = _finest(pydicom, path, result)
    if path is not None and path.is_file():
        with path.open("rb") as file:
            file.seek(128)
            if file.read(4) == b"DICM":
                return pydicom.dcmread(path, stop_before_pixels=True)
    return _stand_in(pydicom, result)


def _finest(pydicom: Any, folder: Path, result: Result) -> Path | None:
    """Return the instance of a DICOM folder that is the slide's level 0."""
    size = (result.slide.width_px, result.slide.height_px)
    for path in sorted(folder.glob("*.dcm")):
        try:
            head = pydicom.dcmread(path, specific_tags=["TotalPixelMatrixColumns",
                                                        "TotalPixelMatrixRows"])  # fmt: skip
        except (OSError, pydicom.errors.InvalidDicomError):
            continue
        names = ("TotalPixelMatrixColumns", "TotalPixelMatrixRows")
        if tuple(getattr(head, n, None) for n in names) == size:
            return path
    return None


def _stand_in(pydicom: Any, result: Result) -> Any:
    key = result.slide.sha256_quick or result.slide.id
    image = pydicom.Dataset()
    image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"  # VL Whole Slide Microscopy Image
    image.SOPInstanceUID = _uid("image", key)
    image.StudyInstanceUID, image.SeriesInstanceUID = _uid("study", key), _uid("series", key)
    image.FrameOfReferenceUID = _uid("frame", key)
    image.Modality = "SM"
    for name in (
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "AccessionNumber",
        "StudyID",
        "StudyDate",
        "StudyTime",
        "ReferringPhysicianName",
    ):
        setattr(image, name, "")
    image.PatientID = result.slide.id[:64]
    image.ContainerIdentifier = result.slide.id[:64]
    image.TotalPixelMatrixColumns = result.slide.width_px or 1
    image.TotalPixelMatrixRows = result.slide.height_px or 1
    image.Rows = image.Columns = 256
    image.NumberOfFrames = 1
    return image


def _annotations(hd: Any, store: RunStore, result: Result, source: Any) -> Any:
    groups = list(_groups(hd, store, result, source))
    if not groups:
        raise OutputError("the run has no tumour cells to annotate", "Export another slide")
    key = result.slide.sha256_quick or result.slide.id
    return hd.ann.MicroscopyBulkSimpleAnnotations(
        source_images=[source],
        annotation_coordinate_type="2D",
        annotation_groups=groups,
        series_instance_uid=_uid("annotation series", key),
        series_number=100,
        sop_instance_uid=_uid("annotations", key, result.settings_sha256),
        instance_number=1,
        content_label="HER2_CELLS",
        content_description="Tumour cells by HER2 membrane staining pattern",
        **_maker(),
    )


def _maker() -> dict[str, str]:
    return {
        "manufacturer": "her2path",
        "manufacturer_model_name": "her2path",
        "software_versions": __version__,
        "device_serial_number": "0",
    }


def _groups(hd: Any, store: RunStore, result: Result, source: Any) -> Iterator[Any]:
    """Yield one group of annotations a pattern; empty patterns have none."""
    planes = result.slide.planes
    frame = _frame(planes, source)
    points = result.counts.tumour > MAX_OUTLINES
    number = 0
    for name in PATTERNS:
        where = (pc.field("pattern") == name) & (pc.field("cell_type") == "tumour")
        cells = store.cells(_COLUMNS, where)
        if cells.num_rows == 0:
            continue
        number += 1
        yield hd.ann.AnnotationGroup(
            number=number,
            uid=_uid("group", name, result.slide.sha256_quick or "", result.settings_sha256),
            label=WORDS[name],
            annotated_property_category=c.code(hd, c.ANATOMICAL),
            annotated_property_type=c.code(hd, c.TUMOUR_CELL),
            graphic_type="POINT" if points else "POLYGON",
            graphic_data=_graphics(cells, planes.file, frame, points),
            algorithm_type="AUTOMATIC",
            algorithm_identification=c.algorithm(hd),
            measurements=[
                hd.ann.Measurements(
                    c.code(hd, c.MEMBRANE_OD), _float(cells, "membrane_od"), c.code(hd, c.OD)
                ),
                hd.ann.Measurements(
                    c.code(hd, c.COMPLETENESS),
                    _float(cells, "completeness"),
                    c.code(hd, c.FRACTION),
                ),
            ],
            description=f"HER2 membrane staining: {WORDS[name]}",
            display_color=hd.color.CIELabColor.from_rgb(*rgb(PATTERN_COLOURS[name])),
        )


def _float(cells: pa.Table, name: str) -> Any:
    return cells[name].to_numpy().astype(np.float32)


def _frame(planes: Planes, source: Any) -> FramePlane:
    """Return the plane of the referenced image, which may be a coarser instance of the slide."""
    columns = int(getattr(source, "TotalPixelMatrixColumns", 0) or planes.width_px)
    rows = int(getattr(source, "TotalPixelMatrixRows", 0) or planes.height_px)
    return planes.frame(columns, rows)


def _graphics(cells: pa.Table, plane: FilePlane, frame: FramePlane, points: bool) -> list[Any]:
    """Return points or outlines in the pixels of the referenced image's total pixel matrix."""
    if points:
        xy = np.stack([cells["x_px"].to_numpy(), cells["y_px"].to_numpy()], axis=1)[:, None, :]
    else:
        xy = outlines_px(cells, plane, 2)
    moved = np.stack(plane.move(xy[..., 0], xy[..., 1], frame), axis=-1)
    return list(moved.astype(np.float32))


# -- structured report -----------------------------------------------------------------------------


def _report(hd: Any, result: Result, source: Any) -> Any:
    key = result.slide.sha256_quick or result.slide.id
    device = hd.sr.ObserverContext(
        observer_type=c.code(hd, c.DEVICE),
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=_uid("her2path", __version__),
            name="her2path",
            manufacturer_name="her2path",
            model_name=__version__,
        ),
    )
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=_uid("tracking", key), identifier="HER2 IHC whole slide"
        ),
        finding_type=c.code(hd, c.HER2),
        method=c.code(hd, c.IHC_METHOD),
        measurements=[
            hd.sr.Measurement(name=c.code(hd, name), value=float(value), unit=c.code(hd, unit))
            for name, value, unit in _numbers(result)
        ],
        qualitative_evaluations=[
            hd.sr.QualitativeEvaluation(c.code(hd, name), c.code(hd, value))
            for name, value in _findings(result)
        ],
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=device),
        procedure_reported=c.code(hd, c.PROCEDURE),
        imaging_measurements=[group],
        title=c.code(hd, c.TITLE),
        referenced_images=[source],
    )
    return hd.sr.Comprehensive3DSR(
        evidence=[source],
        content=content,
        series_instance_uid=_uid("report series", key),
        series_number=101,
        sop_instance_uid=_uid("report", key, result.settings_sha256),
        instance_number=1,
        manufacturer="her2path",
        is_complete=True,
        is_verified=False,
    )


def _numbers(result: Result) -> Iterator[tuple[c.Code, float, c.Code]]:
    yield c.CELLS, result.counts.tumour, c.COUNT
    yield c.TISSUE_AREA, result.qc.tissue_area_mm2, c.MM2
    if result.h_score is not None:
        yield c.H_SCORE, result.h_score, c.FRACTION
    for name, value in (result.fractions or {}).items():
        what = (f"FRACTION_{PATTERNS.index(name)}", c.SCHEME, f"Tumour cells: {WORDS[name]}")
        yield what, value, c.FRACTION
    spread = result.heterogeneity
    if spread is not None and spread.positive_cell_fraction is not None:
        yield c.POSITIVE, spread.positive_cell_fraction, c.FRACTION
    if spread is not None and spread.positive_area_fraction is not None:
        yield c.POSITIVE_AREA, spread.positive_area_fraction, c.FRACTION


def _findings(result: Result) -> Iterator[tuple[c.Code, c.Code]]:
    yield c.STATUS, (result.status.upper()[:16], c.SCHEME, result.status.replace("_", " "))
    if result.score is not None:
        score = result.score
        yield c.SCORE, (f"SCORE_{score.ihc}", c.SCHEME, f"HER2 IHC score {score.ihc}")
        yield c.CATEGORY, (f"CAT_{score.category.upper()}"[:16], c.SCHEME, f"HER2 {score.category}")
        name = score.guideline.upper()
        yield c.GUIDELINE, (name[:16], c.SCHEME, score.guideline[:64])
    if result.heterogeneity is not None:
        kind = result.heterogeneity.pattern.type
        yield c.LAYOUT, (f"LAY_{kind.upper()}"[:16], c.SCHEME, kind.replace("_", " "))
