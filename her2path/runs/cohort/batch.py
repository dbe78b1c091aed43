"""Many slides, told as the night they run through.

The manifest is checked whole; slides are scored by children, one failing slide costing itself
alone; cases are put together; tables, index and ``run.json`` are closed. Run again, only what is
missing or stale is done: every slide and case carries the fingerprint of what it rests on.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from her2path import __version__
from her2path.core.errors import DiskFull, OutputError, one_line
from her2path.core.settings import Settings
from her2path.io.store import BatchStore, RunLock, RunStore
from her2path.runs.cohort.child import Job
from her2path.runs.cohort.hiding import check_hidden_batch, clean
from her2path.runs.cohort.inputs import (
    check_inputs,
    find_annotations,
    hide_names,
    read_tma_layout,
    settings_for,
)
from her2path.runs.cohort.manifest import Entry, listed, read_manifest
from her2path.runs.cohort.members import CasePlan, member_of
from her2path.runs.cohort.pool import Outcome, Pool
from her2path.runs.cohort.progress import BatchProgress
from her2path.runs.cohort.results import (
    BatchResult,
    BatchWriter,
    ReportWriters,
    budget_of,
    guard,
    stop_when_full,
)
from her2path.runs.cohort.slides import SlideTask, set_aside
from her2path.runs.stream import Stream
from her2path.scoring import guidelines

__all__ = ["BatchOptions", "BatchResult", "ReportWriters", "run_batch"]


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchOptions:
    """How a batch is run; none of it changes a figure."""

    overwrite: bool = False
    pseudonymise: bool = False
    qupath_crop: bool = False
    scheduler: str | None = None
    #: a folder of annotations, <slide_id>.geojson or .xml
    annotations: Path | None = None
    reports: ReportWriters = field(default_factory=ReportWriters)
    #: let decoders write to the terminal, and keep tracebacks in the log
    debug: bool = False


def run_batch(
    source: str | Path,
    out: str | Path,
    settings: Settings | None = None,
    options: BatchOptions | None = None,
    board: BatchProgress | None = None,
) -> BatchResult:
    """Score many slides and put their cases together.

    Parameters
    ----------
    source : path
        MANIFEST.csv, or a folder of slides.
    out : path
        Folder of the batch; run again, only what is missing or stale is done.
    settings : Settings, optional
        For all slides; a manifest's row may change pixel size and guideline.
    options : BatchOptions, optional
    board : BatchProgress, optional
        Told how the batch stands.

    Raises
    ------
    ManifestError, SettingsError, OutputError
        Before any work starts.
    WorkerCannotSee, InputError
        On a cluster: no scheduler, or a path that a worker cannot see.
    DiskFull
        In mid-run; what is done stays.
    """
    chosen, how = settings or Settings(), options or BatchOptions()
    guidelines.rule_set(chosen.score.guideline)
    if chosen.cnn.model is not None:
        from her2path.runs.case.cnn_review import check_asked

        check_asked(chosen.cnn)
    entries = read_manifest(source)
    if how.annotations is not None:
        entries = find_annotations(entries, how.annotations, log.warning)
    _need_annotations(source, entries, chosen)
    if how.pseudonymise:
        entries = hide_names(entries)
    check_inputs(source, entries, chosen)
    store = BatchStore(out)
    if how.pseudonymise:
        check_hidden_batch(store, entries, chosen)
    guard(store, (e.folder for e in entries))
    with RunLock(store.out):
        return _BatchRun(store, entries, chosen, how, board or BatchProgress()).run()


def _need_annotations(source: str | Path, entries: list[Entry], settings: Settings) -> None:
    """Refuse, before any work, slides without the annotations that select their tumour.

    Raises
    ------
    ManifestError
        Names the rows.
    """
    if settings.tumour.method == "annotation":
        bare = [e for e in entries if e.annotations is None]
        if bare:
            raise listed(source, [f"row {e.row}: tumour.method is annotation, and there are none"
                                  for e in bare])  # fmt: skip


class _BatchRun:
    """One run of a batch."""

    def __init__(
        self, store: BatchStore, entries: list[Entry], settings: Settings, options: BatchOptions,
        board: BatchProgress,
    ) -> None:  # fmt: skip
        self.store, self.entries, self.settings = store, entries, settings
        self.options, self.board = options, board
        self.tasks = [self._task(e) for e in entries]
        if options.scheduler:
            self._prove(options.scheduler)
        carried = list(dict.fromkeys(name for e in entries for name in e.extra))
        hidden = options.pseudonymise
        self.writer = BatchWriter(store, carried, settings, options.reports, board,
                               self._clean_case if hidden else None, hidden)  # fmt: skip
        self.writer.counts["slides"] = len(entries)
        self.log = self.writer.log

    def run(self) -> BatchResult:
        """Score, put together, close."""
        self.writer.note("running")
        budget = budget_of(self.settings, bool(self.options.scheduler))
        self.log.say(
            f"her2path {__version__}, process {os.getpid()}: {len(self.entries)} slides, "
            f"{budget.workers} threads, {budget.memory_mb:.0f} MiB, {budget.timeout_s:g} s a slide"
        )
        try:
            with Pool(budget, self._tell, quiet=not self.options.debug) as pool:
                done = self._slides(pool)
                members = [member_of(i, e, i in done) for i, e in enumerate(self.entries)]
                self.writer.cases(members, pool, self.options.overwrite)
                return self.writer.end(pool)
        except DiskFull as exc:
            self._stopped(str(exc))
            raise
        except KeyboardInterrupt:
            self._stopped("stopped by the user")
            raise

    def _slides(self, pool: Pool) -> set[int]:
        """Score all slides; return the places of those that have a result."""
        self.board.begin("slides", [e.slide_id for e in self.entries])
        done: set[int] = set()
        for outcome in pool.run([Job(i, task) for i, task in enumerate(self.tasks)]):
            if outcome.failure is not None:
                self._failed(outcome)
            else:
                self._done(outcome)
                done.add(outcome.index)
            self.log.summary(self.board)
        return done

    def _task(self, e: Entry) -> SlideTask:
        how = self.options
        return SlideTask(
            slide=e.slide, slide_id=e.slide_id, case_id=e.case_id,
            out=self.store.slide(e.folder).out.absolute(), settings=settings_for(e, self.settings),
            annotations=e.annotations, ish=e.ish,
            cores=read_tma_layout(e.tma_map) if e.tma_map is not None else None,
            pseudonymise=how.pseudonymise,
            qupath_crop=how.qupath_crop, overwrite=how.overwrite, scheduler=how.scheduler,
            reports=how.reports.slide, report=how.reports.case is not None,
        )  # fmt: skip

    def _prove(self, scheduler: str) -> None:
        """Find a path that a worker of the cluster cannot see, before any work starts."""
        with Stream(1, scheduler) as stream:
            stream.prove_paths([e.slide for e in self.entries], self.store.out.absolute())

    def _tell(self, index: int, stage: str, done: int, total: int, megapixels: float) -> None:
        self.board.tell(index, stage, done, total, megapixels)

    def _done(self, outcome: Outcome) -> None:
        e, facts = self.entries[outcome.index], outcome.facts
        hidden = self.options.pseudonymise
        row = {
            **e.extra, **facts["figures"], "slide_id": e.slide_id, "case_id": e.case_id,
            "folder": e.folder, "slide": None if hidden else str(e.slide),
            "specimen": e.specimen, "timepoint": e.timepoint, "reader_score": e.reader_score,
        }  # fmt: skip
        self.writer.slide_done(outcome.index, row, facts["fresh"], facts["status"])
        word = facts["status"].replace("_", " ")
        how = f"{outcome.seconds:.1f} s" if facts["fresh"] else "was there already"
        self.log.say(f"slide {e.slide_id}: {word}, {how}")

    def _failed(self, outcome: Outcome) -> None:
        e, failure = self.entries[outcome.index], outcome.failure
        assert failure is not None
        stop_when_full(failure)
        failure = replace(failure, error=self._clean(e, failure.error))
        set_aside(RunStore(self.tasks[outcome.index].out))
        self.writer.slide_failed(outcome.index, e.slide_id, failure)
        self.log.say(f"slide {e.slide_id}: failed at {failure.stage}: {failure.error}")
        if self.options.debug and not self.options.pseudonymise:
            self.log.trace(failure.trace)

    def _clean(self, e: Entry, error: str) -> str:
        """Take names and paths out of an error when names are to be hidden."""
        if not self.options.pseudonymise:
            return one_line(error)
        paths = (e.slide, e.annotations, e.ish, e.tma_map)
        return clean(error, e.slide_id, paths, self.store.out)

    def _clean_case(self, error: str, plan: CasePlan) -> str:
        """Take names and paths out of the error of a case."""
        paths = [path for part in plan.parts for e in (self.entries[part.member.place],)
                 for path in (e.slide, e.ish, e.tma_map)]  # fmt: skip
        return clean(error, plan.case_id, paths, self.store.out)

    def _stopped(self, why: str) -> None:
        """Leave a last word where there is room for it."""
        try:
            self.writer.note("stopped", reason=why)
            self.log.say(why)
        except (DiskFull, OutputError):
            return  # the tables and results that are there speak for themselves
