"""What a slide cannot show, and what may be no tumour: counts as they may be in truth.

**Kind.** A cell is tumour with the probability that the reading gave its kind. A slide's doubtful
cells are wrong together rather than singly: every draw moves all their log odds by one normal
deviate, and each pattern keeps the share of its cells that are then expected to be tumour.

**Selection.** Doubtful cells that read unstained may be the wrong cells altogether: what counts is
then elsewhere, and of its score nothing is known. Stained ones are not, since hardly anything but
tumour stains along its membrane. The expected share of the counted cells that are no tumour and
unstained is the share of draws in which the four scores are equally likely.

**Detection.** Of truly faint cells a share f is found, of truly unstained ones a share b reads
stained. Of the cells that read none or faint, the share that reads stained is then ``b + (f - b)
t``, with t the share that is faint in truth (Rogan & Gladen 1978, Am J Epidemiol 107:71-76). Every
draw takes f from the curves of the slide's detection limit, at this draw's cut-offs, and b from
what the blanks leave open, and draws t from its posterior probability. Before anything was read, 0
and 1+ are equally likely, and so are null and ultralow. Where f is hardly above b, what was read
says little of t: unseen faint cells are then a wide distribution, not none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, expit, logit, ndtri

from her2path.cells.sensitivity import fit, limits_od
from her2path.core.results import Sensitivity
from her2path.core.settings import MembraneSettings

__all__ = ["KIND_SD", "faint_shares", "keep_tumour", "mistaken", "reveal"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

#: by how much (SD, log odds) the certainty of a slide's kinds may be off as a whole
KIND_SD = 1.0
#: by how much (SD, log odds) real faint cells are found more or less often than lines laid
#: (docs/uncertainty.md)
FOUND_SD = 0.75
#: by how much (SD, logarithm) the blank rate of cells that never were stained may differ
BLANK_SD = 0.5
#: the highest blank rate where none was measured
UNKNOWN_BLANK = 0.1
#: the prior of t is Beta(PRIOR, 1): up to 10 % as likely as above it, up to 1 % as likely as from 1
#: to 10 %, so that 0 and 1+, null and ultralow are equally likely before anything was read
PRIOR = np.log10(2.0)
#: points of the prior, each as likely as the others
POINTS = 400
#: points over which faint cells' share is averaged
STEPS = 16
NONE, FAINT = 0, (1, 2)
#: patterns of a tissue of which nothing is known: the four scores equally likely, of 0 its halves
ANY_SCORE = np.array([
    [1, 0, 0, 0, 0, 0, 0], [0.95, 0.05, 0, 0, 0, 0, 0], *2 * [[0, 0.5, 0.5, 0, 0, 0, 0]],
    *2 * [[0, 0, 0, 0.5, 0.5, 0, 0]], *2 * [[0, 0, 0, 0, 0, 0, 1]],
])  # fmt: skip


def keep_tumour(counts: I64, pattern: I64, certainty: F64 | None, levels: F64) -> I64:
    """Return the counts of every draw without what is expected to be no tumour.

    Parameters
    ----------
    counts : int64 (draws, 7)
    pattern : int64 (N,)
        Patterns of the cells as read.
    certainty : float64 (N,) or None
        Probability of their kind; None leaves the counts as they are.
    levels : float64 (draws,)
        One of 0..1 a draw.
    """
    if certainty is None or not len(certainty) or certainty.min() >= 1.0:
        return counts
    # a fine histogram stands for the cells
    edges = np.linspace(0.0, 1.0, 51)
    where = np.clip(np.searchsorted(edges, certainty, side="right") - 1, 0, 49)
    tally = np.bincount(pattern.astype(np.int64) * 50 + where, minlength=7 * 50).reshape(7, 50)
    middle = np.clip(0.5 * (edges[1:] + edges[:-1]), 1e-3, 1 - 1e-3)
    kept = expit(logit(middle)[None] + KIND_SD * ndtri(levels)[:, None])
    kept[:, -1] = 1.0
    shares = (kept @ tally.T) / np.maximum(tally.sum(axis=1), 1)
    return np.asarray(np.rint(counts * shares), np.int64)


def mistaken(counts: I64, pattern: I64, certainty: F64 | None, levels: F64) -> I64:
    """Return the counts of every draw; of as many as the selection may be wrong in, any score's.

    Parameters
    ----------
    counts : int64 (draws, 7)
    pattern : int64 (N,)
        Patterns of the cells as read.
    certainty : float64 (N,) or None
        Probability of their kind; None leaves the counts as they are.
    levels : float64 (draws,)
        One of 0..1 a draw.
    """
    if certainty is None or not len(certainty):
        return counts
    doubt = float((1.0 - certainty[pattern == NONE]).sum()) / len(certainty)
    wrong = np.flatnonzero(levels < doubt)
    out = counts.copy()
    if len(wrong):
        which = np.minimum((levels[wrong] / doubt * len(ANY_SCORE)).astype(np.int64), 7)
        total = counts[wrong].sum(axis=1, keepdims=True)
        rest = np.rint(total * ANY_SCORE[which, 1:]).astype(np.int64)
        out[wrong] = np.concatenate([total - rest.sum(axis=1, keepdims=True), rest], axis=1)
    return out


def faint_shares(
    measured: Sensitivity, settings: MembraneSettings, factors: F64, levels: F64, apart: F64
) -> F64:
    """Return the share of faint cells found by their line, one a draw.

    Parameters
    ----------
    measured : Sensitivity
    settings : MembraneSettings
        The first two cut-offs bound what is faint.
    factors : float64 (draws,)
        By which each draw moves the cut-offs.
    levels, apart : float64 (draws,)
        Of 0..1: which curve is the true one, and by how much real cells differ from lines.
    """
    if measured.faint_found is None:
        # not measurable: up to a tenth as likely as more, which is what slides show
        return np.asarray(levels ** (1 / PRIOR), np.float64)
    curve = fit(measured.recovery, measured.blank_rate or 0.0)
    order = np.argsort(curve.faint(*limits_od(settings)), kind="stable")
    chosen = order[np.searchsorted(np.cumsum(curve.weight[order]), levels * (1 - 1e-9))]
    low, high = limits_od(settings)
    step = (np.arange(STEPS) + 0.5) / STEPS
    od = low * (high / low) ** step[None] * factors[:, None]
    # what the line itself brings, without what reads stained anyway (Abbott)
    shares = (curve.one_each(chosen, od).mean(axis=1) - curve.guess) / (1 - curve.guess)
    return np.asarray(expit(logit(np.clip(shares, 1e-6, 1 - 1e-6)) + FOUND_SD * ndtri(apart)))


def blank_rates(measured: Sensitivity, levels: F64, apart: F64) -> F64:
    """Return the share of unstained cells that read stained, one a draw."""
    if measured.faint_found is None:
        return np.asarray(UNKNOWN_BLANK * levels)
    n, k = measured.blanks, (measured.blank_rate or 0.0) * measured.blanks
    rate = betaincinv(k + 0.5, n - k + 0.5, levels) * np.exp(BLANK_SD * ndtri(apart))
    return np.asarray(np.minimum(rate, 0.5))


def reveal(counts: I64, found: F64, blank: F64, tops: F64, levels: F64) -> I64:
    """Return the counts of every draw as they may be in truth.

    Parameters
    ----------
    counts : int64 (draws, 7)
        Of what was read.
    found, blank : float64 (draws,)
        Share of faint cells found by their line, and of unstained cells that read stained.
    tops, levels : float64 (draws,)
        Of 0..1: how often such cells read stained at most, as far as their number leaves it open,
        and where in the posterior the draw lies.
    """
    out = counts.copy()
    faint = counts[:, FAINT].sum(axis=1)
    both = counts[:, NONE] + faint
    # unstained cells read stained no more often than all of them together do
    read = betaincinv(faint + 0.5, both - faint + 0.5, tops)
    blank = np.minimum(blank, read)
    t = ((np.arange(POINTS) + 0.5) / POINTS) ** (1 / PRIOR)
    p = np.clip(blank[:, None] + ((1 - blank) * found)[:, None] * t, 1e-9, 1 - 1e-9)
    likely = faint[:, None] * np.log(p) + (both - faint)[:, None] * np.log1p(-p)
    weight = np.exp(likely - likely.max(axis=1, keepdims=True))
    heap = np.cumsum(weight, axis=1)
    place = (heap < (levels * heap[:, -1])[:, None]).sum(axis=1)
    truly = np.rint(t[np.minimum(place, POINTS - 1)] * both).astype(np.int64)
    # complete and incomplete in the proportion read; unseen lines are incomplete where none was
    share = np.divide(counts[:, 2], faint, out=np.zeros(len(out)), where=faint > 0)
    out[:, 2] = np.rint(truly * share).astype(np.int64)
    out[:, 1] = truly - out[:, 2]
    out[:, NONE] = both - truly
    return out
