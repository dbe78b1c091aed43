"""Commands on slides: score, demo, report, rescore."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from her2path.cli import options as o

if TYPE_CHECKING:
    from her2path.runs.case import SlideResult

__all__ = ["add_to"]

SlideArg = Annotated[Path, typer.Argument(help="A whole-slide image, or a TIFF, PNG or JPEG.",
                                          parser=o.path, metavar="SLIDE")]  # fmt: skip


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("score")(score)
    app.command("demo")(demo)
    app.command("report")(report)
    app.command("rescore")(rescore)


@o.with_scoring
def score(
    slide: SlideArg, out: o.Out, given: o.Scoring, annotations: o.AnnotationFile = None
) -> int:
    """Score one slide: cells, regions, HER2 score, heterogeneity, report."""
    _logging(given.debug)
    settings = given.settings()
    from her2path.api import run_slide
    from her2path.runs.case import RunOptions

    how, report = RunOptions(**given.run()), not given.no_report
    with _progress(given.json or given.quiet) as tick:
        result = run_slide(slide, out, settings, annotations, how, tick, report=report)
    return _tell(result, given.json, given.quiet)


def demo(
    out: o.Out = Path("her2path-demo"),
    overwrite: o.Overwrite = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> int:
    """Make a slide with known truth and score it: the main job, end to end."""
    _logging(debug)
    from her2path.api import run_slide
    from her2path.core.settings import Settings
    from her2path.phantom import demo_spec, make_files
    from her2path.runs.case import RunOptions
    from her2path.runs.case.warm import warming

    out.mkdir(parents=True, exist_ok=True)
    slide = out / "slide" / "phantom.svs"
    with _progress(json or quiet) as tick:
        if not slide.exists():
            if tick is not None:
                tick("painting a slide", 0, 1, 0.0)
            with warming():
                make_files(demo_spec(), slide.parent)
        result = run_slide(
            slide,
            out / "result",
            Settings(),
            options=RunOptions(overwrite=overwrite),
            progress=tick,
        )
    code = _tell(result, json, quiet)
    if not (json or quiet):
        from her2path.cli.words import print_truth

        print_truth(slide.parent, result)
        typer.echo(f"Open {out / 'result' / 'report.html'} in a browser.")
    return code


def report(
    out: o.RunDir,
    pdf: Annotated[bool, typer.Option("--pdf", help="Also write a PDF.")] = False,
    figures: Annotated[
        Path | None,
        typer.Option(
            "--figures", help="Write the plots here as SVG and PNG.", parser=o.path, metavar="PATH"
        ),
    ] = None,
    debug: o.Debug = False,
) -> int:
    """Rebuild the reports of a run or batch from its stored results."""
    _logging(debug)
    from her2path.outputs import report as pages

    made = pages.build_all(out, pdf=pdf)
    if figures is not None:
        pages.figures(out, figures)
    for path in made:
        typer.echo(str(path), err=True)
    return 0


def rescore(
    out: o.RunDir,
    guideline: o.Guideline = None,
    config: o.Config = None,
    changes: o.Set = None,
    corrections: Annotated[
        Path | None,
        typer.Option(
            "--corrections",
            help="Corrections (GeoJSON); without, those made in the viewer; none leaves them out.",
            parser=o.path,
            metavar="PATH",
        ),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            "--manifest",
            help="Of a batch with ISH counts or TMA cores.",
            parser=o.path,
            metavar="PATH",
        ),
    ] = None,
    what_if: Annotated[
        bool, typer.Option("--what-if", help="Show every rule set; write nothing.")
    ] = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> int:
    """Score stored cells again, under another rule set or other cut-offs, without the slide."""
    _logging(debug)
    from her2path.io.store import BatchStore, RunStore
    from her2path.runs.case import rescore as story

    none = corrections is not None and str(corrections) == "none"
    if BatchStore(out).is_batch and not what_if:
        from her2path.cli.again import again

        return again(out, guideline, config, changes, corrections, manifest, json, quiet)
    if what_if:
        return _what_if(story.what_if(out), json)
    from her2path.api import write_reports
    from her2path.runs.cohort.rescoring import Applied, corrections_of

    given = corrections_of(RunStore(out)) if corrections is None else corrections
    result = story.rescore(
        out, guideline, config, changes or [], None if none else given, write_reports
    )
    applied = Applied()
    applied.add(result.result.model_extra)
    if not quiet and not json:
        typer.echo(f"{applied.words}.", err=True)
    return _tell(result, json, quiet)


def _what_if(rows: list[dict[str, Any]], json: bool) -> int:
    from her2path.cli.output import echo_json
    from her2path.cli.words import print_rows

    if json:
        echo_json(rows)
    else:
        shown = ("guideline", "ihc", "substate", "category", "rule")
        print_rows(
            "The same cells under every rule set", [{k: r.get(k) for k in shown} for r in rows]
        )
    return 0


def _tell(result: SlideResult, json: bool, quiet: bool) -> int:
    """Say the result; 4 when it is not evaluable."""
    from her2path.cli.output import echo_json
    from her2path.cli.words import print_result

    if json:
        echo_json(result.result.json_text())
    elif not quiet:
        print_result(result)
    if result.result.status == "complete":
        return 0
    reasons = [f.message for f in result.result.qc.flags if f.severity == "fail"]
    typer.echo(f"error: {reasons[0] if reasons else 'not evaluable.'}", err=True)
    return 4


def _progress(silent: bool) -> AbstractContextManager[Any]:
    import sys

    if silent or not sys.stderr.isatty():
        return nullcontext()
    from her2path.cli.words import progress_bar

    return progress_bar()


def _logging(debug: bool) -> None:
    if debug:
        import logging

        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
