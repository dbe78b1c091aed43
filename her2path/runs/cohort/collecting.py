"""Slides that were scored elsewhere become a batch: cases, tables, index.

For array jobs and workflow managers: each slide is scored by ``her2path score`` on its own, and
`collect` joins them. Results that lie in OUT already stay where they are; others get a second name
there (a hard link), or are copied where the file system has no links.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from her2path.core.csvfile import tidy
from her2path.core.errors import Her2PathError, ManifestError, UsageError, one_line
from her2path.core.results import Result
from her2path.core.settings import Settings
from her2path.core.timepoints import time_groups
from her2path.io.store import BatchStore, RunLock, RunStore
from her2path.io.store.files import remove
from her2path.runs.cohort.child import Failure
from her2path.runs.cohort.inputs import check_inputs
from her2path.runs.cohort.manifest import TOLD, Entry, listed, plain_name, read_manifest, safe_name
from her2path.runs.cohort.members import Member, member_of
from her2path.runs.cohort.pool import Pool
from her2path.runs.cohort.progress import BatchProgress
from her2path.runs.cohort.results import (
    SLIDE_COLUMNS,
    BatchResult,
    BatchWriter,
    ReportWriters,
    budget_of,
    guard,
)
from her2path.runs.cohort.slides import FIGURES, add_ish, figures, share
from her2path.runs.cohort.tables import read_rows
from her2path.runs.cohort.tma import check_cores

__all__ = ["collect"]

#: what readers said of a slide here: another result never replaces it
OF_READERS = ("reads", "READS.csv", "corrections.geojson")
UNFINISHED = Failure("collecting", "it holds no finished result. Score the slide again.", 3)


@dataclass(frozen=True)
class _Found:
    """A folder that holds, or should hold, a slide's result; and what a batch knew of it."""

    folder: Path
    name: str
    row: dict[str, str]


def collect(
    sources: Sequence[str | Path],
    out: str | Path,
    manifest: str | Path | None = None,
    reports: ReportWriters | None = None,
    overwrite: bool = False,
    board: BatchProgress | None = None,
) -> BatchResult:
    """Build cases, tables and index from slides that were scored elsewhere.

    Parameters
    ----------
    sources : sequence of path
        Folders of single results, folders of such folders, or batches.
    out : path
        Folder of the batch.
    manifest : path, optional
        MANIFEST.csv: which case each slide belongs to. Without it the batches among the sources
        tell, and every other slide is a case of its own. Slides that it lists and that are not
        among the sources count as failed.
    reports : ReportWriters, optional
        Reports and index.
    overwrite : bool
        Put every case together again, and take every result again.

    Raises
    ------
    UsageError
        Where a source holds no result, or two results have one name.
    ManifestError, OutputError, DiskFull
    """
    store = BatchStore(out)
    # a folder that is named twice, by itself and with others, counts once
    by_place: dict[Path, _Found] = {}
    for f in (f for source in sources for f in _find(Path(source))):
        by_place.setdefault(f.folder.resolve(), f)
    found = list(by_place.values())
    entries = read_manifest(manifest, slides_needed=False) if manifest is not None else None
    places = _match(found, entries, manifest) if entries is not None else list(found)
    if entries is not None:
        check_inputs(manifest, entries, Settings())
    else:
        _check_times(found)
    _check_names(places)
    names = [f.name for f in places if f is not None]
    guard(store, names)
    with RunLock(store.out):
        return _Collection(
            store, places, entries, reports or ReportWriters(), board or BatchProgress()
        ).run(overwrite)


def _find(source: Path) -> list[_Found]:
    """Return the results below a source: itself, a batch's, or those of its sub-folders."""
    if (source / "result.json").is_file():
        return [_Found(source, safe_name(source.resolve().name), {})]
    home = source / "slides" if (source / "slides").is_dir() else source
    rows = _known_rows(source) if home is not source else {}
    try:
        below = sorted(p for p in home.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as exc:
        raise UsageError(f"{source} cannot be listed ({exc.strerror})", "Check the path") from exc
    out = [_Found(p, safe_name(p.name), rows.get(p.name, {})) for p in below if _is_slide(p)]
    # in the order of the batch's table, which is the manifest's
    place = {name: i for i, name in enumerate(rows)}
    out.sort(key=lambda f: place.get(f.folder.name, len(place)))
    if not any((f.folder / "result.json").is_file() for f in out):
        raise UsageError(f"{source} holds no scored slide", "Give OUT folders of `her2path score`")
    return out


def _is_slide(folder: Path) -> bool:
    """Tell whether a folder is a slide's: finished, begun, or left empty by a run that failed."""
    return (
        (folder / "result.json").is_file()
        or (folder / ".work").is_dir()
        or not any(not p.name.startswith(".lock") for p in folder.iterdir())
    )


def _known_rows(batch: Path) -> dict[str, dict[str, str]]:
    table = batch / "slides.csv"
    rows = read_rows(table, SLIDE_COLUMNS) if table.is_file() else []
    return {r.get("folder", ""): r for r in rows}


def _match(
    found: Sequence[_Found], entries: Sequence[Entry], manifest: object
) -> list[_Found | None]:
    """Return each entry's result, by folder name, then by slide id; None where it is missing.

    Raises
    ------
    ManifestError
        Where one result fits two rows, or a row fits two results.
    """
    out: list[_Found | None] = [None] * len(entries)
    left = list(found)
    for known, wanted in _KEYS:
        by_name: dict[str, list[_Found]] = {}
        for f in left:
            by_name.setdefault(tidy(known(f)), []).append(f)
        claims: dict[str, list[int]] = {}
        for place, e in enumerate(entries):
            name = next((n for n in map(tidy, wanted(e)) if n in by_name), None)
            if out[place] is None and name is not None:
                claims.setdefault(name, []).append(place)
        for name, places in claims.items():
            if len(places) > 1 or len(by_name[name]) > 1:
                rows = ", ".join(str(entries[p].row) for p in places)
                raise listed(manifest, [f"row {rows}: which result is meant by {name!r}? Name the "
                                        "folders after the slide_id"])  # fmt: skip
            out[places[0]] = by_name[name][0]
            left.remove(by_name[name][0])
    if not any(out):
        raise listed(manifest, ["none of its slides is among the results"])
    return [
        _Found(f.folder, e.folder, {}) if f is not None else None
        for f, e in zip(out, entries, strict=True)
    ]


def _ids(e: Entry) -> tuple[str, ...]:
    """Return what a folder of this slide may be called: by a batch, by hand, by Nextflow."""
    return e.folder, e.slide_id, plain_name(e.slide_id)


def _slide_id(found: _Found) -> str:
    try:
        return str(RunStore(found.folder).result().slide.id)
    except Her2PathError:
        return found.name


#: how results are known again, the surest first: (name of a result, names of a row)
_KEYS: tuple[tuple[Callable[[_Found], str], Callable[[Entry], tuple[str, ...]]], ...] = (
    (lambda f: f.folder.name, _ids),
    (lambda f: f.folder.name, lambda e: (e.slide.stem,)),
    (_slide_id, lambda e: (e.slide_id,)),
    (_slide_id, lambda e: (e.slide.stem,)),
)


def _check_names(places: Sequence[_Found | None]) -> None:
    seen: dict[str, _Found] = {}
    for f in places:
        if f is None:
            continue
        other = seen.setdefault(f.name.casefold(), f)
        if other is not f:
            raise ManifestError(
                f"{other.folder} and {f.folder} are both called {f.name}", "Rename one of them"
            )


def _check_times(found: Sequence[_Found]) -> None:
    """Refuse time points of a case that cannot be ordered, before any work starts."""
    cases: dict[str, list[_Found]] = {}
    for f in found:
        if f.row.get("timepoint"):
            cases.setdefault(tidy(f.row.get("case_id", "")) or f.name, []).append(f)
    for case_id, slides in cases.items():
        try:
            time_groups(f.row["timepoint"] for f in slides)
        except ManifestError as exc:
            names = ", ".join(f.name for f in slides[:4])
            raise ManifestError(f"case {case_id!r} ({names}): {exc.what}", exc.mend) from exc


class _Collection:
    """One run of `collect`."""

    def __init__(
        self, store: BatchStore, places: Sequence[_Found | None], entries: list[Entry] | None,
        reports: ReportWriters, board: BatchProgress,
    ) -> None:  # fmt: skip
        self.store, self.places, self.entries, self.reports = store, places, entries, reports
        self.board = board
        self.settings = self._first_settings()
        rows: list[dict[str, str]] = [e.extra for e in entries] if entries is not None else [
            _carried(f.row) for f in places if f is not None
        ]  # fmt: skip
        carried = list(dict.fromkeys(name for row in rows for name in row))
        self.writer = BatchWriter(store, carried, self.settings, reports, board)
        self.writer.counts["slides"] = len(places)

    def _first_settings(self) -> Settings:
        for f in self.places:
            if f is not None and RunStore(f.folder).complete:
                return RunStore(f.folder).settings()
        return Settings()

    def run(self, overwrite: bool) -> BatchResult:
        """Take the slides in, put the cases together, close."""
        self.writer.note("running")
        self.writer.log.say(f"collecting {len(self.places)} slides")
        self.board.begin("slides", [self._name(i) for i in range(len(self.places))])
        members = [self._take(i, overwrite) for i in range(len(self.places))]
        with Pool(budget_of(self.settings, cluster=False), self.board.tell) as pool:
            self.writer.cases(members, pool, overwrite)
            return self.writer.end(pool)

    def _name(self, place: int) -> str:
        if self.entries is not None:
            return self.entries[place].slide_id
        found = self.places[place]
        return found.row.get("slide_id") or found.name if found is not None else ""

    def _take(self, place: int, overwrite: bool) -> Member:
        found, name = self.places[place], self._name(place)
        member = self._member(place, name, found)
        try:
            if found is None or not RunStore(found.folder).complete:
                self.writer.slide_failed(place, name, UNFINISHED)
                return _without(member)
            fresh = self._bring(found, overwrite)
            store = self.store.slide(found.name)
            if member.cores is not None and store.result().status == "complete":
                check_cores(store.regions(), member.cores)
            if member.ish is not None:
                fresh |= add_ish(store, member.ish, member.case_id, store.settings(),
                                 self.reports.slide)  # fmt: skip
            self._row(place, member, store.result(), fresh)
        except Her2PathError as exc:
            if exc.exit_code == 5:
                raise
            self.writer.slide_failed(place, name, Failure("collecting", str(exc), exc.exit_code))
            return _without(member)
        return member

    def _member(self, place: int, name: str, found: _Found | None) -> Member:
        if self.entries is not None:
            return member_of(place, self.entries[place], done=True)
        assert found is not None
        row = found.row
        return Member(
            place, name, found.name, tidy(row.get("case_id", "")) or tidy(name),
            specimen=row.get("specimen", ""), timepoint=row.get("timepoint", ""),
            reader_score=row.get("reader_score", ""), extra=_carried(row),
        )  # fmt: skip

    def _bring(self, found: _Found, overwrite: bool) -> bool:
        """Bring a result into OUT; tell whether it was not there yet."""
        target = self.store.slide(found.name).out
        if found.folder.resolve() == target.resolve():
            return False
        if not overwrite and _same(found.folder, target):
            return False
        draft = self.store.out / f".{found.name}.new"
        remove(draft)
        # what a workflow manager puts in place of a folder is a link to it
        share(found.folder.resolve(), draft)
        for left in ("result.stale.json", ".lock", ".work"):
            remove(draft / left)
        with RunLock(target):
            for old in sorted(target.iterdir(), key=lambda p: p.name != "result.json"):
                if old.name in OF_READERS:
                    remove(draft / old.name)
                    continue
                if old.name != ".lock" and not old.name.startswith(".lock."):
                    remove(old)
            for new in sorted(draft.iterdir(), key=lambda p: p.name == "result.json"):
                shutil.move(new, target / new.name)
        remove(draft)
        return True

    def _row(self, place: int, member: Member, result: Result, fresh: bool) -> None:
        row: dict[str, Any] = {
            **member.extra, **figures(result), "slide_id": member.slide_id,
            "case_id": member.case_id, "folder": member.folder, "slide": result.slide.path,
            "specimen": member.specimen, "timepoint": member.timepoint,
            "reader_score": member.reader_score,
        }  # fmt: skip
        self.writer.slide_done(place, row, fresh, result.status)
        self.writer.log.say(f"slide {one_line(member.slide_id, 80)}: {result.status}")


def _same(source: Path, target: Path) -> bool:
    try:
        return (source / "result.json").read_bytes() == (target / "result.json").read_bytes()
    except OSError:
        return False


def _carried(row: dict[str, str]) -> dict[str, str]:
    """Return the columns of a batch's row that its manifest brought."""
    told = {*SLIDE_COLUMNS, *FIGURES, *TOLD}
    return {k: v for k, v in row.items() if k not in told}


def _without(member: Member) -> Member:
    return replace(member, done=False)
