"""Reads as arrays: one row an item (case, slide, region), one column a reader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from her2path.io.reads import PROGRAM, REFERENCE, Read
from her2path.scoring.agreement.scale import LOW_CLASSES

__all__ = ["Panel", "Repeat", "make_panel", "repeats"]


@dataclass(frozen=True)
class Panel:
    """Reads of N items by R readers.

    Attributes
    ----------
    readers : tuple of str
        ``reference`` first, ``her2path`` last, the others in the order in which they appear.
    cases : tuple of str
        The cases, C of them.
    case_of : ndarray
        Case of each item, (N,).
    score : ndarray
        0..3, -1 where missing, (N, R) int8.
    low : ndarray
        null 0, ultralow 1, 1+ or above 2; -1 where missing or not told, (N, R) int8.
    ish : ndarray
        1 positive, 0 negative, -1 not known, (N,) int8.
    values : dict
        ``h_score``, ``percent_*``: (N, R) float64, NaN where missing.
    """

    readers: tuple[str, ...]
    cases: tuple[str, ...]
    case_of: NDArray[np.int64]
    score: NDArray[np.int8]
    low: NDArray[np.int8]
    ish: NDArray[np.int8]
    values: dict[str, NDArray[np.float64]]

    @property
    def people(self) -> list[int]:
        """Columns of the readers who are neither the reference nor the program."""
        return [j for j, r in enumerate(self.readers) if r not in (REFERENCE, PROGRAM)]

    def at(self, reader: str) -> int | None:
        """Return a reader's column, None where there is none."""
        return self.readers.index(reader) if reader in self.readers else None

    def of_cases(self, wanted: Iterable[str]) -> Panel:
        """Return the panel of some of the cases."""
        chosen = set(wanted)
        kept = [k for k, name in enumerate(self.cases) if name in chosen]
        place = np.full(len(self.cases), -1)
        place[kept] = np.arange(len(kept))
        rows = place[self.case_of] >= 0
        return Panel(
            self.readers, tuple(self.cases[k] for k in kept), place[self.case_of][rows],
            self.score[rows], self.low[rows], self.ish[rows],
            {name: v[rows] for name, v in self.values.items()},
        )  # fmt: skip


def make_panel(reads: Sequence[Read]) -> Panel:
    """Return the panel of first reads: of each reader's reads of an item the lowest read_no."""
    first: dict[tuple[tuple[str, str, str], str], Read] = {}
    for r in reads:
        key = r.item, r.reader
        known = first.setdefault(key, r)
        if r.read_no < known.read_no:
            first[key] = r
    return _filled(reads, {(item, name): r for (item, name), r in first.items()},
                   _in_order(r.reader for r in reads))  # fmt: skip


@dataclass(frozen=True)
class Repeat:
    """Two reads of one reader: columns ``a`` and ``b`` of the panel of repeated reads."""

    reader: str
    first: int
    second: int
    a: int
    b: int


def repeats(reads: Sequence[Read]) -> tuple[Panel | None, list[Repeat]]:
    """Return a panel with a column for every read number of those who read again, and its pairs."""
    numbers: dict[str, set[int]] = {}
    for r in reads:
        numbers.setdefault(r.reader, set()).add(r.read_no)
    again = {name: sorted(n) for name, n in numbers.items() if len(n) > 1}
    if not again:
        return None, []
    columns = [f"{name} {k}" for name, n in again.items() for k in n]
    kept = [r for r in reads if r.reader in again]
    panel = _filled(kept, {(r.item, f"{r.reader} {r.read_no}"): r for r in kept}, columns)
    pairs = [Repeat(name, i, j, columns.index(f"{name} {i}"), columns.index(f"{name} {j}"))
             for name, n in again.items() for i, j in combinations(n, 2)]  # fmt: skip
    return panel, pairs


def _in_order(names: Iterable[str]) -> list[str]:
    rank = {REFERENCE: 0, PROGRAM: 2}
    return sorted(dict.fromkeys(names), key=lambda name: rank.get(name, 1))


def _filled(
    reads: Sequence[Read],
    chosen: dict[tuple[tuple[str, str, str], str], Read],
    columns: Sequence[str],
) -> Panel:
    items = {item: i for i, item in enumerate(dict.fromkeys(r.item for r in reads))}
    cases = {case: i for i, case in enumerate(dict.fromkeys(item[0] for item in items))}
    place = {name: j for j, name in enumerate(columns)}
    shape = (len(items), len(columns))
    score, low = np.full(shape, -1, np.int8), np.full(shape, -1, np.int8)
    names = sorted({name for r in reads for name in r.values})
    values = {name: np.full(shape, np.nan) for name in names}
    ish = np.full(len(items), -1, np.int8)
    for r in reads:
        # what the reads say of ISH stands before what a result says, which comes last
        if r.ish is not None and ish[items[r.item]] < 0:
            ish[items[r.item]] = int(r.ish)
    for (item, column), r in chosen.items():
        at = items[item], place[column]
        if r.score is not None:
            score[at] = r.score
            low[at] = _low(r)
        for name, value in r.values.items():
            values[name][at] = value
    case_of = np.array([cases[item[0]] for item in items], np.int64)
    return Panel(tuple(columns), tuple(cases), case_of, score, low, ish, values)


def _low(read: Read) -> int:
    if read.score:
        return 2
    return -1 if read.substate is None else LOW_CLASSES.index(read.substate)
