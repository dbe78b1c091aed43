"""The small language in which rules are written.

A condition is text such as ``intense_complete > 10 %`` or
``p3c > floor or p1c + p2c + p3c >= 10 %``: sums of patterns (or of named groups) compared with a
share of the tumour cells, with the noise floor (``floor``), or, for the largest spatial cluster
``cluster(moderate)``, with a number of cells. ``and`` binds before ``or``. Shares are read as exact
fractions, so that 10 % of 1,000 cells is 100 cells and nothing else.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from her2path.core.schema import INTENSITY, PATTERNS

__all__ = ["GROUPS", "Compare", "Condition", "exact", "parse_condition", "pattern_words", "percent"]

#: names that every rule set may use
GROUPS: dict[str, tuple[str, ...]] = {
    "any": tuple(p for p in PATTERNS if INTENSITY[p] > 0),
    "faint": ("faint_incomplete", "faint_complete"),
    "moderate": ("moderate_incomplete", "moderate_complete"),
    "intense": ("intense_incomplete", "intense_complete"),
    "complete": ("faint_complete", "moderate_complete", "intense_complete"),
    "incomplete": ("faint_incomplete", "moderate_incomplete", "intense_incomplete"),
}
CLUSTER_LEVELS = {"faint": 1, "any": 1, "moderate": 2, "intense": 3}
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
_COMPARE = re.compile(r"^(?P<sum>[^<>=]+?)\s*(?P<op>>=|<=|>|<)\s*(?P<limit>[^<>=]+)$")
_SHARE = re.compile(r"^(\d{1,3}(?:\.\d{1,6})?)\s*%$")
_CELLS = re.compile(r"^(\d{1,6})\s*cells$")
_CLUSTER = re.compile(r"^cluster\(\s*(\w+)\s*\)$")


def exact(value: float | int | str | Fraction) -> Fraction:
    """Return a number as the decimal that people wrote: 0.01 is one hundredth."""
    return value if isinstance(value, Fraction) else Fraction(str(value))


@dataclass(frozen=True)
class Compare:
    """One comparison: the sum of some patterns (or a cluster's size) against a limit.

    ``cluster`` is 0 for a share of cells, else the intensity at or above which cells are linked.
    ``limit`` is None where a setting decides (the noise floor, or the cells of a cluster).
    """

    patterns: tuple[str, ...]
    cluster: int
    op: str
    limit: Fraction | None

    @property
    def name(self) -> str:
        """What is compared, in words."""
        if self.cluster:
            level = ("", "any staining", "moderate or more", "intense")[self.cluster]
            return f"largest cluster of {level}"
        return pattern_words(self.patterns)

    @property
    def rising(self) -> bool:
        """Whether more staining can only make it more true."""
        if self.op not in (">", ">="):
            return False
        return bool(self.cluster) or _is_upper(frozenset(self.patterns))


#: alternatives (or) of comparisons that hold together (and)
Condition = tuple[tuple[Compare, ...], ...]


def _is_upper(patterns: frozenset[str]) -> bool:
    """Tell whether a set of patterns is closed under stronger or more complete staining."""
    return all(q in patterns for p in patterns for q in PATTERNS if _at_least_as_stained(q, p))


def _at_least_as_stained(q: str, p: str) -> bool:
    return INTENSITY[q] >= INTENSITY[p] and (q.endswith("_complete") or not p.endswith("_complete"))


def parse_condition(text: str, groups: Mapping[str, tuple[str, ...]]) -> Condition:
    """Read a condition.

    Parameters
    ----------
    text : str
        The condition in the language described at the head of this module.
    groups : mapping of str to tuple of str
        Named sums of patterns, beside the seven patterns and `GROUPS`.

    Raises
    ------
    ValueError
        Where the text cannot be read; the message says what was expected.
    """
    return tuple(
        tuple(_compare(part.strip(), groups) for part in re.split(r"\band\b", clause))
        for clause in re.split(r"\bor\b", text)
    )


def _compare(text: str, groups: Mapping[str, tuple[str, ...]]) -> Compare:
    match = _COMPARE.match(text)
    if not match:
        raise ValueError(f"{text!r} is not a comparison such as 'intense_complete > 10 %'")
    quantity, op, limit = match["sum"].strip(), match["op"], match["limit"].strip()
    cluster = _CLUSTER.match(quantity)
    if cluster:
        return Compare((), _cluster_level(cluster[1]), op, _cells(limit))
    return Compare(_sum(quantity, groups), 0, op, _share(limit))


def _cluster_level(name: str) -> int:
    if name not in CLUSTER_LEVELS:
        raise ValueError(f"cluster({name}): use one of {', '.join(CLUSTER_LEVELS)}")
    return CLUSTER_LEVELS[name]


def _cells(text: str) -> Fraction | None:
    if text == "cluster_cells":
        return None
    match = _CELLS.match(text)
    if not match:
        raise ValueError(f"{text!r} is not a number of cells such as '5 cells' or cluster_cells")
    return Fraction(match[1])


def _share(text: str) -> Fraction | None:
    if text == "floor":
        return None
    match = _SHARE.match(text)
    if not match or not 0 <= (share := Fraction(match[1]) / 100) <= 1:
        raise ValueError(f"{text!r} is not a share such as '10 %', nor 'floor'")
    return share


def _sum(text: str, groups: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    found: list[str] = []
    for name in (t.strip() for t in text.split("+")):
        patterns = (name,) if name in PATTERNS else groups.get(name) or GROUPS.get(name)
        if patterns is None:
            known = ", ".join([*PATTERNS, *GROUPS, *groups])
            raise ValueError(f"{name!r} is no pattern and no group; known: {known}")
        if set(patterns) & set(found):
            raise ValueError(f"{text!r} counts a pattern twice")
        found += patterns
    return tuple(p for p in PATTERNS if p in found)


def pattern_words(patterns: tuple[str, ...]) -> str:
    """Return a sum of patterns in words: ``moderate + intense complete``."""
    left = set(patterns)
    if left == set(GROUPS["any"]):
        return "any staining"
    parts: list[str] = []
    whole = [i for i in ("faint", "moderate", "intense") if set(GROUPS[i]) <= left]
    if whole:
        parts.append(" + ".join(whole) + " (complete or not)")
        left -= {p for i in whole for p in GROUPS[i]}
    for ending in ("complete", "incomplete"):
        names = [p.split("_")[0] for p in PATTERNS if p in left and p.split("_")[-1] == ending]
        if names:
            parts.append(f"{' + '.join(names)} {ending}")
    if "none" in left:
        parts.append("none")
    return " + ".join(parts)


def percent(share: Fraction | float) -> str:
    """Return a limit as text for people: ``10 %``, ``0.5 %``."""
    return f"{float(share) * 100:.6g} %"
