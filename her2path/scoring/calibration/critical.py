"""Critical cut-offs of a case: how high each cut-off may lie before the guideline's score falls.

A case reaches a score because enough of its cells reach an intensity. For score *k* and intensity
*j* there is therefore one number, the highest cut-off of *j* at which cells of at least that
intensity alone still bring the case to *k*; at cut-offs *c* the case scores at least *k* where any
of the three critical values reaches its cut-off. For rule sets whose conditions each speak of one
intensity and above (2018, 2023, international, gastric, colorectal, endometrial) this is exact; the
2013 and 2007 rules add faint complete to moderate incomplete cells in one sum, and there it is a
close lower bound.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from her2path.core.schema import PATTERNS, SCORES
from her2path.core.settings import Settings
from her2path.scoring import guidelines
from her2path.scoring.guidelines import Mix, RuleSet

__all__ = ["NEVER", "critical_values", "margins"]

F64 = NDArray[np.float64]
#: logarithm that stands for "at no cut-off"
NEVER = -30.0
#: candidates a case; with clusters to be searched for fewer
STEPS, CLUSTER_STEPS = 400, 48


def critical_values(
    strength: F64, completeness: F64, settings: Settings, at: tuple[F64, F64] | None = None
) -> F64:
    """Return the logarithms of a case's critical cut-offs, (3, 3): score 1+..3+ by intensity 1..3.

    Parameters
    ----------
    strength, completeness : (N,) float64
        Of the tumour cells: the measure that decides the intensity (0 where unstained), and the
        own stained share.
    settings : Settings
        ``score``, and of ``membrane`` ``complete_at`` and ``stained_at``.
    at : two (N,) float64, optional
        Positions, µm, for rule sets that look for clusters.
    """
    rules = guidelines.rule_set(settings.score.guideline)
    stained = (completeness >= settings.membrane.stained_at) & (strength > 0)
    complete = completeness >= settings.membrane.complete_at
    out = np.full((3, 3), NEVER)
    if not stained.any():
        return out
    values = np.where(stained, strength, 0.0)
    steps = CLUSTER_STEPS if rules.needs_clusters else STEPS
    cuts = _candidates(values[stained], steps)
    scores = np.array([SCORES.index(r.score) for r in rules.rules])
    above = [_above(values[chosen], cuts) for chosen in (~complete, complete)]
    for j in (1, 2, 3):
        counts = np.zeros((len(cuts), len(PATTERNS)), np.int64)
        counts[:, 2 * j - 1], counts[:, 2 * j] = above
        counts[:, 0] = len(values) - above[0] - above[1]
        clusters = _clusters(rules, values, cuts, j, at, settings)
        rule = guidelines.rule_indices(rules, Mix(counts, clusters), settings.score)
        for k in (1, 2, 3):
            reached = scores[rule] >= k
            if reached.any():
                out[k - 1, j - 1] = np.log(cuts[reached].max())
    return out


def _candidates(values: F64, steps: int) -> F64:
    """Return cut-offs to try, each a value that occurs: at it the cell still counts."""
    unique = np.unique(values)
    if len(unique) <= steps:
        return unique
    return np.asarray(unique[np.linspace(0, len(unique) - 1, steps).round().astype(np.int64)])


def _above(values: F64, cuts: F64) -> NDArray[np.int64]:
    ordered = np.sort(values)
    return (len(ordered) - np.searchsorted(ordered, cuts, side="left")).astype(np.int64)


def _clusters(
    rules: RuleSet, values: F64, cuts: F64, level: int, at: tuple[F64, F64] | None,
    settings: Settings,
) -> NDArray[np.int64] | None:  # fmt: skip
    if not rules.needs_clusters or at is None:
        return None
    link = settings.score.cluster_link_um
    return np.array([
        guidelines.largest_clusters(*at, np.where(values >= c, level, 0), link) for c in cuts
    ])  # fmt: skip


def margins(critical: F64, log_cutoffs: F64) -> F64:
    """Return by how much (natural logarithm) cases reach each score, (cases, 3).

    Parameters
    ----------
    critical : (cases, 3, 3)
        Of `critical_values`.
    log_cutoffs : (3,)
        Logarithms of the cut-offs. A score is reached where its margin is 0 or more.
    """
    return np.asarray((critical - log_cutoffs).max(axis=2))
