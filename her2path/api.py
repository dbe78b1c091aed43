"""The calls that do all: score a slide, compare readers, and leave a report beside the result."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from her2path.core.errors import Her2PathError
from her2path.core.settings import Settings, load_settings
from her2path.opened import Slide
from her2path.runs.case import Progress, RunOptions, SlideResult
from her2path.runs.case import score_slide as _score_slide
from her2path.scoring.agreement import AgreeOptions

__all__ = ["agree", "run_slide", "score_slide", "write_reports"]


def score_slide(
    slide: str | Path,
    out: str | Path,
    settings: Settings | str | Path | None = None,
    annotations: str | Path | None = None,
    options: RunOptions | None = None,
    progress: Progress | None = None,
    report: bool = True,
    *,
    mpp: float | None = None,
    guideline: str | None = None,
    overwrite: bool = False,
) -> Slide:
    """Score one slide and write its report; see `her2path.runs.case.score_slide`.

    Parameters
    ----------
    slide, out, settings, annotations, options, progress
        As there.
    report : bool
        Whether ``report.html`` is made now.
    mpp : float, optional
        µm per pixel (0.1 to 2.0), where the file has none.
    guideline : str, optional
        Rule set, in place of the settings' one.
    overwrite : bool
        Replace what `out` holds.

    Returns
    -------
    Slide
        As `open` gives it.

    Raises
    ------
    Her2PathError
        In the words of this function's arguments.
    """
    try:
        chosen = settings if isinstance(settings, Settings) else load_settings(settings)
        given = {"slide.mpp": mpp, "score.guideline": guideline}
        chosen = chosen.replace({k: v for k, v in given.items() if v is not None})
        how = options or RunOptions()
        how = replace(how, overwrite=how.overwrite or overwrite)
        done = run_slide(slide, out, chosen, annotations, how, progress, report)
    except Her2PathError as exc:
        raise _in_library_words(exc) from exc.__cause__
    return Slide(done.out, done.result, done.fresh)


#: options of the command line, and what stands for them here
_ARGUMENTS = {
    "--annotations FILE": "annotations=", "--annotations": "annotations=",
    "--force-mpp": "settings slide.force_mpp", "--mpp X": "mpp=", "--mpp": "mpp=",
    "--guideline": "guideline=", "--overwrite": "overwrite=True",
    "--config": "settings=", "--set": "settings.replace({...})", "-o": "out=", "-c": "settings=",
    "--scheduler": "RunOptions(scheduler=...)", "--cnn": "settings cnn.model",
}  # fmt: skip
_LONGEST_FIRST = sorted(_ARGUMENTS, key=len, reverse=True)
_OPTION = re.compile("|".join(rf"(?<![\w-]){re.escape(k)}(?![\w-])" for k in _LONGEST_FIRST))


def _in_library_words(exc: Her2PathError) -> Her2PathError:
    """Let an error name arguments instead of the command line's options."""
    exc.what, exc.mend = (
        _OPTION.sub(lambda m: _ARGUMENTS[m.group()], text) for text in (exc.what, exc.mend)
    )
    exc.args = (exc.what, exc.mend)
    return exc


def run_slide(
    slide: str | Path,
    out: str | Path,
    settings: Settings | str | Path | None = None,
    annotations: str | Path | None = None,
    options: RunOptions | None = None,
    progress: Progress | None = None,
    report: bool = True,
) -> SlideResult:
    """Score one slide as the command does: errors name the command's options."""
    from her2path.runs.case.warm import ready

    if Path(slide).is_file():  # a slip of the pen is told at once
        ready(progress or (lambda *_: None))
    how = replace(
        options or RunOptions(), reports=write_reports if report else write_without_report
    )
    return _score_slide(slide, out, settings, annotations, how, progress)


def write_reports(folder: Path) -> None:
    """Write what people see of a staged result: report and regions."""
    from her2path.outputs import report

    write_without_report(folder)
    report.build(folder)


def write_without_report(folder: Path) -> None:
    """Write the regions as GeoJSON."""
    from her2path.outputs.export import export_regions

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
    from her2path.io.reads import read_reads, reads_of
    from her2path.runs.cohort import agree as story
    from her2path.runs.cohort.readings import Readings

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
        from her2path.outputs.report.agreement import build_agreement

        story.write_agreement(tree, Path(out))
        build_agreement(tree, everyone, Path(out))
    return tree
