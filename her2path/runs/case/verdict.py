"""The verdict: what counted cells, regions, settings and ISH say of a slide. Nothing is read here.

A fresh run, a rescored one and the warm-up call the same function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from her2path.core.results import Heterogeneity, Receptors, Score, Sensitivity
from her2path.core.schema import PATTERNS
from her2path.core.settings import Settings
from her2path.runs.case.celltable import is_tumour
from her2path.scoring import guidelines, uncertainty
from her2path.scoring.calibration import receptors
from her2path.space import heterogeneity, regions

__all__ = ["Ish", "Verdict", "verdict"]

#: interval in the heterogeneity's list -> the same quantity in the score's
SAME = {
    "h_score": "h_score",
    "null_cell_fraction": "none",
    "intense_cell_fraction": "intense",
}


@dataclass(frozen=True)
class Ish:
    """ISH of the case: its row of ``ish.json``, its status, and the IHC score it was read with."""

    case: Mapping[str, Any]
    status: str
    ihc: str


@dataclass(frozen=True)
class Verdict:
    """What the cells say; ``tumour`` are the cells that were counted."""

    tumour: pa.Table
    counts: dict[str, int]
    fractions: dict[str, float]
    score: Score
    h_score: float
    heterogeneity: Heterogeneity
    receptors: Receptors


def verdict(
    cells: pa.Table,
    region_table: pa.Table,
    settings: Settings,
    limit: Sensitivity | None = None,
    ish: Ish | None = None,
) -> Verdict:
    """Score the tumour cells and measure their heterogeneity.

    Parameters
    ----------
    cells : pyarrow.Table
        Light columns of all cells, with ``cell_type`` and ``region_id``.
    region_table : pyarrow.Table
        Regions of the primary kind.
    settings : Settings
        With the cut-offs that this slide is read with.
    limit : Sensitivity, optional
        The slide's detection limit, which the score's probability takes in.
    ish : Ish, optional
        Settles the category, unless the IHC score is another one than the counts were read with.
    """
    guideline = settings.score.guideline
    tumour = cells.filter(pa.array(is_tumour(cells)))
    scored = guidelines.score_cells(tumour, guideline=guideline, settings=settings)
    sure = uncertainty.bootstrap(tumour, guideline, settings, limit)
    score = uncertainty.add_to(scored, sure)
    measured = heterogeneity.measure(
        tumour,
        positive=list(regions.positive_patterns(settings)),
        settings=settings,
        regions=region_table,
        score=score,
    )
    spread = _one_interval_each(measured, sure.intervals, settings)
    if ish is not None and ish.ihc == score.ihc:
        score = guidelines.settled_by_ish(score, guideline, ish.status)
        spread = heterogeneity.with_ish(spread, ish.case) or spread
    return Verdict(
        tumour=tumour,
        counts={"tumour": tumour.num_rows, "other": cells.num_rows - tumour.num_rows},
        fractions={p: score.fractions[p] for p in PATTERNS},
        score=score,
        h_score=float(100.0 * tumour.column("intensity").to_numpy().mean()),
        heterogeneity=spread,
        receptors=receptors.summary(tumour, settings.calibration.curve, settings),
    )


def _one_interval_each(
    measured: Heterogeneity, known: Mapping[str, tuple[float, float]], settings: Settings
) -> Heterogeneity:
    """Let one quantity have one interval: the score's, which also moves the cut-offs."""
    intervals = dict(getattr(measured, "intervals", None) or {})
    same = dict(SAME)
    if settings.heterogeneity.positive is None:
        same["positive_cell_fraction"] = "positive"
    for mine, theirs in same.items():
        if mine in intervals and theirs in known:
            intervals[mine] = known[theirs]
    return measured.model_copy(update={"intervals": intervals})
