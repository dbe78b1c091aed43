"""ONEST: how agreement falls with the number of readers.

The share of items on which k readers all agree, averaged over every choice of k of the readers:
for an item with n_c reads in class c of R, sum_c C(n_c, k) / C(R, k). An item that some have not
read counts up to as many readers as it has.

References
----------
Reisenbichler ES, Han G, Bellizzi A et al. (2020) Mod Pathol 33:1746 (observers needed to evaluate
subjective tests).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import comb

from her2path.scoring.agreement.draws import Draws, add_figure
from her2path.scoring.agreement.pairwise import Figure, ratio
from her2path.scoring.agreement.scale import CUTOFFS
from her2path.scoring.agreement.several import counts_of
from her2path.scoring.agreement.sums import by_case

__all__ = ["ORDERS", "curve", "onest", "plateau"]

#: random orders of the readers that show how far a choice of readers moves the curve
ORDERS = 100
#: a further reader who lowers agreement by less than this adds nothing
STEP = 0.01


def onest(
    score: NDArray[np.int8], case_of: NDArray[np.int64], draws: Draws, seed: int
) -> dict[str, Any]:
    """Return the curves of exact scores and of each cut-off, for readers' scores (N, R)."""
    tree: dict[str, Any] = {"orders": ORDERS, "exact": _points(score, 4, case_of, draws, seed)}
    tree["cutoffs"] = {}
    for name, above in CUTOFFS.items():
        codes = np.where(score < 0, -1, score >= above).astype(np.int8)
        tree["cutoffs"][name] = _points(codes, 2, case_of, draws, seed)
    tree["plateau"] = plateau([p["opa"] for p in tree["exact"]])
    return tree


def _points(
    codes: NDArray[np.int8], classes: int, case_of: NDArray[np.int64], draws: Draws, seed: int
) -> list[dict[str, Any]]:
    readers = codes.shape[1]
    terms = curve(counts_of(codes, classes), readers)
    sums = draws.sums(by_case(terms, case_of, draws.cases))
    spread = _orders(codes, seed)
    points = []
    for i, k in enumerate(range(2, readers + 1)):
        top, n = sums[2 * i], sums[2 * i + 1]
        known = spread[:, i][~np.isnan(spread[:, i])]
        point: dict[str, Any] = {"readers": k, "n": round(float(n[0]))}
        add_figure(point, ("opa",), Figure(ratio(top, n), n))
        point["lowest"] = float(known.min()) if known.size else None
        point["highest"] = float(known.max()) if known.size else None
        points.append(point)
    return points


def curve(counts: NDArray[np.float64], readers: int) -> NDArray[np.float64]:
    """Return for k = 2..R an item's chance that k readers agree and whether it has k, (N, 2R-2)."""
    reads = counts.sum(1)
    columns = []
    for k in range(2, readers + 1):
        there = reads >= k
        ways = np.where(there, comb(np.where(there, reads, k), k), 1.0)
        columns += [comb(counts, k).sum(1) / ways * there, there]
    return np.stack(columns, axis=1).astype(float)


def _orders(codes: NDArray[np.int8], seed: int) -> NDArray[np.float64]:
    """Return the curve (orders, R - 1) of random orders of the readers: 2, 3, ... of them."""
    rng = np.random.default_rng(seed)
    readers = codes.shape[1]
    out = np.full((ORDERS, readers - 1), np.nan)
    for row in out:
        mixed = codes[:, rng.permutation(readers)]
        there = np.logical_and.accumulate(mixed >= 0, axis=1)
        alike = np.logical_and.accumulate(mixed == mixed[:, :1], axis=1)
        n = there.sum(0)[1:]
        row[:] = ratio((there & alike).sum(0)[1:].astype(float), n.astype(float))
    return out


def plateau(shares: list[float | None]) -> int | None:
    """Return the fewest readers from which every further one lowers agreement by less than 0.01.

    Parameters
    ----------
    shares : list of float or None
        The curve from two readers upward.

    Returns
    -------
    int or None
        None where the curve still falls at its end.
    """
    known = [s for s in shares if s is not None]
    if len(known) < len(shares) or len(known) < 2:
        return None
    steep = [i for i in range(len(known) - 1) if known[i] - known[i + 1] >= STEP]
    first = steep[-1] + 1 if steep else 0
    return first + 2 if first < len(known) - 1 else None
