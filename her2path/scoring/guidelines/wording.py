"""Reporting text by the guideline's year.

The score is always printed first, with its guideline. Category names (HER2-low, HER2-ultralow,
HER2-null) stand in a line of their own and never replace it. Comments belong to the rule set, so
that a user's rule set can carry the wording of a template that we have not seen.
"""

from __future__ import annotations

from her2path.core.results import Score
from her2path.core.schema import csv_category
from her2path.scoring.guidelines.engine import Guideline
from her2path.scoring.guidelines.load import get_rule_set, names
from her2path.scoring.guidelines.trace import FLAGS

__all__ = ["report_text"]

#: category names that are in use for treatment, not result categories of the guidelines
_USED_NAMES = ("low", "ultralow", "null")


def report_text(
    score: Score, guideline: Guideline | None = None, ish_status: str | None = None
) -> list[str]:
    """Return the report's lines on the score.

    Parameters
    ----------
    score : Score
        The score.
    guideline : str, path or RuleSet, optional
        The rule set, where it is not a shipped one; without it there are no comments.
    ish_status : str, optional
        The ISH status, to be printed.

    Returns
    -------
    list of str
        First the score with its guideline and rule, then ISH, category, comments and flags.
    """
    title, texts = _rule_set_words(score, guideline)
    lines = [f"HER2 IHC score: {score.stratum or score.ihc} ({title}; {score.rule})"]
    if ish_status is not None:
        lines.append(f"HER2 ISH: {ish_status.replace('_', ' ')}")
    lines.append(_category_line(score.category))
    comments = [texts.get(key) for key in _keys(score)]
    lines += [f"Comment: {text}" for text in comments if text]
    lines += [f"Note ({code}): {FLAGS.get(code, 'see the rule set')}" for code in score.flags]
    return lines


def _rule_set_words(score: Score, guideline: Guideline | None) -> tuple[str, dict[str, str]]:
    """Return title and comments; a stored score of a user's rule set still has its title."""
    if guideline is None and score.guideline not in names():
        return str(score.model_dump().get("title", score.guideline)), {}
    rule_set = get_rule_set(guideline if guideline is not None else score.guideline)
    return rule_set.title, rule_set.comments


def _keys(score: Score) -> list[str]:
    # a 2+ that ISH has resolved needs no reminder that ISH is due
    resolved = score.ihc == "2+" and score.category != "equivocal"
    keys = [] if resolved else [score.ihc]
    return [*keys, score.substate or "", "equivocal" if score.category == "equivocal" else ""]


def _category_line(category: str) -> str:
    name = csv_category(category)
    if category == "equivocal":
        return "HER2 status: equivocal, ISH is due"
    if category in _USED_NAMES:
        return f"Beside the score, as used in treatment trials: {name}"
    return f"HER2 status: {name}"
