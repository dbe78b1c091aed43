"""Scores that readers signed off: beside the program's in report, index and tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from her2path.io.store import BatchStore, RunStore, write_text
from her2path.runs.cohort.readlog import all_logs
from her2path.runs.cohort.tables import csv_line, read_rows
from her2path.runs.cohort.worklist import batch_of, home_of

__all__ = ["Signed", "add_to_cases", "in_words", "signed_of_slide", "signed_reads"]

Key = tuple[str, str]


@dataclass(frozen=True)
class Signed:
    """One reader's score that is signed off."""

    reader: str
    score: str
    before: str
    read_no: int
    signed_at: str
    comment: str

    @property
    def words(self) -> str:
        """The score as it is printed."""
        return self.score or "not readable"


def signed_reads(out: str | Path) -> dict[Key, list[Signed]]:
    """Return the signed reads by case and slide, readers by name; of a reader the last one."""
    last: dict[tuple[Key, str], Signed] = {}
    for reader, number, reads in all_logs(Path(out)):
        for r in reads:
            if r.state == "signed":
                last[r.key, reader] = Signed(reader, r.final or "", r.before or "", number,
                                             r.signed_at, r.comment)  # fmt: skip
    found: dict[Key, list[Signed]] = {}
    for (key, _), one in last.items():
        found.setdefault(key, []).append(one)
    return found


def signed_of_slide(store: RunStore) -> list[Signed]:
    """Return the signed reads of one slide's result, of those made in its batch too."""
    name = str(store.result().slide.id)
    home = home_of(store)
    own = [s for group in signed_reads(home).values() for s in group]
    batch = batch_of(store)
    if batch is None:
        return own
    names = {name, home.name}
    return own + [s for (_, slide), group in signed_reads(batch.out).items()
                  if slide in names for s in group]  # fmt: skip


def in_words(group: list[Signed]) -> str:
    """Return signed reads as one field of a table."""
    return "; ".join(f"{s.reader} {s.words}" for s in group)


def add_to_cases(out: Path) -> None:
    """Bring the column ``signed_off`` of ``cases.csv`` and ``slides.csv`` up to date.

    Raises
    ------
    OutputError, DiskFull
    """
    batch = BatchStore(out)
    signed = signed_reads(out)
    by_case: dict[str, list[Signed]] = {}
    for (case, _), group in signed.items():
        by_case.setdefault(case, []).extend(group)
    _fill(batch.cases_csv, lambda row: by_case.get(row["case_id"], []))
    _fill(batch.slides_csv, lambda row: signed.get((row["case_id"], row["slide_id"]), []))


def _fill(path: Path, found: Callable[[dict[str, str]], list[Signed]]) -> None:
    rows = read_rows(path) if path.is_file() else []
    if not rows:
        return
    columns = list(dict.fromkeys((*rows[0], "signed_off")))
    new = [{**row, "signed_off": in_words(found(row))} for row in rows]
    if [r.get("signed_off", "") for r in rows] != [r["signed_off"] for r in new]:
        lines = [csv_line(columns), *(csv_line(r.get(c) for c in columns) for r in new)]
        write_text(path, "".join(lines))
