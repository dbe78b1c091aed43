"""Differences of two readers' figures, paired over cases, with a non-inferiority margin.

With a reference: how much better the program agrees with it than a reader does. Without one: what
changes when the program takes a reader's place: its agreement with the other readers less that
reader's. The others' tables are pooled, every item weighing one however many of them have read it.
A figure and the one it is held against rest on the same items, those that both have read. Not
inferior: the lower limit of the 95 % interval lies above minus
the margin.

References
----------
Piaggio G et al. (2012) JAMA 308:2594 (non-inferiority by confidence interval). Williams GW (1976)
Biometrics 32:619 (one reader against the group of the others). De Vries H et al. (2008) Qual Health
Res 18:272 (kappa of pooled tables).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.core.errors import UsageError
from her2path.io.reads import PROGRAM, REFERENCE
from her2path.scoring.agreement.draws import Draws, interval, number
from her2path.scoring.agreement.pairwise import Figures, pair
from her2path.scoring.agreement.panel import Panel
from her2path.scoring.agreement.scale import CUTOFFS

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
    """Two sides, each some columns of the panel against one other column, and their names."""

    of: tuple[tuple[int, ...], int]
    minus: tuple[tuple[int, ...], int]
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
    beside = "other readers" if reference is None else REFERENCE
    contrasts = []
    for r in people:
        others = tuple(j for j in people if j != r) if reference is None else (reference,)
        names = {"of": [beside, PROGRAM], "minus": [beside, panel.readers[r]]}
        if others:
            contrasts.append(_Contrast((others, program), (others, r), names))
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
    return _Contrast(((a[0],), a[1]), ((b[0],), b[1]), names, (wanted.figure,))


def _rows(panel: Panel, draws: Draws, margin: float, contrast: _Contrast) -> list[dict[str, Any]]:
    left, right, n = _twins(panel, draws, contrast)
    rows = []
    for figure in contrast.figures:
        each = left[figure].value - right[figure].value
        low, high = (number(v) for v in interval(each[1:]))
        value = number(each[0])
        row = {"figure": ".".join(figure), **contrast.names, "n": n, "difference": value,
               "difference_low": None if value is None else low,
               "difference_high": None if value is None else high, "margin": margin}  # fmt: skip
        known = row["difference_low"]
        row["non_inferior"] = None if known is None else known > -margin
        rows.append(row)
    return rows


def _twins(panel: Panel, draws: Draws, contrast: _Contrast) -> tuple[Figures, Figures, int]:
    """Return the figures (1 + D,) of both sides on the items that both can be had of."""
    known = panel.score >= 0
    sides = (contrast.of, contrast.minus)
    # sides with the same partners need one of them, other sides each its own
    common = np.logical_and.reduce([known[:, one] for _, one in sides])
    for partners in {side[0] for side in sides}:
        common &= known[:, partners].any(1)
    left, right = (_pooled(panel, draws, *side, common) for side in sides)
    return left, right, int(common.sum())


def _pooled(
    panel: Panel, draws: Draws, partners: tuple[int, ...], one: int, common: NDArray[np.bool_]
) -> Figures:
    """Return the figures of the table of all partners (rows) against one column."""
    score = panel.score[common]
    theirs, own = score[:, partners], score[:, one].astype(np.int64)
    there = theirs >= 0
    row, _ = np.nonzero(there)
    terms = np.zeros((len(score), 16))
    code = theirs[there].astype(np.int64) * 4 + own[row]
    np.add.at(terms, (row, code), (1.0 / there.sum(1))[row])
    sums = np.zeros((len(panel.cases), 16))
    np.add.at(sums, panel.case_of[common], terms)
    return pair(draws.sums(sums).reshape(4, 4, -1))
