"""The calibration of one slide: its own control areas first, else what the settings say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import shapely
from shapely.geometry.base import BaseGeometry

from her2path.cells import patterns
from her2path.core.errors import UsageError, one_line
from her2path.core.flags import flag
from her2path.core.results import AssayFacts, CalibrationFacts, ControlFacts, QcFlag
from her2path.core.schema import PATTERNS, SCORES
from her2path.core.settings import ASSAY_PARTS, Curve, Settings
from her2path.io.annotations import Annotations, control_of
from her2path.scoring import guidelines
from her2path.scoring.calibration.calibrators import cutoffs_from_curve
from her2path.scoring.calibration.control import MEASURES, Control
from her2path.scoring.calibration.curve import fit_curve
from her2path.scoring.calibration.levels import Cutoffs, cutoffs_from_levels, relative_error
from her2path.scoring.calibration.receptors import with_receptors
from her2path.scoring.calibration.staining import medians_of, staining_flag

__all__ = ["Calibrated", "calibrate_slide", "classified", "controls_on", "other_assay"]

#: significant digits of a cut-off that goes into settings
DIGITS = 6


@dataclass(frozen=True)
class Calibrated:
    """What a slide is read with.

    Attributes
    ----------
    settings : Settings
        The run's, with the slide's own cut-offs and curve where it has controls.
    facts : CalibrationFacts
        As in ``result.json``.
    flags : tuple of QcFlag
    """

    settings: Settings
    facts: CalibrationFacts
    flags: tuple[QcFlag, ...] = ()

    @property
    def curve(self) -> Curve | None:
        """Membrane OD against receptors."""
        return self.settings.calibration.curve


def controls_on(
    cells: pa.Table, areas: Annotations | None, mpp: float
) -> tuple[list[Control], list[str]]:
    """Return the control areas that are drawn on a slide, and what is wrong with others.

    Parameters
    ----------
    cells : pyarrow.Table
        All cells, with `MEASURES`, ``completeness``, ``tumour_probability``, ``x_um``, ``y_um``.
        Cells that look like lymphocytes or stroma are left out.
    areas : Annotations
        On the square plane.
    mpp : float
        µm per pixel of it.
    """
    found: list[Control] = []
    wrong: list[str] = []
    x, y = (cells.column(n).to_numpy().astype(np.float64) for n in ("x_um", "y_um"))
    for area in areas.items if areas is not None else ():
        try:
            stated = control_of(area.classification)
            if stated is None:
                continue
            inside = _inside(cells, area.polygon, x / mpp, y / mpp)
            name = one_line(f"{area.classification} ({area.name})", 60)
            found.append(Control.of(name, inside, stated.level, stated.receptors))
        except UsageError as exc:
            wrong.append(exc.what)
        except ValueError as exc:
            wrong.append(f"{one_line(area.classification, 60)}: {exc}")
    return found, wrong


def _inside(
    cells: pa.Table, polygon: BaseGeometry, x: np.ndarray, y: np.ndarray
) -> dict[str, np.ndarray]:
    shapely.prepare(polygon)
    mine = shapely.contains_xy(polygon, x, y)
    mine &= cells.column("tumour_probability").to_numpy() >= 0.5
    names = (*MEASURES, "completeness", "x_um", "y_um")
    return {n: cells.column(n).to_numpy()[mine] for n in names}


def calibrate_slide(
    cells: pa.Table, areas: Annotations | None, mpp: float, settings: Settings
) -> Calibrated:
    """Return what a slide is read with; refused controls become a flag in words.

    Parameters as in `controls_on`; `settings` is the run's.
    """
    controls, wrong = controls_on(cells, areas, mpp)
    measure = settings.membrane.measure
    curve, cutoffs = None, None
    if any(c.receptors is not None for c in controls):
        try:
            curve = fit_curve(controls, measure, settings.seed)[0]
        except UsageError as exc:
            wrong.append(exc.what)
    if any(c.level is not None for c in controls):
        try:
            faint, moderate, _ = settings.membrane.cutoffs
            cutoffs = cutoffs_from_levels(controls, measure, settings.seed, faint / moderate)
        except UsageError as exc:
            wrong.append(exc.what)
    word = "control" if cutoffs is not None else "calibrators"
    if cutoffs is None and curve is not None:
        try:
            cutoffs = cutoffs_from_curve(curve, settings)
        except UsageError as exc:
            wrong.append(exc.what)
    flags = [flag("CONTROLS_NOT_USED", f"{'; '.join(dict.fromkeys(wrong))}.")] if wrong else []
    if cutoffs is not None and cutoffs.unseen:
        flags.append(flag("FAINT_CONTROL_UNSEEN"))
    own = applied(settings, cutoffs, curve, word)
    if cutoffs is None:
        flags += other_assay(settings)
    facts = _facts(own, controls, cutoffs, curve)
    # what the run was calibrated with tells how strongly such controls stain in this laboratory
    usual = medians_of(s for s in settings.calibration.made_from if s.kind == "control")
    flags += staining_flag(medians_of(facts.controls), usual, settings.qc.max_staining_ratio)
    return Calibrated(own, facts, tuple(flags))


def applied(
    settings: Settings, cutoffs: Cutoffs | None, curve: Curve | None, word: str
) -> Settings:
    """Return settings with the cut-offs and the curve found."""
    changes: dict[str, object] = {}
    if cutoffs is not None:
        changes["membrane.cutoffs"] = [_rounded(v) for v in cutoffs.values]
        changes["membrane.calibration"] = word
        error = relative_error(cutoffs.values, cutoffs.intervals)
        changes["membrane.cutoffs_relative_error"] = _rounded(error)
        changes["calibration.cutoffs_intervals"] = [
            [_rounded(v) for v in pair] for pair in cutoffs.intervals
        ]
    if curve is not None:
        changes["calibration.curve"] = curve.model_dump(mode="json")
    return settings.replace(changes) if changes else settings


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _facts(
    own: Settings, controls: Sequence[Control], cutoffs: Cutoffs | None, curve: Curve | None
) -> CalibrationFacts:
    m, made = own.membrane, own.calibration
    by_slide = cutoffs is not None or curve is not None
    return CalibrationFacts(
        source="slide" if by_slide else "settings",
        measure=m.measure,
        cutoffs=m.cutoffs,
        cutoffs_intervals=made.cutoffs_intervals,
        cutoffs_relative_error=m.cutoffs_relative_error,
        curve=made.curve.model_dump(mode="json") if made.curve is not None else None,
        assay=AssayFacts(**(own.assay if by_slide else made.assay).model_dump()),
        date=None if by_slide else made.date,
        controls=tuple(_control_facts(c, m.measure) for c in controls),
    )


def _control_facts(control: Control, measure: str) -> ControlFacts:
    return ControlFacts(
        name=control.name,
        level=None if control.level is None else SCORES[control.level],
        receptors=control.receptors,
        cells=control.cells,
        median=control.median(measure),
        stained=float((control.values[measure] > 0).mean()),
    )


def other_assay(settings: Settings) -> list[QcFlag]:
    """Return the flag of a calibration that was made for another assay than the slide's."""
    differ = []
    for part in ASSAY_PARTS:
        mine, made = (getattr(a, part) for a in (settings.assay, settings.calibration.assay))
        if mine and made and mine.strip().casefold() != made.strip().casefold():
            differ.append(f"{part} {one_line(mine, 60)}, calibrated for {one_line(made, 60)}")
    return [flag("OTHER_ASSAY", f"{'; '.join(differ)}.")] if differ else []


def classified(cells: pa.Table, settings: Settings) -> pa.Table:
    """Return cells with pattern, intensity, score and receptors by some settings."""
    m = settings.membrane
    found = patterns.classify(
        cells.column("completeness").to_numpy(),
        cells.column(m.measure).to_numpy(),
        m,
        guidelines.incomplete_score(settings.score.guideline),
    )
    words = pa.DictionaryArray.from_arrays(pa.array(found[0]), list(PATTERNS))
    columns = {"pattern": words, "intensity": pa.array(found[1]), "score": pa.array(found[2])}
    for name, values in columns.items():
        cells = cells.set_column(cells.schema.get_field_index(name), name, values)
    return with_receptors(cells, settings.calibration.curve)
