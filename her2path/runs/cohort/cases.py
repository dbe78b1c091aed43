"""A case: its slides' cells pooled, its highest slide, its course over time.

Two scores stand side by side: of all cells together (`score_pooled`), and of the slide that scores
highest (`score_highest`). The category follows the latter, a convention: treatment follows the
most positive sample.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from her2path import __version__
from her2path.core.flags import flag, merge
from her2path.core.results import (
    AssayFacts,
    Counts,
    Heterogeneity,
    Provenance,
    Qc,
    QcFlag,
    Receptors,
    Result,
    Score,
    SlideFacts,
)
from her2path.core.schema import PATTERNS, SCORES
from her2path.core.settings import Settings
from her2path.core.timepoints import by_name_alone
from her2path.io.store import ISH_FILES, RunStore, write_text
from her2path.io.store.files import clear_leftovers, make_dir
from her2path.runs.cohort.child import Task, Tick
from her2path.runs.cohort.inputs import case_counts
from her2path.runs.cohort.members import CasePlan, Part
from her2path.runs.cohort.slides import figures
from her2path.runs.cohort.tma import check_cores
from her2path.scoring import guidelines, ish, uncertainty
from her2path.space import heterogeneity

__all__ = ["CASE_COLUMNS", "CaseTask"]

CASE_COLUMNS = ("case_id", "folder", "slides", "evaluable", "failed", "highest_slide", "ihc_pooled",
                "timepoints", "conversions", "reader_scores", "signed_off")  # fmt: skip
#: categories from the weakest to the strongest
RANK = ("null", "ultralow", "negative", "low", "equivocal", "positive")
_CELL_COLUMNS = ["x_um", "y_um", "pattern", "intensity", "membrane_od", "membrane_mass",
                 "completeness", "uncertain", "region_id"]  # fmt: skip
#: what the bootstrap asks for beside the pattern
_MEASURED = ("membrane_od", "membrane_mass", "completeness", "uncertain")
#: slides are laid this far apart for rules that look at neighbours, µm
GAP_UM = 20_000.0


@dataclass(frozen=True)
class _Sample:
    """One evaluable part with its tumour cells."""

    part: Part
    result: Result
    settings: Settings
    score: Score
    cells: pa.Table
    regions: pa.Table

    @property
    def name(self) -> str:
        return self.part.member.slide_id

    @property
    def rank(self) -> tuple[int, int, int]:
        s = self.score
        return (SCORES.index(s.ihc), RANK.index(s.category), -self.part.member.place)


@dataclass(frozen=True)
class CaseTask:
    """One case to put together; see `child.Task`."""

    out: Path
    plan: CasePlan
    overwrite: bool = False
    reports: Callable[[Path], Any] | None = None

    def with_threads(self, threads: int) -> Task:
        """Return the same task: a case takes one thread."""
        del threads
        return self

    @property
    def folder(self) -> Path:
        """Where the case lies."""
        return self.out / "cases" / self.plan.folder

    def run(self, tick: Tick) -> dict[str, Any]:
        """Write ``case.json`` and the report where they are missing or stale."""
        tick("pooling", 0, 1, 0.0)
        # a case has no lock of its own: the batch holds one
        clear_leftovers(self.folder)
        results = {p.member.place: RunStore(self.out / "slides" / p.member.folder).result()
                   for p in self.plan.parts if p.member.done}  # fmt: skip
        mark = _fingerprint(self.plan, results)
        known = self._known(mark)
        if known is not None:
            return _facts(known, fresh=False)
        make_dir(self.folder)
        made = _Case(self.plan, results, self.out).result(self.folder, mark)
        write_text(self.folder / "case.json", made.json_text() + "\n")
        if self.reports is not None:
            tick("reporting", 0, 1, 0.0)
            self.reports(self.folder)
        return _facts(made, fresh=True)

    def _known(self, mark: str) -> Result | None:
        """Return the stored case where it is the same and whole."""
        path, page = self.folder / "case.json", self.folder / "report.html"
        if (
            self.overwrite
            or not path.is_file()
            or (self.reports is not None and not page.is_file())
        ):
            return None
        try:
            stored = Result.from_json(path.read_bytes())
        except ValueError:
            return None
        return stored if getattr(stored, "fingerprint", None) == mark else None


def _fingerprint(plan: CasePlan, results: dict[int, Result]) -> str:
    """Return what a case rests on: its parts, and every figure of their results, times aside."""
    parts = []
    for part in plan.parts:
        m = part.member
        result = results.get(m.place)
        tree = result.model_dump(mode="json", exclude={"provenance"}) if result else None
        counts = hashlib.sha256(m.ish.read_bytes()).hexdigest() if m.ish is not None else None
        parts.append([m.slide_id, m.folder, m.specimen, m.timepoint, m.reader_score, m.extra,
                      part.cores, sorted(m.cores.places) if m.cores is not None else None,
                      counts, tree])  # fmt: skip
    text = json.dumps([__version__, plan.case_id, parts], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _facts(case: Result, fresh: bool) -> dict[str, Any]:
    tree = case.model_extra or {}
    pooled, highest = tree["score_pooled"], tree["score_highest"]
    slides = tree["slides"]
    row = figures(case) | {
        "case_id": tree["case_id"],
        "folder": tree["folder"],
        "slides": len(slides),
        "evaluable": sum(s["status"] == "complete" for s in slides),
        "failed": sum(s["status"] == "failed" for s in slides),
        "highest_slide": highest["slide_id"] if highest else None,
        "ihc_pooled": pooled["ihc"] if pooled else None,
        "timepoints": len(tree["timepoints"]) or None,
        "conversions": "; ".join(
            f"{c['from']} to {c['to']}: {c['conversion']}" for c in tree["changes"]
        ),
        "reader_scores": "; ".join(s["reader_score"] for s in slides if s["reader_score"]),
    }
    return {"status": case.status, "fresh": fresh, "figures": row}


class _Case:
    """One case in the making."""

    def __init__(self, plan: CasePlan, results: dict[int, Result], out: Path) -> None:
        self.plan, self.results, self.out = plan, results, out
        self.samples = [s for s in (self._sample(p) for p in plan.parts) if s is not None]
        self.top = max(self.samples, key=lambda s: s.rank, default=None)

    # -- parts -----------------------------------------------------------------------------------

    def _sample(self, part: Part) -> _Sample | None:
        result = self.results.get(part.member.place)
        if result is None or result.score is None:
            return None
        store = RunStore(self.out / "slides" / part.member.folder)
        settings = store.settings()
        cells = store.cells(_CELL_COLUMNS, pc.field("cell_type") == "tumour")
        whole = store.regions()
        regions = whole.select(["region_id", "name", "tumour_area_mm2"])
        if part.cores is None or part.member.cores is None:
            return _Sample(part, result, settings, result.score, cells, regions)
        at = check_cores(whole, part.member.cores)
        wanted = set(part.cores)
        cells, regions = _only(cells, regions, {name for name, p in at.items() if p in wanted})
        if cells.num_rows < settings.score.min_cells:
            return None
        score = guidelines.score_cells(cells, settings.score.guideline, settings)
        return _Sample(part, result, settings, score, cells, regions)

    # -- the whole -------------------------------------------------------------------------------

    def result(self, folder: Path, mark: str) -> Result:
        top = self.top
        told = self._counts(folder, top) if top is not None else None
        score = self._resolved(top, told) if top is not None else None
        pooled, reason = self._pooled()
        levels = heterogeneity.case(
            [_reduced(s) for s in self.samples], top.settings if top is not None else None, told
        )
        counts = self._pattern_counts()
        total = int(counts.sum())
        extra = {
            "case_id": self.plan.case_id,
            "folder": self.plan.folder,
            "fingerprint": mark,
            "slides": [self._slide_row(p) for p in self.plan.parts],
            "score_pooled": pooled.model_dump(mode="json") if pooled is not None else None,
            "score_pooled_reason": reason,
            "score_highest": self._highest(score),
            # the detection limit of the slide that the case's score and probability are of
            "sensitivity": top.result.sensitivity if top is not None else None,
            "timepoints": levels.pop("timepoints"),
            "changes": levels.pop("changes"),
            "levels": levels,
        }
        intensity = np.array([("none", "faint", "moderate", "intense").index(p.split("_")[0])
                              for p in PATTERNS])  # fmt: skip
        return Result(
            **self._head(),
            counts=Counts(tumour=total, other=self._other()),
            fractions={p: int(k) / total for p, k in zip(PATTERNS, counts, strict=True)}
            if total else None,
            score=score,
            h_score=100.0 * int(counts @ intensity) / total if total else None,
            heterogeneity=heterogeneity.with_ish(self._heterogeneity(), told),
            **extra,
        )  # fmt: skip

    def _head(self) -> dict[str, Any]:
        """Return what a case's result says of slides and program."""
        known = [self.results[p.member.place] for p in self.plan.parts
                 if p.member.place in self.results]  # fmt: skip
        only = known[0] if len(known) == 1 else None
        blank = SlideFacts(path=None, id=self.plan.case_id, vendor=None, mpp=None, width_px=None,
                           height_px=None, sha256_quick=None)  # fmt: skip
        selections = {r.tumour_selection for r in known if r.tumour_selection is not None}
        first = min((r.provenance.started for r in known), default="")
        weights = {r.provenance.reading_sha256 for r in known}
        return {
            "her2path_version": __version__,
            "status": "complete" if self.top is not None else "not_evaluable",
            "slide": blank,
            "settings_sha256": self.top.result.settings_sha256
            if self.top is not None
            else (known[0].settings_sha256 if known else ""),
            "stain": only.stain if only is not None else None,
            "calibration": only.calibration if only is not None else None,
            "receptors": only.receptors
            if only is not None
            else Receptors(reason="the case has several slides, each with its own"),
            "assay": _shared_assay(known),
            "qc": self._qc(known),
            "tumour_selection": selections.pop() if len(selections) == 1 else None,
            "provenance": Provenance(
                started=first,
                seconds=sum(r.provenance.seconds for r in known),
                tiles=sum(r.provenance.tiles for r in known),
                workers=max((r.provenance.workers for r in known), default=0),
                packages=known[0].provenance.packages if known else {},
                reading_sha256=weights.pop() if len(weights) == 1 else None,
            ),
        }

    def _qc(self, known: Sequence[Result]) -> Qc:
        good = [r for r in known if r.score is not None]
        flags: list[QcFlag] = []
        for result in good or known:
            flags += result.qc.flags
        missing = [p.member.slide_id for p in self.plan.parts if not p.member.done]
        if missing:
            flags.append(flag("SLIDES_MISSING", f"Missing: {', '.join(missing)}."))
        silent = [p.member.slide_id for p in self.plan.parts
                  if p.member.done and p not in [s.part for s in self.samples]]  # fmt: skip
        if silent and self.samples:
            flags.append(flag("SLIDES_NOT_EVALUABLE", f"Not evaluable: {', '.join(silent)}."))
        times = [s.part.member.timepoint for s in self.samples if s.part.member.timepoint]
        if by_name_alone(times):
            flags.append(flag("TIMES_BY_NAME"))
        if not self.samples and not any(f.severity == "fail" for f in flags):
            flags.append(flag("FEW_TUMOUR_CELLS"))
        return Qc(
            flags=merge(flags),
            tissue_area_mm2=sum(r.qc.tissue_area_mm2 for r in known),
            analysed_area_mm2=sum(r.qc.analysed_area_mm2 for r in known),
        )

    def _slide_row(self, part: Part) -> dict[str, Any]:
        m = part.member
        sample = next((s for s in self.samples if s.part == part), None)
        status = "failed" if not m.done else "not_evaluable" if sample is None else "complete"
        return {
            "slide_id": m.slide_id, "folder": m.folder, "status": status,
            "cores": [list(c) for c in part.cores] if part.cores is not None else None,
            "specimen": m.specimen or None, "timepoint": m.timepoint or None,
            "reader_score": m.reader_score or None,
            "ihc": sample.score.ihc if sample is not None else None,
            "category": sample.score.category if sample is not None else None,
            "tumour_cells": sample.cells.num_rows if sample is not None else None,
            **{k: v for k, v in m.extra.items() if k not in ("slide_id", "folder", "status")},
        }  # fmt: skip

    def _other(self) -> int:
        whole = [s for s in self.samples if s.part.cores is None]
        return sum(s.result.counts.other for s in whole)

    def _pattern_counts(self) -> Any:
        counts = np.zeros(len(PATTERNS), np.int64)
        for sample in self.samples:
            counts += _tally(sample.cells)
        return counts

    # -- scores ----------------------------------------------------------------------------------

    def _pooled(self) -> tuple[Score | None, str | None]:
        """Score all cells together, slides laid far apart, and tell how sure that is.

        The intervals of pooled shares are these: those of one slide are narrower, or elsewhere.
        """
        if self.top is None:
            return None, "no slide was evaluable"
        names = {s.settings.score.guideline for s in self.samples}
        if len(names) > 1:
            return None, f"the slides were scored by {', '.join(sorted(names))}"
        if len(self.samples) == 1 and self.top.part.cores is None:
            return self.top.score, None
        shift, tables = 0.0, []
        for sample in self.samples:
            x = sample.cells.column("x_um").to_numpy().astype(np.float64)
            tables.append(pa.table({
                "pattern": sample.cells.column("pattern").cast(pa.string()),
                "x_um": x + shift,
                "y_um": sample.cells.column("y_um").to_numpy().astype(np.float64),
                **{name: sample.cells.column(name) for name in _MEASURED},
            }))  # fmt: skip
            shift += float(x.max(initial=0.0)) + GAP_UM
        settings, cells = self.top.settings, pa.concat_tables(tables)
        scored = guidelines.score_cells(cells, settings.score.guideline, settings)
        sure = uncertainty.bootstrap(cells, settings.score.guideline, settings)
        return uncertainty.add_to(scored, sure), None

    def _counts(self, folder: Path, top: _Sample) -> dict[str, Any] | None:
        """Return the case's row of its ISH counts, and write them beside it; None without any."""
        m = top.part.member
        counts = m.ish or next((p.member.ish for p in self.plan.parts if p.member.ish), None)
        for name in ISH_FILES:
            (folder / name).unlink(missing_ok=True)
        if counts is None:
            return None
        sub = f"/{top.score.substate}" if top.score.substate else ""
        found = case_counts(counts, self.plan.case_id, top.score.ihc + sub, top.settings, m.hidden)
        ish.write(found, folder)
        return dict(found["cases"][0])

    def _resolved(self, top: _Sample, counts: dict[str, Any] | None) -> Score:
        """Return the highest slide's score; ISH of the case settles its category."""
        if counts is None:
            return top.score
        return guidelines.settled_by_ish(top.score, top.settings.score.guideline, counts["status"])

    def _highest(self, score: Score | None) -> dict[str, Any] | None:
        if self.top is None or score is None:
            return None
        return {"slide_id": self.top.name, **score.model_dump(mode="json")}

    def _heterogeneity(self) -> Heterogeneity | None:
        """Return the slide's own where there is one; of all cells, slides apart, otherwise."""
        if self.top is None:
            return None
        if len(self.samples) == 1 and self.top.part.cores is None:
            return self.top.result.heterogeneity
        tables, regions, first = [], [], 0
        for number, sample in enumerate(self.samples):
            ids = sample.cells.column("region_id").to_numpy()
            tables.append(
                sample.cells.set_column(
                    sample.cells.schema.get_field_index("region_id"),
                    "region_id",
                    pa.array(np.where(ids < 0, -1, ids + first).astype(np.int32)),
                ).append_column("slide_id", pa.array(np.full(len(ids), number, np.int32)))
            )
            regions.append(sample.regions.select(["name", "tumour_area_mm2"]))
            first += sample.regions.num_rows
        return heterogeneity.measure(
            pa.concat_tables(tables), settings=self.top.settings,
            regions=pa.concat_tables(regions), score=self.top.score.ihc,
        )  # fmt: skip


def _shared_assay(known: Sequence[Result]) -> AssayFacts:
    """Return what the assays of a case's slides have in common."""
    parts = {n: {getattr(r.assay, n) for r in known} for n in AssayFacts.model_fields}
    return AssayFacts(**{n: v.pop() for n, v in parts.items() if len(v) == 1})


def _tally(cells: pa.Table) -> Any:
    codes = pc.index_in(cells.column("pattern").cast(pa.string()), value_set=pa.array(PATTERNS))
    return np.bincount(codes.to_numpy(), minlength=len(PATTERNS)).astype(np.int64)


def _only(cells: pa.Table, regions: pa.Table, wanted: set[str]) -> tuple[pa.Table, pa.Table]:
    """Return the cells and regions of some cores; the regions numbered anew from 0."""
    names = regions.column("name").to_pylist()
    rows = [i for i, name in enumerate(names) if name in wanted]
    number = np.full(len(names) + 1, -1, np.int32)  # the last stands for "none"
    number[rows] = np.arange(len(rows), dtype=np.int32)
    ids = number[cells.column("region_id").to_numpy()]
    where = cells.schema.get_field_index("region_id")
    kept = cells.set_column(where, "region_id", pa.array(ids)).filter(pa.array(ids >= 0))
    return kept, regions.take(pa.array(rows, pa.int64()))


def _reduced(sample: _Sample) -> heterogeneity.Sample:
    spread = sample.result.heterogeneity if sample.part.cores is None else None
    return heterogeneity.sample(
        sample.name, sample.cells, sample.settings,
        timepoint=sample.part.member.timepoint or None, score=sample.score,
        regions=sample.regions, heterogeneity=spread,
    )  # fmt: skip
