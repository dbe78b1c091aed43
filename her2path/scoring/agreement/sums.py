"""From a panel to sums over cases: contingency tables and moments of pairs, all draws at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from her2path.scoring.agreement.draws import Draws

__all__ = ["by_case", "pair_moments", "pair_tables"]

Floats = NDArray[np.float64]
Pairs = Sequence[tuple[int, int]]


def by_case(values: Floats, case_of: NDArray[np.int64], cases: int) -> Floats:
    """Return sums (C, F) of items' terms (N, F) over each case."""
    if len(values) == cases and np.array_equal(case_of, np.arange(cases)):
        return values
    out = np.zeros((cases, values.shape[1]))
    np.add.at(out, case_of, values)
    return out


def pair_tables(
    draws: Draws, case_of: NDArray[np.int64], a: NDArray[np.int8], b: NDArray[np.int8],
    shape: tuple[int, int],
) -> Floats:  # fmt: skip
    """Return contingency tables (*shape, P, 1 + D) of codes ``a`` and ``b`` (N, P).

    Items that either lacks (below 0) count nowhere.
    """
    cells, pairs = shape[0] * shape[1], a.shape[1]
    features = np.zeros((draws.cases, pairs * cells), np.float32)
    row, pair = np.nonzero((a >= 0) & (b >= 0))
    code = a[row, pair].astype(np.int64) * shape[1] + b[row, pair]
    np.add.at(features, (case_of[row], code * pairs + pair), np.float32(1))
    return draws.sums(features).reshape(*shape, pairs, -1)


def pair_moments(
    draws: Draws, case_of: NDArray[np.int64], a: Floats, b: Floats
) -> tuple[Floats, Floats]:
    """Return n (P, 1 + D), and sums (5, P, 1 + D) of a, b, a², b², ab, of values (N, P)."""
    known = ~(np.isnan(a) | np.isnan(b))
    x, y = np.where(known, a, 0.0), np.where(known, b, 0.0)
    terms = np.stack([known, x, y, x * x, y * y, x * y], axis=1)
    cases = draws.cases
    sums = draws.sums(by_case(terms.reshape(len(a), -1), case_of, cases))
    sums = sums.reshape(6, a.shape[1], -1)
    return sums[0], sums[1:]
