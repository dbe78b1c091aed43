"""From lines laid and found to a detection limit.

The share of cells found rises with the strength of the line x as

    P(x) = g + (1 - g - l) * Phi((ln x - ln m) / s)

with the blank rate g (Abbott's correction for what reads stained without a line), the lapses l, the
threshold m and the spread s. All of them are uncertain: the curve is a set of curves with weights,
their posterior probabilities on a grid.

References
----------
Wichmann FA, Hill NJ (2001), The psychometric function: I, Percept Psychophys 63:1293-1313. Kuss M,
Jaekel F, Wichmann FA (2005), Bayesian inference for psychometric functions, J Vis 5:478-492.
Abbott WS (1925), J Econ Entomol 18:265-267. CLSI EP17 names what is measured: blank, and the level
found in 95 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from her2path.cells.sensitivity.lines import LEAST_COVERAGE, MOST_COVERAGE, SIGMA_UM
from her2path.core.intervals import wilson
from her2path.core.results import Recovered, Sensitivity
from her2path.core.settings import MembraneSettings, Settings

__all__ = ["LEAST_CELLS", "LEVELS", "Curve", "Spikes", "conclude", "doses", "fit", "join",
           "limits_od", "with_limits"]  # fmt: skip

F64 = NDArray[np.float64]

#: own parts of the lines, as `membrane_od`
LEVELS = (0.01, 0.016, 0.025, 0.04, 0.06, 0.09, 0.14, 0.22)
#: fewer unstained cells, with a line and without, tell nothing
LEAST_CELLS = 50
#: the grid of curves: thresholds, spreads, lapses
THRESHOLDS = np.geomspace(0.003, 0.9, 64)
SPREADS = np.geomspace(0.15, 2.0, 14)
LAPSES = np.array([0.0, 0.02, 0.04])
#: the spread's prior: log-normal about this, with this deviation of the logarithm
USUAL_SPREAD, PRIOR_SD = 0.6, 0.5
#: strengths over which faint cells' share is averaged
FAINT_POINTS = 24


@dataclass(frozen=True)
class Spikes:
    """Cells of spiked readings: with a line, its crest (OD), coverage and the OD read; blanks."""

    crest: F64
    coverage: F64
    read: F64
    blank: F64


def join(parts: Sequence[Spikes]) -> Spikes:
    """Return several readings as one; of none, one without a cell."""
    names = ("crest", "coverage", "read", "blank")
    none = np.zeros(0)
    return Spikes(*(np.concatenate([none, *(getattr(p, n) for p in parts)]) for n in names))


def doses(place: NDArray[np.int64]) -> tuple[F64, F64]:
    """Return the crest (OD) and the coverage of the line of the cell at each place, (N,) each.

    Levels follow each other, coverages by the golden section: any run of places has its fair share
    of all of both.
    """
    crest = np.array(LEVELS)[place % len(LEVELS)]
    golden = (place // len(LEVELS) + place % len(LEVELS)) * 0.6180339887498949 % 1.0
    coverage = LEAST_COVERAGE + (MOST_COVERAGE - LEAST_COVERAGE) * golden
    return crest, np.asarray(coverage, np.float64)


@dataclass(frozen=True)
class Curve:
    """Curves with their weights.

    ``guess`` the blank rate; ``threshold``, ``spread``, ``lapse`` and ``weight``, (C,) each; the
    weights sum to 1.
    """

    guess: float
    threshold: F64
    spread: F64
    lapse: F64
    weight: F64

    def at(self, od: F64) -> F64:
        """Return the share found of lines of own crest OD (K,), by every curve: (C, K)."""
        turn = (np.log(od)[None] - np.log(self.threshold)[:, None]) / self.spread[:, None]
        top = 1 - self.guess - self.lapse[:, None]
        return np.asarray(self.guess + top * ndtr(turn))

    def one_each(self, chosen: NDArray[np.int64], od: F64) -> F64:
        """Return the share found by one chosen curve a row, (R, K), at strengths (R, K)."""
        turn = (np.log(od) - np.log(self.threshold[chosen])[:, None]) / self.spread[chosen][:, None]
        top = 1 - self.guess - self.lapse[chosen][:, None]
        return np.asarray(self.guess + top * ndtr(turn))

    def mean(self, od: F64) -> F64:
        """Return the share found of lines of own crest OD (K,)."""
        return np.asarray(self.weight @ self.at(od))

    def faint(self, low: float, high: float) -> F64:
        """Return the share found between two strengths, their ratios evenly spread, by curve."""
        step = (np.arange(FAINT_POINTS) + 0.5) / FAINT_POINTS
        return np.asarray(self.at(low * (high / low) ** step).mean(axis=1))

    def found_in(self, share: float) -> float | None:
        """Return the strength that a share of cells is found at; None beyond what was laid."""
        od = np.geomspace(LEVELS[0] / 2, LEVELS[-1], 160)
        reached = np.flatnonzero(self.mean(od) >= share)
        return float(od[reached[0]]) if len(reached) else None


def fit(recovery: Sequence[Recovered], blank_rate: float) -> Curve:
    """Fit the curve to what was found.

    Parameters
    ----------
    recovery : sequence of Recovered
    blank_rate : float
        Of cells without a line.
    """
    guess = min(max(blank_rate, 1e-3), 0.5)
    m, s, lapse = (v.ravel() for v in np.meshgrid(THRESHOLDS, SPREADS, LAPSES, indexing="ij"))
    curve = Curve(guess, m, s, lapse, np.ones(len(m)))
    n = np.array([r.n for r in recovery], np.float64)
    k = np.array([round(r.found * r.n) for r in recovery], np.float64)
    p = np.clip(curve.at(np.array([r.membrane_od for r in recovery])), 1e-6, 1 - 1e-6)
    likely = (k * np.log(p) + (n - k) * np.log1p(-p)).sum(axis=1)
    likely -= 0.5 * (np.log(s / USUAL_SPREAD) / PRIOR_SD) ** 2
    weight = np.exp(likely - likely.max())
    return Curve(guess, m, s, lapse, weight / weight.sum())


def limits_od(settings: MembraneSettings) -> tuple[float, float]:
    """Return the first two cut-offs as OD of a line's crest, whatever measure they are of."""
    low, high = settings.cutoffs[:2]
    if settings.measure == "membrane_mass":
        width = SIGMA_UM * np.sqrt(2 * np.pi)
        return float(low / width), float(high / width)
    return low, high


def conclude(spikes: Spikes, stained: int, blur_um: float, settings: Settings) -> Sensitivity:
    """Sum up the readings of a slide.

    Parameters
    ----------
    spikes : Spikes
    stained : int
        Tumour cells of the fields that read stained as they were.
    blur_um : float
        By how much the slide is softer than a sharp one.
    settings : Settings
        ``membrane`` says what a faint cell is.
    """
    n, blanks = len(spikes.crest), len(spikes.blank)
    seen = n + blanks
    if seen < LEAST_CELLS:
        if stained > seen:
            return Sensitivity.without(
                f"nearly all tumour cells are stained: {seen} unstained ones were seen", n, blur_um
            )
        return Sensitivity.without(f"{seen} unstained tumour cells were seen", n, blur_um)
    recovery = []
    for level in LEVELS:
        mine = spikes.crest == level
        count, found = int(mine.sum()), int((spikes.read[mine] > 0).sum())
        if count:
            low, high = wilson(found, count)
            recovery.append(
                Recovered(membrane_od=level, found=found / count, low=low, high=high, n=count)
            )
    blank = float((spikes.blank > 0).mean()) if blanks else 0.0
    measured = Sensitivity(
        cells=n, blanks=blanks, blank_rate=blank, recovery=tuple(recovery), blur_um=blur_um
    )
    return with_limits(measured, settings.membrane)


def with_limits(measured: Sensitivity, settings: MembraneSettings) -> Sensitivity:
    """Return what was measured with the figures that follow from it and the cut-offs."""
    if not measured.recovery or measured.blank_rate is None:
        return measured
    curve = fit(measured.recovery, measured.blank_rate)
    # what the line itself brings, without what reads stained anyway (Abbott)
    shares = (curve.faint(*limits_od(settings)) - curve.guess) / (1 - curve.guess)
    shares = np.clip(shares, 0.0, 1.0)
    order = np.argsort(shares)
    ends = np.interp([0.025, 0.975], np.cumsum(curve.weight[order]), shares[order])
    return measured.model_copy(
        update={
            "od_50": curve.found_in(0.50), "od_95": curve.found_in(0.95),
            "faint_found": float(curve.weight @ shares),
            "faint_found_low": float(ends[0]), "faint_found_high": float(ends[1]),
        }
    )  # fmt: skip
