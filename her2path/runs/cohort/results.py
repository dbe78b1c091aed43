"""What a batch and `collect` share: a sound OUT, tables, cases, index, ``run.json``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from her2path import __version__
from her2path.core.errors import DiskFull, OutputError
from her2path.core.hiding import hidden_settings
from her2path.core.settings import Settings
from her2path.io.store import ISH_FILES, BatchStore, write_json
from her2path.io.store.files import disk_errors, make_dir
from her2path.runs.cohort.cases import CASE_COLUMNS, CaseTask
from her2path.runs.cohort.child import Failure, Job
from her2path.runs.cohort.drift import write_drift
from her2path.runs.cohort.members import CasePlan, Member, cases_of
from her2path.runs.cohort.pool import Budget, Outcome, Pool
from her2path.runs.cohort.progress import BatchProgress, Log
from her2path.runs.cohort.signed import in_words, signed_reads
from her2path.runs.cohort.slides import FIGURES
from her2path.runs.cohort.tables import Table
from her2path.runs.stream import default_workers

__all__ = ["SLIDE_COLUMNS", "BatchResult", "BatchWriter", "ReportWriters", "budget_of", "guard",
           "stop_when_full"]  # fmt: skip

SLIDE_COLUMNS = ("slide_id", "case_id", "folder", "slide", "specimen", "timepoint", "reader_score",
                 "signed_off")  # fmt: skip
FAILURE_COLUMNS = ("slide", "stage", "error")
#: what a case's folder holds; all of it can be made again from the slides
CASE_FILES = ("case.json", "report.html", "report.pdf", *ISH_FILES)


@dataclass(frozen=True)
class ReportWriters:
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
                 store.index_path, store.out / "batch.log",
                 *(store.out / f"drift.{kind}" for kind in ("csv", "json", "html"))):  # fmt: skip
        if file.is_symlink() or file.is_dir():
            raise OutputError(f"{file} is not a plain file", "Remove it, or give another -o")


def budget_of(settings: Settings, cluster: bool) -> Budget:
    """Return what the batch may take of this machine: half of the free memory unless told."""
    stream = settings.stream
    memory = stream.memory_mb or psutil.virtual_memory().available / 2 / (1 << 20)
    # on a cluster the slides come one after the other, each over all of its workers
    workers = 1 if cluster else stream.workers or default_workers()
    return Budget(workers, float(memory), stream.timeout_s)


class BatchWriter:
    """What a batch and `collect` share: tables, cases, index, ``run.json``."""

    def __init__(
        self, store: BatchStore, carried: Sequence[str], settings: Settings, reports: ReportWriters,
        board: BatchProgress, clean: Callable[[str, CasePlan], str] | None = None,
        hidden: bool = False,
    ) -> None:  # fmt: skip
        # what takes names out of a case's error; whether names are hidden
        self.clean, self.hidden = clean, hidden
        self.store, self.settings, self.reports, self.board = store, settings, reports, board
        self.log = Log(store.out / "batch.log")
        self.started, self.clock = datetime.now(UTC), time.monotonic()
        self.counts = dict.fromkeys(
            ("slides", "done", "kept", "not_evaluable", "failed", "cases", "failed_cases"), 0
        )
        self.carried = [c for c in carried if c not in (*SLIDE_COLUMNS, *FIGURES)]
        self.signed = signed_reads(store.out)
        self.slides = Table(store.slides_csv, (*SLIDE_COLUMNS, *FIGURES, *self.carried))
        self.failures = Table(store.failures_csv, FAILURE_COLUMNS)
        #: slides that have a result, by their place in the manifest
        self.rows: dict[int, dict[str, Any]] = {}

    def note(self, status: str, **more: Any) -> dict[str, Any]:
        """Write ``run.json``."""
        run = {
            "status": status,
            "her2path_version": __version__,
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self.clock, 1),
            "counts": dict(self.counts),
            "settings_sha256": self.settings.sha256(),
            "settings": self._shown_settings().model_dump(mode="json"),
            **({"pseudonymised": True} if self.hidden else {}),
            **more,
        }
        write_json(self.store.run_json, run)
        return run

    def _shown_settings(self) -> Settings:
        return hidden_settings(self.settings) if self.hidden else self.settings

    def slide_done(self, place: int, row: dict[str, Any], fresh: bool, status: str) -> None:
        """Add a slide's row and count it."""
        self.slides.add(place, self._signed(row))
        self.rows[place] = row
        self.counts["done"] += 1
        self.counts["kept"] += not fresh
        self.counts["not_evaluable"] += status == "not_evaluable"
        word = "not_evaluable" if status == "not_evaluable" else "done" if fresh else "kept"
        self.board.end(place, word)

    def slide_failed(self, place: int, name: str, failure: Failure) -> None:
        """Add a row to the failures and count it."""
        self.failures.add(place, {"slide": name, "stage": failure.stage, "error": failure.error})
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
                todo.append(
                    Job(place, CaseTask(self.store.out, plan, overwrite, self.reports.case))
                )
            else:
                self._case_without_slides(table, place, plan)
        for outcome in pool.run(todo):
            if outcome.failure is not None:
                self._case_failed(outcome, plans[outcome.index], len(members))
            else:
                self._case_done(table, outcome, plans[outcome.index])
        table.finish()
        self._drop_cases({p.folder for p in plans if any(m.member.done for m in p.parts)})

    def _case_without_slides(self, table: Table, place: int, plan: CasePlan) -> None:
        n = len(plan.parts)
        table.add(place, {"case_id": plan.case_id, "folder": plan.folder, "slides": n,
                          "evaluable": 0, "failed": n, "status": "failed"})  # fmt: skip
        self.board.end(place, "failed")

    def _case_failed(self, outcome: Outcome, plan: CasePlan, after: int) -> None:
        failure = outcome.failure
        assert failure is not None
        stop_when_full(failure)
        error = self.clean(failure.error, plan) if self.clean is not None else failure.error
        self.counts["failed_cases"] += 1
        self.failures.add(after + outcome.index, {
            "slide": plan.case_id, "stage": f"case: {failure.stage}", "error": error,
        })  # fmt: skip
        self.board.end(outcome.index, "failed")
        self.log.say(f"case {plan.case_id}: failed, {error}")

    def _case_done(self, table: Table, outcome: Outcome, plan: CasePlan) -> None:
        shared = _shared([p.member.extra for p in plan.parts])
        signed = [s for (case, _), group in self.signed.items()
                  if case == plan.case_id for s in group]  # fmt: skip
        table.add(outcome.index, {**shared, **outcome.facts["figures"],
                                  "signed_off": in_words(signed)})  # fmt: skip
        self.counts["cases"] += 1
        self.board.end(outcome.index, "done" if outcome.facts["fresh"] else "kept")

    def _drop_cases(self, wanted: set[str]) -> None:
        """Remove cases that an earlier manifest had: they can be made again from the slides."""
        for folder in self.store.case_dirs():
            if folder.name in wanted or folder.is_symlink():
                continue
            with disk_errors(folder):
                for name in CASE_FILES:
                    (folder / name).unlink(missing_ok=True)
                if not any(folder.iterdir()):
                    folder.rmdir()

    def end(self, pool: Pool) -> BatchResult:
        """Sort the tables, make the index, write the last ``run.json``."""
        self._staining()
        self.slides.finish()
        self.failures.finish()
        if self.reports.index is not None:
            self.reports.index(self.store.out)
        status = "failures" if self.counts["failed"] or self.counts["failed_cases"] else "complete"
        run = self.note(status, peak_memory_mb=round(pool.peak_mb),
                        memory_budget_mb=round(pool.budget.memory_mb))  # fmt: skip
        self.log.say(f"ended: {self.counts_line()}")
        return BatchResult(self.store.out, run)

    def _staining(self) -> None:
        """Write the drift, and add to the table what only the whole batch's controls tell."""
        rows = [self.rows[place] for place in sorted(self.rows)]
        found = write_drift(self.store, rows, self.settings.qc.max_staining_ratio)
        for place, row in self.rows.items():
            code = found.get(str(row.get("folder")))
            known = str(row.get("flags") or "").split("; ")
            if code is not None and code not in known:
                flags = "; ".join(filter(None, [*known, code]))
                self.slides.replace(place, self._signed(row) | {"flags": flags})

    def _signed(self, row: dict[str, Any]) -> dict[str, Any]:
        key = (str(row.get("case_id")), str(row.get("slide_id")))
        return row | {"signed_off": in_words(self.signed.get(key, []))}

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


def stop_when_full(failure: Failure) -> None:
    """End the whole batch where the disk is full: every other slide would fail as well.

    Raises
    ------
    DiskFull
    """
    if failure.disk_full:
        raise DiskFull(failure.error.split(". ")[0],
                       "Make room and run the same command again: what is done stays")  # fmt: skip


def _shared(extras: Sequence[dict[str, str]]) -> dict[str, str]:
    """Return the carried values that all slides of a case have in common."""
    first = extras[0] if extras else {}
    return {k: v for k, v in first.items() if all(e.get(k) == v for e in extras)}
