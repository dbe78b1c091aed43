"""Commands on tables: ISH counts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from her2path.cli import options as o

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("ish")(ish)


def ish(
    counts: Annotated[Path, typer.Argument(help="Per-cell counts, or a summary table (CSV).",
                                           parser=o.path, metavar="COUNTS.csv")],
    out: o.Out,
    ihc: Annotated[str | None, typer.Option("--ihc", help="IHC score of the same sample.")] = None,
    config: o.Config = None,
    changes: o.Set = None,
    guideline: o.Guideline = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,  # noqa: ARG001 - read by `main`
) -> int:
    """Interpret ISH counts: group, status, amplified fraction by area, heterogeneity."""
    settings = o.settings_of(config, changes, score__guideline=guideline)
    from her2path import heterogeneity
    from her2path import ish as engine
    from her2path.cli.output import echo_json
    from her2path.cli.words import print_rows

    table, name = engine.read_counts(counts), settings.score.guideline
    result = engine.interpret(table, ihc=ihc, settings=settings, guideline=name)
    points = engine.point_tables(table, ihc, settings, name)
    for case in result["cases"]:
        own = points.get(case["case_id"])
        found = heterogeneity.measure(own, settings=settings, score=case["ihc"]) if own else None
        told = heterogeneity.with_ish(found, case)
        case["heterogeneity"] = None if told is None else told.model_dump(mode="json")
    engine.write(result, out)
    if json:
        echo_json(result)
    elif not quiet:
        shown = ("case_id", "cells", "ratio", "mean_her2", "group", "status", "category")
        words = {True: "yes", False: "no", None: "open"}
        print_rows("ISH", [
            {k: c.get(k) for k in shown}
            | {"heterogeneous": words[c["heterogeneous"]["filho_2021"]]} for c in result["cases"]
        ])  # fmt: skip
    return 0
