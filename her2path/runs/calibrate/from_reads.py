"""Cut-offs from reads: what the data carry is fitted, the rest is refused in one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2path.core.errors import UsageError
from her2path.core.schema import SCORES
from her2path.core.settings import Settings
from her2path.runs.calibrate.items import Item, critical_of
from her2path.scoring.calibration.ordinal import Fit, Reads, fit, fit_near, intervals, predicted

__all__ = ["FromReads", "fit_reads"]

F64 = NDArray[np.float64]
#: cases, and cases on either side of each cut-off, that reads must cover
LEAST_CASES, LEAST_BESIDE = 8, 2
#: stained shares at which a membrane may count as complete
COMPLETE = tuple(round(0.60 + 0.05 * i, 2) for i in range(8))
#: half of the chi-square of one degree of freedom at 95 %
SURE = 1.9207
#: folds of the cross-validation where there are more cases than that
FOLDS = 10


@dataclass(frozen=True)
class FromReads:
    """Cut-offs (3,), their 95 % intervals (3, 2), agreement, and completeness where carried."""

    values: F64
    intervals: F64
    agreement: dict[str, float]
    complete_at: float | None
    complete_at_interval: tuple[float, float] | None
    spread: float


def fit_reads(items: Sequence[Item], settings: Settings, draws: int, seed: int = 0) -> FromReads:
    """Fit the cut-offs, with intervals over cases and a cross-validation by case.

    Raises
    ------
    UsageError
        A single case or too few, readers with one score only, a cut-off without reads on both of
        its sides, or reads that do not rise with the staining.
    """
    cases = _of_one_case_each(items)
    counts = np.array([i.counts for i in items])
    _refuse(counts, cases)
    start = np.log(np.array(settings.membrane.cutoffs))
    reads = Reads(critical_of(items, settings), counts)
    start = _near(reads, start)
    found = fit(reads, start)
    _refuse_unrelated(found, counts)
    complete, interval = _complete_at(items, settings, found)
    if complete is not None:
        settings = settings.replace({"membrane.complete_at": complete})
        reads = Reads(critical_of(items, settings), counts)
        found = fit(reads, found.log_cutoffs)
    rng = np.random.default_rng(seed)
    limits = intervals(reads, found, draws, rng, cases)
    limits[:, 0] = np.minimum(limits[:, 0], found.log_cutoffs)
    limits[:, 1] = np.maximum(limits[:, 1], found.log_cutoffs)
    agreement = _agreement(reads, found, "") | _cross_validated(reads, found, cases)
    return FromReads(np.exp(found.log_cutoffs), np.exp(limits), agreement, complete, interval,
                     found.spread)  # fmt: skip


def _of_one_case_each(items: Sequence[Item]) -> NDArray[np.int64]:
    """Return the number of each item's case: slides and regions of a case go together."""
    names = {n: i for i, n in enumerate(dict.fromkeys(i.case for i in items))}
    return np.array([names[i.case] for i in items])


def _refuse(counts: F64, cases: NDArray[np.int64]) -> None:
    n = len(np.unique(cases))
    if n == 1:
        raise UsageError("the reads that have results are of a single case",
                         f"Read {LEAST_CASES} cases or more, of all scores")  # fmt: skip
    told = np.flatnonzero(counts.sum(axis=0))
    if len(told) == 1:
        raise UsageError(f"every read is {SCORES[told[0]]}", "Read cases of all scores")
    if n < LEAST_CASES:
        raise UsageError(f"the reads that have results are of {n} cases, and {LEAST_CASES} are "
                         "needed", "Read more cases, of all scores")  # fmt: skip
    for k in (1, 2, 3):
        above = len(np.unique(cases[counts[:, k:].sum(axis=1) > 0]))
        below = len(np.unique(cases[counts[:, :k].sum(axis=1) > 0]))
        if min(above, below) < LEAST_BESIDE:
            side = f"{SCORES[k]} or above" if above < below else f"below {SCORES[k]}"
            raise UsageError(
                f"the reads do not carry the cut-off between {SCORES[k - 1]} and {SCORES[k]}: "
                f"{min(above, below)} cases are read {side}, and {LEAST_BESIDE} are needed",
                "Read more such cases",
            )


def _near(reads: Reads, start: F64) -> F64:
    """Return cut-offs to begin at, moved together to where the guideline's score agrees best."""
    shifts = np.linspace(-2.5, 2.5, 51)
    told = (reads.counts * np.arange(4)).sum(axis=1) / reads.counts.sum(axis=1)
    off = [np.abs(predicted(reads.critical, start + s) - told).mean() for s in shifts]
    return np.asarray(start + shifts[int(np.argmin(off))])


def _refuse_unrelated(found: Fit, counts: F64) -> None:
    """Refuse reads that are told no better with the cells than without."""
    shares = counts.sum(axis=0) / counts.sum()
    blind = -float((counts.sum(axis=0) * np.log(np.maximum(shares, 1e-12))).sum())
    if found.loss > blind - SURE:
        mend = "Check that case_id names the same cases in reads and results"
        raise UsageError("the reads do not rise with the staining of the cells", mend)


def _complete_at(
    items: Sequence[Item], settings: Settings, found: Fit
) -> tuple[float | None, tuple[float, float] | None]:
    """Return the completeness that the reads carry, and its interval; None where they do not."""
    counts = np.array([i.counts for i in items])
    losses = []
    for share in COMPLETE:
        tried = settings.replace({"membrane.complete_at": share})
        losses.append(fit_near(Reads(critical_of(items, tried), counts), found).loss)
    best = int(np.argmin(losses))
    if found.loss - losses[best] < SURE or best in (0, len(COMPLETE) - 1):
        return None, None
    fine = [s for s, loss in zip(COMPLETE, losses, strict=True) if loss < losses[best] + SURE]
    return COMPLETE[best], (min(fine), max(fine))


def _agreement(reads: Reads, found: Fit, suffix: str) -> dict[str, float]:
    return _figures(predicted(reads.critical, found.log_cutoffs), reads.counts, suffix)


def _cross_validated(reads: Reads, found: Fit, cases: NDArray[np.int64]) -> dict[str, float]:
    """Return the agreement of cases with cut-offs that were fitted without them."""
    n = int(cases.max()) + 1
    fold = cases % min(n, FOLDS)
    said = np.zeros(len(cases), np.int64)
    for k in np.unique(fold):
        rest = np.flatnonzero(fold != k)
        without = fit_near(reads.take(rest), found)
        said[fold == k] = predicted(reads.critical[fold == k], without.log_cutoffs)
    return _figures(said, reads.counts, "_cross_validated")


def _figures(said: NDArray[np.int64], counts: F64, suffix: str) -> dict[str, float]:
    """Return exact agreement and quadratic kappa of the program with the reads."""
    table = np.zeros((4, 4))
    np.add.at(table, said, counts)
    table /= table.sum()
    apart = (np.arange(4)[:, None] - np.arange(4)) ** 2
    chance = float((np.outer(table.sum(axis=1), table.sum(axis=0)) * apart).sum())
    kappa = 1 - float((table * apart).sum()) / chance if chance > 0 else 1.0
    exact = float(np.trace(table))
    return {f"exact{suffix}": round(exact, 4), f"kappa{suffix}": round(kappa, 4)}
