"""Cut-offs from controls of known level: 0, 1+, 2+, 3+.

Between 1+ and 2+, and between 2+ and 3+, the cut-off is the one that leaves the fewest stained
cells of the two levels on the wrong side, both levels weighed alike (Youden 1950, Cancer 3:32);
since the count is flat about its minimum, it is the middle (in logarithms) of the cut-offs that do
as well but for 2.5 % of the cells. So a control may be mixed, as tissue is: only its share of
darker cells has to rise with the level. The lowest cut-off is the greater of the limit of blank of
the 0 controls (95th percentile of all their cells, CLSI EP17) and the value that 95 % of the
stained cells of the 1+ controls exceed. An interval holds every cut-off that does as well, and what
other pieces of the controls would give (bootstrap over squares of 100 µm).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from her2path.core.errors import UsageError
from her2path.core.intervals import wilson
from her2path.core.schema import SCORES
from her2path.scoring.calibration.control import Control

__all__ = ["Cutoffs", "cutoffs_from_levels", "relative_error"]

F64 = NDArray[np.float64]
NEEDED = (1, 2, 3)
#: limit of blank, and share of the stained 1+ cells that the lowest cut-off keeps
BLANK, KEPT = 0.95, 0.95
#: levels of which more cells than this lie on the wrong side of the best cut-off overlap
MOST_WRONG = 1 / 3
#: cut-offs that part the levels as well as the best but for this share of the cells
AS_WELL = 0.025
#: cut-offs tried between two levels
STEPS = 241
DRAWS = 200
#: stained cells that a control of 1+ or above shows
LEAST_STAINED = 20


@dataclass(frozen=True)
class Cutoffs:
    """Cut-offs for faint, moderate, intense with 95 % intervals, (3,) and (3, 2), in OD.

    ``blank_share`` is the upper 95 % limit (Wilson) of the stained share in the 0 controls at the
    lowest cut-off; None without such controls. ``unseen``: the 1+ controls show hardly a stained
    cell, so that the lower cut-offs rest on the 2+ controls.
    """

    values: F64
    intervals: F64
    blank_share: float | None = None
    unseen: bool = False


def relative_error(values: F64, intervals: F64) -> float:
    """Return one half-width for three cut-offs that move together: the middle one, at most 1."""
    ratio = np.maximum(intervals[:, 1] / values, values / intervals[:, 0])
    return float(min(np.median(ratio) - 1, 1.0))


def cutoffs_from_levels(
    controls: Sequence[Control], measure: str, seed: int = 0, usual: float | None = None
) -> Cutoffs:
    """Return the cut-offs that part controls of known level.

    Parameters
    ----------
    controls : sequence of Control
        Those with a level count.
    measure : str
        The column that decides the intensity.
    seed : int
        Of the bootstrap.
    usual : float, optional
        Ratio of the faint to the moderate cut-off, for 1+ controls of which hardly a cell is seen
        (a pale staining, a soft scan): the moderate cut-off is then the value that 95 % of the
        stained cells of the 2+ controls exceed. Without it such controls are refused.

    Raises
    ------
    UsageError
        Too few controls, controls that do not rank, or levels that overlap.
    """
    by_level = _by_level(controls)
    unseen = _hardly_stained(by_level, measure, usual is not None)
    rng = np.random.default_rng(seed)
    pools = {k: _pool([c.values[measure] for c in found]) for k, found in by_level.items()}
    blank = _limit_of_blank(pools, by_level)
    known = (2, 3) if unseen else NEEDED
    _refuse_overlap(pools, known, blank if 0 in by_level else None)
    ratio = usual if unseen else None
    values = _cuts(pools, blank, ratio)
    if not values[0] < values[1] < values[2]:
        raise UsageError("the controls' cut-offs do not rise", "Check the controls' levels")
    draws = np.array([_drawn(by_level, measure, ratio, rng) for _ in range(DRAWS)])
    low, high = np.nanquantile(draws, [0.025, 0.975], axis=0)
    flat = [(v, v) for v in values[: 4 - len(known)]]
    flat += [_as_well(pools[a], pools[b]) for a, b in pairwise(known)]
    low = np.minimum.reduce([low, values, [f[0] for f in flat]])
    high = np.maximum.reduce([high, values, [f[1] for f in flat]])
    blanks = _blank_share(by_level, measure, values[0])
    return Cutoffs(values, np.stack([low, high], axis=1), blanks, unseen)


def _by_level(controls: Sequence[Control]) -> dict[int, list[Control]]:
    found: dict[int, list[Control]] = {}
    for control in controls:
        if control.level is not None:
            found.setdefault(control.level, []).append(control)
    missing = [SCORES[k] for k in NEEDED if k not in found]
    if missing:
        there = ", ".join(SCORES[k] for k in sorted(found)) or "none"
        raise UsageError(
            f"there are too few controls: none of {', '.join(missing)} (levels: {there})",
            "Give controls of 1+, 2+ and 3+; one of 0 adds the limit of blank",
        )
    return dict(sorted(found.items()))


def _hardly_stained(found: dict[int, list[Control]], measure: str, unseen_is_fine: bool) -> bool:
    """Tell whether 1+ is not seen; refuse other controls with hardly a stained cell."""
    for k in NEEDED:
        for control in found[k]:
            if control.stained(measure).size >= LEAST_STAINED:
                continue
            if k == 1 and unseen_is_fine:
                return True
            raise UsageError(
                f"the control {control.name} ({SCORES[k]}) has hardly a stained cell",
                "Check the control's level and its staining",
            )
    return False


def _pool(parts: Sequence[F64]) -> tuple[F64, F64]:
    """Return values and weights; every control of a level counts the same."""
    weights = [np.full(len(p), 1 / (len(parts) * len(p))) for p in parts]
    return np.concatenate(parts), np.concatenate(weights)


def _stained(pool: tuple[F64, F64]) -> tuple[F64, F64]:
    """Return logarithms and weights of the stained cells, the weights summing to 1."""
    values, weights = pool
    keep = values > 0
    return np.log(values[keep]), weights[keep] / weights[keep].sum()


def _quantile(values: F64, weights: F64, share: float) -> float:
    order = np.argsort(values, kind="stable")
    at = np.searchsorted(np.cumsum(weights[order]), share * weights.sum() * (1 - 1e-12))
    return float(values[order][min(at, len(order) - 1)])


def _limit_of_blank(pools: dict[int, tuple[F64, F64]], found: dict[int, list[Control]]) -> float:
    return _quantile(*pools[0], BLANK) if 0 in found else 0.0


def _refuse_overlap(
    pools: dict[int, tuple[F64, F64]], known: tuple[int, ...], blank: float | None
) -> None:
    """Refuse levels that do not rank or overlap; `blank` None: there is no control of 0."""
    middles = {k: float(np.exp(_quantile(*_stained(pools[k]), 0.5))) for k in known}
    told = ", ".join(f"{SCORES[k]} {m:.3g}" for k, m in middles.items())
    for a, b in pairwise(known):
        if middles[a] >= middles[b]:
            raise UsageError(
                f"the controls do not rank: {SCORES[b]} stains no darker than {SCORES[a]} "
                f"(medians: {told})", "Check which control is which",
            )  # fmt: skip
    first = known[0]
    if blank is not None and blank >= middles[first]:
        raise UsageError(
            f"the levels 0 and {SCORES[first]} overlap: 5 % of the blank's cells reach "
            f"{blank:.3g}, the median of {SCORES[first]} is {middles[first]:.3g}",
            f"Use a cleaner blank, or another {SCORES[first]} control",
        )
    for a, b in pairwise(known):
        wrong = _wrong(pools[a], pools[b], np.array([_between(pools[a], pools[b])]))[0]
        if wrong > MOST_WRONG:
            raise UsageError(
                f"the levels {SCORES[a]} and {SCORES[b]} overlap: {wrong:.0%} of their cells lie "
                "on the wrong side of the best cut-off", "Use controls that are further apart",
            )  # fmt: skip


def _cuts(pools: dict[int, tuple[F64, F64]], blank: float, usual: float | None) -> F64:
    if usual is not None:
        moderate = max(float(np.exp(_quantile(*_stained(pools[2]), 1 - KEPT))), blank * (1 + 1e-6))
        return np.array([max(usual * moderate, blank), moderate, _between(pools[2], pools[3])])
    faint = max(float(np.exp(_quantile(*_stained(pools[1]), 1 - KEPT))), blank)
    return np.array([faint, _between(pools[1], pools[2]), _between(pools[2], pools[3])])


def _between(lower: tuple[F64, F64], upper: tuple[F64, F64]) -> float:
    """Return the cut-off between two levels."""
    low, high = _as_well(lower, upper)
    return float(np.sqrt(low * high))


def _wrong(lower: tuple[F64, F64], upper: tuple[F64, F64], cuts: F64) -> F64:
    """Return the share of stained cells on the wrong side of each cut-off, levels weighed alike."""
    logs = np.log(cuts)
    below = [_below(*_stained(pool), logs) for pool in (lower, upper)]
    return np.asarray(0.5 * (1 - below[0] + below[1]))


def _below(values: F64, weights: F64, limits: F64) -> F64:
    order = np.argsort(values, kind="stable")
    total = np.concatenate([[0.0], np.cumsum(weights[order])])
    return np.asarray(total[np.searchsorted(values[order], limits, side="left")])


def _as_well(lower: tuple[F64, F64], upper: tuple[F64, F64]) -> tuple[float, float]:
    """Return the range of cut-offs round the best that part two levels about as well."""
    (a, wa), (b, wb) = _stained(lower), _stained(upper)
    both, weights = np.concatenate([a, b]), np.concatenate([wa, wb])
    ends = (_quantile(both, weights, 0.005), _quantile(both, weights, 0.995))
    cuts = np.exp(np.linspace(*ends, STEPS))
    wrong = _wrong(lower, upper, cuts)
    best = int(wrong.argmin())
    fine = wrong <= wrong[best] + AS_WELL
    left, right = best, best
    while left > 0 and fine[left - 1]:
        left -= 1
    while right < STEPS - 1 and fine[right + 1]:
        right += 1
    return float(cuts[left]), float(cuts[right])


def _drawn(
    found: dict[int, list[Control]], measure: str, usual: float | None, rng: np.random.Generator
) -> F64:
    """Return the cut-offs of controls, and of squares in them, drawn with replacement."""
    pools = {}
    for level, controls in found.items():
        chosen = [controls[i] for i in rng.integers(0, len(controls), len(controls))]
        pools[level] = _pool([_some_blocks(c, measure, rng) for c in chosen])
    if any(not (pools[k][0] > 0).any() for k in (NEEDED if usual is None else (2, 3))):
        return np.full(3, np.nan)
    return _cuts(pools, _limit_of_blank(pools, found), usual)


def _some_blocks(control: Control, measure: str, rng: np.random.Generator) -> F64:
    n = int(control.block.max()) + 1
    times = rng.multinomial(n, np.full(n, 1 / n))
    return np.asarray(np.repeat(control.values[measure], times[control.block]))


def _blank_share(found: dict[int, list[Control]], measure: str, cut: float) -> float | None:
    if 0 not in found:
        return None
    values = np.concatenate([c.values[measure] for c in found[0]])
    return wilson(int((values >= cut).sum()), len(values))[1]
