"""What a run concludes, in the shape of ``result.json``: complete, or not evaluable and why."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from her2path import __version__
from her2path.cells import reading
from her2path.core.errors import NotEvaluable
from her2path.core.flags import flag, merge
from her2path.core.results import (
    AssayFacts,
    Counts,
    Provenance,
    Qc,
    QcFlag,
    Result,
    Sensitivity,
)
from her2path.core.settings import Settings
from her2path.io.annotations import Annotations
from her2path.io.slide import SlideInfo
from her2path.runs.case.drawn import annotation_flags
from her2path.runs.case.facts import packages, slide_calibration, slide_facts, stain_facts
from her2path.runs.case.passes import BlockDone
from her2path.runs.case.plan import Prepared, area_mm2
from her2path.runs.case.quality import Quality
from her2path.runs.case.run import RunOptions
from her2path.runs.case.verdict import Verdict
from her2path.scoring.calibration.receptors import receptor_flags
from her2path.scoring.calibration.slidewise import Calibrated

__all__ = ["Evidence", "Outcome", "tissue_mm2"]


def tissue_mm2(seen: Prepared) -> float:
    """Return the area of the tissue."""
    return area_mm2(seen.tissue.mask, seen.info.mpp * seen.mask_downsample)


@dataclass(frozen=True)
class Evidence:
    """What the score of a slide rests on: blocks read, cells that count, quality, controls."""

    done: Sequence[BlockDone]
    cells: pa.Table
    quality: Quality
    made: Calibrated
    limit: Sensitivity
    flags: Sequence[QcFlag]


@dataclass(frozen=True)
class Outcome:
    """What every result of one run says of its slide, its settings and itself.

    ``measured`` and ``mark`` are the fingerprints of what the cells and the result rest on;
    ``clock`` is the monotonic second of the start.
    """

    path: Path
    info: SlideInfo
    settings: Settings
    options: RunOptions
    annotations: Annotations | None
    measured: str
    mark: str
    started: datetime
    clock: float

    def complete(self, seen: Prepared, known: Evidence, verdict: Verdict) -> Result:
        """Return the result of a slide that was scored."""
        made, quality, limit = known.made, known.quality, known.limit
        told = [*made.flags, *receptor_flags(verdict.receptors)]
        base = self._base(seen, [*self._own_flags(made.settings), *told, *known.flags])
        base["stain"] = stain_facts(seen.optics.stain, made.settings)
        px_mm2 = (seen.optics.mpp * 1e-3) ** 2
        area = min(base["qc"].tissue_area_mm2, sum(d.tissue_px for d in known.done) * px_mm2)
        facts = quality.facts() | quality.followed(known.cells)
        area = max(0.0, area - quality.mm2(quality.left_out))
        base["qc"] = base["qc"].model_copy(update={"analysed_area_mm2": area, **facts})
        base["slide_calibration"] = slide_calibration(seen.optics, quality, known.cells, limit)
        return Result(
            **base,
            status="complete",
            provenance=self._provenance(len(known.done)),
            counts=Counts(**verdict.counts),
            tumour_selection=self._selection(),
            fractions=verdict.fractions,
            score=verdict.score,
            h_score=verdict.h_score,
            heterogeneity=verdict.heterogeneity,
            calibration=made.facts,
            receptors=verdict.receptors,
            sensitivity=limit,
        )

    def not_evaluable(
        self, seen: Prepared | None, why: NotEvaluable, quality: Quality | None = None
    ) -> Result:
        """Return the result of a slide that was read, and cannot be scored."""
        reason = QcFlag(code=why.code, severity="fail", message=str(why))
        base = self._base(seen, [reason, *(seen.flags if seen else ())])
        if quality is not None:
            base["qc"] = base["qc"].model_copy(update=quality.facts())
        if seen is not None:
            base["slide_calibration"] = slide_calibration(seen.optics, quality)
        return Result(
            **base,
            status="not_evaluable",
            provenance=self._provenance(0),
            counts=Counts(),
            tumour_selection=None,
            fractions=None,
            score=None,
            h_score=None,
            heterogeneity=None,
        )

    def _own_flags(self, read_with: Settings | None = None) -> list[QcFlag]:
        """Return the flags of annotations and settings, as the slide's own controls change them."""
        settings = read_with or self.settings
        flags: list[QcFlag] = []
        if self._selection() == "morphology":
            flags.append(flag("IN_SITU_NOT_EXCLUDED"))
        if self._selection() == "all":
            flags.append(flag("ALL_CELLS_COUNTED"))
        flags += annotation_flags(self.annotations, self._selection())
        if settings.membrane.calibration == "uncalibrated":
            flags.append(flag("UNCALIBRATED_CUTOFFS"))
        return flags

    def _selection(self) -> Literal["all", "annotation", "morphology"]:
        if self.settings.tumour.method == "all":
            return "all"
        has = self.annotations is not None and self.annotations.tumour is not None
        if has and self.settings.tumour.method in ("auto", "annotation"):
            return "annotation"
        return "morphology"

    def _base(self, seen: Prepared | None, flags: list[QcFlag]) -> dict[str, Any]:
        """Return the fields that every result has."""
        area = tissue_mm2(seen) if seen is not None else 0.0
        return {
            "her2path_version": __version__,
            "slide": slide_facts(self.info, self.path, self.options),
            "settings_sha256": self.settings.sha256(),
            "assay": AssayFacts(**self.settings.assay.model_dump()),
            "fingerprint": self.mark,
            "measured_sha256": self.measured,
            "stain": stain_facts(seen.optics.stain, self.settings) if seen else None,
            "qc": Qc(flags=merge(flags, self.info.flags), tissue_area_mm2=area),
        }

    def _provenance(self, tiles: int) -> Provenance:
        return Provenance(
            started=self.started.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self.clock, 3),
            tiles=tiles,
            workers=self.settings.stream.workers or (os.cpu_count() or 1),
            packages=packages(),
            reading_sha256=reading.weights_sha256(),
            icc=self.settings.slide.icc,
            reader=self.info.reader,
        )
