"""What a rule set is: a table of rules, checked when it is read.

Rules are tried from the first to the last; the first whose condition holds gives the score, and
the last has no condition. So every mix of patterns gets exactly one score. Scores may not rise
down the list and every condition must be one that more staining can only fulfil, so that more
staining never lowers a score. Both are checked here, for the shipped rule sets and for a user's.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from her2path.core.schema import INTENSITY, PATTERNS
from her2path.core.settings import Pattern
from her2path.scoring.guidelines.grammar import GROUPS, Condition, parse_condition

__all__ = ["ISH_SCHEMES", "FlagRule", "IshScheme", "Rule", "RuleSet", "Verdict"]

Ihc = Literal["0", "1+", "2+", "3+"]
Verdict = Literal["positive", "equivocal", "negative"]
IshScheme = Literal[
    "asco_cap_2018", "asco_cap_2013", "asco_cap_2007", "gastric", "heracles", "endometrial"
]
ISH_SCHEMES: tuple[str, ...] = IshScheme.__args__  # type: ignore[attr-defined]
Text = Annotated[str, Field(max_length=2000)]
Code = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{1,39}$")]
_RANK = {"negative": 0, "equivocal": 1, "positive": 2}


class Entry(BaseModel):
    """Base of every part: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Rule(Entry):
    """One line of the decision: a score, and the condition that gives it."""

    score: Ihc
    when: Text | None = Field(None, description="condition; absent in the last rule only")
    says: Text | None = Field(None, description="the rule in words; default made from `when`")
    category: Verdict | None = Field(None, description="default: positive at 3+, equivocal at 2+")
    substate: Literal["null", "ultralow"] | None = Field(None, description="with a score of 0")
    flags: tuple[Code, ...] = Field((), description="flags raised when this rule decides")

    @property
    def verdict(self) -> Verdict:
        """Category before substates and ISH."""
        if self.category:
            return self.category
        return (
            "positive" if self.score == "3+" else "equivocal" if self.score == "2+" else "negative"
        )


class FlagRule(Entry):
    """A flag that is raised beside the score."""

    code: Code
    when: Text
    at: tuple[Ihc, ...] = Field(("0", "1+", "2+", "3+"), description="scores at which it is raised")


class RuleSet(Entry):
    """A guideline: rules, flags, and how patterns and ISH count under it."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{1,47}$", description="identifier")
    title: Text = Field(description="name for people")
    year: int = Field(ge=1990, le=2100, description="year of the guideline")
    source: Text = Field(description="where the thresholds are published")
    groups: dict[str, tuple[Pattern, ...]] = Field(default_factory=dict, description="named sums")
    rules: tuple[Rule, ...] = Field(min_length=2, max_length=40)
    flags: tuple[FlagRule, ...] = Field((), max_length=40)
    intense_incomplete_score: Literal[2, 3] = Field(2, description="score of such a cell")
    positive: tuple[Pattern, ...] = Field(("intense_complete",), description="HER2-positive cells")
    substates: bool = Field(False, description="whether low, ultralow and null exist")
    strata: dict[Literal["null", "ultralow"], Annotated[str, Field(max_length=20)]] = Field(
        default_factory=dict, description="how a score of 0 is printed, by substate"
    )
    ish: IshScheme = Field("asco_cap_2018", description="how ISH is read")
    ish_positive_suffices: bool = Field(
        False, description="whether a positive ISH makes a 0 or 1+ HER2-positive"
    )
    comments: dict[str, Text] = Field(
        default_factory=dict, description="report comments by score, substate or category"
    )

    @field_validator("groups")
    @classmethod
    def _names(cls, groups: dict[str, tuple[Pattern, ...]]) -> dict[str, tuple[Pattern, ...]]:
        for name in groups:
            if name in PATTERNS or name in GROUPS or not name.isidentifier():
                raise ValueError(f"group {name!r} needs a name of its own, made of letters")
        return groups

    @model_validator(mode="after")
    def _sound(self) -> RuleSet:
        self._check_order()
        for i, condition in enumerate(self.conditions, 1):
            _check_rising(i, condition)
        for flag in self.flags:
            _parse(f"flag {flag.code}", flag.when, self.groups)
        return self

    def _check_order(self) -> None:
        ranks = [(int(r.score[0]), _RANK[r.verdict]) for r in self.rules]
        if ranks != sorted(ranks, reverse=True):
            raise ValueError(
                "rules: scores (and categories within a score) must fall down the list"
            )
        for i, rule in enumerate(self.rules, 1):
            if (rule.when is None) != (i == len(self.rules)):
                raise ValueError(f"rule {i}: the last rule, and only it, has no `when`")
            if (rule.substate is not None) != (self.substates and rule.score == "0"):
                raise ValueError(
                    f"rule {i}: `substate` is given for a score of 0 when `substates` is true, "
                    "and nowhere else"
                )

    @cached_property
    def conditions(self) -> tuple[Condition, ...]:
        """Parsed conditions, one a rule; the last is empty and always holds."""
        return tuple(
            _parse(f"rule {i}", r.when, self.groups) if r.when else ()
            for i, r in enumerate(self.rules, 1)
        )

    @cached_property
    def flag_conditions(self) -> tuple[Condition, ...]:
        """Parsed conditions of the flags."""
        return tuple(_parse(f"flag {f.code}", f.when, self.groups) for f in self.flags)

    @property
    def needs_clusters(self) -> bool:
        """Whether cell positions are needed."""
        return any(c.cluster for cond in self.conditions for clause in cond for c in clause)

    def stratum(self, ihc: str, substate: str | None) -> str:
        """Return the printed stratum of a score: the score itself unless the set has its own."""
        return next((word for k, word in self.strata.items() if k == substate), ihc)

    def pattern_scores(self) -> dict[str, int]:
        """Return the score 0..3 of every pattern of a single cell."""
        return INTENSITY | {"intense_incomplete": self.intense_incomplete_score}


def _parse(where: str, text: str, groups: dict[str, tuple[Pattern, ...]]) -> Condition:
    try:
        return parse_condition(text, groups)
    except ValueError as exc:
        raise ValueError(f"{where}: {exc}") from exc


def _check_rising(number: int, condition: Condition) -> None:
    for compare in (c for clause in condition for c in clause):
        if not compare.rising:
            raise ValueError(
                f"rule {number}: '{compare.name} {compare.op} ...' could lower the score when "
                "staining rises; use > or >= and add every stronger and more complete pattern"
            )
