"""How positive cells lie among the tumour cells: homogeneous, clustered, mosaic, scattered.

The order of the questions (limits are settings):

1. positives at or below the noise floor, or no more than calling errors explain and without
   patches: homogeneous (negative);
2. clustered: significant patches hold at least half of the positive cells while positives are
   below 90 %, or at least half of the negative cells while negatives are 10 % or more;
3. positives at 75 % or more: homogeneous (positive);
4. positives at 10 % or less: scattered;
5. mosaic.

A cell lies in a patch when its 24 nearest neighbours and itself hold significantly more (or fewer)
positives than a random labelling of the tumour cells gives (Gi*, exact, false discovery rate 5 %).
Calling errors are taken as independent of place: they can make positives, but no patches.

References
----------
Hou Y, Nitta H, Li Z (2023), PMC10216596 (clustered, mosaic, scattered). Lab Invest 2018,
s41374-018-0172-y (cluster and mosaic criteria on local indicators).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.core.intervals import at_least, more_than
from her2path.core.settings import Settings
from her2path.space.spatial.getis import hot_and_cold, local_types
from her2path.space.spatial.permutation import LabelTest, label_test
from her2path.space.spatial.tiling import TERRITORY_UM, square_ids, unkey
from her2path.space.spatial.weights import search

__all__ = [
    "Neighbourhood",
    "PatternFacts",
    "decide",
    "error_explains",
    "neighbourhood",
    "not_evaluable",
    "threads",
    "type_pattern",
]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
#: patches of fewer cells are not counted as patches in the size table
MIN_PATCH = 5
#: side of a bin of the map of patches, µm, doubled until so few bins hold tumour
SPOT_UM, MAX_SPOTS = 50.0, 1000


@dataclass(frozen=True)
class Neighbourhood:
    """What the neighbours of each cell say.

    Attributes
    ----------
    near : (n, k) int32
        Nearest neighbours.
    hot, cold : (n,) bool
        Cells in significant positive and negative patches.
    near_positive : (n,) int
        Positives among the k nearest.
    size : int
        Cells of a patch neighbourhood, the own one included.
    """

    near: NDArray[np.int32]
    hot: Bool
    cold: Bool
    near_positive: NDArray[np.int32]
    size: int

    def held(self, positive: Bool) -> tuple[Bool, Bool]:
        """Return the positive cells that positive patches hold, and negative by negative ones.

        A cell is held where it lies in a patch, or beside a cell that does: at the rim of a clone
        half of the neighbours are strangers, and no rim cell could be significant itself.
        """
        return (
            positive & (self.hot | self.hot[self.near].any(axis=1)),
            ~positive & (self.cold | self.cold[self.near].any(axis=1)),
        )


@dataclass(frozen=True)
class PatternFacts:
    """The type and what it rests on."""

    type: str
    reason: str
    test: LabelTest | None
    hot_share: float | None
    extras: dict[str, Any]
    around: Neighbourhood | None = None
    mostly_positive: bool = False


def neighbourhood(x: Float, y: Float, positive: Bool, settings: Settings) -> Neighbourhood:
    """Find neighbours and significant patches; memory beyond the result does not grow with n."""
    rules = settings.heterogeneity
    n = x.size
    k = min(rules.neighbours, n - 1)
    wide = max(k, min(rules.patch_neighbours, max(4, n // 4), n - 1))
    near = np.empty((n, k), np.int32)
    counts = positive.astype(np.int32)
    near_positive = np.empty(n, np.int32)
    for start, found in search(x, y, wide, threads(settings)):
        rows = slice(start, start + found.shape[0])
        near[rows] = found[:, :k]
        marks = positive[found]
        counts[rows] += marks.sum(axis=1, dtype=np.int32)
        near_positive[rows] = marks[:, :k].sum(axis=1, dtype=np.int32)
    hot, cold = hot_and_cold(counts, wide + 1, int(positive.sum()), rules.fdr)
    return Neighbourhood(near, hot, cold, near_positive, wide + 1)


def error_explains(k: int, n: int, rate: float) -> tuple[bool, float]:
    """Tell whether k positives of n are no more than calling errors give.

    Parameters
    ----------
    k, n : int
    rate : float
        Measured share of cells called positive in error, each independently of the others.

    Returns
    -------
    (bool, float)
        True where P(K >= k) > 5 % for a binomial K, and that probability.
    """
    from scipy.special import bdtrc

    p = 1.0 if k <= 0 else float(bdtrc(k - 1, n, rate))
    return p > 0.05, p


def type_pattern(
    x: Float, y: Float, positive: Bool, ground_um2: Float, settings: Settings
) -> PatternFacts:
    """Type the pattern of positive cells.

    Parameters
    ----------
    x, y : (n,) float64
        Tumour cells in canonical order, µm.
    positive : (n,) bool
    ground_um2 : (n,) float64
        Ground that each cell stands for.
    settings : Settings
        ``heterogeneity`` and ``score.noise_floor``.
    """
    n, k = positive.size, int(positive.sum())
    why_not = not_evaluable(x, y, settings.heterogeneity.pattern_min_cells)
    if why_not:
        return PatternFacts("not_evaluable", why_not, None, None, {})
    if k in (0, n):
        word = "negative" if k == 0 else "positive"
        reason = f"every cell is {word}: no arrangement to test"
        return PatternFacts("homogeneous", reason, None, 0.0, _no_patches(settings, k, n))
    around = neighbourhood(x, y, positive, settings)
    hot_held, cold_held = (int(marks.sum()) for marks in around.held(positive))
    kind, reason = decide((k, n), (hot_held, cold_held), settings)
    draws = settings.heterogeneity.permutations
    test = label_test(positive, around.near, draws, settings.seed, threads(settings))
    hot_area = float(ground_um2[around.hot].sum()) / float(ground_um2.sum())
    extras = {
        "segmentation_error": _error_facts(k, n, settings),
        "patches": _patches(positive, ground_um2, around)
        | {"held_positive_share": hot_held / k, "held_negative_share": cold_held / (n - k)},
        "discordant": _discordant(positive, around, settings),
        "local_moran": _local(positive, around, settings.heterogeneity.fdr),
        "interface_um_per_mm2": _interface(x, y, around.hot, ground_um2),
        "spots": _spots(x, y, around),
    }
    mostly = at_least(k, n, 0.5)
    return PatternFacts(kind, reason, test, min(1.0, hot_area), extras, around, mostly)


def threads(settings: Settings) -> int:
    """Return how many threads a search or test may use; no result depends on it."""
    return settings.stream.workers or os.cpu_count() or 1


def not_evaluable(x: Float, y: Float, fewest: int) -> str | None:
    """Return why so few cells have no layout; None where they have one."""
    if x.size < fewest:
        return f"{x.size} tumour cells, at least {fewest} are needed"
    places = int(((np.diff(x) != 0) | (np.diff(y) != 0)).sum()) + 1
    # equal positions follow each other in canonical order
    if 2 * places < x.size or places < fewest:
        return f"{x.size} cells at only {places} positions"
    return None


def decide(
    counts: tuple[int, int], held: tuple[int, int], settings: Settings,
    words: tuple[str, str] = ("positive", "negative"),
) -> tuple[str, str]:  # fmt: skip
    """Return type and reason from the positives of all cells, and the held of either kind.

    ``words`` are what the two kinds of cells are called in the reason.
    """
    rules, (k, n), (hot_held, cold_held) = settings.heterogeneity, counts, held
    more, less = words
    if not more_than(k, n, settings.score.noise_floor):
        return "homogeneous", f"{more} cells at or below the noise floor"
    patchy = at_least(hot_held, k, rules.patch_share) and not at_least(
        k, n, rules.patch_positive_below
    )
    if not patchy and error_explains(k, n, _error_rate(settings))[0]:
        return "homogeneous", f"no more {more} cells than calling errors explain"
    if patchy:
        return "clustered", f"patches hold {hot_held} of {k} {more} cells"
    if at_least(n - k, n, rules.patch_negative_from) and at_least(
        cold_held, n - k, rules.patch_share
    ):
        return "clustered", f"patches hold {cold_held} of {n - k} {less} cells"
    if at_least(k, n, rules.homogeneous_at):
        return "homogeneous", f"{more} nearly throughout, without patches"
    if not more_than(k, n, rules.scattered_at):
        return "scattered", f"few {more} cells, without patches"
    return "mosaic", f"{more} and {less} cells intermixed, without patches"


def _error_rate(settings: Settings) -> float:
    return max(settings.heterogeneity.error_rate, settings.score.noise_floor)


def _error_facts(k: int, n: int, settings: Settings) -> dict[str, Any]:
    rate = _error_rate(settings)
    explained, p = error_explains(k, n, rate)
    missed, p_missed = error_explains(n - k, n, rate)
    return {
        "rate": rate,
        "positives_explained": explained,
        "positives_p": p,
        "negatives_explained": missed,
        "negatives_p": p_missed,
    }


def _no_patches(settings: Settings, k: int, n: int) -> dict[str, Any]:
    return {
        "segmentation_error": _error_facts(k, n, settings),
        "patches": None,
        "discordant": None,
        "local_moran": None,
        "interface_um_per_mm2": None,
        "spots": None,
    }


def _discordant(positive: Bool, around: Neighbourhood, settings: Settings) -> dict[str, Any]:
    """Return cells unlike the majority of their neighbours, against the calling-error null."""
    k = around.near.shape[1]
    majority = 2 * around.near_positive > k
    minority = 2 * around.near_positive < k
    n = positive.size
    negative_among, positive_among = int((~positive & majority).sum()), int(
        (positive & minority).sum()
    )  # fmt: skip
    rate = _error_rate(settings)
    return {
        "negative_among_positive": negative_among / n,
        "negative_among_positive_p": error_explains(negative_among, n, rate)[1],
        "positive_among_negative": positive_among / n,
        "positive_among_negative_p": error_explains(positive_among, n, rate)[1],
    }


def _local(positive: Bool, around: Neighbourhood, rate: float) -> dict[str, float]:
    """Return the shares of cells of each significant local Moran quadrant."""
    kind = local_types(positive, around.near_positive, around.near.shape[1], rate)
    share = np.bincount(kind, minlength=5) / positive.size
    return {name: float(share[i]) for i, name in enumerate(("hh", "lh", "ll", "hl"), start=1)}


def _patches(positive: Bool, ground_um2: Float, around: Neighbourhood) -> dict[str, Any]:
    """Return number and sizes of positive patches: hot cells linked through neighbours."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    hot = np.flatnonzero(around.hot)
    facts: dict[str, Any] = {
        "hot_cell_share": hot.size / positive.size,
        "cold_cell_share": int(around.cold.sum()) / positive.size,
        "number": 0, "largest_cell_share": 0.0, "median_area_um2": None, "area_um2": [],
    }  # fmt: skip
    if hot.size == 0:
        return facts
    number = np.full(positive.size, -1, np.int64)
    number[hot] = np.arange(hot.size)
    rows, cols = np.repeat(np.arange(hot.size), around.near.shape[1]), number[around.near[hot]]
    both = cols.ravel() >= 0
    graph = coo_array(
        (np.ones(int(both.sum()), np.int8), (rows[both], cols.ravel()[both])),
        shape=(hot.size, hot.size),
    )
    label = connected_components(graph, directed=False)[1]
    size = np.bincount(label)
    area = np.bincount(label, ground_um2[hot])[size >= MIN_PATCH]
    facts["number"] = int(area.size)
    facts["largest_cell_share"] = float(size.max()) / positive.size
    if area.size:
        facts["median_area_um2"] = float(np.median(area))
        facts["area_um2"] = np.sort(area)[::-1][:100].tolist()
    return facts


def _interface(x: Float, y: Float, hot: Bool, ground_um2: Float) -> float | None:
    """Return the length of the border of positive patches per tumour area, on 20 µm bins."""
    keys, inverse, count = _binned(x, y, TERRITORY_UM)
    inside = 2 * np.bincount(inverse[hot], minlength=keys.size) >= count
    edges = 0
    for step in (1, 1 << 31):  # next column, next row of the key
        at = np.minimum(np.searchsorted(keys, keys + step), keys.size - 1)
        joined = keys[at] == keys + step
        edges += int((inside != inside[at])[joined].sum())
    area_mm2 = float(ground_um2.sum()) / 1e6
    return edges * TERRITORY_UM / area_mm2 if area_mm2 > 0 else None


def _spots(x: Float, y: Float, around: Neighbourhood) -> dict[str, Any]:
    """Return the patches as a coarse map: hot minus cold share of the cells, bin by bin."""
    side = SPOT_UM
    keys, at, count = _binned(x, y, side)
    while keys.size > MAX_SPOTS:
        side *= 2
        keys, at, count = _binned(x, y, side)
    hot, cold = (np.bincount(at, marks, keys.size) for marks in (around.hot, around.cold))
    rows, cols = unkey(keys)
    return {
        "bin_um": side,
        "x_um": ((cols + 0.5) * side).tolist(),
        "y_um": ((rows + 0.5) * side).tolist(),
        "balance": np.round((hot - cold) / count, 2).tolist(),
    }


def _binned(x: Float, y: Float, side: float) -> tuple[Any, Any, Any]:
    keys, at, count = np.unique(square_ids(x, y, side), return_inverse=True, return_counts=True)
    return keys, at.ravel(), count
