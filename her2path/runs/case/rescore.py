"""The same cells again: other cut-offs, another rule set, a reader's corrections. No slide."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from her2path import __version__
from her2path.cells import qc, sensitivity
from her2path.core.errors import OutputError, SettingsError
from her2path.core.flags import flag, merge
from her2path.core.results import AssayFacts, Counts, Result, Sensitivity
from her2path.core.settings import Assay, Settings, parse_set, read_tree
from her2path.io.annotations import Annotations, read_annotations
from her2path.io.store import UNTOUCHED_BY_SCORE, RunLock, RunStore
from her2path.runs.case import by_reader, plan
from her2path.runs.case.areas import make_regions
from her2path.runs.case.celltable import beside, with_region_id
from her2path.runs.case.checks import need_tumour_cells
from her2path.runs.case.facts import with_cnn
from her2path.runs.case.run import SlideResult
from her2path.runs.case.spiking import sensitivity_flags
from her2path.runs.case.verdict import Ish, Verdict, verdict
from her2path.scoring import guidelines
from her2path.scoring.calibration.receptors import receptor_flags
from her2path.scoring.calibration.slidewise import Calibrated, calibrate_slide, classified

if TYPE_CHECKING:
    from her2path.runs.case.cnn_review import CnnReview

__all__ = ["rescore", "what_if"]

#: sections that can change without the slide
FREE = ("membrane", "score", "regions", "heterogeneity", "ish", "stream", "seed", "assay",
        "calibration")  # fmt: skip


def rescore(
    out: str | Path,
    guideline: str | None = None,
    config: str | Path | None = None,
    changes: list[str] | None = None,
    corrections: str | Path | None = None,
    reports: Callable[[Path], None] | None = None,
) -> SlideResult:
    """Score the stored cells again and replace the result.

    Parameters
    ----------
    out : path
        Folder of a complete result.
    guideline : str, optional
        Rule set.
    config, changes : optional
        Settings file and ``key.sub=value``; only what needs no pixels may differ.
    corrections : path, optional
        GeoJSON that the viewer saved: corrected cells, and areas that a reader drew; areas drawn
        in QuPath count as well. Machine values stay in ``machine_pattern`` and
        ``machine_cell_type``; reader, pattern, type and time are added. None takes corrections
        that were applied before back.
    reports : callable, optional
        Called with the staged folder before it is published: report and exports.

    Raises
    ------
    OutputError
        Without a complete, evaluable result.
    SettingsError
        When a change needs the slide.
    NotEvaluable
        When too few tumour cells are left.
    """
    store = RunStore(Path(out))
    with RunLock(store.out):
        old = by_reader.unread(store.result())
        if old.status != "complete":
            raise OutputError(f"{out} was not evaluable: there are no cells to score", "")
        settings = _settings(store.settings(), guideline, config, changes)
        cells, areas = _as_found(store.cells()), _annotations(store, old, settings)
        said = None if corrections is None else by_reader.read(corrections, old, settings)
        # control areas that a reader drew calibrate like those that the run was given
        every = areas if said is None else by_reader.joined(areas, said.areas)
        made = calibrate_slide(cells, every, float(old.slide.mpp or 0.0), settings)
        cells = classified(cells, made.settings)
        old = _with_flags(_resting_on(old, settings, corrections), made, settings)
        if said is not None:
            cells, every = by_reader.applied(cells, said, areas, old, settings)
            old = by_reader.noted(old, said)
        store.drop_work()
        _stage(store, old, cells, (settings, made.settings, every))
        if reports is not None:
            reports(store.staging.out)
        store.publish()
    return SlideResult(store.out, store.result())


def _resting_on(old: Result, settings: Settings, corrections: str | Path | None) -> Result:
    """Return the result with what it rests on now: a batch tells by it whether it is stale."""
    corrected = hashlib.sha256(Path(corrections).read_bytes()).hexdigest() if corrections else None
    known = old.measured_sha256
    mark = plan.fingerprint(known, settings, corrected) if known is not None else None
    return old.model_copy(update={"fingerprint": mark, "corrections_sha256": corrected})


def what_if(out: str | Path) -> list[dict[str, Any]]:
    """Return one row per rule set: what the stored cells score under each."""
    store = RunStore(Path(out))
    cells = store.cells(["x_um", "y_um", "pattern", "cell_type"])
    return [dict(row) for row in guidelines.what_if(cells, store.settings())]


def _settings(
    stored: Settings, guideline: str | None, config: str | Path | None, changes: list[str] | None
) -> Settings:
    """Return the stored settings with what a file names, then what was asked for one by one."""
    wanted = stored
    if config:
        named = stored.overlaid(read_tree(config))
        # a settings file speaks for the free sections; what bound the pixels stays as it was, and
        # so does a slide's assay where the file names none
        kept = {n: getattr(stored, n) for n in Settings.model_fields if n not in FREE}
        if named.assay == Assay():
            kept["assay"] = stored.assay
        wanted = named.model_copy(update=kept)
    if changes:
        wanted = wanted.replace(dict(parse_set(c) for c in changes))
    if guideline is not None:
        wanted = wanted.replace({"score.guideline": guideline})
    bound = [n for n in Settings.model_fields
             if n not in FREE and getattr(wanted, n) != getattr(stored, n)]  # fmt: skip
    if bound:
        raise SettingsError(
            f"{', '.join(bound)} cannot change without the slide", "Run `her2path score` again"
        )
    return wanted


def _as_found(cells: pa.Table) -> pa.Table:
    """Give every cell the type that the program gave it, whatever a reader has said since."""
    if "machine_cell_type" in cells.column_names:
        where = cells.schema.get_field_index("cell_type")
        cells = cells.set_column(where, "cell_type", cells.column("machine_cell_type"))
        extra = ("machine_pattern", "machine_cell_type", "reader", "reader_time")
        cells = cells.drop_columns([n for n in extra if n in cells.column_names])
    return cells


#: flags that rest on the calibration
_OF_CALIBRATION = (
    "UNCALIBRATED_CUTOFFS", "OTHER_ASSAY", "CONTROLS_NOT_USED", "FAINT_CONTROL_UNSEEN",
    "RECEPTORS_OUTSIDE_RANGE", "UNDER_STAINED", "OVER_STAINED",
)  # fmt: skip


def _with_flags(old: Result, made: Calibrated, settings: Settings) -> Result:
    """Return the result with what its calibration is now: facts and flags."""
    flags = [f for f in old.qc.flags if f.code not in _OF_CALIBRATION]
    word = made.settings.membrane.calibration
    if word == "uncalibrated":
        flags.append(flag("UNCALIBRATED_CUTOFFS"))
    stain = old.stain.model_copy(update={"calibration": word}) if old.stain else None
    return old.model_copy(update={
        "qc": old.qc.model_copy(update={"flags": merge([*flags, *made.flags])}),
        "stain": stain,
        "calibration": made.facts,
        "assay": AssayFacts(**settings.assay.model_dump()),
    })  # fmt: skip


def _stage(
    store: RunStore, old: Result, cells: pa.Table,
    with_what: tuple[Settings, Settings, Annotations | None],
) -> None:  # fmt: skip
    """Stage the scored cells; `with_what`: settings as asked, and as the slide's controls say."""
    asked, settings, areas = with_what
    need_tumour_cells(cells, settings, "are left", "Lower score.min_cells")
    mpp = float(old.slide.mpp or 0.0)
    table, region_id = make_regions(cells, _tissue(store), areas, mpp, settings)
    cells = with_region_id(cells, region_id)
    limit = old.sensitivity and sensitivity.with_limits(old.sensitivity, settings.membrane)
    said = verdict(cells, table, settings, limit, _ish(old, store))
    review = _reviewed_by_cnn(old, said, table)
    staged = store.staging.create()
    staged.write_cells([cells])
    staged.write_regions(table if review is None else beside(table, review.regions))
    staged.write_settings(asked)
    kept = asked.regions == store.settings().regions
    store.copy_to(staged, *UNTOUCHED_BY_SCORE, *([store.features_path.name] if kept else []))
    result = _rescored(old, said, limit, asked)
    staged.write_result(result if review is None else with_cnn(result, review))


def _rescored(old: Result, said: Verdict, limit: Sensitivity | None, settings: Settings) -> Result:
    """Return the result with another verdict on the same cells."""
    # what the detection limit means follows the cut-offs and the score
    flags = [f for f in old.qc.flags if f.code != "FAINT_NOT_MEASURABLE"]
    flags += sensitivity_flags(limit, said.score)
    again = {"rescored": datetime.now(UTC).isoformat(timespec="seconds")}
    return old.model_copy(
        update={
            "her2path_version": __version__,
            "settings_sha256": settings.sha256(),
            "receptors": said.receptors,
            "counts": Counts(**said.counts),
            "fractions": said.fractions,
            "score": said.score,
            "h_score": said.h_score,
            "heterogeneity": said.heterogeneity,
            "sensitivity": limit,
            "qc": old.qc.model_copy(update={"flags": merge(flags, receptor_flags(said.receptors))}),
            "provenance": old.provenance.model_copy(update=again),
        }
    )


def _ish(old: Result, store: RunStore) -> Ish | None:
    """Return the ISH that settled the category before; None where none did."""
    counts, was = store.ish(), old.score
    status = getattr(was, "ish_status", None)
    if counts is None or was is None or status is None:
        return None
    return Ish(counts["cases"][0], status, was.ihc)


def _reviewed_by_cnn(old: Result, said: Verdict, regions: pa.Table) -> CnnReview | None:
    """Set the CNN's stored probabilities beside the new score; None where it did not look."""
    if old.cnn is None or "cnn_p0" not in said.tumour.column_names:
        return None
    from her2path.runs.case.cnn_review import look_again

    return look_again(old.cnn, said.tumour, regions, said.score)


def _tissue(store: RunStore) -> tuple[NDArray[np.bool_], float]:
    maps = store.maps()
    gone = (maps.read("qc").astype(np.uint16) & qc.left_out_bits(store.settings().qc)) > 0
    return maps.read("tissue").astype(bool) & ~gone, maps.mpp_um()


def _annotations(store: RunStore, old: Result, settings: Settings) -> Annotations | None:
    path = store.annotations_path
    if not path.exists():
        return None
    planes = old.slide.planes
    read = read_annotations(path, settings.tumour, stored=True)
    return read.moved(planes.file, planes.square)
