"""Whether staining differs from place to place, apart from what is called positive.

Two questions that a verdict on positive cells leaves open: do areas differ more than chance lets
them, and do strongly and weakly stained cells lie apart where few cells are positive?

References
----------
Pearson's chi-square of an areas x 2 table by permutation of the labels: Agresti A (2013),
Categorical Data Analysis, 3rd ed., 16.5. Patches: see `pattern`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.core.settings import Settings
from her2path.space.heterogeneity.pattern import (
    PatternFacts,
    decide,
    neighbourhood,
    not_evaluable,
    threads,
)
from her2path.space.heterogeneity.table import Points
from her2path.space.spatial.permutation import label_test

__all__ = ["area_difference", "staining"]

Int = NDArray[np.int64]
#: random labellings: whether it is uneven rests on the patches, not on the p-value
MOST_DRAWS = 127
LEVELS = ("faint", "moderate", "intense")


def area_difference(positive: Int, cells: Int, settings: Settings) -> float | None:
    """Return the chance that areas differ at least so much, were all cells alike.

    Parameters
    ----------
    positive, cells : (a,) int64
        Positive and all cells of each evaluable area.
    settings : Settings
        ``heterogeneity.permutations`` and ``seed``.

    Returns
    -------
    float or None
        (1 + exceeding) / (1 + draws); None with fewer than two areas, or where all cells are equal.
    """
    total, hits = int(cells.sum()), int(positive.sum())
    if cells.size < 2 or hits in (0, total):
        return None
    rng = np.random.default_rng([settings.seed, 19])
    draws = settings.heterogeneity.permutations
    drawn = rng.multivariate_hypergeometric(cells, hits, draws, method="marginals")
    expected = cells * (hits / total)

    def unlike(k: Int) -> NDArray[np.float64]:
        return np.asarray(((k - expected) ** 2 / expected).sum(axis=-1))

    exceeding = int((unlike(drawn) >= unlike(positive) * (1 - 1e-9)).sum())
    return (1 + exceeding) / (1 + draws)


def staining(points: Points, pattern: PatternFacts, settings: Settings) -> dict[str, Any]:
    """Return how weaker and stronger cells lie, at the strength that divides them most evenly.

    Where the positive cells lie in patches already, staining is uneven by them, and nothing more is
    looked for.

    Parameters
    ----------
    points : Points
    pattern : PatternFacts
        Of the positive cells.
    settings : Settings

    Returns
    -------
    dict
        ``from_intensity`` (faint, moderate or intense: cells of that strength or more, complete or
        not; None for the positive cells themselves), their ``fraction``, ``type`` as of a pattern,
        ``moran_i``, ``p_value``, ``uneven`` (they lie in patches) and ``reason``.
    """
    facts: dict[str, Any] = dict.fromkeys(
        ("from_intensity", "fraction", "type", "moran_i", "p_value", "uneven", "reason")
    )
    if points.intensity is None or not points.located:
        return facts | {"reason": "needs patterns and positions"}
    if pattern.type == "clustered":
        fraction, found = float(points.positive.mean()), (pattern.test, "clustered", pattern.reason)
    else:
        shares = [float((points.intensity >= level).mean()) for level in (1, 2, 3)]
        best = int(np.argmin([abs(s - 0.5) for s in shares]))
        facts["from_intensity"], fraction = LEVELS[best], shares[best]
        found = _layout(points, points.intensity > best, settings)
    test, kind, reason = found
    return facts | {
        "fraction": fraction, "type": kind, "reason": reason, "uneven": kind == "clustered",
        "moran_i": None if test is None else test.moran_i,
        "p_value": None if test is None else test.p_value,
    }  # fmt: skip


def _layout(points: Points, above: NDArray[np.bool_], settings: Settings) -> Any:
    x, y = points.at()
    n, k = above.size, int(above.sum())
    why_not = not_evaluable(x, y, settings.heterogeneity.pattern_min_cells)
    if why_not:
        return None, "not_evaluable", why_not
    if k in (0, n):
        return None, "homogeneous", "all cells are alike"
    around = neighbourhood(x, y, above, settings)
    held = [int(marks.sum()) for marks in around.held(above)]
    kind, reason = decide((k, n), (held[0], held[1]), settings, ("stronger", "weaker"))
    draws = min(MOST_DRAWS, settings.heterogeneity.permutations)
    return label_test(above, around.near, draws, settings.seed, threads(settings)), kind, reason
