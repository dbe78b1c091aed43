"""`rescore` on a batch."""

from __future__ import annotations

from pathlib import Path

import typer

__all__ = ["again"]


def again(
    out: Path, guideline: str | None, config: Path | None, changes: list[str] | None,
    corrections: Path | None, manifest: Path | None, json: bool, quiet: bool,
) -> int:  # fmt: skip
    """Score every slide of a batch again; 3 where one could not be.

    Raises
    ------
    UsageError
        For one file of corrections: each slide has its own.
    """
    from her2path import api
    from her2path.cli.output import echo_json
    from her2path.core.errors import UsageError
    from her2path.outputs import report
    from her2path.runs.cohort import ReportWriters
    from her2path.runs.cohort.rescoring import rescore_batch

    if corrections is not None and str(corrections) != "none":
        raise UsageError(
            "--corrections names the cells of one slide, and this is a batch",
            "Leave it out (each slide's own are applied), or give none",
        )
    reports = ReportWriters(
        slide=api.write_reports, case=report.build_case, index=report.build_index
    )
    result, applied = rescore_batch(out, guideline, config, changes, corrections is None, reports,
                                    manifest)  # fmt: skip
    if json:
        echo_json({**result.run, "applied": vars(applied)})
    elif not quiet:
        typer.echo(f"{applied.slides} slides scored again, {applied.words}; "
                   f"{result.run['counts']['cases']} cases. Research use only.")  # fmt: skip
    for name, error in applied.failed.items():
        typer.echo(f"error: {name}: {error}", err=True)
    return 3 if applied.failed else result.exit_code
