"""From cells to a score: counts in, one decision out, in whole numbers.

References
----------
The rule sets and their sources stand in `her2path.scoring.guidelines.catalogue`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from her2path.core.errors import NotEvaluable, UsageError
from her2path.core.results import Score
from her2path.core.schema import INTENSITY, PATTERNS
from her2path.core.settings import ScoreSettings, Settings, load_settings
from her2path.scoring.guidelines.category import category_of
from her2path.scoring.guidelines.clusters import largest_clusters
from her2path.scoring.guidelines.load import get_rule_set
from her2path.scoring.guidelines.mix import Limits, Mix
from her2path.scoring.guidelines.ruleset import Rule, RuleSet
from her2path.scoring.guidelines.tables import (
    column,
    column_names,
    is_counts,
    pattern_column,
    pattern_counts,
    tumour_mask,
)
from her2path.scoring.guidelines.trace import FLAGS, decision_trace, rule_words

__all__ = [
    "h_score",
    "mix_of",
    "pattern_score",
    "positive_definition",
    "rule_indices",
    "score",
    "score_cells",
    "score_settings",
]

Guideline = str | Path | RuleSet
_INTENSITIES = np.array([INTENSITY[p] for p in PATTERNS])


def score_settings(settings: Settings | ScoreSettings | None) -> ScoreSettings:
    """Return the ``score`` section of whatever was given."""
    if settings is None:
        return load_settings().score
    return settings.score if isinstance(settings, Settings) else settings


def pattern_score(pattern: str, guideline: Guideline = "asco_cap_2018") -> int:
    """Return the score 0..3 of one cell of a pattern; ``intense_incomplete`` counts 2 in breast.

    Raises
    ------
    UsageError
        For an unknown pattern.
    """
    scores = get_rule_set(guideline).pattern_scores()
    if pattern not in scores:
        raise UsageError(f"{pattern!r} is no pattern", f"Valid: {', '.join(PATTERNS)}")
    return scores[pattern]


def incomplete_score(guideline: Guideline = "asco_cap_2018") -> Literal[2, 3]:
    """Return the score of an intense incomplete membrane under a guideline."""
    return 3 if pattern_score("intense_incomplete", guideline) == 3 else 2


def positive_definition(guideline: Guideline = "asco_cap_2018") -> tuple[str, ...]:
    """Return the patterns of a HER2-positive cell under a guideline."""
    positive = get_rule_set(guideline).positive
    return tuple(p for p in ("intense_complete", *PATTERNS[:-1]) if p in positive)


def score_cells(
    table: Any,
    guideline: Guideline = "asco_cap_2018",
    settings: Settings | ScoreSettings | None = None,
    ish_status: str | None = None,
) -> Score:
    """Score a table of cells by one rule set.

    Parameters
    ----------
    table : pyarrow.Table, pandas.DataFrame or dict of arrays
        ``pattern`` (one of the seven patterns); ``cell_type`` where given (only ``tumour`` counts);
        ``x_um``, ``y_um`` (µm) for rule sets that need clusters.
    guideline : str, path or RuleSet
        A shipped rule set, or a user's.
    settings : Settings or ScoreSettings, optional
        Noise floor, cluster rule, minimum of cells.
    ish_status : {"positive", "negative"}, optional
        The ISH result of the same specimen.

    Returns
    -------
    Score
        As in ``result.json``, with ``fractions``, ``counts``, ``cells`` and ``h_score``. Fewer
        cells than ``score.min_cells`` are scored and flagged ``FEW_CELLS``.

    Raises
    ------
    NotEvaluable
        Without any tumour cell.
    UsageError
        For a table without the columns, or with unknown values.
    """
    return score(table, guideline, settings, ish_status=ish_status)


def score(
    counts: Any,
    guideline: Guideline = "asco_cap_2018",
    settings: Settings | ScoreSettings | None = None,
    *,
    x_um: np.ndarray | None = None,
    y_um: np.ndarray | None = None,
    clusters: Mapping[str, int] | None = None,
    ish_status: str | None = None,
) -> Score:
    """Score counts of patterns, or a table of cells; see `score_cells`.

    Parameters
    ----------
    counts : mapping of pattern to int, or a table of cells
        Tumour cells of each pattern.
    guideline, settings, ish_status
        As in `score_cells`.
    x_um, y_um : ndarray, optional
        Positions of the table's rows, µm, where the table has no such columns.
    clusters : mapping, optional
        For counts without positions: cells of the largest cluster at or above ``faint``,
        ``moderate`` and ``intense``.

    Raises
    ------
    NotEvaluable
        Without any tumour cell.
    UsageError
        For unknown patterns or counts, or where the rule set needs positions and has none.
    """
    rule_set, chosen = get_rule_set(guideline), score_settings(settings)
    mix = mix_of(counts, rule_set, chosen, (x_um, y_um), clusters)
    if mix.totals[0] == 0:
        raise NotEvaluable(
            "there are no tumour cells to score", "Check the tumour selection", "NO_TUMOUR_CELLS"
        )
    return _decide(rule_set, mix, chosen, ish_status)


def h_score(table: Any) -> float:
    """Return the H-score, 100 x the mean intensity of the tumour cells: 0..300.

    Parameters
    ----------
    table : table of cells, or mapping of pattern to int
        As in `score_cells`.

    Raises
    ------
    NotEvaluable
        Without any tumour cell.
    """
    return float(score(table).model_dump()["h_score"])


def mix_of(
    counts: Any,
    rule_set: RuleSet,
    settings: ScoreSettings,
    positions: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
    clusters: Mapping[str, int] | None = None,
) -> Mix:
    """Return the mix of a table or of counts, with clusters where the rule set needs them."""
    if is_counts(counts):
        sizes = _given_clusters(clusters) if rule_set.needs_clusters else None
        return Mix(pattern_counts(counts)[None], sizes)
    tumour = tumour_mask(counts)
    keep: Any = slice(None) if tumour is None else tumour
    codes = pattern_column(counts)[keep]
    tally = np.bincount(codes, minlength=len(PATTERNS)).astype(np.int64)[None]
    if not rule_set.needs_clusters:
        return Mix(tally)
    x, y = (
        _coordinate(counts, n, v)[keep] for n, v in zip(("x_um", "y_um"), positions, strict=True)
    )
    sizes = largest_clusters(x, y, _INTENSITIES[codes], settings.cluster_link_um)
    return Mix(tally, sizes[None])


def _coordinate(table: Any, name: str, given: np.ndarray | None) -> np.ndarray:
    if given is None and name not in column_names(table):
        raise UsageError(
            f"this guideline looks for clusters and the table has no {name}", "Give x_um and y_um"
        )
    values = np.asarray(column(table, name) if given is None else given, dtype=np.float64)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise UsageError(f"row {row}, column {name}: not a number", "Give positions in µm")
    return values


def _given_clusters(clusters: Mapping[str, int] | None) -> np.ndarray:
    if clusters is None:
        raise UsageError(
            "this guideline looks for spatial clusters, which counts do not show",
            "Give a table with x_um and y_um, or the clusters' sizes",
        )
    return np.array([[0, *(int(clusters.get(k, 0)) for k in ("faint", "moderate", "intense"))]])


def rule_indices(rule_set: RuleSet, mix: Mix, settings: ScoreSettings) -> np.ndarray:
    """Return which rule decides each of many mixes.

    Parameters
    ----------
    rule_set : RuleSet
        The guideline.
    mix : Mix
        m mixes.
    settings : ScoreSettings
        Noise floor and cluster size.

    Returns
    -------
    ndarray of int64, shape (m,)
        Index into ``rule_set.rules``; -1 where a mix has no cells.
    """
    limits = Limits.of(settings)
    out = np.full(len(mix.counts), -1, dtype=np.int64)
    open_ = mix.totals > 0
    for i, condition in enumerate(rule_set.conditions):
        fires = open_ & mix.fulfils(condition, limits)
        out[fires] = i
        open_ &= ~fires
    return out


def _decide(rule_set: RuleSet, mix: Mix, settings: ScoreSettings, ish: str | None) -> Score:
    limits = Limits.of(settings)
    index = int(rule_indices(rule_set, mix, settings)[0])
    rule = rule_set.rules[index]
    category, discordant = category_of(rule, rule_set, ish)
    total = int(mix.totals[0])
    flags = _flags(rule_set, rule, mix, limits)
    flags += ["FEW_CELLS"] * (total < settings.min_cells) + ["ISH_IHC_DISCORDANT"] * discordant
    trace = decision_trace(rule_set, index, mix, limits)
    trace += [f"flag {f}: {FLAGS.get(f, 'raised by the rule set')}" for f in flags]
    trace.append(_category_line(category, rule, ish))
    counts = {p: int(k) for p, k in zip(PATTERNS, mix.counts[0], strict=True)}
    return Score.model_validate(
        {
            "guideline": rule_set.name,
            "title": rule_set.title,
            "ihc": rule.score,
            "substate": rule.substate,
            "stratum": rule_set.stratum(rule.score, rule.substate),
            "rule": rule_words(rule_set, index, mix, limits),
            "trace": trace,
            "flags": flags,
            "category": category,
            "reflex_ish": category == "equivocal",
            "fractions": {p: k / total for p, k in counts.items()},
            "counts": counts,
            "cells": total,
            "h_score": 100 * int(mix.counts[0] @ _INTENSITIES) / total,
            "noise_floor": settings.noise_floor,
            "ish_status": ish,
            "clusters": _cluster_sizes(mix),
        }
    )


def _flags(rule_set: RuleSet, rule: Rule, mix: Mix, limits: Limits) -> list[str]:
    flags = list(rule.flags)
    for flag, condition in zip(rule_set.flags, rule_set.flag_conditions, strict=True):
        raised = rule.score in flag.at and mix.fulfils(condition, limits)[0]
        if raised and flag.code not in flags:
            flags.append(flag.code)
    return flags


def _category_line(category: str, rule: Rule, ish: str | None) -> str:
    if category == "equivocal":
        return "category equivocal: ISH is due"
    by_ish = f" with ISH {ish}" if ish in ("positive", "negative") else ""
    return f"category {category}: IHC {rule.score}{by_ish}"


def _cluster_sizes(mix: Mix) -> dict[str, int] | None:
    if mix.clusters is None:
        return None
    return {n: int(mix.clusters[0, k]) for k, n in enumerate(("faint", "moderate", "intense"), 1)}
