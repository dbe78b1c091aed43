"""Cut-offs from readers' scores: a cumulative-link regression on the cases' critical cut-offs.

A reader calls a case at least *k* with a probability that rises with the case's margin: by how
much, in logarithms of OD, it reaches *k* at the cut-offs (`critical.margins`). Cut-offs and the
readers' spread are fitted together (McCullagh 1980, J R Stat Soc B 42:109, cumulative logits), so
that the guideline's own score at the cut-offs is the likeliest read of every case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from her2path.scoring.calibration.critical import margins

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["DRAWS", "Fit", "Reads", "fit", "intervals", "predicted"]

F64 = NDArray[np.float64]
#: a read that is a slip, whatever the case
LAPSE = 0.02
#: readers' spread before any read is seen: median (log OD, logistic) and spread of its logarithm
USUAL, VARIES = 0.15, 0.7
#: draws of the bootstrap over cases
DRAWS = 200
#: points of a cut-off's own likelihood, and how far from the estimate they reach (log OD)
POINTS, REACH = 81, 2.0
#: what is left out on either side of an interval: a draw holds both the cases' chance and the
#: likelihood's width, which together are wider than 95 %; see docs/calibration.md for the coverage
TAIL = 0.05
#: how the fits run
BOUNDS = ((None, None), (-4, 3), (-4, 3), (-4, 1))
HOW = {"ftol": 1e-8, "maxiter": 60}


@dataclass(frozen=True)
class Reads:
    """Reads of cases: ``critical`` (cases, 3, 3); ``counts`` (cases, 4), reads of each score."""

    critical: F64
    counts: F64

    def take(self, cases: NDArray[np.int64]) -> Reads:
        """Return some of the cases, again and again where they are named so."""
        return Reads(self.critical[cases], self.counts[cases])


@dataclass(frozen=True)
class Fit:
    """Logarithms of the cut-offs, and the readers' spread (log OD)."""

    log_cutoffs: F64
    spread: float
    loss: float


def fit(reads: Reads, start: F64) -> Fit:
    """Return the likeliest cut-offs.

    Parameters
    ----------
    reads : Reads
    start : (3,)
        Logarithms of cut-offs to begin at, rising.
    """
    first = np.array([start[0], *np.log(np.maximum(np.diff(start), 0.05)), np.log(USUAL)])
    best = None
    # the likelihood of few cases has more than one summit
    for shift in (0.0, -0.7, 0.7):
        begin = first + np.array([shift, 0.0, 0.0, 0.0])
        found = _minimal(begin, reads)
        if best is None or found.fun < best.fun - 1e-9:
            best = found
    assert best is not None
    return Fit(_cutoffs(best.x), float(np.exp(best.x[3])), float(best.fun))


def _minimal(begin: F64, reads: Reads) -> OptimizeResult:
    from scipy.optimize import minimize

    return minimize(_loss, begin, (reads,), jac=True, method="L-BFGS-B", bounds=BOUNDS, options=HOW)


def _cutoffs(theta: F64) -> F64:
    return np.asarray(theta[0] + np.array([0.0, *np.cumsum(np.exp(theta[1:3]))]))


def _loss(theta: F64, reads: Reads) -> tuple[float, F64]:
    """Return minus the log likelihood, prior of the spread included, and its gradient."""
    cuts, spread = _cutoffs(theta), float(np.exp(theta[3]))
    gap = reads.critical - cuts
    which = gap.argmax(axis=2)
    z = np.take_along_axis(gap, which[..., None], 2)[..., 0] / spread
    reach = expit(z)
    p = _shares(reach)
    away = (theta[3] - np.log(USUAL)) / VARIES
    loss = -float((reads.counts * np.log(p)).sum()) + 0.5 * float(away) ** 2
    by_p = -reads.counts / p * (1 - 4 * LAPSE)
    # the share of score k is what reaches k less what reaches k + 1
    by_z = (by_p[:, 1:] - by_p[:, :-1]) * reach * (1 - reach)
    by_cut = np.array([-(by_z * (which == j)).sum() / spread for j in range(3)])
    steps = np.exp(theta[1:3])
    grad = np.array([
        by_cut.sum(), steps[0] * by_cut[1:].sum(), steps[1] * by_cut[2],
        -(by_z * np.clip(z, -1e6, 1e6)).sum() + away / VARIES,
    ])  # fmt: skip
    return loss, grad


def _shares(reach: F64) -> F64:
    """Return the probability of each score, (cases, 4), from that of reaching 1+, 2+, 3+."""
    ends = np.ones((len(reach), 1))
    p = -np.diff(np.hstack([ends, reach, 0 * ends]), axis=1)
    return np.asarray(LAPSE + (1 - 4 * LAPSE) * np.clip(p, 0, 1))


def intervals(
    reads: Reads, found: Fit, draws: int, rng: np.random.Generator,
    cases: NDArray[np.int64] | None = None,
) -> F64:  # fmt: skip
    """Return 95 % intervals of the logarithms of the cut-offs, (3, 2).

    `cases` (items,) numbers the items' cases from 0; without it every item is a case. Cases are
    drawn with replacement and fitted again. Where reads fall cleanly on two sides any cut-off
    between them is as good: of every draw a cut-off is therefore taken from its own likelihood, not
    only the likeliest.
    """
    owner = np.arange(len(reads.counts)) if cases is None else cases
    n = int(owner.max()) + 1
    members = [np.flatnonzero(owner == c) for c in range(n)]
    out = np.empty((draws, 3))
    for d in range(draws):
        mine = reads.take(np.concatenate([members[c] for c in rng.integers(0, n, n)]))
        out[d] = _one(mine, fit_near(mine, found), rng)
    return np.quantile(out, [TAIL, 1 - TAIL], axis=0).T


def fit_near(reads: Reads, found: Fit) -> Fit:
    """Fit again from where another fit ended."""
    c = found.log_cutoffs
    begin = np.array([c[0], *np.log(np.maximum(np.diff(c), 0.05)), np.log(found.spread)])
    again = _minimal(begin, reads)
    return Fit(_cutoffs(again.x), float(np.exp(again.x[3])), float(again.fun))


def _one(reads: Reads, found: Fit, rng: np.random.Generator) -> F64:
    """Take one value of each cut-off from its likelihood, the others held."""
    steps = np.linspace(-REACH, REACH, POINTS)
    out = found.log_cutoffs.copy()
    for j in range(3):
        cuts = np.repeat(found.log_cutoffs[None], POINTS, axis=0)
        cuts[:, j] += steps
        gap = (reads.critical[None] - cuts[:, None, None, :]).max(axis=3)
        p = _shares(expit(gap.reshape(-1, 3) / found.spread)).reshape(POINTS, -1, 4)
        likely = (reads.counts[None] * np.log(p)).sum(axis=(1, 2))
        weight = np.exp(likely - likely.max())
        at = rng.choice(POINTS, p=weight / weight.sum())
        out[j] += steps[at] + (rng.random() - 0.5) * (steps[1] - steps[0])
    return out


def predicted(critical: F64, log_cutoffs: F64) -> NDArray[np.int64]:
    """Return the guideline's score 0..3 of cases at cut-offs."""
    reached = margins(critical, log_cutoffs) >= -1e-9
    return np.asarray(np.where(reached, np.arange(1, 4), 0).max(axis=1), np.int64)
