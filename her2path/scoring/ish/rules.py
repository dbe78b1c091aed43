"""How ISH figures are read under each guideline, as data: limits, groups, sources.

Limits are exact decimals and are compared with exact means, so that a ratio of 2.0 is 2.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from her2path.scoring.guidelines.grammar import OPERATORS
from her2path.scoring.guidelines.ruleset import IshScheme

__all__ = ["GROUPS", "SCHEMES", "WITH_IHC", "Limit", "Line", "Scheme", "first_line", "group_of"]

Figure = Literal["ratio", "copies", "amplified"]
#: copies, ratio and amplified share of some cells; None where unknown
Values = dict[str, Fraction | None]


@dataclass(frozen=True)
class Limit:
    """A figure against a limit: HER2/CEP17 ratio, HER2 copies a cell, or amplified share."""

    figure: Figure
    op: str
    value: str

    def holds(self, values: Values) -> bool:
        """Tell whether it holds; an unknown figure fulfils nothing."""
        found = values[self.figure]
        return found is not None and bool(OPERATORS[self.op](found, Fraction(self.value)))


@dataclass(frozen=True)
class Line:
    """A status, the limits of which any one gives it (none: always), and a comment's key."""

    status: str
    any_of: tuple[Limit, ...] = ()
    comment: str = ""


@dataclass(frozen=True)
class Scheme:
    """How one guideline reads dual- and single-probe counts, from the first line to the last."""

    source: str
    dual: tuple[Line, ...]
    single: tuple[Line, ...]
    #: the figure that `dual` cannot do without
    needs: Figure = "ratio"


#: 2018 groups of dual-probe ISH, tried in this order: (group, limits that all hold)
GROUPS: tuple[tuple[int, tuple[Limit, ...]], ...] = (
    (1, (Limit("ratio", ">=", "2.0"), Limit("copies", ">=", "4.0"))),
    (2, (Limit("ratio", ">=", "2.0"),)),
    (3, (Limit("copies", ">=", "6.0"),)),
    (4, (Limit("copies", ">=", "4.0"),)),
    (5, ()),
)

#: 2018 status of a group by IHC: (status, comment); at 2+ as it stands after the recount
WITH_IHC: dict[int, dict[str, tuple[str, str]]] = {
    1: {
        "0": ("positive", "group_1_low_ihc"),
        "1+": ("positive", "group_1_low_ihc"),
        "2+": ("positive", ""),
        "3+": ("positive", ""),
    },
    2: {
        "0": ("negative", "group_2"),
        "1+": ("negative", "group_2"),
        "2+": ("negative", "group_2"),
        "3+": ("positive", "by_ihc_3"),
    },
    3: {
        "0": ("negative", "group_3"),
        "1+": ("negative", "group_3"),
        "2+": ("positive", "group_3_positive"),
        "3+": ("positive", "group_3_positive"),
    },
    4: {
        "0": ("negative", "group_4"),
        "1+": ("negative", "group_4"),
        "2+": ("negative", "group_4"),
        "3+": ("positive", "by_ihc_3"),
    },
    5: {
        "0": ("negative", ""),
        "1+": ("negative", ""),
        "2+": ("negative", ""),
        "3+": ("negative", "group_5_ihc_3"),
    },
}

_SIX, _MORE_THAN_SIX = Limit("copies", ">=", "6.0"), Limit("copies", ">", "6.0")
_FOUR, _TWO = Limit("copies", ">=", "4.0"), Limit("ratio", ">=", "2.0")

SCHEMES: dict[IshScheme, Scheme] = {
    # dual probes are read by GROUPS and WITH_IHC
    "asco_cap_2018": Scheme(
        "Wolff AC et al. 2018, Figures 2-6",
        (),
        (
            Line("positive", (_SIX,), "single_review"),
            Line("ihc_needed", (_FOUR,), "single_open"),
            Line("negative", (), "single_review"),
        ),
        "copies",
    ),
    "asco_cap_2013": Scheme(
        "Wolff AC et al. 2013",
        (
            Line("positive", (_TWO, _SIX)),
            Line("equivocal", (_FOUR,), "equivocal"),
            Line("negative"),
        ),
        (
            Line("positive", (_SIX,)),
            Line("equivocal", (_FOUR,), "equivocal"),
            Line("negative"),
        ),
    ),
    # copies decide only where the test has no centromere probe (footnote of the source's table)
    "asco_cap_2007": Scheme(
        "PMC2793708, table 2",
        (
            Line("positive", (Limit("ratio", ">", "2.2"),)),
            Line("equivocal", (Limit("ratio", ">=", "1.8"),), "equivocal"),
            Line("negative"),
        ),
        (
            Line("positive", (_MORE_THAN_SIX,)),
            Line("equivocal", (_FOUR,), "equivocal"),
            Line("negative"),
        ),
    ),
    "gastric": Scheme(
        "general knowledge of the 2016 guideline; no table was found",
        (
            Line("positive", (_TWO, _MORE_THAN_SIX)),
            Line("recount_due", (_FOUR,), "gastric_more"),
            Line("negative"),
        ),
        (
            Line("positive", (_MORE_THAN_SIX,)),
            Line("recount_due", (_FOUR,), "gastric_more"),
            Line("negative"),
        ),
    ),
    "heracles": Scheme(
        "Valtorta E et al. 2015, table 3",
        (Line("positive", (Limit("amplified", ">=", "0.5"),)), Line("negative")),
        (Line("not_evaluable", (), "no_fraction"),),
        "amplified",
    ),
    "endometrial": Scheme(
        "Fader AN et al. 2018",
        (Line("positive", (_TWO,)), Line("negative")),
        (Line("not_evaluable", (), "dual_needed"),),
    ),
}


def group_of(values: Values) -> int | None:
    """Return the 2018 group 1-5 of a dual-probe count, None for a single probe."""
    if values["ratio"] is None or values["copies"] is None:
        return None
    return next(group for group, limits in GROUPS if all(x.holds(values) for x in limits))


def first_line(lines: tuple[Line, ...], values: Values) -> Line:
    """Return the first line that holds; the last always does."""
    return next(x for x in lines if not x.any_of or any(y.holds(values) for y in x.any_of))
