"""The same cells under every rule set."""

from __future__ import annotations

from typing import Any

from her2path.core.errors import UsageError
from her2path.core.results import Score
from her2path.core.schema import PATTERNS
from her2path.core.settings import ScoreSettings, Settings
from her2path.scoring.guidelines.engine import mix_of, score, score_settings
from her2path.scoring.guidelines.load import get_rule_set, names

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
    chosen = score_settings(settings)
    plain = next(r for r in map(get_rule_set, names()) if not r.needs_clusters)
    tally = mix_of(table, plain, chosen).counts[0]
    counts = {p: int(k) for p, k in zip(PATTERNS, tally, strict=True)}
    clusters, reason = _clusters(table, chosen)
    rows = []
    for name in names():
        rule_set = get_rule_set(name)
        row = {"guideline": name, "title": rule_set.title, "year": rule_set.year}
        if rule_set.needs_clusters and clusters is None:
            empty = dict.fromkeys(("ihc", "substate", "category", "rule"))
            rows.append(row | empty | {"flags": [], "reason": reason})
        else:
            found = score(counts, rule_set, chosen, clusters=clusters, ish_status=ish_status)
            rows.append(row | _found(found))
    return rows


def _clusters(table: Any, settings: ScoreSettings) -> tuple[dict[str, int] | None, str | None]:
    """Return the largest clusters by intensity, or why there are none."""
    rule_set = next(r for r in map(get_rule_set, names()) if r.needs_clusters)
    try:
        sizes = mix_of(table, rule_set, settings).clusters
    except UsageError as exc:
        return None, str(exc)
    assert sizes is not None  # the rule set asks for them
    return {n: int(sizes[0, k]) for k, n in enumerate(("faint", "moderate", "intense"), 1)}, None


def _found(found: Score) -> dict[str, Any]:
    return {
        "ihc": found.ihc,
        "substate": found.substate,
        "category": found.category,
        "rule": found.rule,
        "flags": list(found.flags),
        "reason": None,
    }
