"""A mix of patterns, one or many at once, and the limits that settings give."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from her2path.core.schema import PATTERNS
from her2path.core.settings import ScoreSettings
from her2path.scoring.guidelines.grammar import OPERATORS, Compare, Condition, exact

__all__ = ["Limits", "Mix"]

#: denominators above this are compared as Python integers, so that nothing overflows
_SAFE_DENOMINATOR = 10**6


@dataclass(frozen=True)
class Limits:
    """Limits that come from settings: the noise floor (a share) and a cluster's cells."""

    floor: Fraction
    cluster_cells: int

    @classmethod
    def of(cls, settings: ScoreSettings) -> Limits:
        """Return the limits of some settings, the floor as the decimal that was written."""
        return cls(exact(settings.noise_floor), settings.cluster_cells)

    def of_compare(self, compare: Compare) -> Fraction:
        """Return the limit of a comparison."""
        if compare.limit is not None:
            return compare.limit
        return Fraction(self.cluster_cells) if compare.cluster else self.floor


@dataclass(frozen=True)
class Mix:
    """Counts of the seven patterns, shape (m, 7); largest clusters, shape (m, 4), or None."""

    counts: np.ndarray
    clusters: np.ndarray | None = None

    @property
    def totals(self) -> np.ndarray:
        """Cells of each mix, shape (m,)."""
        return np.asarray(self.counts.sum(axis=1))

    def amount(self, compare: Compare) -> np.ndarray:
        """Return the cells that a comparison counts, shape (m,)."""
        if compare.cluster:
            assert self.clusters is not None  # the engine asks for positions first
            return np.asarray(self.clusters[:, compare.cluster])
        return np.asarray(self.counts[:, [PATTERNS.index(p) for p in compare.patterns]].sum(axis=1))

    def holds(self, compare: Compare, limits: Limits) -> np.ndarray:
        """Return whether a comparison holds, in whole numbers; bool of shape (m,)."""
        limit, amount = limits.of_compare(compare), self.amount(compare)
        whole = np.ones_like(amount) if compare.cluster else self.totals
        if limit.denominator > _SAFE_DENOMINATOR:
            amount, whole = amount.astype(object), whole.astype(object)
        left, right = amount * limit.denominator, whole * limit.numerator
        return np.asarray(OPERATORS[compare.op](left, right), dtype=bool)

    def fulfils(self, condition: Condition, limits: Limits) -> np.ndarray:
        """Return whether a condition holds (an empty one always does); bool of shape (m,)."""
        if not condition:
            return np.ones(len(self.counts), dtype=bool)
        out = np.zeros(len(self.counts), dtype=bool)
        for clause in condition:
            every = np.ones(len(self.counts), dtype=bool)
            for compare in clause:
                every &= self.holds(compare, limits)
            out |= every
        return out
