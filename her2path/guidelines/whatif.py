"""The same cells under every rule set."""

from __future__ import annotations

from typing import Any

from her2path.errors import UsageError
from her2path.guidelines.engine import score
from her2path.guidelines.load import get_rule_set, names
from her2path.settings import ScoreSettings, Settings

__all__ = ["what_if"]


def what_if(
    table: Any,
    settings: Settings | ScoreSettings | None = None,
    ish_status: str | None = None,
) -> list[dict[str, Any]]:
    """Score cells (or counts) under every shipped rule set.

    Parameters
    ----------
    table : table of cells, or mapping of pattern to int
        As in `score_cells`.
    settings : Settings or ScoreSettings, optional
        Noise floor, cluster rule.
    ish_status : str, optional
        The ISH result.

    Returns
    -------
    list of dict
        One row a rule set: ``guideline, title, year, ihc, substate, category, rule, flags,
        reason``. Where a rule set cannot be applied (a biopsy rule without positions) the score
        is None and ``reason`` says why.

    Raises
    ------
    NotEvaluable
        Without any tumour cell.
    """
    return [_row(table, name, settings, ish_status) for name in names()]


def _row(
    table: Any, name: str, settings: Settings | ScoreSettings | None, ish: str | None
) -> dict[str, Any]:
    rule_set = get_rule_set(name)
    row: dict[str, Any] = {"guideline": name, "title": rule_set.title, "year": rule_set.year}
    empty = dict.fromkeys(("ihc", "substate", "category", "rule"))
    try:
        found = score(table, rule_set, settings, ish_status=ish)
    except UsageError as exc:
        if not rule_set.needs_clusters:
            raise
        return row | empty | {"flags": [], "reason": str(exc)}
    return row | {
        "ihc": found.ihc,
        "substate": found.substate,
        "category": found.category,
        "rule": found.rule,
        "flags": list(found.flags),
        "reason": None,
    }
