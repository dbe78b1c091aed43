"""The combined category of IHC and ISH: positive, equivocal, low, ultralow, null, negative."""

from __future__ import annotations

from pathlib import Path

from her2path.core.errors import UsageError
from her2path.core.results import Score
from her2path.scoring.guidelines.load import get_rule_set
from her2path.scoring.guidelines.ruleset import Rule, RuleSet

__all__ = ["category_from_score", "category_of", "settled_by_ish"]

#: ISH results that settle nothing: the category stays as IHC leaves it
_OPEN_ISH = ("recount_due", "equivocal", "ihc_needed", "not_evaluable")


def category_of(rule: Rule, rule_set: RuleSet, ish_status: str | None = None) -> tuple[str, bool]:
    """Return the category and whether IHC and ISH disagree.

    Parameters
    ----------
    rule : Rule
        The rule that decided.
    rule_set : RuleSet
        Its guideline.
    ish_status : str, optional
        ``positive`` or ``negative``; an open result (``recount_due``, ...) settles nothing.

    Raises
    ------
    UsageError
        For an unknown ISH status.
    """
    if ish_status not in (None, "positive", "negative", *_OPEN_ISH):
        raise UsageError(f"the ISH status {ish_status!r} is unknown", "Valid: positive, negative")
    by_ihc, decided = rule.verdict, ish_status in ("positive", "negative")
    if by_ihc == "equivocal":
        if not decided:
            return "equivocal", False
        if ish_status == "positive":
            return "positive", False
        return ("low" if rule_set.substates else "negative"), False
    if by_ihc == "positive":
        return "positive", ish_status == "negative"
    if ish_status == "positive" and rule_set.ish_positive_suffices:
        return "positive", True
    low = "low" if rule.score != "0" else str(rule.substate)
    return (low if rule_set.substates else "negative"), ish_status == "positive"


def category_from_score(
    ihc: str | None, substate: str | None, rule_set: RuleSet, ish_status: str | None
) -> str | None:
    """Return the category where only the IHC score is known, not the cells behind it.

    Parameters
    ----------
    ihc : str or None
        ``0``, ``1+``, ``2+``, ``3+``; None where there is no IHC.
    substate : str or None
        ``null`` or ``ultralow`` under a score of 0, where known.
    rule_set : RuleSet
        The guideline.
    ish_status : str or None
        The ISH status.

    Returns
    -------
    str or None
        The category. None where it cannot be told: a 0 whose substate is unknown, or a negative
        ISH without IHC under a guideline that tells low from null. Where a score has two
        categories (HERACLES 3+) the weaker one counts.
    """
    if ihc is None:
        return _without_ihc(rule_set, ish_status)
    rules = [r for r in rule_set.rules if r.score == ihc and (ihc != "0" or r.substate == substate)]
    if rules:
        return category_of(rules[-1], rule_set, ish_status)[0]
    settled = ish_status == "positive" and rule_set.ish_positive_suffices
    return "positive" if settled else None


def _without_ihc(rule_set: RuleSet, ish_status: str | None) -> str | None:
    if ish_status == "negative":
        return None if rule_set.substates else "negative"
    if ish_status == "not_evaluable" or ish_status is None:
        return None
    return "positive" if ish_status == "positive" else "equivocal"


def settled_by_ish(score: Score, guideline: str | Path | RuleSet, status: str) -> Score:
    """Return an IHC score with the category that ISH of the same sample gives it.

    A status that settles nothing leaves the category, and is noted all the same.

    Parameters
    ----------
    score : Score
        By IHC alone.
    guideline : str, path or RuleSet
        The rule set that it was made by.
    status : str
        The ISH status of the sample or its case.
    """
    category = score.category
    if status in ("positive", "negative"):
        rules = get_rule_set(guideline)
        category = category_from_score(score.ihc, score.substate, rules, status) or category
    reflex = category == "equivocal"
    return score.model_copy(
        update={"category": category, "reflex_ish": reflex, "ish_status": status}
    )
