"""The calls that do all: score a slide, compare readers, and leave a report beside the result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from her2path.agreement import AgreeOptions
from her2path.case import Progress, RunOptions, SlideResult
from her2path.case import score_slide as _score_slide
from her2path.settings import Settings

__all__ = ["agree", "faces", "score_slide"]


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


def agree(
    reads: Any = None,
    results: str | Path | None = None,
    out: str | Path | None = None,
    *,
    manifest: str | Path | None = None,
    strata: tuple[str, ...] = (),
    outcome: str | None = None,
    options: AgreeOptions | None = None,
) -> dict[str, Any]:
    """Measure how readers agree with each other and with the program.

    Parameters
    ----------
    reads : path or table, optional
        READS.csv, or its columns (pyarrow.Table, DataFrame, dict of lists); may be left out with
        `outcome` and `results`.
    results : path, optional
        OUT of a batch or of one slide: the program becomes the reader ``her2path``.
    out : path, optional
        Folder for ``agreement.json``, ``agreement.csv`` and ``report.html``; None writes nothing.
    manifest : path, optional
        CSV with ``case_id`` and the columns of `strata`; without it those of the results' tables
        and of the reads are taken.
    strata : tuple of str
        Columns whose values divide the cases.
    outcome : str, optional
        ``FILE.csv:COLUMN``, 0 and 1 by ``case_id``: how findings go with it.
    options : AgreeOptions, optional
        Draws, seed, margin, comparisons.

    Returns
    -------
    dict
        As ``agreement.json``; see docs/agreement.md.

    Raises
    ------
    ManifestError
        For reads, manifest or outcome that cannot be used.
    UsageError
        For a single reader, a single case, or nothing in common.
    OutputError
        Where there are no results, or `out` holds some.
    """
    from her2path.cohort import agree as story
    from her2path.cohort.readings import Readings
    from her2path.reads import read_reads, reads_of

    if out is not None:
        story.guard_out(Path(out))
    given = reads if reads is not None else ()
    if isinstance(given, (str, Path)):
        rows = read_reads(given)
    else:
        rows = reads_of(given) if len(given) else []
    known = Readings(results) if results is not None else None
    sources = story.Sources(known, manifest, tuple(strata), outcome)
    tree, everyone = story.agreement_of(rows, sources, options or AgreeOptions())
    if out is not None:
        from her2path.report.agreement import build_agreement

        story.write_agreement(tree, Path(out))
        build_agreement(tree, everyone, Path(out))
    return tree
