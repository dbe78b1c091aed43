"""Commands on many slides: batch and collect."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from her2path.cli import options as o

if TYPE_CHECKING:
    from her2path.runs.cohort import BatchResult, ReportWriters

__all__ = ["add_to"]

Source = Annotated[
    Path,
    typer.Argument(
        help="MANIFEST.csv, or a folder of slides.", metavar="MANIFEST_OR_FOLDER", parser=o.path
    ),
]
AnnotationFolder = Annotated[
    Path | None,
    typer.Option("--annotations", help="Folder of <slide_id>.geojson or .xml; a manifest's "
                 "column wins.", parser=o.path, metavar="PATH"),
]  # fmt: skip
Sources = Annotated[
    list[Path],
    typer.Argument(
        help="Results of `score`, folders of them, or batches.", metavar="DIR...", parser=o.path
    ),
]
ManifestFile = Annotated[
    Path | None,
    typer.Option(
        "--manifest",
        help="MANIFEST.csv: which slide is of which case.",
        parser=o.path,
        metavar="PATH",
    ),
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("batch")(batch)
    app.command("collect")(collect)


@o.with_scoring
def batch(
    source: Source, out: o.Out, given: o.Scoring, annotations: AnnotationFolder = None
) -> int:
    """Score many slides and their cases; run again, it does only what is missing or changed."""
    settings = given.settings()
    from her2path.runs.cohort import BatchOptions, BatchProgress, run_batch

    how = BatchOptions(
        **given.run(),
        annotations=annotations,
        reports=_report_writers(given.no_report),
        debug=given.debug,
    )
    with _live(given.json or given.quiet) as changed:
        result = run_batch(source, out, settings, how, BatchProgress(changed))
    return tell(result, given.json, given.quiet)


def collect(
    sources: Sources,
    out: o.Out,
    manifest: ManifestFile = None,
    overwrite: o.Overwrite = False,
    no_report: o.NoReport = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,  # noqa: ARG001 - read by `main`
) -> int:
    """Build cases, tables and index from slides that were scored elsewhere."""
    from her2path.runs.cohort import BatchProgress
    from her2path.runs.cohort import collect as join

    with _live(json or quiet) as changed:
        result = join(
            sources, out, manifest, _report_writers(no_report), overwrite, BatchProgress(changed)
        )
    return tell(result, json, quiet)


def _report_writers(no_report: bool) -> ReportWriters:
    """Return what people see of a batch; without reports the regions and the index stay."""
    from her2path import api
    from her2path.outputs import report
    from her2path.runs.cohort import ReportWriters

    if no_report:
        return ReportWriters(slide=api.write_without_report, index=report.build_index)
    return ReportWriters(slide=api.write_reports, case=report.build_case, index=report.build_index)


def _live(silent: bool) -> AbstractContextManager[Any]:
    import sys

    if silent or not sys.stderr.isatty():
        return nullcontext()
    from her2path.cli.progress_table import live_table

    return live_table()


def tell(result: BatchResult, json: bool, quiet: bool) -> int:
    """Say how it ended; 3 where a slide failed."""
    from her2path.cli.output import echo_json

    counts = result.run["counts"]
    if json:
        echo_json(result.run)
    elif not quiet:
        words = f"{counts['done']} of {counts['slides']} slides"
        silent = counts["not_evaluable"]
        words += f", {silent} of them not evaluable" * bool(silent)
        typer.echo(f"{words}; {counts['cases']} cases. Result in {result.out}. Research use only.")
    if result.failed:
        typer.echo(
            f"error: {counts['failed']} slides and {counts['failed_cases']} cases failed. "
            f"See {result.out / 'failures.csv'}; run the same command again to retry.",
            err=True,
        )
    return result.exit_code
