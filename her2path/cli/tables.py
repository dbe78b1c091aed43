"""Commands on tables: ISH counts, reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from her2path.cli import options as o

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("ish")(ish)
    app.command("agree")(agree)


def ish(
    counts: Annotated[
        Path,
        typer.Argument(
            help="Per-cell counts, or a summary table (CSV).", parser=o.path, metavar="COUNTS.csv"
        ),
    ],
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
    from her2path.cli.output import echo_json
    from her2path.cli.words import print_rows
    from her2path.scoring import ish as engine
    from her2path.space import heterogeneity

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


def agree(
    out: o.Out,
    reads: Annotated[
        Path | None,
        typer.Argument(
            help="READS.csv: case_id, reader, score, ...",
            show_default=False,
            parser=o.path,
            metavar="READS.csv",
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            "--results", help="OUT: the program is a reader too.", parser=o.path, metavar="PATH"
        ),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            "--manifest", help="CSV with the columns of --strata.", parser=o.path, metavar="PATH"
        ),
    ] = None,
    strata: Annotated[
        list[str] | None, typer.Option("--strata", help="Column that divides the cases.")
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option("--compare", help="A difference, as FIGURE:a,b:c,d.", metavar="F:A,B:C,D"),
    ] = None,
    margin: Annotated[float, typer.Option("--margin", help="Non-inferiority margin.")] = 0.05,
    outcome: Annotated[
        str | None, typer.Option("--outcome", help="FILE.csv:COLUMN, 0 and 1 by case_id.")
    ] = None,
    draws: Annotated[int, typer.Option("--draws", help="Bootstrap draws over cases.")] = 2000,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the draws.")] = 0,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,  # noqa: ARG001 - read by `main`
) -> int:
    """Agreement between readers, and of readers with the program."""
    from her2path.api import agree as measure
    from her2path.cli.output import echo_json
    from her2path.cli.words import print_rows
    from her2path.scoring.agreement import AgreeOptions, parse_comparison

    asked = tuple(parse_comparison(text) for text in compare or ())
    options = AgreeOptions(draws, seed, margin, asked)
    tree = measure(reads, results, out, manifest=manifest, strata=tuple(strata or ()),
                   outcome=outcome, options=options)  # fmt: skip
    if json:
        echo_json(tree)
    elif not quiet:
        if tree.get("pairs"):
            print_rows("Agreement", [
                {"a": p["a"], "b": p["b"], "n": p["n"], "same score": p["exact"],
                 "kappa, quadratic": p["kappa"]["quadratic"],
                 **{c: part["opa"] for c, part in p["cutoffs"].items()}} for p in tree["pairs"][:30]
            ])  # fmt: skip
        if tree.get("outcome"):
            print_rows("Outcome", [
                {k: r.get(k) for k in ("source", "finding", "n", "odds_ratio", "p", "q")}
                for r in tree["outcome"]["associations"]
            ])  # fmt: skip
    return 0
