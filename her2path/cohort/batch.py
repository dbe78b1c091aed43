"""Many slides, told as the night they run through.

The manifest is checked whole; slides are scored by children, one failing slide costing itself
alone; cases are put together; tables, index and ``run.json`` are closed. Run again, only what is
missing or stale is done: every slide and case carries the fingerprint of what it rests on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from her2path import __version__, guidelines
from her2path.cohort.cases import CASE_COLUMNS, CaseTask
from her2path.cohort.child import Fall, Job
from her2path.cohort.inputs import check_inputs, find_annotations, hide_names, settings_for
from her2path.cohort.live import Board, Log
from her2path.cohort.manifest import Entry, read_manifest
from her2path.cohort.members import Member, cases_of, member_of
from her2path.cohort.pool import Budget, Outcome, Pool
from her2path.cohort.slides import FIGURES, SlideTask, set_aside
from her2path.cohort.tables import Table
from her2path.errors import DiskFull, OutputError, one_line
from her2path.settings import Settings
from her2path.store import BatchStore, RunLock, RunStore, write_json
from her2path.store.files import disk_errors, make_dir
from her2path.stream import Stream, default_workers

__all__ = ["BatchOptions", "BatchResult", "Closing", "Faces", "guard", "run_batch"]

SLIDE_COLUMNS = ("slide_id", "case_id", "folder", "slide", "specimen", "timepoint", "reader_score")
FAILURE_COLUMNS = ("slide", "stage", "error")


@dataclass(frozen=True)
class Faces:
    """What people see; module-level functions, so that children find them.

    Attributes
    ----------
    slide, case, index : callable or None
        Called with the folder of a slide, of a case, of the batch.
    """

    slide: Callable[[Path], None] | None = None
    case: Callable[[Path], Any] | None = None
    index: Callable[[Path], Any] | None = None


@dataclass(frozen=True)
class BatchOptions:
    """How a batch is run; none of it changes a figure."""

    overwrite: bool = False
    pseudonymise: bool = False
    qupath_crop: bool = False
    scheduler: str | None = None
    #: a folder of annotations, <slide_id>.geojson or .xml
    annotations: Path | None = None
    faces: Faces = field(default_factory=Faces)
    #: let decoders write to the terminal, and keep tracebacks in the log
    debug: bool = False


@dataclass(frozen=True)
class BatchResult:
    """What became of a batch; as in ``run.json``."""

    out: Path
    run: dict[str, Any]

    @property
    def failed(self) -> int:
        """Slides and cases that failed."""
        return int(self.run["counts"]["failed"]) + int(self.run["counts"]["failed_cases"])

    @property
    def exit_code(self) -> int:
        """0, or 3 where at least one slide failed."""
        return 3 if self.failed else 0


def run_batch(
    source: str | Path,
    out: str | Path,
    settings: Settings | None = None,
    options: BatchOptions | None = None,
    board: Board | None = None,
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
    board : Board, optional
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
    entries = read_manifest(source)
    if how.annotations is not None:
        entries = find_annotations(entries, how.annotations)
    if how.pseudonymise:
        entries = hide_names(entries)
    check_inputs(source, entries, chosen)
    store = BatchStore(out)
    guard(store, (e.folder for e in entries))
    with RunLock(store.out):
        return _Night(store, entries, chosen, how, board or Board()).run()


def guard(store: BatchStore, folders: Iterable[str]) -> None:
    """Make sure that OUT can hold a batch, and that nothing in it leads out of it.

    Raises
    ------
    OutputError
        For another kind of OUT, a file in the way, or a link that leads elsewhere.
    """
    make_dir(store.out)
    if (store.out / "result.json").exists():
        raise OutputError(
            f"{store.out} holds the result of one slide", "Give -o another folder for the batch"
        )
    home = store.out.resolve()
    for name in ("slides", "cases"):
        place = store.out / name
        if place.resolve() != home / name:
            raise OutputError(f"{place} leads out of OUT", "Remove the link, or give another -o")
        make_dir(place)
    for folder in folders:
        place = store.slide(folder).out
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise OutputError(f"{place} is not a folder of OUT", "Remove it, or give another -o")
    for file in (store.slides_csv, store.cases_csv, store.failures_csv, store.run_json,
                 store.index_path, store.out / "batch.log"):  # fmt: skip
        if file.is_symlink() or file.is_dir():
            raise OutputError(f"{file} is not a plain file", "Remove it, or give another -o")


def budget_of(settings: Settings, cluster: bool) -> Budget:
    """Return what the batch may take of this machine: half of the free memory unless told."""
    stream = settings.stream
    memory = stream.memory_mb or psutil.virtual_memory().available / 2 / (1 << 20)
    # on a cluster the slides come one after the other, each over all of its workers
    workers = 1 if cluster else stream.workers or default_workers()
    return Budget(workers, float(memory), stream.timeout_s)


class Closing:
    """What a batch and `collect` share: tables, cases, index, ``run.json``."""

    def __init__(
        self, store: BatchStore, carried: Sequence[str], settings: Settings, faces: Faces,
        board: Board,
    ) -> None:  # fmt: skip
        self.store, self.settings, self.faces, self.board = store, settings, faces, board
        self.log = Log(store.out / "batch.log")
        self.started, self.clock = datetime.now(UTC), time.monotonic()
        self.counts = dict.fromkeys(
            ("slides", "done", "kept", "not_evaluable", "failed", "cases", "failed_cases"), 0
        )
        self.carried = [c for c in carried if c not in (*SLIDE_COLUMNS, *FIGURES)]
        self.slides = Table(store.slides_csv, (*SLIDE_COLUMNS, *FIGURES, *self.carried))
        self.failures = Table(store.failures_csv, FAILURE_COLUMNS)

    def note(self, status: str, **more: Any) -> dict[str, Any]:
        """Write ``run.json``."""
        run = {
            "status": status,
            "her2path_version": __version__,
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self.clock, 1),
            "counts": dict(self.counts),
            "settings_sha256": self.settings.sha256(),
            "settings": self.settings.model_dump(mode="json"),
            **more,
        }
        write_json(self.store.run_json, run)
        return run

    def slide_done(self, place: int, row: dict[str, Any], fresh: bool, status: str) -> None:
        """Add a slide's row and count it."""
        self.slides.add(place, row)
        self.counts["done"] += 1
        self.counts["kept"] += not fresh
        self.counts["not_evaluable"] += status == "not_evaluable"
        word = "not_evaluable" if status == "not_evaluable" else "done" if fresh else "kept"
        self.board.end(place, word)

    def slide_failed(self, place: int, name: str, fall: Fall) -> None:
        """Add a row to the failures and count it."""
        self.failures.add(place, {"slide": name, "stage": fall.stage, "error": fall.error})
        self.counts["failed"] += 1
        self.board.end(place, "failed")

    def cases(self, members: Sequence[Member], pool: Pool, overwrite: bool) -> None:
        """Put the cases together and write their table."""
        plans = cases_of(members)
        guard_cases(self.store, (p.folder for p in plans))
        carried = [c for c in self.carried if c not in CASE_COLUMNS]
        table = Table(self.store.cases_csv, (*CASE_COLUMNS, *FIGURES, *carried))
        self.board.begin("cases", [p.case_id for p in plans])
        todo = []
        for place, plan in enumerate(plans):
            if any(p.member.done for p in plan.parts):
                task = CaseTask(self.store.out, plan, overwrite, self.faces.case)
                todo.append(Job(place, task))
                continue
            n = len(plan.parts)
            table.add(place, {"case_id": plan.case_id, "folder": plan.folder, "slides": n,
                              "evaluable": 0, "failed": n, "status": "failed"})  # fmt: skip
            self.board.end(place, "failed")
        for outcome in pool.run(todo):
            plan = plans[outcome.index]
            if outcome.fall is not None:
                stop_when_full(outcome.fall)
                self.counts["failed_cases"] += 1
                fall = replace(outcome.fall, stage=f"case: {outcome.fall.stage}")
                place = len(members) + outcome.index
                self.failures.add(place, {"slide": plan.case_id, "stage": fall.stage,
                                          "error": fall.error})  # fmt: skip
                self.board.end(outcome.index, "failed")
                self.log.say(f"case {plan.case_id}: failed, {fall.error}")
                self.log.trace(fall.trace)
                continue
            shared = _shared([p.member.extra for p in plan.parts])
            table.add(outcome.index, {**shared, **outcome.facts["figures"]})
            self.counts["cases"] += 1
            self.board.end(outcome.index, "done" if outcome.facts["fresh"] else "kept")
        table.finish()
        self._drop_cases({p.folder for p in plans if any(m.member.done for m in p.parts)})

    def _drop_cases(self, wanted: set[str]) -> None:
        """Remove cases that an earlier manifest had: they can be made again from the slides."""
        for folder in self.store.case_dirs():
            if folder.name in wanted or folder.is_symlink():
                continue
            with disk_errors(folder):
                for name in ("case.json", "report.html", "report.pdf", "ish.json",
                             "ish_areas.csv", "ish_cases.csv"):  # fmt: skip
                    (folder / name).unlink(missing_ok=True)
                if not any(folder.iterdir()):
                    folder.rmdir()

    def end(self, pool: Pool) -> BatchResult:
        """Sort the tables, make the index, write the last ``run.json``."""
        self.slides.finish()
        self.failures.finish()
        if self.faces.index is not None:
            self.faces.index(self.store.out)
        status = "failures" if self.counts["failed"] or self.counts["failed_cases"] else "complete"
        run = self.note(status, peak_memory_mb=round(pool.peak_mb),
                        memory_budget_mb=round(pool.budget.memory_mb))  # fmt: skip
        self.log.say(f"ended: {self.counts_line()}")
        return BatchResult(self.store.out, run)

    def counts_line(self) -> str:
        """Return the counts as one line."""
        return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in self.counts.items())


def guard_cases(store: BatchStore, folders: Iterable[str]) -> None:
    """Make sure that no case's folder leads out of OUT.

    Raises
    ------
    OutputError
    """
    for folder in folders:
        place = store.case_dir(folder)
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise OutputError(f"{place} is not a folder of OUT", "Remove it, or give another -o")


def stop_when_full(fall: Fall) -> None:
    """End the whole batch where the disk is full: every other slide would fail as well.

    Raises
    ------
    DiskFull
    """
    if fall.disk_full:
        raise DiskFull(fall.error.split(". ")[0],
                       "Make room and run the same command again: what is done stays")  # fmt: skip


def _shared(extras: Sequence[dict[str, str]]) -> dict[str, str]:
    """Return the carried values that all slides of a case have in common."""
    first = extras[0] if extras else {}
    return {k: v for k, v in first.items() if all(e.get(k) == v for e in extras)}


class _Night:
    """One run of a batch."""

    def __init__(
        self, store: BatchStore, entries: list[Entry], settings: Settings, options: BatchOptions,
        board: Board,
    ) -> None:  # fmt: skip
        self.store, self.entries, self.settings = store, entries, settings
        self.options, self.board = options, board
        self.tasks = [self._task(e) for e in entries]
        if options.scheduler:
            self._prove(options.scheduler)
        carried = list(dict.fromkeys(name for e in entries for name in e.extra))
        self.closing = Closing(store, carried, settings, options.faces, board)
        self.closing.counts["slides"] = len(entries)
        self.log = self.closing.log

    def run(self) -> BatchResult:
        """Score, put together, close."""
        self.closing.note("running")
        budget = budget_of(self.settings, bool(self.options.scheduler))
        self.log.say(
            f"her2path {__version__}, process {os.getpid()}: {len(self.entries)} slides, "
            f"{budget.workers} threads, {budget.memory_mb:.0f} MiB, {budget.timeout_s:g} s a slide"
        )
        try:
            with Pool(budget, self._tell, quiet=not self.options.debug) as pool:
                done = self._slides(pool)
                members = [member_of(i, e, i in done) for i, e in enumerate(self.entries)]
                self.closing.cases(members, pool, self.options.overwrite)
                return self.closing.end(pool)
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
            if outcome.fall is not None:
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
            annotations=e.annotations, ish=e.ish, pseudonymise=how.pseudonymise,
            qupath_crop=how.qupath_crop, overwrite=how.overwrite, scheduler=how.scheduler,
            faces=how.faces.slide, report=how.faces.case is not None,
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
        self.closing.slide_done(outcome.index, row, facts["fresh"], facts["status"])
        word = facts["status"].replace("_", " ")
        how = f"{outcome.seconds:.1f} s" if facts["fresh"] else "was there already"
        self.log.say(f"slide {e.slide_id}: {word}, {how}")

    def _failed(self, outcome: Outcome) -> None:
        e, fall = self.entries[outcome.index], outcome.fall
        assert fall is not None
        stop_when_full(fall)
        fall = replace(fall, error=self._clean(e, fall.error))
        set_aside(RunStore(self.tasks[outcome.index].out))
        self.closing.slide_failed(outcome.index, e.slide_id, fall)
        self.log.say(f"slide {e.slide_id}: failed at {fall.stage}: {fall.error}")
        if self.options.debug and not self.options.pseudonymise:
            self.log.trace(fall.trace)

    def _clean(self, e: Entry, error: str) -> str:
        """Take names and paths out of an error when names are to be hidden."""
        text = one_line(error)
        if self.options.pseudonymise:
            named = [str(e.slide), e.slide.name, e.slide.stem]
            if e.annotations is not None:
                named += [str(e.annotations), e.annotations.name]
            for name in named:
                text = text.replace(name, e.slide_id)
            text = text.replace(str(e.slide.parent), "")
        return text

    def _stopped(self, why: str) -> None:
        """Leave a last word where there is room for it."""
        try:
            self.closing.note("stopped", reason=why)
            self.log.say(why)
        except (DiskFull, OutputError):
            return  # the tables and results that are there speak for themselves
