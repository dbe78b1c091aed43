"""Commands without a result: phantom, doctor, schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from her2path.cli import options as o

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("phantom")(phantom)
    app.command("doctor")(doctor)
    app.command("schema")(schema)


def phantom(
    out: o.Out,
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything that is drawn.")] = 0,
    random: Annotated[
        bool, typer.Option("--random", help="Draw stains, scanner, layout too.")
    ] = False,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="One property, as name=value.", metavar="K=V")
    ] = None,
    controls: Annotated[bool, typer.Option("--controls", help="Also control slides.")] = False,
    debug: o.Debug = False,  # noqa: ARG001 - read by `main`
) -> int:
    """Make a slide with known truth: SVS, table of cells, facts."""
    from pydantic import ValidationError

    from her2path import phantom as maker
    from her2path.core.errors import UsageError
    from her2path.core.settings import parse_set

    given = {"seed": seed} | dict(parse_set(c) for c in changes or ())
    try:
        spec = maker.random_spec(**given) if random else maker.PhantomSpec(**given)
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(x) for x in first["loc"]) or "the phantom"
        if first["type"] == "extra_forbidden":
            known = ", ".join(sorted(maker.PhantomSpec.model_fields))
            raise UsageError(f"a phantom has no property {where!r}", f"Valid: {known}") from exc
        raise UsageError(f"phantom {where}: {first['msg']}", "Correct the value") from exc
    except ValueError as exc:
        raise UsageError(f"the phantom cannot be made ({exc})", "See docs/phantom.md") from exc
    made = maker.make_files(spec, out)
    if controls:
        for name, control in maker.control_specs(spec).items():
            maker.make_files(control, out / "controls" / name)
    for name, path in made.items():
        typer.echo(f"{name}: {path}", err=True)
    return 0


def doctor(json: o.Json = False, debug: o.Debug = False) -> int:  # noqa: ARG001
    """Show versions, machine and optional parts: what works, and how to get what is missing."""
    from her2path.cli.checkup import checkup
    from her2path.cli.output import echo_json
    from her2path.cli.words import print_rows

    rows = checkup()
    if json:
        echo_json(rows)
    else:
        print_rows("her2path doctor", rows)
    return 0 if all(r["state"] != "broken" for r in rows) else 5


def schema(
    which: Annotated[
        str, typer.Argument(help="result, settings, cells, regions, agreement or all.")
    ] = "all",
    debug: o.Debug = False,  # noqa: ARG001 - read by `main`
) -> int:
    """Print the JSON Schemas of settings and results, and the columns of the tables."""
    from her2path.cli.output import echo_json
    from her2path.core.errors import UsageError
    from her2path.core.results import Result
    from her2path.core.schema import CELLS, CNN_CELLS, CNN_REGIONS, REGIONS
    from her2path.core.settings import Settings
    from her2path.scoring.agreement.schema import json_schema

    def columns(table: tuple[object, ...]) -> list[dict[str, str]]:
        return [{k: str(v) for k, v in vars(c).items()} for c in table]

    made: dict[str, Callable[[], object]] = {
        "settings": Settings.model_json_schema,
        "result": Result.model_json_schema,
        "cells": lambda: columns(CELLS + CNN_CELLS),
        "regions": lambda: columns(REGIONS + CNN_REGIONS),
        "agreement": json_schema,
    }
    if which not in (*made, "all"):
        raise UsageError(f"there is no schema {which!r}", f"Valid: {', '.join(made)}, all")
    echo_json({k: f() for k, f in made.items()} if which == "all" else made[which]())
    return 0
