"""Differences of two readers' figures, paired over cases, with a non-inferiority margin.

With a reference: how much better the program agrees with it than a reader does. Without one: what
changes when the program takes a reader's place, the mean over the other readers of its agreement
with them less that reader's. A figure and the one it is held against rest on the same items, those
that all concerned have read. Not inferior: the lower limit of the 95 % interval lies above minus
the margin.

References
----------
Piaggio G et al. (2012) JAMA 308:2594 (non-inferiority by confidence interval). Williams GW (1976)
Biometrics 32:619 (one reader against the group of the others).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.agreement.draws import Draws, interval, number
from her2path.agreement.pairwise import Figures, pair
from her2path.agreement.panel import Panel
from her2path.agreement.scale import CUTOFFS
from her2path.agreement.sums import pair_tables
from her2path.errors import UsageError
from her2path.reads import PROGRAM, REFERENCE

__all__ = ["FIGURES", "Comparison", "compare", "default_contrasts", "parse_comparison"]

#: what is compared without being asked
FIGURES: tuple[tuple[str, ...], ...] = (
    ("exact",), ("kappa", "quadratic"), *(("cutoffs", name, "opa") for name in CUTOFFS)
)  # fmt: skip
_KNOWN = (
    "exact", "kappa.plain", "kappa.linear", "kappa.quadratic", "pabak", "ac1", "ac2", "icc", "ccc",
    *(f"cutoffs.{c}.{f}" for c in CUTOFFS
      for f in ("opa", "ppa", "npa", "apa", "ana", "kappa", "pabak", "ac1")),
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """A figure of one pair of readers less that of another."""

    figure: tuple[str, ...]
    of: tuple[str, str]
    minus: tuple[str, str]


@dataclass(frozen=True)
class _Contrast:
    """Twins of pairs (columns of the panel) whose differences are averaged, and their names."""

    terms: tuple[tuple[tuple[int, int], tuple[int, int]], ...]
    names: dict[str, Any]
    figures: tuple[tuple[str, ...], ...] = FIGURES


def parse_comparison(text: str) -> Comparison:
    """Read ``FIGURE:a,b:c,d``.

    Raises
    ------
    UsageError
        For another form, or a figure that there is not.
    """
    parts = text.split(":")
    pairs = [tuple(n.strip() for n in p.split(",")) for p in parts[1:]]
    if len(parts) != 3 or any(len(p) != 2 or not all(p) for p in pairs):
        raise UsageError(f"--compare {text!r} is not FIGURE:a,b:c,d",
                         "For example kappa.quadratic:reference,her2path:reference,r1")  # fmt: skip
    figure = parts[0].strip()
    if figure not in _KNOWN:
        raise UsageError(f"there is no figure {figure!r} to compare", f"Valid: {', '.join(_KNOWN)}")
    of, minus = ((p[0], p[1]) for p in pairs)
    return Comparison(tuple(figure.split(".")), of, minus)


def compare(
    panel: Panel, draws: Draws, margin: float, wanted: Sequence[Comparison] = ()
) -> list[dict[str, Any]]:
    """Return all differences: those that the readers suggest, then those that were asked for.

    Raises
    ------
    UsageError
        Where a comparison names a reader that there is not.
    """
    contrasts = [*default_contrasts(panel), *(_asked(panel, c) for c in wanted)]
    return [row for c in contrasts for row in _rows(panel, draws, margin, c)]


def default_contrasts(panel: Panel) -> list[_Contrast]:
    """Return the program against every reader: with the reference, else with the other readers."""
    program, reference, people = panel.at(PROGRAM), panel.at(REFERENCE), panel.people
    if program is None:
        return []
    contrasts = []
    for r in people:
        if reference is not None:
            terms = [((reference, program), (reference, r))]
            beside = REFERENCE
        else:
            terms = [((j, program), (j, r)) for j in people if j != r]
            beside = "other readers"
        names = {"of": [beside, PROGRAM], "minus": [beside, panel.readers[r]]}
        if terms:
            contrasts.append(_Contrast(tuple(terms), names))
    return contrasts


def _asked(panel: Panel, wanted: Comparison) -> _Contrast:
    def column(name: str) -> int:
        at = panel.at(name)
        if at is None:
            raise UsageError(f"--compare names the reader {name!r}, who has no read",
                             f"Readers: {', '.join(panel.readers)}")  # fmt: skip
        return at

    a, b = ((column(x), column(y)) for x, y in (wanted.of, wanted.minus))
    names = {"of": list(wanted.of), "minus": list(wanted.minus)}
    return _Contrast(((a, b),), names, (wanted.figure,))


def _rows(panel: Panel, draws: Draws, margin: float, contrast: _Contrast) -> list[dict[str, Any]]:
    left, right, n = _twins(panel, draws, contrast)
    rows = []
    for figure in contrast.figures:
        each = left[figure].value - right[figure].value
        some = ~np.isnan(each).all(-1)
        mean = np.full(len(each), np.nan)
        mean[some] = np.nanmean(each[some], axis=-1)
        low, high = (number(v) for v in interval(mean[1:]))
        value = number(mean[0])
        row = {"figure": ".".join(figure), **contrast.names, "n": n, "difference": value,
               "difference_low": None if value is None else low,
               "difference_high": None if value is None else high, "margin": margin}  # fmt: skip
        known = row["difference_low"]
        row["non_inferior"] = None if known is None else known > -margin
        rows.append(row)
    return rows


def _twins(panel: Panel, draws: Draws, contrast: _Contrast) -> tuple[Figures, Figures, int]:
    """Return the figures (1 + D, terms) of both sides on items that all of a term have read."""
    left, right = [], []
    for of, minus in contrast.terms:
        codes: NDArray[np.int8] = panel.score[:, [*of, *minus]]
        common = (codes >= 0).all(1)
        codes = np.where(common[:, None], codes, -1).astype(np.int8)
        left.append(codes[:, :2])
        right.append(codes[:, 2:])
    sides = []
    for side in (left, right):
        a, b = (np.stack([codes[:, k] for codes in side], axis=1) for k in (0, 1))
        sides.append(pair(pair_tables(draws, panel.case_of, a, b, (4, 4))))
    n = int(np.sum(np.any([codes[:, 0] >= 0 for codes in left], axis=0)))
    return sides[0], sides[1], n
