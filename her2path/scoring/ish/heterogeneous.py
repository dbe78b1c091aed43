"""Whether a case is heterogeneous by ISH, by three published definitions.

References
----------
Filho OM et al., Cancer Discov 2021 (PMC8598376); Vance GH et al., CAP 2009; ASCO/CAP 2013 and
2018 on a separate amplified population.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from her2path.core.intervals import AreaRules, at_least, more_than
from her2path.core.settings import Settings
from her2path.scoring.false_alarms import alarms
from her2path.scoring.guidelines.grammar import exact, percent
from her2path.scoring.ish.figures import Figures

__all__ = ["AreaRead", "Bases", "area_facts", "heterogeneous"]

Verdict = tuple[bool | None, str]
#: classes of areas, as counted in a case's row
KINDS = ("positive", "heterogeneous", "negative", "indeterminate")


@dataclass(frozen=True)
class AreaRead:
    """An area: its name, its class by amplified share, and its own ISH status."""

    name: str
    kind: str
    status: str


@dataclass(frozen=True)
class Bases:
    """What makes a case HER2-positive: its category, the ISH status and the IHC score."""

    category: str | None
    status: str
    ihc: str | None

    @property
    def words(self) -> str | None:
        """Both bases in words; None where there is no category."""
        if self.category is None:
            return None
        ihc = f"IHC {self.ihc}" if self.ihc else "IHC not known"
        return f"{ihc}, ISH {self.status.replace('_', ' ')}"

    @property
    def apart(self) -> bool:
        """Whether the case is HER2-positive by one of the two against the other."""
        return self.category == "positive" and self.status == "negative"


def heterogeneous(
    case: Figures, bases: Bases, areas: list[AreaRead], settings: Settings
) -> dict[str, Any]:
    """Return the three verdicts (true, false, or null) and ``reasons`` by the same keys."""
    verdicts = {
        "filho_2021": _filho(bases, areas),
        "cap_2009": _cap(case, settings),
        "asco_cap": _separate(case, areas, settings),
    }
    reasons = {key: reason for key, (_, reason) in verdicts.items()}
    return {key: value for key, (value, _) in verdicts.items()} | {"reasons": reasons}


def area_facts(areas: list[Figures], settings: Settings) -> dict[str, Any]:
    """Return how many areas read how, and the chance of a false alarm among them.

    ``false_alarm_probability`` is the chance that an evaluable area reads heterogeneous or
    negative although all cells are independent at the pooled amplified fraction;
    ``..._correlated`` the same with the measured within-area correlation (`alarms`).
    """
    kinds = [found.area(settings)[0] for found in areas]
    known = [found for found in areas if found.amplified is not None]
    limits = settings.heterogeneity
    rules = AreaRules(limits.area_low, limits.area_high, settings.ish.min_cells)
    k = np.array([found.amplified for found in known], np.int64)
    n = np.array([found.cells for found in known], np.int64)
    return {f"areas_{kind}": kinds.count(kind) for kind in KINDS} | alarms(k, n, rules)


def _filho(bases: Bases, areas: list[AreaRead]) -> Verdict:
    """An area that is heterogeneous or negative, in a HER2-positive case."""
    if bases.category is None and bases.status == "not_evaluable":
        return None, "the case is not evaluable"
    if bases.category == "equivocal":
        return None, "whether the case is HER2-positive is open"
    if bases.category != "positive":
        return False, "the case is not HER2-positive"
    verdict, reason = _mixed(areas)
    if bases.apart:
        # the definition asks for a HER2-positive case, whatever the counts alone say
        reason = f"HER2-positive by IHC {bases.ihc}, though ISH alone is negative; {reason}"
    return verdict, reason


def _mixed(areas: list[AreaRead]) -> Verdict:
    known = [a for a in areas if a.kind != "indeterminate"]
    mixed = [a.name for a in known if a.kind in ("heterogeneous", "negative")]
    mixed += [a.name for a in known if a.status == "negative" and a.name not in mixed]
    if mixed:
        return True, f"heterogeneous or negative areas: {', '.join(mixed)}"
    if not known:
        return None, "no area has enough cells counted one by one"
    left = len(areas) - len(known)
    others = f"; {left} of {len(areas)} areas are indeterminate" if left else ""
    return False, f"all {len(known)} evaluable areas are positive{others}"


def _cap(case: Figures, settings: Settings) -> Verdict:
    """A share of cells above the ratio between 5 % and 50 %."""
    missing = _no_cells(case, settings)
    if missing:
        return None, missing
    count, limits = case.above_cap or 0, settings.ish
    above = at_least if limits.cap_inclusive else more_than
    inside = above(count, case.cells, limits.cap_low)
    inside = inside and not at_least(count, case.cells, limits.cap_high)
    ratio = f"{limits.cap_ratio:g}"
    return inside, f"{count} of {case.cells} cells have a ratio above {ratio}"


def _separate(case: Figures, areas: list[AreaRead], settings: Settings) -> Verdict:
    """Amplified cells above 10 %, beside an area that is not amplified throughout."""
    missing = _no_cells(case, settings)
    if missing:
        return None, missing
    limit = settings.ish.separate_population
    share = f"{case.amplified} of {case.cells} cells are amplified"
    if not more_than(case.amplified or 0, case.cells, limit):
        return False, f"{share}: not above {percent(exact(limit))}"
    beside = [a.name for a in areas if a.kind in ("heterogeneous", "negative")]
    beside += [a.name for a in areas
               if a.kind == "positive" and a.status == "negative"]  # fmt: skip
    if beside:
        return True, f"{share}, beside areas that are not: {', '.join(beside)}"
    if not any(a.kind == "positive" for a in areas):
        return None, "no area has enough cells"
    return False, f"{share}, in every evaluable area: no separate population"


def _no_cells(case: Figures, settings: Settings) -> str:
    if case.amplified is None:
        return "needs counts of both probes cell by cell"
    if case.cells < settings.ish.min_cells:
        return f"{case.cells} evaluable cells, {settings.ish.min_cells} are needed"
    return ""
