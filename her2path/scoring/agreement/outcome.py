"""Association of findings with an outcome of 0 and 1 (such as response), case by case.

A finding of two values gives a fourfold table: Fisher's exact test, two-sided, and the conditional
odds ratio with its exact interval. Every finding, numbers too, gives a logistic regression by
Firth's penalised likelihood, which stays finite where a finding separates the outcomes, with its
profile interval and likelihood-ratio p.

References
----------
Fisher RA (1935) J R Stat Soc 98:39; Cornfield J (1956) (exact conditional interval). Firth D (1993)
Biometrika 80:27. Heinze G, Schemper M (2002) Stat Med 21:2409. Benjamini Y, Hochberg Y (1995) J R
Stat Soc B 57:289 (q over all findings of one reader or program).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.core._optional import require
from her2path.core.errors import MissingExtra, UsageError
from her2path.scoring.agreement.draws import number

__all__ = ["associate", "firth", "fisher"]

Floats = NDArray[np.float64]


def associate(
    outcome: Mapping[str, bool], findings: Mapping[str, Mapping[str, Mapping[str, float | bool]]]
) -> dict[str, Any]:
    """Return how every finding goes with the outcome.

    Parameters
    ----------
    outcome : mapping
        Case to outcome.
    findings : mapping
        Source (a reader, ``her2path``) to finding to case to value; booleans are classes, numbers
        are measures.

    Raises
    ------
    UsageError
        Where no case has both, or all outcomes are the same.
    """
    cases = {c for of in findings.values() for known in of.values() for c in known}
    both = [c for c in outcome if c in cases]
    if not both:
        raise UsageError("no case of the outcome has a read or a result",
                         "Give the same case_id in both files")  # fmt: skip
    if len({outcome[c] for c in both}) < 2:
        raise UsageError(f"all {len(both)} cases have the same outcome",
                         "Give cases with outcome 0 and with 1")  # fmt: skip
    rows = [_row(source, name, known, outcome)
            for source, of in findings.items() for name, known in of.items()]  # fmt: skip
    for source in findings:
        _adjust([r for r in rows if r["source"] == source])
    positive = sum(outcome[c] for c in both)
    return {"cases": len(both), "positive": positive, "negative": len(both) - positive,
            "associations": rows}  # fmt: skip


def _row(
    source: str, name: str, known: Mapping[str, float | bool], outcome: Mapping[str, bool]
) -> dict[str, Any]:
    cases = [c for c in known if c in outcome]
    y = np.array([outcome[c] for c in cases], bool)
    two = all(isinstance(v, (bool, np.bool_)) for v in known.values())
    x = np.array([float(known[c]) for c in cases])
    row: dict[str, Any] = {"source": source, "finding": name, "n": len(cases)}
    if two:
        row["kind"] = "class"
        row |= fisher(x > 0, y)
    else:
        row["kind"] = "number"
        row |= _by_outcome(x, y)
    row["firth"] = firth(x, y, two)
    return row


def fisher(finding: NDArray[np.bool_], outcome: NDArray[np.bool_]) -> dict[str, Any]:
    """Return counts, two-sided p, and the conditional odds ratio with its exact 95 % interval.

    An odds ratio or limit without bound is None; `bounded` says so.
    """
    a, b = int((finding & outcome).sum()), int((finding & ~outcome).sum())
    c, d = int((~finding & outcome).sum()), int((~finding & ~outcome).sum())
    row: dict[str, Any] = {
        "with": {"n": a + b, "positive": a}, "without": {"n": c + d, "positive": c},
        "p": None, "odds_ratio": None, "odds_ratio_low": None, "odds_ratio_high": None,
    }  # fmt: skip
    if min(a + b, c + d, a + c, b + d) == 0:
        return row | {"reason": "the finding or the outcome has one value only"}
    from scipy import stats

    found = stats.contingency.odds_ratio([[a, b], [c, d]], kind="conditional")
    limits = found.confidence_interval(0.95)
    row["p"] = float(stats.fisher_exact([[a, b], [c, d]]).pvalue)
    row["odds_ratio"] = number(found.statistic)
    row["odds_ratio_low"], row["odds_ratio_high"] = number(limits.low), number(limits.high)
    row["bounded"] = bool(np.isfinite(limits.high))
    return row


def _by_outcome(x: Floats, y: NDArray[np.bool_]) -> dict[str, Any]:
    medians = {k: number(np.median(x[y == v])) if (y == v).any() else None
               for k, v in (("positive", True), ("negative", False))}  # fmt: skip
    return {"median": medians, "p": None}


def firth(x: Floats, y: NDArray[np.bool_], two: bool) -> dict[str, Any]:
    """Return the odds ratio by Firth's logistic regression, with 95 % profile interval and p.

    Parameters
    ----------
    x : ndarray
        The finding, (n,).
    y : ndarray
        The outcome, (n,) bool.
    two : bool
        Whether the finding has two values: the odds ratio is between them, otherwise for one
        standard deviation (`per`).
    """
    blank = {"odds_ratio": None, "odds_ratio_low": None, "odds_ratio_high": None, "p": None}
    if len(x) < 3 or np.ptp(x) == 0 or y.all() or not y.any():
        return {**blank, "reason": "the finding or the outcome has one value only"}
    try:
        models = require("firthmodels", "Firth's logistic regression")
    except MissingExtra as exc:
        return {**blank, "reason": str(exc)}
    per = 1.0 if two else float(np.std(x, ddof=1))
    model = models.FirthLogisticRegression(backend="numpy")
    model.fit((x / per)[:, None], y.astype(int))
    model.lrt()
    low, high = model.conf_int(method="pl")[0]
    odds = [number(v) for v in np.exp([model.coef_[0], low, high])]
    return {"odds_ratio": odds[0], "odds_ratio_low": odds[1], "odds_ratio_high": odds[2],
            "p": number(model.lrt_pvalues_[0]), "per": per}  # fmt: skip


def _adjust(rows: list[dict[str, Any]]) -> None:
    """Add q, the false discovery rate over one source's findings; of numbers Firth's p counts."""
    for r in rows:
        if r["kind"] == "number":
            r["p"] = r["firth"]["p"]
    known = [r for r in rows if r["p"] is not None]
    from scipy import stats

    adjusted = stats.false_discovery_control([r["p"] for r in known]) if known else []
    for r in rows:
        r["q"] = None
    for r, q in zip(known, adjusted, strict=True):
        r["q"] = float(q)
