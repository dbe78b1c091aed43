"""One slide of a batch: scored in a child, its ISH counts added, its row for the tables made."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from her2path.core.errors import OutputError
from her2path.core.hiding import run_mark
from her2path.core.results import Result
from her2path.core.schema import PATTERNS, csv_category
from her2path.core.settings import Settings
from her2path.io.store import UNTOUCHED_BY_ISH, RunLock, RunStore, write_text
from her2path.runs.cohort.child import Task, Tick
from her2path.runs.cohort.inputs import case_counts
from her2path.runs.cohort.tma import TmaMap, check_cores
from her2path.scoring import guidelines, ish
from her2path.space import heterogeneity

__all__ = ["FIGURES", "SlideTask", "add_ish", "figures", "set_aside"]

#: columns of `slides.csv` and `cases.csv` that come from a result
FIGURES = (
    "status", "guideline", "ihc", "substate", "stratum", "category", "probability", "reflex_ish",
    "ish_status", "h_score", "receptors_median", "tumour_cells", "other_cells",
    *(f"fraction_{p}" for p in PATTERNS),
    "positive_cell_fraction", "positive_area_fraction", "area_fraction_5_50", "areas",
    "heterogeneous_case", "pattern_type", "cluster_area_fraction", "moran_i", "shannon",
    "tissue_area_mm2", "analysed_area_mm2", "stain_method", "calibration", "flags",
    "settings_sha256", "her2path_version",
)  # fmt: skip
#: a result that could not be made again is kept under this name
STALE = "result.stale.json"


@dataclass(frozen=True)
class SlideTask:
    """One slide to score; see `child.Task`."""

    slide: Path
    slide_id: str
    case_id: str
    out: Path
    settings: Settings
    annotations: Path | None = None
    ish: Path | None = None
    #: whose the cores are, where the slide is a TMA
    cores: TmaMap | None = None
    pseudonymise: bool = False
    qupath_crop: bool = False
    overwrite: bool = False
    scheduler: str | None = None
    threads: int = 0
    reports: Callable[[Path], None] | None = None
    #: whether `reports` makes a report, which an earlier run may have left out
    report: bool = False

    def with_threads(self, threads: int) -> Task:
        """Return the same task for so many threads."""
        return replace(self, threads=threads)

    @property
    def _case(self) -> str | None:
        """The slide's case; none where its cores are of several, or names are hidden."""
        return None if self.cores is not None or self.pseudonymise else self.case_id

    def _rename(self, store: RunStore) -> None:
        """Let a slide that was done before carry the case that the manifest now names."""
        result = store.result()
        if result.slide.case_id == self._case:
            return
        slide = result.slide.model_copy(update={"case_id": self._case})
        write_text(store.result_path, result.model_copy(update={"slide": slide}).json_text())
        if self.reports is not None:
            self.reports(store.out)

    def run(self, tick: Tick) -> dict[str, Any]:
        """Score the slide; return ``fresh`` and the figures of its row."""
        from her2path.runs.case import RunOptions, score_slide

        options = RunOptions(
            overwrite=self.overwrite,
            redo_stale=True,
            pseudonymise=self.pseudonymise,
            qupath_crop=self.qupath_crop,
            scheduler=self.scheduler,
            slide_id=self.slide_id,
            case_id=self._case,
            threads=self.threads,
            # with counts the report waits for them
            reports=None if self.ish is not None else self.reports,
        )
        bring_back(RunStore(self.out))
        done = score_slide(self.slide, self.out, self.settings, self.annotations, options, tick)
        tick("adding ISH", 0, 1, 0.0)
        store = RunStore(self.out)
        self._rename(store)
        if self.cores is not None and done.result.status == "complete":
            tick("placing cores", 0, 1, 0.0)
            check_cores(store.regions(), self.cores)
        added = add_ish(
            store, self.ish, self.case_id, self.settings, self.reports, self.pseudonymise
        )
        if self.report and self.reports is not None and not store.report_path.is_file():
            tick("reporting", 0, 1, 0.0)
            self.reports(self.out)
        (self.out / STALE).unlink(missing_ok=True)
        result = store.result()
        return {"status": result.status, "fresh": done.fresh or added, "figures": figures(result)}


# -- ISH -------------------------------------------------------------------------------------------


def add_ish(
    store: RunStore,
    counts: Path | None,
    case_id: str,
    settings: Settings,
    reports: Callable[[Path], None] | None = None,
    hidden: bool = False,
) -> bool:
    """Let a result rest on its ISH counts, or on none; do nothing where it does already.

    The result is staged and published as a whole, as scoring does.

    Parameters
    ----------
    store : RunStore
        A complete result.
    counts : Path or None
        COUNTS.csv; None takes counts that were added before out again.
    case_id : str
        Whose counts are meant, where the table has several cases.
    settings : Settings
        Minimum of cells, ratio of an amplified cell, guideline.
    reports : callable, optional
        Called with the staged folder: report and exports.
    hidden : bool
        Whether the table's own names stay out.

    Returns
    -------
    bool
        Whether anything changed.
    """
    old = store.result()
    digest = hashlib.sha256(counts.read_bytes()).hexdigest() if counts is not None else None
    if old.score is None or (digest is None and getattr(old, "ish_sha256", None) is None):
        return False
    found = _read(counts, case_id, old, settings, hidden)
    status = found["cases"][0]["status"] if found else None
    category = _category(old, settings, status)
    if getattr(old, "ish_sha256", None) == digest and old.score.category == category:
        return False
    score = old.score.model_copy(
        update={"category": category, "reflex_ish": category == "equivocal", "ish_status": status}
    )
    spread = heterogeneity.with_ish(old.heterogeneity, found["cases"][0] if found else None)
    new = old.model_copy(update={"score": score, "ish_sha256": digest, "heterogeneity": spread})
    mark = run_mark(getattr(new, "fingerprint", None), settings, hidden)
    _publish(store, new, found, mark, reports)
    return True


def _read(
    counts: Path | None, case_id: str, old: Result, settings: Settings, hidden: bool
) -> dict[str, Any] | None:
    if counts is None or old.score is None:
        return None
    ihc = old.score.ihc + (f"/{old.score.substate}" if old.score.substate else "")
    return case_counts(counts, case_id, ihc, settings, hidden)


def _category(old: Result, settings: Settings, status: str | None) -> str:
    assert old.score is not None
    if status not in ("positive", "negative") and getattr(old, "ish_sha256", None) is None:
        return old.score.category  # nothing is settled: it stays as the cells have it
    rules = guidelines.rule_set(settings.score.guideline)
    word = guidelines.category_from_score(old.score.ihc, old.score.substate, rules, status)
    return word if word is not None else old.score.category


def _publish(
    store: RunStore,
    new: Result,
    found: dict[str, Any] | None,
    mark: dict[str, Any],
    reports: Callable[[Path], None] | None,
) -> None:
    with RunLock(store.out):
        store.drop_work()
        # an interrupted publishing is then gone on with by the next scoring
        store.write_fingerprint(mark)
        staged = store.staging.create()
        for name in UNTOUCHED_BY_ISH:
            share(store.out / name, staged.out / name)
        if found is not None:
            ish.write(found, staged.out)
        staged.write_result(new)
        if reports is not None:
            reports(staged.out)
        store.publish()


def share(source: Path, target: Path) -> None:
    """Give a file or folder a second name, or copy it where the file system cannot.

    Links inside are not followed: nothing from elsewhere gets in.
    """
    if source.is_symlink():
        return
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        for child in sorted(source.iterdir()):
            share(child, target / child.name)
    elif source.is_file():
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)


def set_aside(store: RunStore) -> None:
    """Take a result that is stale and could not be made again out of sight, without losing it."""
    if not store.complete:
        return
    try:
        with RunLock(store.out):
            store.result_path.replace(store.out / STALE)
    except OutputError:
        return  # another process is at it: it knows better


def bring_back(store: RunStore) -> None:
    """Undo `set_aside`: scoring tells again whether the result is stale."""
    aside = store.out / STALE
    if aside.is_file() and not store.complete and not store.started:
        aside.replace(store.result_path)


# -- the row ---------------------------------------------------------------------------------------


def figures(result: Result) -> dict[str, Any]:
    """Return the main figures of a result, by the columns of `FIGURES`."""
    score, spread = result.score, result.heterogeneity
    row: dict[str, Any] = {
        "status": result.status,
        "tumour_cells": result.counts.tumour,
        "other_cells": result.counts.other,
        "h_score": result.h_score,
        "receptors_median": result.receptors.median if result.receptors else None,
        "tissue_area_mm2": result.qc.tissue_area_mm2,
        "analysed_area_mm2": result.qc.analysed_area_mm2,
        "flags": "; ".join(f.code for f in result.qc.flags if f.severity != "info"),
        "settings_sha256": result.settings_sha256,
        "her2path_version": result.her2path_version,
    }
    if result.stain is not None:
        row |= {"stain_method": result.stain.method, "calibration": result.stain.calibration}
    for name, share_of in (result.fractions or {}).items():
        row[f"fraction_{name}"] = share_of
    if score is not None:
        row |= {
            "guideline": score.guideline, "ihc": score.ihc, "substate": score.substate,
            "stratum": score.stratum,
            "category": csv_category(score.category), "reflex_ish": score.reflex_ish,
            "probability": (score.probability or {}).get(score.ihc),
            "ish_status": getattr(score, "ish_status", None),
        }  # fmt: skip
    if spread is not None:
        row |= {
            "positive_cell_fraction": spread.positive_cell_fraction,
            "positive_area_fraction": spread.positive_area_fraction,
            "area_fraction_5_50": spread.area_fraction_5_50,
            "areas": spread.areas.n if spread.areas else None,
            "heterogeneous_case": spread.areas.heterogeneous_case if spread.areas else None,
            "pattern_type": spread.pattern.type,
            "cluster_area_fraction": spread.pattern.cluster_area_fraction,
            "moran_i": spread.pattern.moran_i,
            "shannon": spread.diversity.shannon,
        }
    return row
