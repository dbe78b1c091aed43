"""The one call that does all: score a slide and leave its report beside the result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from her2path.case import Progress, RunOptions, SlideResult
from her2path.case import score_slide as _score_slide
from her2path.settings import Settings

__all__ = ["faces", "score_slide"]


def score_slide(
    slide: str | Path,
    out: str | Path,
    settings: Settings | str | Path | None = None,
    annotations: str | Path | None = None,
    options: RunOptions | None = None,
    progress: Progress | None = None,
    report: bool = True,
) -> SlideResult:
    """Score one slide and write its report; see `her2path.case.score_slide`.

    Parameters
    ----------
    report : bool
        Whether ``report.html`` is made now.
    """
    how = replace(options or RunOptions(), faces=faces if report else faces_without_report)
    return _score_slide(slide, out, settings, annotations, how, progress)


def faces(folder: Path) -> None:
    """Write what people see of a staged result: report and regions."""
    from her2path import report

    faces_without_report(folder)
    report.build(folder)


def faces_without_report(folder: Path) -> None:
    """Write the regions as GeoJSON."""
    from her2path.export import export_regions

    export_regions(folder)
