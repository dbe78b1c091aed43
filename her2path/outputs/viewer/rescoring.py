"""The score again from the viewer: what the reader said is applied, and shown at once."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from her2path.core.errors import Her2PathError
from her2path.core.results import Result
from her2path.outputs import export, report
from her2path.outputs.viewer.desk import SlideView, Viewer
from her2path.runs.case.rescore import rescore

__all__ = ["figures", "rescored"]

log = logging.getLogger(__name__)


def rescored(viewer: Viewer, number: int, view: SlideView, keep: bool) -> dict[str, Any]:
    """Rescore a slide with its corrections, or without any; return its figures before and after.

    Raises
    ------
    Her2PathError
        Where it cannot be: the old result then stays.
    """
    path = view.ledger.path
    before = figures(view.result)
    rescore(
        view.store.out,
        corrections=path if keep and path.is_file() else None,
        reports=_report_writers,
    )
    after = viewer.reopen(number)
    return {"before": before, "after": figures(after.result), "version": after.version}


def figures(result: Result) -> dict[str, Any]:
    """Return the main figures of a result, and how many corrections it rests on."""
    score, extra = result.score, result.model_extra or {}
    return {
        "ihc": score.ihc if score else None,
        "substate": score.substate if score else None,
        "category": score.category if score else None,
        "probability": score.probability if score else None,
        "h_score": result.h_score,
        "tumour_cells": result.counts.tumour,
        "selection": result.tumour_selection,
        "corrections": extra.get("corrections"),
    }


def _report_writers(folder: Path) -> None:
    export.export_regions(folder)
    try:
        report.build(folder)
    except Her2PathError as exc:  # the score counts; the page can be made again
        log.warning("the report could not be made: %s", exc)
