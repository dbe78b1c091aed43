"""Plain facts of a run, in the shape that ``result.json`` gives them."""

from __future__ import annotations

from dataclasses import astuple
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from her2path.cells.analysis import Optics
from her2path.cells.stain import StainModel
from her2path.core.errors import shown
from her2path.core.flags import flag, merge
from her2path.core.results import (
    Result,
    Sensitivity,
    SlideCalibration,
    SlideFacts,
    StainFacts,
)
from her2path.core.settings import Settings
from her2path.io.slide import SlideInfo
from her2path.runs.case.quality import Quality
from her2path.runs.case.run import RunOptions

if TYPE_CHECKING:
    from her2path.runs.case.cnn_review import CnnReview

__all__ = ["packages", "slide_calibration", "slide_facts", "stain_facts", "with_cnn"]

PACKAGES = (
    "numpy",
    "numba",
    "scipy",
    "openslide-python",
    "tifffile",
    "imagecodecs",
    "dask",
    "zarr",
    "pyarrow",
    "opencv-python-headless",
)


def slide_facts(info: SlideInfo, path: Path, options: RunOptions) -> SlideFacts:
    """Return what the result says of the slide; pseudonymised: no path, no name."""
    hidden = f"slide-{info.sha256_quick[:12]}"
    stem = options.slide_id or shown(path.stem)
    return SlideFacts(
        path=None if options.pseudonymise else shown(path),
        id=hidden if options.pseudonymise else stem,
        case_id=None if options.pseudonymise else options.case_id,
        vendor=info.vendor,
        mpp=info.mpp,
        mpp_x=info.mpp_x,
        mpp_y=info.mpp_y,
        width_px=info.file_width_px,
        height_px=info.file_height_px,
        sha256_quick=info.sha256_quick,
        bounds_px=None if info.file_bounds is None else astuple(info.file_bounds),
    )


def stain_facts(model: StainModel, settings: Settings) -> StainFacts:
    """Return what the result says of white point and stains."""
    return StainFacts(
        white_point=_three(model.white_point),
        hematoxylin=_three(model.hematoxylin),
        dab=_three(model.dab),
        method=_method(model),
        calibration=settings.membrane.calibration,
    )


def slide_calibration(
    optics: Optics,
    quality: Quality | None = None,
    cells: pa.Table | None = None,
    limit: Sensitivity | None = None,
) -> SlideCalibration:
    """Return what was found on the slide itself; cells are those that count, of both types."""
    model, known = optics.stain, {}
    if quality is not None:
        known["blur_um"] = quality.blur_um
    if quality is not None and cells is not None:
        nuclei = cells.column("nucleus_hematoxylin_od").to_numpy()
        known["nuclear_od"] = float(np.median(nuclei)) if len(nuclei) else None
        known |= quality.followed(cells)
    if limit is not None:
        known |= {"blank_rate": limit.blank_rate, "od_50": limit.od_50, "od_95": limit.od_95}
    return SlideCalibration(
        mpp=optics.mpp,
        white_point=_three(model.white_point),
        hematoxylin=_three(model.hematoxylin),
        dab=_three(model.dab),
        method=_method(model),
        **known,
    )


def _method(model: StainModel) -> Literal["estimated", "fixed", "fallback"]:
    if model.method == "estimated":
        return "estimated"
    return "fixed" if model.method == "fixed" else "fallback"


def _three(values: Any) -> tuple[float, float, float]:
    r, g, b = (round(float(v), 6) for v in values)
    return r, g, b


def packages() -> dict[str, str]:
    """Return the versions of the packages that figures depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def with_cnn(result: Result, second: CnnReview) -> Result:
    """Set the CNN's verdict beside the score, with a flag where they differ by a class."""
    # an earlier look's flag goes: the score may have changed since
    flags = [f for f in result.qc.flags if f.code != "CNN_DISAGREES"]
    if second.result.flag is not None:
        flags.append(flag(second.result.flag))
    made = result.provenance
    if second.model_sha256 is not None:
        made = made.model_copy(update={"model_sha256": second.model_sha256})
    return result.model_copy(
        update={
            "cnn": second.result,
            "qc": result.qc.model_copy(update={"flags": merge(flags)}),
            "provenance": made,
        }
    )
